"""What cannot be right is refused before it is stored, and what takes long to judge does not keep
the others waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from exchange.towns import AUTHORS, OPERATOR, Town, id_of, peered

from citychain._native.transactions import Transaction
from citychain.city.pool import PROOFS_A_ROUND, PendingPool, PoolLimits
from citychain.client.actions import Data
from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.compute import Executor
from citychain.config import Settings
from citychain.containers import CoreContainer, open_directory
from citychain.exchange.judge import PROVEN_BYTES_MIN, unproven
from citychain.handler import Received, Refusal
from citychain.types import Anchor, Delivery, Peer, Remittance, State

ANNA, BEN = AUTHORS[:2]


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


@pytest.fixture
async def towns(compute: Executor) -> list[Town]:
    return list(await peered(*(Town(name, compute) for name in ("aomori", "beppu", "chiba"))))


async def test_what_is_wrong_is_named_with_its_field(towns: list[Town]) -> None:
    aomori, beppu, chiba = towns
    remittance = aomori.remittance(ANNA, beppu, BEN, 10)
    late = aomori.rounds.sign(ANNA, remittance.remittance, valid_until_ms=aomori.rounds.time_ms - 1)
    await aomori.close(remittance, late)
    delivery = await beppu.delivery(aomori, remittance)
    await beppu.close(delivery)
    good = await beppu.anchor(aomori, 1)
    assert good.anchor is not None
    cases: list[tuple[Transaction, tuple[str, str] | None]] = [
        (delivery, None),
        (await beppu.delivery(aomori, remittance, refusal_code="NO"), None),
        (good, None),
        (beppu.remittance(ANNA, chiba, BEN, 1), None),
        (beppu.peer(chiba), None),
        (
            await beppu.delivery(aomori, remittance, amount=11),
            ("body.delivery.amount", "the proof has another amount"),
        ),
        (
            await beppu.delivery(aomori, remittance, city=chiba.id),
            ("body.delivery.city", f"is not the city of the proof, {aomori.id.hex()}"),
        ),
        (
            await beppu.delivery(aomori, remittance, key=ANNA, refusal_code="NO"),
            ("body.author", "is not the operator's, who alone refuses deliveries"),
        ),
        (
            await beppu.delivery(aomori, late),
            ("body.delivery.proof", "is of a transaction that was rejected: EXPIRED"),
        ),
        (
            await beppu.delivery(aomori, remittance, proof=b"\0\1\2"),
            ("body.delivery.proof", "is not as another city gives it: proof: of kind 2, not 1"),
        ),
        (
            beppu.sign(ANNA, good.anchor._replace(proof=b"\0\1\2")),
            ("body.anchor.proof", "is not as another city gives it: proof: ends after 3 bytes"),
        ),
        (beppu.peer(chiba, key=ANNA), ("body.author", "peers are the operator's to name")),
        (beppu.peer(beppu), ("body.peer.genesis_file", "it is this city's own")),
        (beppu.sign(OPERATOR, Peer(b"{}")), ("body.peer.genesis_file", "the file is no genesis")),
    ]
    found = unproven(beppu.id, id_of(OPERATOR), [item for item, _ in cases])
    assert [found.get(item.tx_id) for item, _ in cases] == [wrong for _, wrong in cases]
    settled = await aomori.settlement(beppu, remittance, delivery, returned=True)
    assert unproven(aomori.id, id_of(OPERATOR), [settled]) == {
        settled.tx_id: ("body.settlement.returned", "the proof has another returned")
    }
    # Whatever is refused at once a round would reject.
    codes = await beppu.codes(*(item for item, wrong in cases if wrong is not None))
    assert "" not in codes


async def test_a_city_stores_nothing_of_it(tmp_path: Path, towns: list[Town]) -> None:
    aomori = towns[0]
    remittance = aomori.remittance(ANNA, towns[1], BEN, 10)
    await aomori.close(remittance)
    operator = create_key(tmp_path / "operator.key")
    settings = Settings(
        data_dir=tmp_path / "data",
        operator_key=tmp_path / "operator.key",
        pacer={"min_seconds": 0.01, "max_seconds": 0.02},
        cities={"tokyo": {"storage": "memory", "num_hashes": 3}},
        plugins={"allow": ()},
    )
    async with open_directory(CoreContainer(settings=settings)) as directory:
        city = await directory.handler("tokyo")
        genesis = city.genesis.id

        async def answer(key: Any, action: Any) -> Received | Refusal:
            signed = sign_transaction(key, genesis=genesis, action=action, with_public_key=True)
            [result] = await city.submit([signed.envelope])
            return result

        told = Delivery(aomori.id, remittance.tx_id, "gold", id_of(BEN), 10, b"no proof" * 1_000)
        refused = await answer(ANNA, told)
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.field) == ("UNPROVEN", "body.delivery.proof")
        assert refused.tx_id is not None
        assert await city.status([refused.tx_id]) == {}
        proven = told._replace(proof=await aomori.proof(remittance.tx_id))
        refused = await answer(ANNA, proven)
        assert isinstance(refused, Refusal)
        assert refused.detail == f"the remittance is to the city {towns[1].id.hex()}"
        # What the ledger has to say is for a round.
        accepted = await answer(ANNA, Remittance("gold", aomori.id, id_of(BEN), 1))
        assert isinstance(accepted, Received)
        assert isinstance(await answer(operator, Peer(aomori.genesis.file)), Received)
        async for _ in city.watch_transactions([accepted.tx_id], State.APPROVED):
            pass
        receipt = (await city.receipts([accepted.tx_id]))[accepted.tx_id]
        assert receipt.rejection is not None
        assert receipt.rejection.code == "UNKNOWN_CITY"


# --- the pool

Sign = Callable[[], Transaction]


@pytest.fixture
def proof(towns: list[Town]) -> Sign:
    told = Anchor(towns[1].id, bytes(42), b"x" * 2_400)
    return lambda: towns[0].sign(ANNA, told)


@pytest.fixture
def plain(towns: list[Town]) -> Sign:
    return lambda: towns[0].sign(BEN, Data(b"x"))


def pool_of(*transactions: Transaction) -> PendingPool:
    pool = PendingPool(PoolLimits(10_000, 1 << 30, 10_000))
    pool.reserve(len(transactions), sum(item.size for item in transactions), timedelta())
    for item in transactions:
        assert pool.claim(item.author)
    expected = pool.expect([item.tx_id for item in transactions])
    pool.add(transactions, expected)
    pool.forget(expected)
    return pool


async def test_others_pass_by_proofs_that_are_too_many_for_a_round(
    proof: Sign, plain: Sign
) -> None:
    first, last = plain(), plain()
    proofs = [proof() for _ in range(PROOFS_A_ROUND + 3)]
    pool = pool_of(first, *proofs, last)
    taken = pool.candidates(10_000)
    assert list(taken.transactions) == [first, *proofs[:PROOFS_A_ROUND], last]
    pool.decided(taken, taken.transactions, (), 1)
    assert list(pool.candidates(10_000).transactions) == proofs[PROOFS_A_ROUND:]
    assert list(pool.candidates(2).transactions) == proofs[PROOFS_A_ROUND : PROOFS_A_ROUND + 2]


async def test_large_proofs_take_the_room_of_many_and_one_always_goes(
    proof: Sign, plain: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs, last = [proof() for _ in range(5)], plain()
    pool = pool_of(*proofs, last)
    size = proofs[0].size
    monkeypatch.setattr("citychain.city.pool.PROOF_BYTES_A_ROUND", 3 * size)
    assert list(pool.candidates(9).transactions) == [*proofs[:3], last]
    monkeypatch.setattr("citychain.city.pool.PROOF_BYTES_A_ROUND", size - 1)
    assert list(pool.candidates(9).transactions) == [proofs[0], last]


async def test_no_proof_that_holds_is_smaller_than_what_is_looked_for(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = aomori.remittance(ANNA, beppu, BEN, 1, asset="x")
    await aomori.close(remittance)
    proven = [
        await beppu.delivery(aomori, remittance),
        await beppu.anchor(aomori, 1),
        beppu.peer(aomori),
    ]
    assert min(item.size for item in proven) > PROVEN_BYTES_MIN
    assert remittance.size < PROVEN_BYTES_MIN
