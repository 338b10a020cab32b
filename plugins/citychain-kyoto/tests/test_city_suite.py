"""Kyoto does what every city must."""

from __future__ import annotations

import pytest

from citychain.testing.conformance import CitySuite


class TestKyoto(CitySuite):
    @pytest.fixture
    def definition(self) -> str:
        return "kyoto"
