"""The demonstration: four cities on one server, that is killed half-way.

`plan` says what is sent and what must come of it, `run` does it, `check`
compares, `table` shows.
"""

__all__: list[str] = []
