"""Places against a plain implementation of the same rules, and by what must hold of any map."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator
from functools import partial
from typing import Any

import places_reference as reference
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from places_reference import HALF, POLE, TURN, UNIT, Point, box, located, normal, ring

from citychain.crypto.places import DISC_RADIUS_M_MAX, Places, chord_squared


def owners(places: Places, point: Point) -> list[int]:
    return [index for index in range(len(places)) if places.contains(index, *point)]


# --- against the reference ----------------------------------------------------------------

CENTRES = st.tuples(
    st.sampled_from([0, 35 * UNIT, 89 * UNIT, -89 * UNIT, POLE - 40, 40 - POLE]),
    st.sampled_from([0, 136 * UNIT, HALF, HALF - 3, -HALF, 7 - HALF]),
)


@st.composite
def stars(draw: st.DrawFn, centre: Point, size: int) -> list[Point]:
    """A simple ring round a point of it: one vertex in each of some directions."""
    directions = draw(st.lists(st.integers(0, 23), min_size=3, max_size=12, unique=True))
    vertices = []
    for direction in sorted(directions):
        reach = draw(st.integers(1, size))
        angle = math.tau * direction / 24
        lat = centre[0] + round(reach * math.sin(angle))
        lat = max(-POLE, min(POLE, lat))
        vertices.append((lat, centre[1] + round(reach * math.cos(angle))))
    return vertices


@st.composite
def maps(draw: st.DrawFn) -> tuple[list[list[list[list[int]]]], list[Point]]:
    """Regions that overlap or not, and points on, beside and away from their borders."""
    lat, lon = draw(CENTRES)
    size = draw(st.sampled_from([6, 40, 3_000, UNIT // 2, 20 * UNIT]))
    regions, vertices = [], []
    for _ in range(draw(st.integers(1, 4))):
        polygons = []
        for _ in range(draw(st.integers(1, 2))):
            offset = draw(st.tuples(st.integers(-size, size), st.integers(-size, size)))
            centre = max(-POLE, min(POLE, lat + offset[0])), lon + offset[1]
            star = draw(stars(centre, size))
            polygons.append([ring(star)])
            vertices += star
        regions.append(polygons)
    near = st.integers(-2, 2)
    points = []
    for (lat1, lon1), (lat2, lon2) in zip(vertices, [*vertices[1:], vertices[0]], strict=True):
        share = draw(st.sampled_from([0, 0.5, 0.25, 3.0]))
        north = round(lat1 + share * (lat2 - lat1)) + draw(near)
        east = round(lon1 + share * (lon2 - lon1)) + draw(near)
        points.append((max(-POLE, min(POLE, north)), normal(east)))
    points += [(POLE, normal(lon)), (-POLE, normal(lon)), (lat, HALF), (lat, -HALF)]
    return regions, points


def accepted(regions: list[Any]) -> list[Any]:
    """Those without a bad polygon: a star can be flat, or its rounding cross itself."""
    good = []
    for region in regions:
        try:
            Places([region])
        except ValueError:
            continue
        good.append(region)
    return good


@given(maps())
def test_every_point_is_where_the_reference_has_it(
    drawn: tuple[list[list[list[list[int]]]], list[Point]],
) -> None:
    regions, points = accepted(drawn[0]), drawn[1]
    places = Places(regions)
    for point, found in zip(points, located(places, points), strict=True):
        expected = [
            index
            for index, polygons in enumerate(regions)
            if any(reference.is_in_polygon(rings, *point) for rings in polygons)
        ]
        assert owners(places, point) == expected
        assert found == (expected[0] if expected else -1)


@given(
    hole=st.lists(st.tuples(st.integers(1, 19), st.integers(1, 19)), min_size=3, max_size=5),
    point=st.tuples(st.integers(-1, 21), st.integers(-1, 21)),
)
def test_holes_are_where_the_reference_has_them(hole: list[Point], point: Point) -> None:
    rings = [ring([(0, 0), (0, 20), (20, 20), (20, 0)]), ring(hole)]
    try:
        places = Places([[rings]])
    except ValueError:
        return
    assert places.contains(0, *point) == reference.is_in_polygon(rings, *point)


# --- maps without a gap -------------------------------------------------------------------


def tessellation(
    seed: int, rows: int, columns: int, spacing: Point, origin: Point, *, globe: bool = False
) -> tuple[list[list[list[list[int]]]], list[list[Point]]]:
    """Triangles that cover a box, or the earth, and the vertices of each.

    Inner vertices are moved by up to a quarter of the spacing.
    """
    pick = random.Random(seed)

    def moved(row: int, column: int) -> Point:
        north = pick.randint(-spacing[0] // 4, spacing[0] // 4) if 0 < row < rows else 0
        is_inner = 0 < row < rows if globe else 0 < column < columns
        east = pick.randint(-spacing[1] // 4, spacing[1] // 4) if is_inner else 0
        return origin[0] + row * spacing[0] + north, origin[1] + column * spacing[1] + east

    vertices = [[moved(row, column) for column in range(columns + 1)] for row in range(rows + 1)]
    if globe:
        for row in vertices:
            row[columns] = (row[0][0], row[0][1] + TURN)
    triangles = []
    for row in range(rows):
        for column in range(columns):
            a, b = vertices[row][column], vertices[row][column + 1]
            d, c = vertices[row + 1][column], vertices[row + 1][column + 1]
            if is_left(a, b, c) and is_left(a, c, d) and pick.random() < 0.5:
                triangles += [[a, b, c], [a, c, d]]
            elif is_left(a, b, d) and is_left(b, c, d):
                triangles += [[a, b, d], [b, c, d]]
            else:
                triangles += [[a, b, c], [a, c, d]]
    pick.shuffle(triangles)
    return [[[ring(triangle)]] for triangle in triangles], triangles


def is_left(a: Point, b: Point, c: Point) -> bool:
    """Whether c is on the left of the way from a to b."""
    return (b[1] - a[1]) * (c[0] - a[0]) - (c[1] - a[1]) * (b[0] - a[0]) > 0


def border_points(triangles: list[list[Point]]) -> Iterator[Point]:
    """Every vertex, and of every edge the lattice points nearest to some places on it."""
    for triangle in triangles:
        for (lat1, lon1), (lat2, lon2) in zip(triangle, triangle[1:] + triangle[:1], strict=True):
            yield lat1, normal(lon1)
            steps = math.gcd(lat2 - lat1, lon2 - lon1)
            for part in {1, steps // 2, steps - 1}:
                # Exactly on the edge.
                north, east = part * (lat2 - lat1) // steps, part * (lon2 - lon1) // steps
                yield lat1 + north, normal(lon1 + east)
            yield (lat1 + lat2) // 2, normal((lon1 + lon2) // 2)


@pytest.mark.parametrize("origin", [(0, 0), (POLE - 6 * 8, HALF - 3 * 8), (-POLE, -HALF)])
@pytest.mark.parametrize("spacing", [(8, 8), (5, 12)])
@given(seed=st.integers(0, 1 << 32))
def test_every_point_of_a_map_is_in_exactly_one_cell(
    origin: Point, spacing: Point, seed: int
) -> None:
    regions, _ = tessellation(seed, 4, 4, spacing, origin)
    places = Places(regions)
    for north in range(-1, 4 * spacing[0] + 2):
        for east in range(-1, 4 * spacing[1] + 1):
            point = (origin[0] + north, normal(origin[1] + east))
            if abs(point[0]) >= POLE:
                continue
            is_inside = 0 <= north < 4 * spacing[0] and 0 <= east < 4 * spacing[1]
            found = owners(places, point)
            assert len(found) == is_inside
            assert located(places, [point]) == (found or [-1])


@pytest.mark.parametrize(("rows", "columns"), [(2, 4), (6, 8), (30, 60)])
@pytest.mark.parametrize("first", [-HALF, -37 * UNIT + 5])
def test_every_point_of_the_earth_is_in_exactly_one_cell(
    rows: int, columns: int, first: int
) -> None:
    spacing = HALF // rows, TURN // columns
    regions, triangles = tessellation(rows, rows, columns, spacing, (-POLE, first), globe=True)
    places = Places(regions)
    pick = random.Random(1)
    points = [*border_points(triangles), (POLE, 12), (-POLE, 12), (POLE, HALF), (-POLE, -HALF)]
    points += [(pick.randint(-POLE, POLE), pick.randint(-HALF, HALF)) for _ in range(2_000)]
    points = pick.sample(points, 1_500)
    for point, found in zip(points, located(places, points), strict=True):
        assert owners(places, point) == [found]


def test_180_degrees_east_and_west_are_one_and_so_are_all_longitudes_of_a_pole() -> None:
    regions, _ = tessellation(3, 6, 8, (HALF // 6, TURN // 8), (-POLE, -HALF), globe=True)
    places = Places(regions)
    for lat in range(-POLE, POLE + 1, 3 * UNIT):
        assert len(set(places.locate([lat, lat], [HALF, -HALF]))) == 1
    for pole in (POLE, -POLE):
        longitudes = range(-HALF, HALF + 1, 5 * UNIT)
        assert len(set(places.locate([pole] * len(longitudes), longitudes))) == 1


def test_a_border_cut_at_the_antimeridian_leaves_no_point_out_and_none_twice() -> None:
    whole = Places([[[box(-20, 170, -10, 190)]]])
    cut = Places([[[box(-20, 170, -10, 180)], [box(-20, -180, -10, -170)]]])
    cut_differently = [
        box(-20, 170, -10, 180),
        [number * UNIT for number in (-20, -180, -20, -170, -10, -170, -10, -180, -20, -180)],
    ]
    halves = Places([[[half]] for half in cut_differently])
    points = [
        (lat, lon)
        for lat in (-20 * UNIT - 1, -20 * UNIT, -15 * UNIT, -10 * UNIT - 1, -10 * UNIT)
        for lon in (
            *range(170 * UNIT - 1, 170 * UNIT + 2),
            *range(HALF - 2, HALF + 1),
            *range(-HALF, 3 - HALF),
            *range(-170 * UNIT - 1, 2 - 170 * UNIT),
        )
    ]
    assert located(whole, points) == located(cut, points)
    for point, found in zip(points, located(whole, points), strict=True):
        assert len(owners(halves, point)) == (found == 0)
    assert located(whole, [(-15 * UNIT, HALF), (-15 * UNIT, 0)]) == [0, -1]


# --- poles ---------------------------------------------------------------------------------

COAST = [(-70, -180), (-65, -60), (-72, 60), (-70, 180)]


@pytest.mark.parametrize(
    "degrees",
    [
        [(-90, -180), (-90, 180), *reversed(COAST)],
        [(-90, 180), *reversed(COAST), (-90, -180)],
        [(-90, -180), (-90, 0), (-90, 180), *reversed(COAST)],
        [(-65, -60), (-70, -180), (-90, -180), (-90, 180), (-70, 180), (-72, 60)],
        [(-90, 10), (-90, 10), (-70, 10), (-72, 60), (-70, 180), (-65, -60), (-70, 10)],
    ],
)
def test_a_ring_with_a_pole_has_all_of_it(degrees: list[Point]) -> None:
    flat = [part * UNIT for point in [*degrees, degrees[0]] for part in point]
    places = Places([[[flat]]])
    for lon in (-180, -179, -100, 0, 5, 15, 60, 179, 180):
        inside = [(-POLE, lon * UNIT), (-POLE + 1, lon * UNIT), (-80 * UNIT, lon * UNIT)]
        outside = [(-60 * UNIT, lon * UNIT), (POLE, lon * UNIT), (0, lon * UNIT)]
        assert located(places, inside + outside) == [0] * 3 + [-1] * 3


@pytest.mark.parametrize("pole", [POLE, -POLE])
def test_a_ring_that_only_goes_round_a_pole_is_refused(pole: int) -> None:
    latitude = pole - pole // 9
    flat = ring([(latitude, lon * UNIT) for lon in (0, 120, 240)])
    with pytest.raises(ValueError, match="region 0: polygon 0: ring 0 goes round a pole"):
        Places([[[flat]]])


# --- bad regions ------------------------------------------------------------------------------

SQUARE = box(0, 0, 9, 9)


@pytest.mark.parametrize(
    ("rings", "fault"),
    [
        ([], "it has no ring"),
        ([SQUARE[:-1]], "ring 0 has 9 numbers, not a latitude and a longitude each"),
        ([[*box(0, 0, 1, 1)[:4], 0, 0]], "ring 0 has 3 positions; at least 4 are needed"),
        ([[*SQUARE[:-2], 1, 1]], "ring 0 is not closed"),
        ([SQUARE[:-2]], "ring 0 is not closed"),
        ([[0, 0, POLE + 1, 5, 0, 9, 0, 0]], "position 1 of ring 0 is not on the earth"),
        ([[0, 0, 5, 5, 0, HALF + 1, 0, 0]], "position 2 of ring 0 is not on the earth"),
        ([[0, 0, 5, 5, 9, 9, 0, 0]], "ring 0 has no area"),
        ([box(0, 0, 0, 9)], "ring 0 has no area"),
        ([[0, 0, 90, 90, 0, 90, 100, 0, 0, 0]], "ring 0 crosses itself on the edge"),
        ([SQUARE, box(5, 5, 20, 20)], "ring 1, a hole, is not inside ring 0"),
        ([SQUARE, box(10, 10, 20, 20)], "ring 1, a hole, is not inside ring 0"),
        ([SQUARE, box(-1, 3, 20, 5)], "ring . crosses ring . on the edge"),
        (
            [ring([(lat * UNIT, lon * UNIT) for lat, lon in
                   [(0, 0), (0, 150), (0, 300), (0, 450), (9, 450), (9, 300), (9, 150), (9, 0)]])],
            "ring 0 spans more than 360 degrees",
        ),
    ],
)  # fmt: skip
def test_a_bad_ring_is_named(rings: list[list[int]], fault: str) -> None:
    with pytest.raises(ValueError, match=f"region 1: polygon 1: {fault}"):
        Places([[[SQUARE]], [[SQUARE], rings]])


@pytest.mark.parametrize(
    "vertices",
    [
        [(0, 0), (0, 9), (9, 9), (9, 9), (9, 0)],  # A position twice in a row.
        [(0, 0), (0, 9), (9, 9), (4, 4), (9, 0), (4, 4)],  # It touches itself.
        [(0, 0), (0, 9), (0, 12), (0, 9), (9, 9), (9, 0)],  # There and back.
    ],
)
def test_a_ring_may_touch_itself(vertices: list[Point]) -> None:
    flat = ring(vertices)
    places = Places([[[flat]]])
    for point in [(lat, lon) for lat in range(-1, 11) for lon in range(-1, 14)]:
        assert places.contains(0, *point) == reference.is_in_polygon([flat], *point)


@pytest.mark.parametrize(
    "region", ["text", 5, [1], [[1]], [[["a", "b"]]], (0, 0), [[[1 << 31] * 8]]]
)
def test_what_is_no_region_is_refused(region: Any) -> None:
    with pytest.raises(ValueError, match="region 0 is neither"):
        Places([region])


@pytest.mark.parametrize(
    ("disc", "fault"),
    [
        ((POLE + 1, 0, 5), "its centre is not on the earth"),
        ((0, 0, 0), "its radius is not from 1 to 12742018 m"),
        ((0, 0, DISC_RADIUS_M_MAX + 1), "its radius is not from 1 to 12742018 m"),
    ],
)
def test_a_bad_disc_is_refused(disc: tuple[int, int, int], fault: str) -> None:
    with pytest.raises(ValueError, match=f"region 0: {fault}"):
        Places([disc])


# --- look-ups ------------------------------------------------------------------------------


def test_points_come_as_buffers_or_sequences() -> None:
    places = Places([[[SQUARE]], (20 * UNIT, 0, 1_000)])
    latitudes, longitudes = [UNIT, 20 * UNIT, -UNIT], [UNIT, 0, 0]
    expected = array("i", [0, 1, -1])
    for make in (list, tuple, partial(array, "i"), lambda it: memoryview(array("i", it))):
        found = places.locate(make(latitudes), make(longitudes))
        assert isinstance(found, array)
        assert found == expected
    assert places.locate([], []) == array("i")
    assert list(Places([]).locate([0], [0])) == [-1]


def test_points_that_are_none_are_refused() -> None:
    places = Places([[[SQUARE]]])
    with pytest.raises(ValueError, match="longitudes has 1 items, latitudes has 2"):
        places.locate([1, 2], [1])
    with pytest.raises(ValueError, match="position 1 is not on the earth"):
        places.locate([1, POLE + 1], [1, 1])
    with pytest.raises(ValueError, match="latitude 0, longitude 1800000001 is not on the earth"):
        places.contains(0, 0, HALF + 1)
    with pytest.raises(IndexError, match="no region 1"):
        places.contains(1, 0, 0)
    with pytest.raises(TypeError, match="cast"):
        places.locate(b"1234", b"1234")


# --- discs -----------------------------------------------------------------------------------

positions = st.tuples(
    st.integers(-POLE, POLE) | st.sampled_from([POLE, -POLE, POLE - 1, 0]),
    st.integers(-HALF, HALF) | st.sampled_from([HALF, -HALF, 0, HALF - 1]),
)


@given(a=positions, b=positions)
@example(a=(0, 0), b=(0, HALF))
@example(a=(POLE, 0), b=(-POLE, 0))
def test_a_chord_is_the_reference_bit_for_bit(a: Point, b: Point) -> None:
    assert chord_squared(a, b) == chord_squared(b, a) == reference.chord_squared(a, b)


@given(a=positions, b=positions | st.none(), offset=st.tuples(*[st.integers(-500, 500)] * 2))
def test_a_chord_is_what_floating_point_says(a: Point, b: Point | None, offset: Point) -> None:
    if b is None:
        b = max(-POLE, min(POLE, a[0] + offset[0])), normal(a[1] + offset[1])
    lat1, lon1, lat2, lon2 = (math.radians(units / 1e7) for units in (*a, *b))
    haversine = math.sin((lat2 - lat1) / 2) ** 2
    haversine += math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    chord = 2 * 6_371_009 * math.sqrt(haversine)
    found = chord_squared(a, b)
    assert math.sqrt(found) <= chord + 0.0005
    assert math.sqrt(found + 1) >= chord - 0.0005


@given(
    discs=st.lists(
        st.tuples(
            st.integers(-POLE, POLE) | st.sampled_from([POLE, 0]),
            st.integers(-HALF, HALF) | st.just(HALF),
            st.integers(1, 100) | st.integers(1, 3_000_000) | st.just(DISC_RADIUS_M_MAX),
        ),
        min_size=1,
        max_size=5,
    ),
    points=st.lists(positions, min_size=1, max_size=5),
    near=st.tuples(*[st.integers(-10_000, 10_000)] * 2),
)
def test_a_disc_is_all_points_whose_chord_is_no_longer_than_its_radius(
    discs: list[tuple[int, int, int]], points: list[Point], near: Point
) -> None:
    points += [
        (max(-POLE, min(POLE, lat + near[0])), normal(lon + near[1])) for lat, lon, _ in discs
    ]
    places = Places(discs)
    for point, found in zip(points, located(places, points), strict=True):
        expected = [
            index
            for index, (lat, lon, radius) in enumerate(discs)
            if reference.chord_squared((lat, lon), point) <= radius**2
        ]
        assert owners(places, point) == expected
        assert found == (expected[0] if expected else -1)


@given(positions, st.integers(1, 2_000_000), st.integers(0, 7))
def test_a_disc_is_found_up_to_its_rim(centre: Point, radius: int, direction: int) -> None:
    """The index must know the disc wherever it is; its rim is where that could fail."""
    places = Places([(*centre, radius)])
    lat, lon = centre
    north, east = math.sin(direction * math.tau / 8), math.cos(direction * math.tau / 8)
    reach = radius * 180e7 / math.pi / 6_371_009
    for share in (0.9, 0.999, 1.0):
        up = round(lat + share * north * reach)
        if abs(up) > POLE:
            continue
        right = share * east * reach / max(math.cos(math.radians(up / 1e7)), 1e-6)
        point = up, normal(round(lon + max(-HALF, min(HALF, right))))
        is_inside = reference.chord_squared(centre, point) <= radius**2
        assert located(places, [point]) == [0 if is_inside else -1]
