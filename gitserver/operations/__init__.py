"""What an operator does to a whole server: set up, start, examine, back up."""
