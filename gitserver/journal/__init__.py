"""What happened, written once, read by auditors and by events."""
