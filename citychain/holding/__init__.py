"""Proof of Hold: who says to have which fragments of a city's archive, and proves it."""

__all__: list[str] = []
