"""A founded city needs the files that its options name no more; others do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citychain.city.founding import found_city, genesis_path, keep_genesis
from citychain.city.plan import plan_city
from citychain.config import load_settings
from citychain.consensus.poh_pop import PohPopOptions
from citychain.containers import BUILTIN
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError
from citychain.genesis import Genesis
from citychain.hooks.registry import load_plugins

REGISTRY = load_plugins(builtin=BUILTIN, entry_points=[])
OPERATOR = SigningKey(b"O" * 32)
OPTIONS = (
    'policy = "claimed", '
    'place = { file = "map.geojson", property = "code", value = "1", name_property = "name" }'
)

Found = Callable[..., Genesis]


def write_map(path: Path, width: int = 1, code: str = "1") -> None:
    def feature(west: int, east: int, **properties: str) -> dict[str, Any]:
        ring = [[west, 0], [east, 0], [east, 1], [west, 1], [west, 0]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        return {"type": "Feature", "properties": properties, "geometry": geometry}

    features = [feature(0, width, code=code, name="uji"), feature(width, 9, code="2", name="otsu")]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.fixture
def found(tmp_path: Path) -> Found:
    """Opens a city as far as its genesis, as often as one likes."""

    def found(options: str = OPTIONS, step: str = "poh-pop", more: str = "") -> Genesis:
        config = tmp_path / "citychain.toml"
        config.write_text(
            f'[cities.uji]\nconsensus = "{step}"\nconsensus_options = {{ {options} }}\n{more}'
        )
        settings = load_settings(config, environment={})
        plan = plan_city("uji", settings, REGISTRY)
        genesis = found_city(settings.data_dir, settings.network, plan, OPERATOR.public_key)
        keep_genesis(settings.data_dir, plan, genesis)
        if isinstance(plan.consensus.options, PohPopOptions) and plan.consensus.options.place:
            assert plan.consensus.options.place.locate(1, 15_000_000).neighbour == "otsu"
        assert genesis_path(settings.data_dir, plan).read_bytes() == genesis.file
        return genesis

    write_map(tmp_path / "map.geojson")
    return found


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"\x1f\x8bcut")])
def test_a_city_with_a_genesis_opens_without_its_map(
    found: Found, tmp_path: Path, caplog: pytest.LogCaptureFixture, lose: Callable[[Path], None]
) -> None:
    before = found()
    assert not caplog.records
    lose(tmp_path / "map.geojson")
    assert found().id == before.id
    [record] = caplog.records
    assert record.levelname == "WARNING"
    line = record.getMessage()
    assert "citychain.toml:3: cities.uji.consensus_options.place: " in line
    assert "map.geojson cannot be read: " in line
    assert f"what {tmp_path}/data/genesis/uji.json says of it counts" in line


def test_the_genesis_may_be_one_that_is_named(found: Found, tmp_path: Path) -> None:
    before = found()
    (tmp_path / "data/genesis/uji.json").rename(tmp_path / "given.json")
    (tmp_path / "map.geojson").unlink()
    assert found(more='genesis = "given.json"').id == before.id


def test_a_map_that_says_otherwise_is_refused(found: Found, tmp_path: Path) -> None:
    found()
    write_map(tmp_path / "map.geojson", width=2)
    with pytest.raises(ConfigurationError, match="consensus_options is configured as"):
        found()
    write_map(tmp_path / "map.geojson", code="3")
    with pytest.raises(ConfigurationError, match="has code = '1'"):
        found()


def test_everything_else_is_still_held_against_the_genesis(found: Found, tmp_path: Path) -> None:
    found()
    (tmp_path / "map.geojson").unlink()
    with pytest.raises(ConfigurationError, match="consensus_options is configured as"):
        found(f"{OPTIONS}, seats = 3")
    with pytest.raises(ConfigurationError, match="unknown key; did you mean seats"):
        found(f"{OPTIONS}, seat = 3")


def test_without_a_region_in_the_genesis_the_map_is_needed(found: Found, tmp_path: Path) -> None:
    (tmp_path / "map.geojson").unlink()
    with pytest.raises(ConfigurationError, match=r"map\.geojson cannot be read"):
        found()
    found('policy = "none"')
    with pytest.raises(ConfigurationError, match=r"map\.geojson cannot be read"):
        found()


def test_a_genesis_of_another_step_helps_nobody(found: Found, tmp_path: Path) -> None:
    found()
    file = tmp_path / "data/genesis/uji.json"
    file.write_text(file.read_text().replace("poh-pop/1", "poh-pop/2"))
    (tmp_path / "map.geojson").unlink()
    with pytest.raises(ConfigurationError, match=r"map\.geojson cannot be read"):
        found()


def test_a_genesis_without_a_history_can_be_made_anew(found: Found, tmp_path: Path) -> None:
    before = found("", "solo")
    file = tmp_path / "data/genesis/uji.json"
    with pytest.raises(ConfigurationError) as caught:
        found()
    assert str(caught.value).endswith(
        f"; if nothing was ever sent to it, remove {file} and start again"
    )
    file.rename(tmp_path / "given.json")
    with pytest.raises(ConfigurationError) as caught:  # One that others have too stays.
        found(more='genesis = "given.json"')
    assert str(caught.value).endswith("or found a new city under another name")
    assert found().id != before.id


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


ELSE = f"""num_hashes = 20
hold_rounds = 9
committee = [{{ public_key = "{"11" * 2592}", stake = 2 }}]
[cities.uji.balances.coin]
"{"22" * 32}" = 5
"""


def test_what_a_new_city_would_begin_with_is_told_where_it_began_otherwise(
    found: Found, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = found("", "solo", more="num_hashes = 7")
    file = tmp_path / "data/genesis/uji.json"
    assert found("", "solo", more="num_hashes = 7") == before
    assert found("", "solo").num_hashes == 7, "what is left out is no difference"
    assert found("", "solo", more="committee = []\nhold_rounds = 8").id == before.id
    assert told(caplog) == []

    assert found("", "solo", more="num_hashes = 20").id == before.id
    assert told(caplog) == [
        f"city uji: the configuration says otherwise than {file}, with which the city began: "
        "num_hashes is 20 here and 7 there; the file counts. Change the configuration to what it "
        f"says, or take num_hashes out; if nothing was ever sent to it, remove {file} and start "
        "again"
    ]
    file.rename(tmp_path / "given.json")  # One that others have too is not made anew.
    assert found("", "solo", more='genesis = "given.json"\n' + ELSE).id == before.id
    [line] = told(caplog)
    assert "; hold_rounds is 9 here and 8 there; and 1 more; the file counts." in line
    assert "committee.0.public_key is key " in line
    assert line.endswith(" take balances, committee, hold_rounds, num_hashes out")


def test_a_city_on_a_storage_of_many_is_not_to_be_made_anew(
    found: Found, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is a setting to be taken out: a server to come would found another city."""
    storage = 'storage = "common"\n[storage.common]\nbackend = "mongodb"\n'
    storage += 'uri = "mongodb://127.0.0.1:1"\ndatabase = "uji"'
    found("", "solo", more=f"num_hashes = 7\n{storage}")
    found("", "solo", more=f"num_hashes = 20\n{storage}")
    [line] = told(caplog)
    assert line.endswith("Change the configuration to what it says")


def test_a_city_that_was_founded_as_it_is_configured_is_told_nothing(
    found: Found, caplog: pytest.LogCaptureFixture
) -> None:
    assert {found("", "solo", more=ELSE).id for _ in range(2)} == {found("", "solo", more=ELSE).id}
    assert told(caplog) == []
