"""Built-in consensus steps."""

__all__: list[str] = []
