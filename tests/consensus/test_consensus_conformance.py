"""The built-in consensus steps do what every consensus step must."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from citychain.consensus.builtin import citychain_consensus_steps
from citychain.consensus.poh_pop import REJECTION_CODES
from citychain.crypto.signatures import SigningKey
from citychain.hooks.definitions import ConsensusDefinition
from citychain.testing.conformance import ConsensusSuite
from citychain.testing.conformance.consensus import ASSET, AUTHORS, MEMBERS

STEPS = {definition.name: definition for definition in citychain_consensus_steps()}


class TestSolo(ConsensusSuite):
    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        return STEPS["solo"]

    @pytest.fixture
    def codes(self) -> Collection[str]:
        return ()


class PohPopSuite(ConsensusSuite):
    big_batch = 20_000

    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        return STEPS["poh-pop"]

    @pytest.fixture
    def codes(self) -> Collection[str]:
        return REJECTION_CODES.keys()


EPOCHS = {
    "epoch_rounds": 4,
    "seed_rounds": 1,
    "seed_hashes": 3,
    "stake_asset": ASSET,
}
PLACE = {"disc": {"latitude_e7": 0, "longitude_e7": 0, "radius_m": 5_000}}


class TestPohPop(PohPopSuite):
    """As it comes: no places, and no election in these few rounds."""

    big_batch = 100_000


class TestElections(PohPopSuite):
    """An election every four rounds, and a first committee with unlike stakes."""

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {**EPOCHS, "seats": 3}

    @pytest.fixture
    def committee(self) -> list[tuple[SigningKey, int]]:
        return [(MEMBERS[0], 5), (AUTHORS[1], 3), (MEMBERS[2], 2), (AUTHORS[0], 1)]


class TestWitnessedPlaces(PohPopSuite):
    """Presences in a small place, signed by a witness, and elections of those who have one."""

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {**EPOCHS, "seats": 2, "policy": "witnessed", "witnesses": 1, "place": PLACE}


class TestClaimedPlaces(PohPopSuite):
    """Presences in a small place, by the word of their author."""

    examples = 5

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {"policy": "claimed", "place": PLACE, "validity_rounds": 3}
