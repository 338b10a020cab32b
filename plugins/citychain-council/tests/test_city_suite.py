"""A city with a council does what every city must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from citychain import CityDefinition
from citychain.client.keys import create_key
from citychain.testing.conformance import CitySuite


class TestNara(CitySuite):
    @pytest.fixture
    def definition(self) -> CityDefinition:
        return CityDefinition("council-town", aliases=("奈良の評議会",), consensus="council")

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        files = [tmp_path / f"{name}.key" for name in ("ana", "ben", "cho")]
        keys = [create_key(file) for file in files]
        return {
            "committee": [{"public_key": key.public_key.hex()} for key in keys],
            "representatives": files[:2],
        }
