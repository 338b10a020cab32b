"""The city: what every city must do, and how this one is found."""

from __future__ import annotations

import pytest
from citychain_otsu.city import CITY

from citychain import CityDefinition, State
from citychain.testing.conformance import CitySuite
from citychain.testing.server import CityClientFactory, TransactionFactory


class TestCity(CitySuite):
    @pytest.fixture
    def definition(self) -> CityDefinition:
        return CITY


@pytest.mark.parametrize("name", ["大津", "おおつ", "大津市", "OTSU"])
async def test_it_is_found_by_its_other_names(
    city_client: CityClientFactory, signed_transactions: TransactionFactory, name: str
) -> None:
    async with city_client(name) as city:
        [hello] = await signed_transactions(city, data=b"hello")
        await city.submit([hello])
        events = await city.wait([hello.tx_id])
        assert events[hello.tx_id].state is State.APPROVED
