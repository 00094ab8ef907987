"""The settings as shipped: every one, its default and a sentence."""
