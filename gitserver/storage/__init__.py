"""Bytes and rows, sealed at rest."""
