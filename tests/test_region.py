"""Regions as options name them: what is read from files, and what a genesis then holds."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from citychain.hooks.definitions import FOLDER, Disc
from citychain.region import Location, Region, RegionOptions

UNIT = 10_000_000
DISC = {"latitude_e7": 365613000, "longitude_e7": 1366562000, "radius_m": 15_000}


def square(south: float, west: float, size: float = 1) -> list[list[float]]:
    """A GeoJSON ring."""
    north, east = south + size, west + size
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def flat(ring: list[list[float]]) -> list[int]:
    return [round(part * UNIT) for lon, lat in ring for part in (lat, lon)]


def feature(*rings: list[list[float]], **properties: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": rings}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


# Four wards in a row, the third in two parts, and one that is far away.
WARDS = [
    feature(square(0, 0), code="01", name="Old Town", city="Here"),
    feature(square(0, 1), code="02", name="Harbour", city="Here"),
    feature(square(0, 2), code="03", name="Hill", city="There"),
    feature(square(0, 9), code="03", name="Hill", city="There"),
    feature(square(1, 1), code="04", name="Hill", city=None),
    feature(square(1, 0), code=None, name=None, city=None),
    feature(square(40, 40), code="05", name="Far"),
]


def write(path: Path, *features: dict[str, Any], **more: Any) -> Path:
    text = json.dumps({"type": "FeatureCollection", "features": features, **more})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def source(path: Path, value: str | int, **more: Any) -> dict[str, Any]:
    return {"file": str(path), "property": "code", "value": value, "name_property": "name", **more}


def validate(values: Any, **context: Any) -> RegionOptions:
    return RegionOptions.model_validate(values, context=context)


@pytest.fixture
def wards(tmp_path: Path) -> Path:
    return write(tmp_path / "wards.geojson", *WARDS)


def test_a_disc_is_a_region() -> None:
    options = validate({"disc": DISC})
    assert options.disc == Disc(**DISC)
    assert options.locate(365613000, 1366562000) == Location(True, None)
    assert options.locate(365613000, 1400000000) == Location(False, None)
    assert options.model_dump(mode="json") == {"disc": DISC}


def test_a_region_of_a_file_is_its_polygons_and_its_neighbours(wards: Path) -> None:
    options = validate(source(wards, "02"))
    dump = options.model_dump(mode="json")
    assert dump == {
        "polygons": [[flat(square(0, 1))]],
        "neighbours": {
            "Old Town": {"polygons": [[flat(square(0, 0))]]},
            # Two of a name: told apart by their codes.
            "Hill (03)": {"polygons": [[flat(square(0, 2))], [flat(square(0, 9))]]},
            "Hill (04)": {"polygons": [[flat(square(1, 1))]]},
        },
    }
    assert options.locate(UNIT // 2, UNIT + 5) == Location(True, None)
    assert options.locate(UNIT // 2, UNIT - 5) == Location(False, "Old Town")
    assert options.locate(UNIT // 2, 9 * UNIT) == Location(False, "Hill (03)")
    assert options.locate(UNIT, UNIT) == Location(False, "Hill (04)")
    assert options.locate(UNIT + 1, UNIT // 2) == Location(False, None)


def test_what_a_genesis_holds_is_what_the_file_gives_again(wards: Path, tmp_path: Path) -> None:
    from_file = validate(source(wards, "02"))
    dump = json.loads(json.dumps(from_file.model_dump(mode="json"), sort_keys=True))
    wards.unlink()
    pinned = validate(dump)
    assert pinned == from_file
    assert pinned.model_dump(mode="json") == dump == from_file.model_dump(mode="json")
    again = validate(source(write(tmp_path / "again.geojson.gz", *WARDS), "02"))
    assert again.model_dump(mode="json") == dump


def test_one_value_can_be_that_of_many_features(wards: Path) -> None:
    """A city that is divided into wards is the union of them."""
    options = validate({"file": str(wards), "property": "city", "value": "Here"})
    assert options.model_dump(mode="json")["polygons"] == [
        [flat(square(0, 0))],
        [flat(square(0, 1))],
    ]
    assert list(options.neighbours) == ["There"]


def test_neighbours_are_named_by_their_value_or_by_several_properties(wards: Path) -> None:
    assert sorted(validate(source(wards, "01", name_property=[])).neighbours) == ["02", "04"]
    several = validate(source(wards, "01", name_property=["city", "name"])).neighbours
    assert sorted(several) == ["Here Harbour", "Hill"]


def test_overlapping_neighbours_are_tried_by_name() -> None:
    ring = flat(square(0, 0))
    other = {"polygons": [[flat(square(0, 5))]]}
    for names in (["b", "a"], ["a", "b"]):
        neighbours = {name: {"polygons": [[ring]]} for name in names}
        assert validate(other | {"neighbours": neighbours}).locate(1, 1) == Location(False, "a")


def test_a_relative_path_is_relative_to_the_folder_of_the_context(
    wards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative = source(Path(wards.name), "01")
    options = validate(relative, **{FOLDER: tmp_path})
    with pytest.raises(ValidationError, match=r"wards.geojson cannot be read: .*No such file"):
        validate(relative)
    monkeypatch.chdir(tmp_path)
    assert validate(relative) == options


def test_a_package_can_bring_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "town_of_test"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    write(package / "data" / "wards.geojson.gz", *WARDS)
    monkeypatch.syspath_prepend(tmp_path)
    place = {"resource": "town_of_test:data/wards.geojson.gz", "property": "code", "value": "01"}
    assert validate(place).locate(1, 1) == Location(True, None)
    with pytest.raises(ValidationError, match="there is no package town_of_nothing"):
        validate(place | {"resource": "town_of_nothing:a.geojson"})
    with pytest.raises(ValidationError, match="cannot be read"):
        validate(place | {"resource": "town_of_test:b.geojson"})


def test_a_file_that_changed_is_read_again(wards: Path) -> None:
    assert validate(source(wards, "01")).polygons == ((tuple(flat(square(0, 0))),),)
    write(wards, feature(square(7, 7), code="01"))
    os.utime(wards, ns=(1, 1))
    assert validate(source(wards, "01")).polygons == ((tuple(flat(square(7, 7))),),)


def test_a_number_is_the_text_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", feature(square(0, 0), code=17201))
    assert validate(source(path, 17201)) == validate(source(path, "17201"))


CRS = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::6668"}}


@pytest.mark.parametrize(
    ("values", "where", "fault"),
    [
        ({}, (), "a region is either a disc or polygons"),
        ({"disc": DISC, "polygons": [[[0] * 8]]}, (), "a region is either a disc or polygons"),
        ({"disc": DISC | {"radius_m": 0}}, (), "its radius is not from 1"),
        ({"disc": {"latitude_e7": 5}}, ("disc", "radius_m"), "Field required"),
        ({"polygons": []}, ("polygons",), "at least 1 item"),
        ({"polygons": [[[0] * 8]]}, (), "polygon 0: ring 0 has no area"),
        ({"polygons": [[[1 << 40] * 8]]}, (), "32-bit integers"),
        ({"polygon": []}, ("polygon",), "Extra inputs"),
        ({"neighbours": {"": {"disc": DISC}}}, ("neighbours", "", "[key]"), "at least 1 character"),
        (
            {"disc": DISC, "neighbours": {"a": {"polygons": [[[0, 0, 1, 1]]]}}},
            ("neighbours", "a"),
            "polygon 0: ring 0 has 2 positions",
        ),
        ({"file": "a.geojson", "property": "code"}, ("value",), "Field required"),
        ({"file": "a.geojson", "disc": DISC}, ("disc",), "Extra inputs"),
        (
            {"file": "a", "resource": "b:c", "property": "d", "value": "e"},
            (),
            "from a file or a resource, not from both",
        ),
    ],
)
def test_wrong_options_are_named(values: Any, where: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validate(values)
    assert any(it["loc"] == where and fault in it["msg"] for it in caught.value.errors()), (
        caught.value.errors()
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"value": "042"}, r"no feature of .*wards.geojson has code = '042'; did you mean 04\?"),
        ({"value": ""}, "has code = ''"),
        ({"property": "cod"}, "no feature of .*wards.geojson has a property 'cod'"),
    ],
)
def test_a_region_that_a_file_does_not_have_is_named(
    wards: Path, change: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        validate(source(wards, "01") | change)


def test_a_file_that_is_no_map_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "jgd2011.geojson", *WARDS, crs=CRS)
    with pytest.raises(ValidationError, match=r"jgd2011.geojson: .*EPSG::6668; only WGS 84"):
        validate(source(path, "01"))
    path = write(tmp_path / "bad.geojson", *WARDS, feature(square(0, 0)[:-1], code="x"))
    with pytest.raises(ValidationError, match=r"bad.geojson: feature 7 \(x\): polygon 0: ring 0"):
        validate(source(path, "01"))
    cut = tmp_path / "cut.geojson.gz"
    cut.write_bytes(gzip.compress(b"{}" * 100)[:-9])
    with pytest.raises(ValidationError, match=r"cut.geojson.gz cannot be read"):
        validate(source(cut, "01"))


def test_options_can_have_a_region_within(wards: Path) -> None:
    class Options(BaseModel):
        place: RegionOptions | None = None

    options = Options.model_validate(
        {"place": source(Path(wards.name), "01")}, context={FOLDER: wards.parent}
    )
    assert options.place is not None
    assert options.place.locate(1, 1).is_inside
    assert Options.model_validate(options.model_dump(mode="json")) == options
    with pytest.raises(ValidationError) as caught:
        Options.model_validate({"place": {"file": str(wards), "property": "code", "valu": "01"}})
    assert {it["loc"] for it in caught.value.errors()} == {("place", "value"), ("place", "valu")}


def test_a_region_alone_has_no_neighbours() -> None:
    with pytest.raises(ValidationError):
        Region.model_validate({"disc": DISC, "neighbours": {}})


SHARED = Path(os.environ.get("CITYCHAIN_SHARED", Path(__file__).parents[2] / "shared"))
MUNICIPALITIES = SHARED / "data" / "municipalities.geojson.gz"


@pytest.mark.skipif(
    not MUNICIPALITIES.is_file(),
    reason=f"no municipalities at {MUNICIPALITIES.parent}; set CITYCHAIN_SHARED",
)
def test_a_designated_city_is_the_union_of_its_wards() -> None:
    """See tests/crypto/test_places_geojson.py for where the data is from."""
    place = {"file": str(MUNICIPALITIES), "name_property": "N03_004"}
    kanazawa = validate(place | {"property": "N03_007", "value": "17201"})
    sapporo = validate(place | {"property": "N03_003", "value": "札幌市"})
    offices = {
        "kanazawa": (365611, 1366566),
        "sapporo": (430621, 1413544),
        "tsubata": (366690, 1367290),
    }
    at = {name: (lat * 1000, lon * 1000) for name, (lat, lon) in offices.items()}
    assert kanazawa.locate(*at["kanazawa"]) == Location(True, None)
    assert kanazawa.locate(*at["tsubata"]) == Location(False, "津幡町")
    assert kanazawa.locate(*at["sapporo"]) == Location(False, None)
    assert sapporo.locate(*at["sapporo"]).is_inside
    assert len(sapporo.polygons or ()) == 10
    assert RegionOptions.model_validate(sapporo.model_dump(mode="json")) == sapporo
