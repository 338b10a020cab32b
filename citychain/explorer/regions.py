"""Where a city is, as its genesis pins it, in GeoJSON (RFC 7946)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from citychain.errors import ConfigurationError
from citychain.genesis import Genesis

__all__ = ["regions_shown"]

UNIT: Final = 1e-7
METRES_A_DEGREE: Final = 111_195.0
CORNERS: Final = 64
"""Of what is drawn for a disc."""


def regions_shown(genesis_file: bytes) -> dict[str, Any] | None:
    """The city's region, and its neighbours' by name; ``None`` where it has none."""
    try:
        options = Genesis.from_bytes(genesis_file).consensus_options
    except ConfigurationError:
        return None
    place = options.get("place")
    if not isinstance(place, Mapping):
        return None
    regions = [("", place), *sorted(place.get("neighbours", {}).items())]
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": geometry}
        for name, region in regions
        if (geometry := _geometry(region)) is not None
    ]
    return {"type": "FeatureCollection", "features": features} if features else None


def _geometry(region: Mapping[str, Any]) -> dict[str, Any] | None:
    if (disc := region.get("disc")) is not None:
        return {"type": "Polygon", "coordinates": [_circle(disc)]}
    if (polygons := region.get("polygons")) is not None:
        rings = [
            [_wound(_ring(ring), outer=index == 0) for index, ring in enumerate(polygon)]
            for polygon in polygons
        ]
        return {"type": "MultiPolygon", "coordinates": rings}
    return None


def _circle(disc: Mapping[str, Any]) -> list[list[float]]:
    latitude, longitude = disc["latitude_e7"] * UNIT, disc["longitude_e7"] * UNIT
    radius = disc["radius_m"] / METRES_A_DEGREE
    wide = radius / max(math.cos(math.radians(latitude)), 0.01)
    angles = (2 * math.pi * corner / CORNERS for corner in range(CORNERS))
    corners = [
        [longitude + wide * math.cos(angle), max(-90, min(90, latitude + radius * math.sin(angle)))]
        for angle in angles
    ]
    return [*corners, corners[0]]


def _ring(flat: Sequence[int]) -> list[list[float]]:
    """Longitude before latitude."""
    return [
        [round(flat[at + 1] * UNIT, 7), round(flat[at] * UNIT, 7)] for at in range(0, len(flat), 2)
    ]


def _wound(ring: list[list[float]], *, outer: bool) -> list[list[float]]:
    """Outer rings go counter-clockwise, holes clockwise: RFC 7946, section 3.1.6."""
    twice = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
    return ring if (twice > 0) == outer else ring[::-1]
