"""What goes wrong around a city, and what it must not cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from history import History, Members

from citychain._native.settle import settle
from citychain._native.transactions import decode_batch
from citychain.city.directory import CityDirectory
from citychain.city.pool import PendingPool, PoolLimits
from citychain.city.retry import pause_seconds
from citychain.client.transactions import sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.errors import CityUnavailable, LeaseLost, NotFound
from citychain.exchange import terms
from citychain.exchange.judge import shown_most
from citychain.exchange.proof import encode_certified
from citychain.handler import CityHandler
from citychain.record import RECORD_BYTES_MAX, body_bytes
from citychain.testing.faults import FailingStorage, StallingConsensus, StallingStorage
from citychain.types import Certificate, Peer, Rejection, State, Vote

OpenCities = Callable[..., AbstractAsyncContextManager[CityDirectory]]
KEY = SigningKey(bytes(32))
UNTRUE = Certificate(1, bytes(32), (Vote(bytes(32), bytes(4_627)),))


def sign(city: CityHandler, **fields: Any) -> Any:
    return sign_transaction(
        KEY, genesis=city.genesis.id, with_public_key=True, **({"data": b"x"} | fields)
    )


async def final(city: CityHandler, *transactions: Any) -> dict[bytes, str]:
    codes: dict[bytes, str] = {}
    async with asyncio.timeout(120):
        async for batch in city.watch_transactions(
            [transaction.tx_id for transaction in transactions], State.APPROVED
        ):
            codes |= {event.tx_id: event.code for event in batch.events}
    return codes


async def test_a_city_whose_work_ends_is_opened_again_and_goes_on(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    lost = FailingStorage("commit", times=1, error=LeaseLost(1))
    async with open_cities({"tokyo": {"storage": lost}}) as directory:
        first = await directory.handler("tokyo")
        watching = asyncio.create_task(_next(first.watch(None, State.APPROVED, 0)))
        transaction = sign(first)
        await first.submit([transaction.envelope])
        with pytest.raises(CityUnavailable):
            await asyncio.wait_for(watching, 120)
        with pytest.raises(CityUnavailable):
            await first.submit([sign(first).envelope])
        # Nobody asks for it: what was acknowledged is sealed all the same.
        async with asyncio.timeout(120):
            while directory.open_cities().get("tokyo") in (None, first):
                await asyncio.sleep(0.01)
        again = await directory.handler("tokyo")
        assert again is not first
        assert await final(again, transaction) == {transaction.tx_id: ""}
        assert "it is opened again" in caplog.text


async def _next(batches: Any) -> Any:
    async for batch in batches:
        if batch.events:
            return batch
    raise AssertionError


async def test_a_call_under_way_when_a_city_closes_is_told(open_cities: OpenCities) -> None:
    stalling = StallingStorage("append")
    async with open_cities({"tokyo": {"storage": stalling}}) as directory:
        city = await directory.handler("tokyo")
        waiting = asyncio.create_task(city.submit([sign(city).envelope]))
        await stalling.reached()
    with pytest.raises(CityUnavailable):
        await asyncio.wait_for(waiting, 120)


async def test_a_backlog_is_certified_in_order_before_what_comes_after_it(
    open_cities: OpenCities,
) -> None:
    cities = {"tokyo": {"storage": "sqlite", "num_hashes": 1}}
    pacer = {"min_seconds": 0.01, "max_seconds": 0.01, "max_tx": 1}
    sent = []
    for _ in range(3):
        away = StallingConsensus("approve")
        async with open_cities({"tokyo": {"consensus": away}}, cities=cities, pacer=pacer) as many:
            city = await many.handler("tokyo")
            before = (await city.head()).round
            for _ in range(6):
                sent.append(sign(city))
                await city.submit([sent[-1].envelope])
            with suppress(TimeoutError):
                async with asyncio.timeout(3):
                    while (await city.head()).round < before + 6:
                        await asyncio.sleep(0.01)
            assert (await city.head()).certified_round == 0
    async with open_cities(cities=cities, pacer=pacer) as directory:
        city = await directory.handler("tokyo")
        sent.append(sign(city))
        await city.submit([sent[-1].envelope])
        told: list[int] = []
        async with asyncio.timeout(120):
            async for batch in city.watch(None, State.APPROVED, 0):
                head = await city.head()
                [stored] = await city.storage.rounds(batch.position, 1)
                assert stored.certificate is not None
                assert (await city.storage.head()).certified_round >= batch.position
                assert head.certified_round >= batch.position
                told.append(batch.position)
                if len(told) == len(sent):
                    break
        assert told == list(range(1, len(sent) + 1))


async def test_draining_does_not_reject_what_is_held(open_cities: OpenCities) -> None:
    cities = {"tokyo": {"storage": "sqlite", "num_hashes": 1}}
    pacer = {"min_seconds": 0.05, "max_seconds": 30}
    async with open_cities(cities=cities, pacer=pacer) as directory:
        city = await directory.handler("tokyo")
        parent = sign(city)
        child = sign(city, depends_on=[parent.tx_id])
        await city.submit([child.envelope])
        async with asyncio.timeout(120):
            while not (await city.head()).round:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(120):
            await directory.drain()
        assert (await city.head()).round < city.genesis.hold_rounds
    async with open_cities(cities=cities) as directory:
        city = await directory.handler("tokyo")
        await city.submit([parent.envelope])
        assert set((await final(city, parent, child)).values()) == {""}


async def test_no_proof_of_what_is_not_approved(open_cities: OpenCities) -> None:
    away = StallingConsensus("approve")
    async with open_cities({"tokyo": {"consensus": away}}) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        await city.submit([transaction.envelope])
        async for batch in city.watch_transactions([transaction.tx_id], State.SEALED):
            assert batch.events[0].state is State.SEALED
            break
        with pytest.raises(NotFound):
            await city.inclusion_proof(0, 0)
        assert await city.receipts([transaction.tx_id]) == {}
        away.release()
        await final(city, transaction)
        assert (await city.inclusion_proof(0, 0)).size == 1


async def test_a_rule_whose_reason_is_too_long_is_named_in_the_log(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    class Talkative:
        def __init__(self, real: Any) -> None:
            self.real, self.talks = real, 1

        async def decide(self, *args: Any) -> Any:
            decision = await self.real.decide(*args)
            if self.talks:
                self.talks -= 1
                return replace(
                    decision,
                    verdicts=[Rejection("RULE", "because " * 40) for _ in decision.order],
                    parents=[() for _ in decision.order],
                )
            return decision

    async with open_cities({"tokyo": {"dag": Talkative}}) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        await city.submit([transaction.envelope])
        assert await final(city, transaction) == {transaction.tx_id: ""}
    assert "a reason has at most 255 bytes" in caplog.text
    assert transaction.tx_id.hex() in caplog.text


def test_candidates_always_fit_into_a_record() -> None:
    pool = PendingPool(PoolLimits(10_000, 1 << 40, 10_000))
    most = [Heavy(number) for number in range(4_000)]
    pool.pick_up(most, pool.expect(), others=False)  # type: ignore[arg-type]
    candidates = pool.candidates(10_000)
    # All of them could be rejected with the longest reason, or approved with all their writes.
    worst = 33 + 257 + 2 * 32 + 16 * (11 + 128 + 32)
    assert 2_000 < len(candidates.transactions) < 4_000
    assert len(candidates.transactions) * worst <= RECORD_BYTES_MAX
    # Held by the round, they leave no room, and are candidates alone.
    pool.decided(candidates, [], [t.tx_id for t in candidates.transactions], 1)
    assert set(pool.candidates(10_000).held_since) == {1}


def test_witnesses_and_what_an_election_writes_fit_too() -> None:
    pool = PendingPool(PoolLimits(10_000, 1 << 40, 10_000))
    pool.pick_up([Registering(n) for n in range(4_000)], pool.expect(), others=False)  # type: ignore[misc]
    candidates = pool.candidates(10_000)
    an_object = 1 + 73 + 8 + 2
    key, election = an_object + 2_592, 3 * (an_object + 16_384)
    assert 2_000 < len(candidates.transactions) < 4_000
    assert len(candidates.transactions) * (33 + 32 + key) + election <= RECORD_BYTES_MAX


@pytest.mark.parametrize("action", ["remittance", "delivery", "settlement", "anchor"])
def test_what_is_between_cities_fits_too(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # However many proofs a round takes.
    monkeypatch.setattr("citychain.city.pool.PROOFS_A_ROUND", 20_000)
    monkeypatch.setattr("citychain.city.pool.PROOF_BYTES_A_ROUND", 1 << 40)
    pool = PendingPool(PoolLimits(20_000, 1 << 40, 20_000))
    most = [Between(number, action) for number in range(12_000)]
    pool.pick_up(most, pool.expect(), others=False)  # type: ignore[arg-type]
    candidates = pool.candidates(20_000)
    balance = 1 + 9 + 32 + 1 + 64 + 8 + 2 + 8
    outbox = 1 + 8 + 64 + 8 + 2 + 105 + 32
    inbox = 1 + 7 + 64 + 1 + 64 + 8 + 2 + 33
    # A settlement moves the amount from one balance to another, too.
    worst = 33 + 2 * balance + max(outbox, inbox)
    assert 6_000 < len(candidates.transactions) < 12_000
    assert len(candidates.transactions) * worst <= RECORD_BYTES_MAX


@pytest.mark.parametrize("seats", [1, 21, 256])
def test_committees_that_proofs_show_fit(seats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citychain.city.pool.PROOFS_A_ROUND", 20_000)
    monkeypatch.setattr("citychain.city.pool.PROOF_BYTES_A_ROUND", 1 << 40)
    history = History(dict.fromkeys(range(1, 4), 1))
    members: Members = dict.fromkeys(range(10, 10 + seats), 1)
    handovers = [history.recovery(1, {number: 1}) for number in range(4, 8)]
    handovers.append(history.recovery(1, members))
    proof = encode_certified(bytes(32), UNTRUE, handovers)
    pool = PendingPool(PoolLimits(20_000, 1 << 40, 20_000))
    most = [Between(number, "anchor", proof) for number in range(2_000)]
    pool.pick_up(most, pool.expect(), others=False)  # type: ignore[arg-type]
    candidates = pool.candidates(20_000)
    shown = terms.objects_of(
        history.genesis.id, terms.follow(history.genesis, None, handovers)
    ).items()
    # Each of another city.
    worst = 33 + sum(11 + len(name) + len(value) for name, value in shown)
    assert 0 < len(candidates.transactions) < 2_000
    assert len(candidates.transactions) * worst <= RECORD_BYTES_MAX


@pytest.mark.parametrize("length", [300, 16_384, 16_385, 262_144])
def test_peers_fit_with_their_files(length: int) -> None:
    file = b'{"network": "%s", "city": "%s"' % (b"n" * 63, b"c" * 63)
    file += b', "rest": "%s"}' % (b"x" * (length - len(file) - 13))
    assert len(file) == length
    pool = PendingPool(PoolLimits(40_000, 1 << 40, 40_000))
    peer = sign_transaction(KEY, genesis=bytes(32), action=Peer(file))
    [transaction] = decode_batch([peer.envelope])
    pool.pick_up([transaction], pool.expect(), others=False)
    pool.pick_up([Pinning(n, transaction.size) for n in range(2_000)], pool.expect(), others=False)  # type: ignore[misc]
    count = len(pool.candidates(40_000).transactions)
    settled = settle(
        round=1,
        time_ms=1,
        hold_rounds=1,
        candidates=[transaction],
        held_since=[0],
        refused={},
        dependencies={},
        objects={},
    )
    assert settled.verdicts == [None]
    record = body_bytes(
        genesis=bytes(32),
        round=1,
        time_ms=1,
        epoch=1,
        tx_ids=[transaction.tx_id],
        verdicts=[None],
        held=[],
        held_places=[],
        writes=settled.writes,
    )
    assert 20 < count < 2_000
    assert count * len(record) <= RECORD_BYTES_MAX


def test_proofs_that_do_not_fit_are_passed_by() -> None:
    """The first is not, and none waits for what came after it."""
    history = History({1: 1})
    proof = encode_certified(
        bytes(32), UNTRUE, [history.recovery(1, dict.fromkeys(range(10, 1_034), 1))]
    )
    large: Any = Between(1, "anchor", proof)
    assert 2 * shown_most(large) < RECORD_BYTES_MAX < 3 * shown_most(large)
    others = [Between(number, "anchor", proof) for number in (2, 3)]
    plain = [Registering(number) for number in range(4, 1_500)]
    small = Between(9_000, "anchor")
    pool = PendingPool(PoolLimits(20_000, 1 << 40, 20_000))
    arrived = [plain[0], large, *others, *plain[1:], small]
    pool.pick_up(arrived, pool.expect(), others=False)  # type: ignore[arg-type]
    fits = pool.candidates(5).transactions
    assert fits == [plain[0], large, others[0], *plain[1:3]]
    everything = pool.candidates(20_000)
    assert others[1] not in everything.transactions
    assert small not in everything.transactions
    assert [it for it in arrived if it in everything.transactions] == everything.transactions
    # Where what is held leaves no room, none goes ahead of the first.
    pool.decided(everything, [], [item.tx_id for item in everything.transactions], 1)
    again = pool.candidates(20_000)
    assert set(again.held_since) == {1}
    pool.sealed([item.tx_id for item in everything.transactions])
    assert pool.candidates(1).transactions == [others[1]]


class Heavy:
    """As much of a transaction as a pool looks at, with all the writes that one may have."""

    action = "data"
    author = bytes(32)
    size = 8_000
    writes = tuple((f"{number:02}{'x' * 126}", 0) for number in range(16))

    def __init__(self, number: int) -> None:
        self.tx_id = number.to_bytes(32, "big")


class Registering(Heavy):
    """The operator's, with a witness's key."""

    action = "witness"
    writes = ()


class Between(Heavy):
    """What another city has a part in."""

    writes = ()

    def __init__(self, number: int, action: str, proof: bytes = b"") -> None:
        super().__init__(number)
        self.action = action
        self.delivery = self.settlement = self.anchor = None
        setattr(self, action, SimpleNamespace(proof=proof))


class Pinning(Heavy):
    """The operator's, with a genesis file."""

    action = "peer"
    writes = ()

    def __init__(self, number: int, size: int) -> None:
        super().__init__(number)
        self.size = size


def test_pauses_grow_and_end_however_often_it_failed() -> None:
    pauses: Sequence[float] = [pause_seconds(failures) for failures in (1, 2, 3, 10, 5_000)]
    assert list(pauses) == sorted(pauses)
    assert pauses[0] == 0.1
    assert pauses[-1] == 5.0
