"""Built-in consensus steps."""
