"""Kanazawa does what every city must."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from citychain.testing.conformance import CitySuite
from citychain.testing.server import TransactionFactory


class TestKanazawa(CitySuite):
    @pytest.fixture
    def definition(self) -> str:
        return "kanazawa"

    @pytest.fixture
    def transactions(self, signed_transactions: TransactionFactory) -> partial[Any]:
        return partial(signed_transactions, data=b'{"district": "nagamachi"}')

    @pytest.fixture
    def rejected(self, signed_transactions: TransactionFactory) -> partial[Any]:
        return partial(signed_transactions, data=b'{"district": "shibuya"}')
