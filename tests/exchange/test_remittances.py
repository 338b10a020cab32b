"""Where a remittance stands is told by certified rounds alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from exchange.towns import AUTHORS, Town, town_genesis

from citychain.between_cities import RemittanceState
from citychain.city.remittances import decided, remittance
from citychain.compute import Executor
from citychain.errors import NotFound

ANNA, BEN, CARL = AUTHORS[:3]
NAMES = ("aomori", "beppu")
KNOWN = [town_genesis(name) for name in NAMES]


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


def handler(town: Town) -> Any:
    """What is asked of a handler, over a town's storage."""
    return SimpleNamespace(storage=town.rounds.storage, head=town.rounds.storage.head)


async def test_each_step_counts_once_it_is_certified(compute: Executor) -> None:
    aomori, beppu = (
        Town(name, compute, [known for known in KNOWN if known.city != name]) for name in NAMES
    )
    sent = aomori.remittance(ANNA, beppu, BEN, 10)
    await aomori.close(sent, certify=False)
    with pytest.raises(NotFound, match="remittance"):
        await remittance(handler(aomori), sent.tx_id)
    await aomori.certify()
    told = await remittance(handler(aomori), sent.tx_id)
    assert told.outgoing.state is RemittanceState.PENDING
    assert (told.outgoing.amount, told.outgoing.city) == (10, beppu.id)

    delivery = await beppu.delivery(aomori, sent, key=CARL)
    assert (await decided(handler(beppu), aomori.id, [sent.tx_id]))[0].tx_id == b""
    await beppu.close(delivery)
    [outcome] = await decided(handler(beppu), aomori.id, [sent.tx_id])
    assert (outcome.accepted, outcome.tx_id) == (True, delivery.tx_id)

    settlement = await aomori.settlement(beppu, sent, delivery, key=CARL)
    await aomori.close(settlement, certify=False)
    told = await remittance(handler(aomori), sent.tx_id)
    assert told.outgoing.state is RemittanceState.PENDING
    await aomori.certify()
    told = await remittance(handler(aomori), sent.tx_id)
    assert told.outgoing.state is RemittanceState.DELIVERED
    assert told.settlement == settlement.tx_id


async def test_what_sends_nothing_elsewhere_is_no_remittance(compute: Executor) -> None:
    aomori = Town("aomori", compute, [])
    with pytest.raises(NotFound, match="remittance"):
        await remittance(handler(aomori), bytes(32))
