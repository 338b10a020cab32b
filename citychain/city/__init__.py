"""One city's pipeline, and the directory that finds a city by name."""

__all__: list[str] = []
