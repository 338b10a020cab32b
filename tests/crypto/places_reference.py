"""The rules of ``docs/design/places.md`` in plain Python: fractions, no index, no shortcuts;
and what its tests write their maps with."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Final

from citychain.crypto.places import Places

UNIT: Final = 10_000_000
POLE: Final = 90 * UNIT
HALF: Final = 180 * UNIT
TURN: Final = 360 * UNIT

Ring = Sequence[int]
Point = tuple[int, int]
"""Latitude and longitude, as everywhere here."""


def normal(longitude: int) -> int:
    return (longitude + HALF) % TURN - HALF


def ring(points: Sequence[Point]) -> list[int]:
    """A closed flat ring through points whose longitudes may go on past 180 degrees."""
    closed = [*points, points[0]]
    return [number for lat, lon in closed for number in (lat, normal(lon))]


def box(south: int, west: int, north: int, east: int) -> list[int]:
    """A ring, in degrees."""
    corners = [(south, west), (south, east), (north, east), (north, west)]
    return ring([(lat * UNIT, lon * UNIT) for lat, lon in corners])


def located(places: Places, points: Sequence[Point]) -> list[int]:
    latitudes, longitudes = zip(*points, strict=True)
    return list(places.locate(latitudes, longitudes))


# --- the rules ----------------------------------------------------------------------------


def unwrapped(ring: Ring) -> list[tuple[int, int]]:
    """The ring's vertices as (x, y)."""
    positions = list(zip(ring[1::2], ring[::2], strict=True))
    steps = []
    poles = []
    for (x1, y1), (x2, y2) in pairwise(positions):
        step = x2 - x1
        if y1 == y2 and abs(y1) == POLE:
            poles.append(len(steps))
        elif abs(step) > HALF:
            step -= TURN if step > 0 else -TURN
        steps.append(step)
    if sum(steps):
        steps[poles[0]] -= sum(steps)
    x = positions[0][0]
    vertices = [(x, positions[0][1])]
    for step, (_, y) in zip(steps, positions[1:], strict=True):
        x += step
        vertices.append((x, y))
    return vertices


def crossings(ring: Ring, latitude: int, longitude: int) -> int:
    """How many edges lie to the north of the point, moved north, then east."""
    if abs(latitude) == POLE:
        longitude = 0
    count = 0
    for x in (
        longitude - 2 * TURN,
        longitude - TURN,
        longitude,
        longitude + TURN,
        longitude + 2 * TURN,
    ):
        vertices = unwrapped(ring)
        for (x1, y1), (x2, y2) in pairwise(vertices):
            # East of x by less than anything: x itself belongs to the west.
            if (x1 <= x) == (x2 <= x):
                continue
            height = y1 + Fraction((y2 - y1) * (x - x1), x2 - x1)
            count += height >= latitude if latitude == POLE else height > latitude
    return count


def is_in_polygon(rings: Sequence[Ring], latitude: int, longitude: int) -> bool:
    """Whether a polygon has the point."""
    return sum(crossings(ring, latitude, longitude) for ring in rings) % 2 == 1


# --- distances --------------------------------------------------------------------------

ONE: Final = 1 << 40
PI: Final = 3454217652358


def sine(a: int) -> int:
    a %= TURN
    if a >= HALF:
        return -sine(a - HALF)
    if a > POLE:
        return sine(HALF - a)
    angle, n = (POLE - a, 1) if a > 45 * UNIT else (a, 2)
    t = (angle * PI + POLE) // HALF
    term = ONE if n == 1 else t
    total, sign = 0, 1
    while term:
        total += sign * term
        sign = -sign
        term = (term * (t * t >> 40) >> 40) // (n * (n + 1))
        n += 2
    return total


def vector(latitude: int, longitude: int) -> tuple[int, int, int]:
    if abs(latitude) == POLE:
        longitude = 0
    elif longitude == HALF:
        longitude = -HALF
    cosine = sine(latitude + POLE)
    return (
        cosine * sine(longitude + POLE) >> 40,
        cosine * sine(longitude) >> 40,
        sine(latitude),
    )


def chord_squared(a: tuple[int, int], b: tuple[int, int]) -> int:
    squares = sum((p - q) ** 2 for p, q in zip(vector(*a), vector(*b), strict=True))
    return squares * 6_371_009**2 >> 80
