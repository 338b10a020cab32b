"""Promises from a real server, and from one that lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rpc.fakes import FakeCity, FakeDirectory, digest, make_refusal, serving

from citychain import record
from citychain.acknowledgement import Promise, sign, verify
from citychain.checkpoint import checkpoint_hash, decode
from citychain.client import (
    ChannelFactory,
    CityClient,
    Refused,
    SignedTransaction,
    create_key,
    load_key,
    sign_batch,
    sign_transaction,
    transaction_body,
)
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidAcknowledgement, InvalidRequest
from citychain.genesis import Genesis, Representative
from citychain.handler import Received
from citychain.promise import PromiseCheck, PromiseState, PromiseVerdict
from citychain.testing.clock import FakeClock
from citychain.testing.server import CityServerFactory
from citychain.types import State

ALICE, OPERATOR = SigningKey(b"a" * 32), SigningKey(b"o" * 32)
ALICE_ID = key_id(ALICE.public_key)


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[CityClient]:
    async with (
        CityServerFactory(tmp_path)(["tokyo"], directory=tmp_path) as server,
        server.client("tokyo") as client,
    ):
        yield client


async def genesis_of(city: CityClient) -> Genesis:
    return Genesis.from_bytes((await city.info()).genesis_file)


def promises_of(results: Sequence[Received | Refused]) -> list[Promise]:
    return [
        result.promise
        for result in results
        if isinstance(result, Received) and result.promise is not None
    ]


def signed_for(genesis: Genesis, content: bytes = b"x") -> SignedTransaction:
    return sign_transaction(ALICE, genesis=genesis.id, data=content, with_public_key=True)


async def test_many_are_signed_for_a_chunk_at_a_time(city: CityClient) -> None:
    genesis = await genesis_of(city)
    bodies = [transaction_body(ALICE_ID, genesis=genesis.id, data=b"%d" % n) for n in range(600)]
    # The city does not know the key yet: the first chunk is refused, and sent again by value.
    transactions = await sign_batch(ALICE, bodies)
    results = await city.submit(transactions, acknowledge=True)
    promises = promises_of(results)
    assert [promise.tx_id for promise in promises] == [item.tx_id for item in transactions]
    assert len({promise.acknowledgement for promise in promises}) < 10
    verify(genesis, *promises)


async def test_repeats_are_signed_for_and_refusals_are_not(city: CityClient) -> None:
    genesis = await genesis_of(city)
    first, second = signed_for(genesis, b"1"), signed_for(genesis, b"2")
    await city.submit([first])
    results = await city.submit(
        [b"nonsense", first, second.envelope, first, b"junk"], acknowledge=True
    )
    promises = promises_of(results)
    assert [promise.tx_id for promise in promises] == [first.tx_id, second.tx_id, first.tx_id]
    assert [promise.leaf_index for promise in promises] == [0, 1, 2]
    assert {promise.acknowledgement.size for promise in promises} == {3}
    assert [isinstance(result, Refused) for result in results] == [True, False, False, False, True]


async def test_who_does_not_ask_gets_nothing(city: CityClient) -> None:
    transaction = signed_for(await genesis_of(city))
    assert await city.submit([transaction]) == [
        Received(transaction.tx_id, State.RECEIVED, False, None)
    ]
    assert promises_of(await city.submit([b"nonsense"], acknowledge=True)) == []
    assert await city.submit([], acknowledge=True) == []


async def test_the_deadline_is_each_citys_own_by_its_clock(tmp_path: Path) -> None:
    clock = FakeClock()
    cities: dict[str, Any] = {"tokyo": {}, "nara": {"limits": {"final_within_seconds": 60}}}
    async with CityServerFactory(tmp_path)(cities, clock=clock) as server:
        for name, seconds in (("tokyo", 3_600), ("nara", 60)):
            async with server.client(name) as city:
                transaction = signed_for(await genesis_of(city))
                [promise] = promises_of(await city.submit([transaction], acknowledge=True))
            signed = promise.acknowledgement
            assert signed.received_ms == clock.time_ms()
            assert signed.final_by_ms == clock.time_ms() + 1_000 * seconds


async def test_a_server_without_the_operators_key_stores_nothing(tmp_path: Path) -> None:
    create_key(tmp_path / "operator.key")
    seat = load_key(tmp_path / "operator.key").public_key.hex()
    async with CityServerFactory(tmp_path)(["tokyo"]) as server, server.client("tokyo") as city:
        own = await genesis_of(city)
    foreign = own.model_copy(
        update={
            "operator": OPERATOR.public_key.hex(),
            "committee": (Representative(public_key=seat),),
        }
    )
    (tmp_path / "genesis.json").write_bytes(foreign.to_bytes())
    tables = {"tokyo": {"genesis": tmp_path / "genesis.json"}}
    async with (
        CityServerFactory(tmp_path)(tables, directory=tmp_path) as server,
        server.client("tokyo") as city,
    ):
        transaction = signed_for(await genesis_of(city))
        with pytest.raises(InvalidRequest, match=r"^acknowledge: .*operator's key"):
            await city.submit([transaction], acknowledge=True)
        assert await city.status([transaction.tx_id]) == {}
        assert isinstance((await city.submit([transaction]))[0], Received)


# --- holding the city to it


async def checked(
    city: CityClient, promise: Promise, *, now_ms: int, certified: bool = True
) -> PromiseVerdict:
    check = PromiseCheck(promise)
    for stored in await city.rounds(limit=1_000):
        check.see(stored, record.decode(stored.record), certified)
    return check.verdict(now_ms)


async def test_a_city_that_keeps_its_word_is_found_to(city: CityClient) -> None:
    transaction = signed_for(await genesis_of(city))
    [promise] = promises_of(await city.submit([transaction], acknowledge=True))
    event = (await city.wait([transaction.tx_id]))[transaction.tx_id]
    now = promise.acknowledgement.received_ms
    verdict = await checked(city, promise, now_ms=now)
    assert (verdict.state, verdict.round) == (PromiseState.KEPT, event.round)
    uncertified = await checked(city, promise, now_ms=now, certified=False)
    assert (uncertified.state, uncertified.round) == (PromiseState.OPEN, event.round)


async def test_a_city_that_breaks_its_word_is_proven_to(city: CityClient, tmp_path: Path) -> None:
    genesis = await genesis_of(city)
    operator = load_key(tmp_path / "operator.key")
    # Acknowledged, and lost: the operator signs for what it never takes in.
    lost, later = signed_for(genesis, b"lost"), signed_for(genesis, b"later")
    [promise] = sign(operator, genesis.id, [lost.tx_id], 1_000, 2_000)
    verify(genesis, promise)
    assert (await checked(city, promise, now_ms=3_000)).state is PromiseState.DUE
    await city.submit([later])
    await city.wait([later.tx_id])
    verdict = await checked(city, promise, now_ms=3_000)
    assert (verdict.state, verdict.round) == (PromiseState.BROKEN, 0)

    proof = verdict.proof
    assert proof is not None
    shown = proof.to_fields()
    assert shown["acknowledgement"]["tx_id"] == lost.tx_id.hex()
    assert shown["round"] == 1
    # By what is printed alone, and the genesis: the checkpoint is certified.
    checkpoint = bytes.fromhex(shown["checkpoint"])
    assert decode(checkpoint).genesis == genesis.id
    assert checkpoint_hash(checkpoint).hex() == shown["certificate"]["checkpoint_hash"]
    [vote] = shown["certificate"]["votes"]
    assert vote["key_id"] == genesis.committee[0].key_id.hex()
    [stored] = await city.rounds(1, 1)
    assert decode(checkpoint).record_hash == record.record_hash(record.without_poh(stored.record))

    # It mends nothing to seal it now.
    await city.submit([lost])
    sealed = (await city.wait([lost.tx_id]))[lost.tx_id].round
    late = await checked(city, promise, now_ms=3_000)
    assert (late.state, late.round) == (PromiseState.BROKEN, sealed)
    assert "too late" in late.detail


# --- lies


class Liar(FakeCity):
    """Signs what it is told to."""

    def __init__(self, lie: str) -> None:
        super().__init__()
        self.genesis = Genesis(
            network="test",
            city="kanazawa",
            rule="sealed-rounds/1",
            consensus="solo/1",
            operator=OPERATOR.public_key.hex(),
            committee=(Representative(public_key=OPERATOR.public_key.hex()),),
        )
        self.lie = lie
        self.sent: list[bytes] = []

    async def submit(
        self, envelopes: Sequence[bytes], *, acknowledge: bool = False
    ) -> Sequence[Any]:
        ids = [digest(envelope) for envelope in envelopes] if self.lie == "other ids" else self.sent
        if self.lie == "nothing":
            return [Received(tx_id, State.RECEIVED, False) for tx_id in ids]
        key = ALICE if self.lie == "another key" else OPERATOR
        promises = sign(key, self.genesis.id, ids, 1, 2)
        if self.lie == "another place":
            promises = [replace(promises[1], tx_id=ids[0]), promises[1]]
        elif self.lie == "another id":
            promises[0], promises[1] = promises[1], promises[0]
        if self.lie == "another id":
            ids = [promise.tx_id for promise in promises]
        return [
            Received(tx_id, State.SEALED, True, promise)
            for tx_id, promise in zip(ids, promises, strict=True)
        ]


LIES = {
    "": None,
    "nothing": "signature",
    "another key": "signature",
    "another place": "inclusion",
    "another id": "tx_id",
    "other ids": "tx_id",
    "another genesis": "genesis",
    "no transaction": "tx_id",
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_found_by_the_client(lie: str) -> None:
    liar = Liar(lie)
    genesis = liar.genesis
    if lie == "another genesis":
        genesis = genesis.model_copy(update={"network": "real"})
    sent = [signed_for(genesis, b"1"), signed_for(genesis, b"2")]
    liar.sent = [transaction.tx_id for transaction in sent]
    items: list[Any] = [b"junk", sent[1]] if lie == "no transaction" else [*sent]
    async with (
        serving(FakeDirectory(kanazawa=liar)) as server,
        CityClient("kanazawa", ChannelFactory([server.address])) as city,
    ):
        if LIES[lie] is None:
            assert len(promises_of(await city.submit(items, acknowledge=True))) == 2
            return
        with pytest.raises(InvalidAcknowledgement) as raised:
            await city.submit(items, acknowledge=True)
    assert raised.value.check == LIES[lie]


async def test_a_quota_is_waited_out_and_signed_for(city: CityClient) -> None:
    liar = Liar("")
    sent = [signed_for(liar.genesis, b"1"), signed_for(liar.genesis, b"2")]
    honest = liar.submit
    calls: list[int] = []

    async def submit(envelopes: Sequence[bytes], **options: Any) -> Sequence[Any]:
        calls.append(len(envelopes))
        liar.sent = [item.tx_id for item in sent if item.envelope in envelopes]
        results = [*await honest(envelopes, **options)]
        return [results[0], make_refusal("AUTHOR_QUOTA")] if len(calls) == 1 else results

    liar.submit = submit  # type: ignore[method-assign]
    async with (
        serving(FakeDirectory(kanazawa=liar)) as server,
        CityClient("kanazawa", ChannelFactory([server.address])) as client,
    ):
        promises = promises_of(await client.submit(sent, acknowledge=True))
    assert [promise.tx_id for promise in promises] == [item.tx_id for item in sent]
    assert calls == [2, 1]
    assert [promise.acknowledgement.size for promise in promises] == [2, 1]
