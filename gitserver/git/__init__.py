"""Git itself; knows nothing of users."""
