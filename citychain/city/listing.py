"""A city as lists show it, open or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["CityListing", "CityState"]


class CityState(IntEnum):
    """Whether a city is in use; the numbers are those of the wire."""

    REGISTERED = 1
    """Can be opened; nothing has asked for it."""
    OPEN = 2
    FAILED = 3
    """Could not be opened; is tried again."""


@dataclass(frozen=True, slots=True)
class CityListing:
    """What is known of a city without opening it."""

    slug: str
    titles: Mapping[str, str]
    aliases: tuple[str, ...]
    parent: str | None
    source: str
    """A distribution's name, or ``configuration``."""
    storage: str
    dag: str
    consensus: str
    state: CityState
