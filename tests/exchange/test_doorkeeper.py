"""Who refuses deliveries refuses those that are true, and nobody keeps him from that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from exchange.towns import AUTHORS, OPERATOR, Town, peered

from citychain._native.transactions import Transaction
from citychain.compute import Executor
from citychain.exchange.doorkeeper import ESCROW_PAYEE, NOT_ACCEPTED, REPEAT_SECONDS, Doorkeeper
from citychain.exchange.neighbour import Neighbour, Signed
from citychain.genesis import escrow_account
from citychain.testing.clock import FakeClock
from citychain.types import Delivery

ANNA, BEN, EVE = AUTHORS[:3]


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


@pytest.fixture
async def towns(compute: Executor) -> list[Town]:
    return list(await peered(*(Town(name, compute) for name in ("aomori", "beppu", "chiba"))))


class Door:
    """A doorkeeper of a town, and what he signed."""

    def __init__(self, town: Town, peers: Sequence[Town], assets: Sequence[str] | None) -> None:
        self.refused: list[Delivery] = []
        self.clock = FakeClock()
        self.keeper = Doorkeeper(
            slug=town.genesis.city, sign=self.sign, compute=town.compute, clock=self.clock
        )
        self.keeper.know(
            [Neighbour(it.genesis.city, it.genesis, (), assets, self.connect) for it in peers]
        )
        self.home: Any = SimpleNamespace(
            genesis=town.genesis, storage=town.rounds.storage, submit=self.submit
        )

    def connect(self) -> Any:
        raise AssertionError("he goes nowhere")

    async def sign(self, city: bytes, actions: Sequence[Any], _: object) -> Sequence[Signed]:
        assert city == self.home.genesis.id
        self.refused += actions
        return [Signed(bytes(32), b"") for _ in actions]

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[None]:
        return [None for _ in envelopes]

    async def look(self) -> list[bytes]:
        """Ids of the remittances that he refuses of what came in."""
        self.refused.clear()
        attending = asyncio.create_task(self.keeper.attend(self.home))
        while not self.keeper._queue.empty():
            await asyncio.sleep(0)
        # He is through with what he took once he asks for more.
        while not self.keeper._queue._getters:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        attending.cancel()
        return [delivery.tx_id for delivery in self.refused]

    def code(self, delivery: Transaction) -> str:
        found = self.keeper.refuses(delivery)
        return found.code if found else ""


async def forged(town: Town, source: Town, true: Transaction, payer: Transaction) -> Transaction:
    """A delivery of a remittance by somebody who has no proof of it."""
    assert true.delivery is not None
    other = await source.proof(payer.tx_id)
    return town.sign(EVE, true.delivery._replace(proof=other))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("true_first", [False, True])
async def test_a_forged_delivery_keeps_no_true_one_out(
    towns: list[Town], together: bool, true_first: bool
) -> None:
    aomori, beppu, _ = towns
    remittance, other = (aomori.remittance(ANNA, beppu, BEN, amount) for amount in (10, 11))
    await aomori.close(remittance, other)
    true = await beppu.delivery(aomori, remittance)
    false = await forged(beppu, aomori, true, other)
    door = Door(beppu, [aomori], ["tin"])
    refused = []
    for delivery in (true, false) if true_first else (false, true):
        assert door.code(delivery) == NOT_ACCEPTED
        if not together:
            refused += await door.look()
    assert [*refused, *await door.look()] == [remittance.tx_id]


async def test_a_remittance_is_refused_once_in_a_while(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = aomori.remittance(ANNA, beppu, BEN, 10)
    await aomori.close(remittance)
    first, second, third = [
        await beppu.delivery(aomori, remittance, key=key) for key in AUTHORS[:3]
    ]
    door = Door(beppu, [aomori], ["tin"])
    assert [door.code(it) for it in (first, first, second)] == [NOT_ACCEPTED] * 3
    assert await door.look() == [remittance.tx_id]
    assert door.code(third) == NOT_ACCEPTED
    assert await door.look() == []
    await door.clock.advance(REPEAT_SECONDS)
    assert door.code(first) == NOT_ACCEPTED
    assert await door.look() == [remittance.tx_id]


async def test_what_nobody_would_send_back_is_let_in(towns: list[Town]) -> None:
    """The ledger has pinned its city, and the configuration does not name it."""
    aomori, beppu, chiba = towns
    remittance = aomori.remittance(ANNA, beppu, BEN, 10)
    await aomori.close(remittance)
    to_escrow = await beppu.delivery(aomori, remittance, key=OPERATOR, to=escrow_account(chiba.id))
    assert Door(beppu, [chiba], None).code(to_escrow) == ""
    assert Door(beppu, [chiba, aomori], None).code(to_escrow) == ESCROW_PAYEE
