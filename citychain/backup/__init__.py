"""A backup of a city: a copy of its ledger in a folder, recomputed while it is taken."""

__all__: list[str] = []
