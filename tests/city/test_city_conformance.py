"""Whole cities of built-in parts pass the suite that plugins of cities are given."""

from __future__ import annotations

import pytest

from citychain.client.keys import create_key
from citychain.hooks.definitions import CityDefinition
from citychain.testing.conformance import CitySuite


class TestTheDefault(CitySuite):
    """On disk, in sealed rounds, approved by the operator."""

    @pytest.fixture
    def definition(self):
        return CityDefinition("tokyo", titles={"en": "Tokyo"}, aliases=("東京", "도쿄", "Токио"))


class TestInMemory(CitySuite):
    """Nothing outlives the process, and edges are declared ones."""

    @pytest.fixture
    def definition(self):
        return CityDefinition("sandbox", storage="memory", dag="dependencies-only")


class TestWithRepresentatives(CitySuite):
    """Two representatives vote inside the server, and each node links to others at random."""

    @pytest.fixture
    def definition(self):
        return CityDefinition(
            "assembly", dag="random-tips", dag_options={"tips": 2}, consensus="poh-pop"
        )

    @pytest.fixture
    def options(self, tmp_path):
        files = [tmp_path / "ana.key", tmp_path / "ben.key"]
        keys = [create_key(file) for file in files]
        return {
            "committee": [{"public_key": key.public_key.hex()} for key in keys],
            "representatives": files,
        }
