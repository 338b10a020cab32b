"""Where a position lies: in the city, in a neighbour's region, at an event."""

from __future__ import annotations

from collections.abc import Sequence

from citychain.consensus._poh_pop_options import PohPopOptions
from citychain.crypto.places import Places

__all__ = ["Ground"]

Point = tuple[int, int]
"""Latitude and longitude, in degrees times 10^7."""


class Ground:
    """The regions that a city's options name."""

    def __init__(self, options: PohPopOptions) -> None:
        place = options.place
        assert place is not None
        self._neighbours = sorted(place.neighbours)
        self._places = place.places
        self._events = options.events
        self._event_places = Places([event.region.shape for event in options.events])

    def outside(self, points: Sequence[Point]) -> list[str | None]:
        """For each point ``None`` if it lies in the city, else where it lies, in words."""
        found = self._places.locate([point[0] for point in points], [point[1] for point in points])
        return [None if index == 0 else self._elsewhere(index) for index in found]

    def _elsewhere(self, index: int) -> str:
        return self._neighbours[index - 1] if index > 0 else "no region that this city knows"

    def factor_permille(self, point: Point, time_ms: int) -> int:
        """The greatest factor of the events that are at a point at a time; 1000 without any."""
        return max(
            (
                event.factor_permille
                for index, event in enumerate(self._events)
                if event.from_ms <= time_ms < event.until_ms
                and self._event_places.contains(index, *point)
            ),
            default=1_000,
        )
