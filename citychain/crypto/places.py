"""Which region a point lies in, and how far apart two points are: exactly, in integers.

Positions are in units of 1e-7 degree (WGS 84). Every point of a border that two neighbours share
belongs to exactly one of them, and everybody decides alike: ``docs/design/places.md`` says how.

`Places` are regions, indexed; `Features` are the regions of a GeoJSON file.
`chord_squared` stands for a distance: the straight line through the earth, squared.
"""

from __future__ import annotations

from citychain._native.places import Features, Places, chord_squared

__all__ = ["DISC_RADIUS_M_MAX", "Features", "Places", "chord_squared"]

DISC_RADIUS_M_MAX = 12_742_018
"""A disc of this radius is the whole earth."""
