"""The examples of docs/consensus.md are cities."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from citychain.city.founding import found_city
from citychain.city.plan import plan_city
from citychain.client.keys import save_public_key
from citychain.config import load_settings
from citychain.consensus.poh_pop import PohPopOptions
from citychain.containers import BUILTIN
from citychain.crypto.signatures import SigningKey
from citychain.hooks.registry import load_plugins

TEXT = (Path(__file__).parents[2] / "docs" / "consensus.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
OPERATOR = SigningKey(b"O" * 32)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: min(tomllib.loads(text)["cities"]))
def test_an_example_founds_a_city(tmp_path: Path, example: str) -> None:
    for number, name in enumerate(re.findall(r'"(\w+\.pub)"', example)):
        save_public_key(tmp_path / name, SigningKey(bytes([number]) * 32).public_key)
    ring = [[136, 36], [137, 36], [137, 37], [136, 36]]
    kanazawa = {
        "type": "Feature",
        "properties": {"N03_007": "17201"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    (tmp_path / "municipalities.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [kanazawa]})
    )
    (tmp_path / "citychain.toml").write_text(f"[cities.hometown]\n{example}")
    settings = load_settings(tmp_path / "citychain.toml", environment={})
    [slug] = settings.cities.keys() - {"hometown"}
    plan = plan_city(slug, settings, load_plugins(builtin=BUILTIN, entry_points=[]))
    genesis = found_city(settings.data_dir, settings.network, plan, OPERATOR.public_key)
    table = tomllib.loads(example)["cities"][slug]
    assert genesis.consensus == "poh-pop/1"
    assert isinstance(plan.consensus.options, PohPopOptions)
    assert genesis.balances == table.get("balances", {})
    assert len(genesis.committee) == len(table.get("committee", [OPERATOR]))
    for name, value in table["consensus_options"].items():
        if name != "place":
            assert genesis.consensus_options[name] == value
    place = plan.consensus.options.place
    assert (place is not None) == ("place" in table["consensus_options"])
    assert place is None or place.locate(361_000_000 + 4_613_000, 1_366_562_000).is_inside


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3
