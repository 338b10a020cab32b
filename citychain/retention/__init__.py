"""Retention: what a city forgets of old transactions, once the archive is proven to have it."""

__all__: list[str] = []
