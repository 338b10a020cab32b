"""The options: what goes together, and that a genesis keeps all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from consensus.model_city import CLAIMED, EAST, FURTHER_EAST, PLACE, WEST, WITNESSED, square
from pydantic import ValidationError

from citychain.consensus.poh_pop import PohPopOptions

EVENT = {"region": square(WEST, EAST), "from_ms": 1, "until_ms": 2, "factor_permille": 1_500}


def test_no_option_is_needed() -> None:
    options = PohPopOptions()
    assert (options.policy, options.place, options.witnesses) == ("none", None, 0)


@pytest.mark.parametrize(
    "given",
    [{}, CLAIMED, WITNESSED, {**CLAIMED, "events": [EVENT]}, {"seats": 3}],
    ids=["none", "claimed", "witnessed", "events", "seats"],
)
def test_a_genesis_keeps_them(given: Mapping[str, Any]) -> None:
    options = PohPopOptions.model_validate(given)
    pinned = json.loads(json.dumps(options.model_dump(mode="json")))
    again = PohPopOptions.model_validate(pinned)
    assert again == options
    assert again.model_dump(mode="json") == pinned


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"policy": "claimed"}, "policy 'claimed' needs a place"),
        ({"policy": "witnessed", "witnesses": 2}, "policy 'witnessed' needs a place"),
        ({"policy": "witnessed", "place": PLACE}, "needs witnesses: say how many"),
        ({**CLAIMED, "witnesses": 1}, "witnesses are for policy 'witnessed' alone"),
        ({**WITNESSED, "witnesses": 17}, "less than or equal to 16"),
        ({"place": PLACE}, "place is for policies that judge presences: choose one, or leave"),
        ({"events": [EVENT]}, "events are for policies that judge presences"),
        ({**CLAIMED, "events": [EVENT | {"until_ms": 1}]}, "from_ms must be before until_ms"),
        (
            {**CLAIMED, "events": [EVENT | {"factor_permille": 999}]},
            "or equal to 1000",
        ),
        (
            {"epoch_rounds": 5, "seed_rounds": 5},
            "must be more than seed_rounds",
        ),
        ({"candidates_max": 257}, "less than or equal to 256"),
        ({"stake_asset": "Gold"}, "match pattern"),
        ({"polices": "none"}, "Extra inputs are not permitted"),
    ],
)
def test_what_does_not_go_together_is_said(given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PohPopOptions.model_validate(given)


def test_a_place_is_taken_from_a_file_once(tmp_path: Path) -> None:
    def feature(name: str, west: int, east: int) -> Mapping[str, Any]:
        [ring] = square(west, east)["polygons"][0]
        corners = [[x / 10**7, y / 10**7] for y, x in zip(ring[::2], ring[1::2], strict=True)]
        geometry = {"type": "Polygon", "coordinates": [corners]}
        return {"type": "Feature", "properties": {"name": name}, "geometry": geometry}

    features = [feature("tokyo", WEST, EAST), feature("chiba", EAST, FURTHER_EAST)]
    file = tmp_path / "cities.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    place = {"file": str(file), "property": "name", "value": "tokyo"}
    options = PohPopOptions.model_validate({"policy": "claimed", "place": place})
    file.unlink()
    pinned = options.model_dump(mode="json")
    assert list(pinned["place"]["neighbours"]) == ["chiba"]
    assert PohPopOptions.model_validate(pinned) == options
