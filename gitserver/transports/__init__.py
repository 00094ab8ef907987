"""The doors that git clients use."""
