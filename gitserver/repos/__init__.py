"""The repository as a product."""
