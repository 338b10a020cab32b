"""A city of the catalogue does what every city must."""

from __future__ import annotations

from typing import Any

import pytest

from citychain.testing.conformance import CitySuite


class TestKanazawaOfTheWorld(CitySuite):
    @pytest.fixture
    def definition(self) -> str:
        return "kanazawa-jp"

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"plugins": {"allow": ["citychain-world"]}}
