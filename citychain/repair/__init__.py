"""The archive of a led city is repaired by the server itself."""

__all__: list[str] = []
