"""``citychain bench``: `parts` alone, the whole `road`, and the `load` that is sent along it."""

__all__: list[str] = []
