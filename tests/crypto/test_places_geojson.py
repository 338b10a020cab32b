"""Regions of GeoJSON files, and the municipalities of Japan."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import places_reference as reference
import pytest
from places_reference import UNIT, box, located

from citychain.crypto.places import Features

SQUARE = box(0, 0, 9, 9)


def feature(geometry: dict[str, Any] | None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def polygon(*rings: list[int]) -> dict[str, Any]:
    """A Polygon of rings in units."""
    return {"type": "Polygon", "coordinates": [geojson_ring(flat) for flat in rings]}


def geojson_ring(flat: list[int]) -> list[list[float]]:
    return [[lon / 1e7, lat / 1e7] for lat, lon in zip(flat[::2], flat[1::2], strict=True)]


def collection(*features: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features, **more}).encode()


def test_features_of_one_code_are_one_region() -> None:
    file = collection(
        feature(polygon(box(0, 0, 1, 1)), code="A", name="one"),
        feature(polygon(box(0, 1, 1, 2)), code=17, name="two", part="b"),
        feature({"type": "MultiPolygon", "coordinates": [[geojson_ring(box(5, 5, 6, 6))],
                 [geojson_ring(box(7, 7, 8, 8))]]}, code="A"),
        feature(polygon(box(0, 2, 1, 3)), name="free"),
        feature(polygon(box(0, 3, 1, 4)), code=None, name=None),
    )  # fmt: skip
    features = Features(file, "code", ["name", "part"])
    assert len(features) == 4
    assert features.codes == ["A", "17", None, None]
    assert features.names == ["one", "two b", "free", None]
    assert features.polygons(0) == [[box(0, 0, 1, 1)], [box(5, 5, 6, 6)], [box(7, 7, 8, 8)]]
    assert features.touching(0) == [1]
    assert features.touching(1) == [0, 2]
    corners = [(0, 0), (7, 7), (0, 1), (0, 3), (9, 9)]
    points = [(south * UNIT + 1, west * UNIT + 1) for south, west in corners]
    assert located(features.places(), points) == [0, 0, 1, 3, -1]
    with pytest.raises(IndexError):
        features.polygons(4)


def test_boxes_touch_across_the_antimeridian() -> None:
    boxes = [box(0, 170, 1, 180), box(0, -180, 1, -170), box(0, -169, 1, -160), box(0, 150, 1, 190)]
    features = Features(collection(*(feature(polygon(it)) for it in boxes)), "code")
    assert [features.touching(index) for index in range(4)] == [[1, 3], [0, 3], [], [0, 1]]


def test_degrees_are_rounded_as_python_rounds_them() -> None:
    degrees = [
        [0.00000005, 0.00000015],
        [141.3552008297546, 1e-9],
        [20.12345675, 43.06858666684127],
    ]
    file = collection(feature({"type": "Polygon", "coordinates": [[*degrees, degrees[0]]]}))
    [[flat]] = Features(file, "code").polygons(0)
    expected = [[round(lat * 1e7), round(lon * 1e7)] for lon, lat in [*degrees, degrees[0]]]
    assert flat == [number for position in expected for number in position]


@pytest.mark.parametrize(
    "name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"]
)
def test_wgs_84_may_be_named(name: str) -> None:
    crs = {"type": "name", "properties": {"name": name}}
    assert len(Features(collection(crs=crs), "code")) == 0
    assert len(Features(collection(crs=None), "code")) == 0


CRS = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        (b"[]", "no GeoJSON FeatureCollection"),
        (b'{"type":"FeatureCollection","features":[', "no GeoJSON FeatureCollection"),
        (b'{"type":"Feature"}', "it is a Feature, not a FeatureCollection"),
        (collection(crs=CRS), "in urn:ogc:def:crs:EPSG::3857; only WGS 84 is read"),
        (collection(crs={"type": "link"}), 'its crs is {"type": "link"}, which does not name'),
        (collection(feature(None, code="A")), r"feature 0 \(A\): it has no geometry"),
        (
            collection(feature({"type": "Point", "coordinates": [1, 2]}, code=1, name="it")),
            r"feature 0 \(1, it\): it is a Point, not a Polygon or MultiPolygon",
        ),
        (
            collection(feature({"type": "GeometryCollection", "geometries": []})),
            "feature 0: its geometry has no coordinates",
        ),
        (
            collection(feature({"type": "MultiPolygon", "coordinates": []})),
            "feature 0: it has no polygon",
        ),
        (
            collection(feature(polygon(SQUARE)), feature(polygon(SQUARE[:-2]), code="b")),
            r"feature 1 \(b\): polygon 0: ring 0 is not closed",
        ),
        (
            collection(feature({"type": "Polygon", "coordinates": [[[1, 2, 3, 4]]]})),
            "feature 0: its coordinates cannot be read",
        ),
        (
            collection(feature({"type": "Polygon", "coordinates": [[[1e99, 2]] * 4]})),
            "feature 0: polygon 0: position 0 of ring 0 is not on the earth",
        ),
        (collection(feature(polygon(SQUARE), code=[1])), r'property "code" is \[1\], neither text'),
        (collection(feature(polygon(SQUARE), code=1.5)), 'property "code" is 1.5, neither text'),
    ],
)
def test_a_bad_file_is_refused_by_feature(file: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Features(file, "code", ["name"])


# --- municipalities ------------------------------------------------------------------------------
# Borders: National Land Numerical Information, administrative areas (N03, 2021), Ministry of Land,
# Infrastructure, Transport and Tourism of Japan. The files stand outside the repository.

SHARED = Path(os.environ.get("CITYCHAIN_SHARED", Path(__file__).parents[3] / "shared"))
MUNICIPALITIES = SHARED / "data" / "municipalities.geojson.gz"
OFFICES = SHARED / "data" / "municipal_offices.json"
needs_data = pytest.mark.skipif(
    not (MUNICIPALITIES.is_file() and OFFICES.is_file()),
    reason=f"no municipalities at {SHARED / 'data'}; set CITYCHAIN_SHARED",
)


@pytest.fixture(scope="module")
def municipalities() -> Features:
    return Features(gzip.decompress(MUNICIPALITIES.read_bytes()), "N03_007", ["N03_003", "N03_004"])


@needs_data
def test_all_municipalities_are_read(municipalities: Features) -> None:
    assert len(municipalities) == 1_906
    assert municipalities.codes.count(None) == 4
    assert len(set(municipalities.codes)) == 1_903


ELSEWHERE = {
    "07546": "07204",  # Futaba: the office was in Iwaki after the accident of 2011.
    "15586": None,  # Awashimaura: the position is off the coast as simplified.
    "37206": None,  # Sanuki: the same.
    "46303": "46201",  # Mishima and Toshima have their offices in the city of Kagoshima,
    "46304": "46201",
    "47381": "47207",  # and Taketomi in Ishigaki.
}


@needs_data
def test_offices_are_in_their_own_municipality(municipalities: Features) -> None:
    """A designated city has no feature: it is the union of its wards, which bear its name."""
    offices = json.loads(OFFICES.read_bytes())
    assert len(offices) == 1_916
    points = [(round(float(it["lat"]) * 1e7), round(float(it["lng"]) * 1e7)) for it in offices]
    codes, names = municipalities.codes, municipalities.names
    found = located(municipalities.places(), points)
    own, designated, elsewhere = 0, [], {}
    for office, index in zip(offices, found, strict=True):
        code = office["lgcode"][:5]
        if index >= 0 and codes[index] == code:
            own += 1
        elif code not in codes:
            assert str(names[index]).split()[0] == office["city"]
            designated.append(code)
        else:
            elsewhere[code] = codes[index] if index >= 0 else None
    assert own == 1_890
    assert len(designated) == 20
    assert elsewhere == ELSEWHERE


@needs_data
def test_municipalities_are_as_the_reference_has_them(municipalities: Features) -> None:
    """Points at and beside real vertices, where simplified borders touch and overlap."""
    places = municipalities.places()
    pick = random.Random(5)
    for index in pick.sample(range(len(municipalities)), 60):
        polygons = municipalities.polygons(index)
        flat = pick.choice(polygons)[0]
        at = 2 * pick.randrange(len(flat) // 2)
        point = flat[at] + pick.randint(-1, 1), flat[at + 1] + pick.randint(-1, 1)
        expected = any(reference.is_in_polygon(rings, *point) for rings in polygons)
        assert places.contains(index, *point) == expected
        [found] = located(places, [point])
        if expected:
            assert 0 <= found <= index
        else:
            assert found != index
