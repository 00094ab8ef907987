"""Words everybody shares; no I/O."""
