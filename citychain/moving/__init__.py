"""A city moves from one storage backend to another, and goes on accepting meanwhile."""

__all__: list[str] = []
