"""The MongoDB backend between several servers, and when what it does is cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mongodb.fail_points import STEP_DOWNS, WRITE_CONCERN_TIMEOUT, FailPoint
from mongodb.mongo_proxy import Loss, MongoProxy, primary, through
from pymongo import MongoClient

import citychain.storage._mongodb_ledger as ledger_module
from citychain.compute import Executor
from citychain.errors import LeaseLost, StorageError
from citychain.ports import StorageContext
from citychain.storage.mongodb import MongodbBackend, MongodbOptions
from citychain.testing import FakeClock
from citychain.testing.conformance.ledger import Ledger, pending
from citychain.types import ObjectWrite

TTL = timedelta(seconds=10)
SECONDS = 300
"""For what a machine may be slow at."""

Open = Callable[..., Awaitable[MongodbBackend]]


@pytest.fixture
async def open_backend(
    mongodb_uri: str, mongodb_database: str, tmp_path: Path
) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:
        compute = await stack.enter_async_context(Executor(4))

        async def enter(
            uri: str = mongodb_uri, clock: FakeClock | None = None, **options: Any
        ) -> MongodbBackend:
            given = MongodbOptions.model_validate(
                {"uri": uri, "database": mongodb_database, **options}
            )
            context = StorageContext(tmp_path, compute, clock or FakeClock())
            backend = MongodbBackend(given, context)
            return await stack.enter_async_context(backend)

        yield enter


# --- hearing of each other ---------------------------------------------------------


async def test_what_another_server_writes_wakes_who_waits(open_backend: Open) -> None:
    """The time-out is of a clock that stands still."""
    ledger = Ledger(1)
    one = await (await open_backend()).city(ledger.genesis, b"", ())
    two = await (await open_backend()).city(ledger.genesis, b"", ())
    batch = ledger.transactions(3)
    sealed = replace(ledger.round(batch), epoch=1)
    async with asyncio.timeout(SECONDS):
        await two.changed(TTL)  # The stream begins: what was before it nobody knows.
        for write in (
            lambda: one.append(batch, {}),
            lambda: one.acquire_lease("one", TTL),
            lambda: one.commit(sealed),
            lambda: one.certify([replace(ledger.certificate(1), round=1)]),
            lambda: one.keep({"note": b""}),
            lambda: one.release_lease(1),
        ):
            waiting = asyncio.create_task(two.changed(TTL))
            await asyncio.sleep(0)
            result = await write()
            await waiting
            if sealed is not None and not ledger.rounds:
                ledger.commit(sealed)
            assert result in (None, 1)


async def test_who_is_handed_a_city_hears_of_it(open_backend: Open) -> None:
    """The time-out is of a clock that stands still."""
    ledger, clock = Ledger(21), FakeClock()
    giver, taker = await open_backend(), await open_backend(clock=clock)
    one = await giver.city(ledger.genesis, b"", ())
    two = await taker.city(ledger.genesis, b"", ())
    async with asyncio.timeout(SECONDS):
        await taker.handed("two", TTL)  # The stream begins: what was before it nobody knows.
        waiting = asyncio.create_task(taker.handed("two", TTL))
        other = asyncio.create_task(taker.handed("three", TTL))
        changed = asyncio.create_task(two.changed(TTL))
        await asyncio.sleep(0)
        epoch = await one.acquire_lease("one", TTL)
        assert epoch is not None
        await changed
        assert not waiting.done(), "a lease that is taken is handed to nobody"
        await giver.hand_over(ledger.genesis, epoch, "two")
        assert await waiting
        assert not other.done()
        assert (await taker.servers(TTL))[""] == [ledger.genesis], "of one that does not beat"
        await clock.advance(TTL.total_seconds())
        assert not await other


async def test_what_is_handed_back_is_heard_of(open_backend: Open) -> None:
    """The time-out is of a clock that stands still; so would be what was seen of the lease."""
    ledger = Ledger(22)
    giver, taker = await open_backend(), await open_backend()
    one = await giver.city(ledger.genesis, b"", ())
    async with asyncio.timeout(SECONDS):
        await one.changed(TTL)  # The stream begins: what was before it nobody knows.
        epoch = await one.acquire_lease("one", TTL)
        assert epoch is not None
        await one.changed(TTL)
        await giver.hand_over(ledger.genesis, epoch, "two")
        await one.changed(TTL)
        assert await one.acquire_lease("one", TTL) is None
        waiting = asyncio.create_task(one.changed(TTL))
        await asyncio.sleep(0)
        await taker.hand_back(ledger.genesis, "two")
        await waiting
        assert await one.acquire_lease("one", TTL)


# --- notes -------------------------------------------------------------------------


async def test_a_note_is_later_than_what_another_server_kept_before(open_backend: Open) -> None:
    """Also where the other one has left places free in the order of the calls."""
    ledger = Ledger(20)
    one = await (await open_backend()).city(ledger.genesis, b"", ())
    two = await (await open_backend()).city(ledger.genesis, b"", ())
    await one.keep({"first": b""})
    for number in range(4):
        await two.keep({"x": b"%d" % number, "y": b"%d" % number})
    await one.keep({"x": b"new"})
    assert await two.notes("") == {"first": b"", "x": b"new", "y": b"3"}


# --- leases ------------------------------------------------------------------------


async def test_a_lease_is_taken_when_it_stood_still_on_the_waiting_sides_clock(
    open_backend: Open,
) -> None:
    ledger = Ledger(2)
    clock = FakeClock()
    one = await (await open_backend()).city(ledger.genesis, b"", ())
    two = await (await open_backend(clock=clock)).city(ledger.genesis, b"", ())
    first = await one.acquire_lease("one", TTL)
    assert first is not None
    for _ in range(3):
        assert await two.acquire_lease("two", TTL) is None
        await clock.advance(9)
        clock.jump(-100_000)
        assert await two.acquire_lease("two", TTL) is None, "it has not stood still for a ttl"
        await one.renew_lease(first, TTL)
        await clock.advance(1)  # What was seen of a lease counts for a moment.
    assert await two.acquire_lease("two", TTL) is None, "it was renewed"
    await clock.advance(10)
    second = await two.acquire_lease("two", TTL)
    assert second is not None
    assert second > first
    with pytest.raises(LeaseLost):
        await one.renew_lease(first, TTL)


async def test_a_lease_that_is_handed_over_is_anybodys_after_a_ttl(open_backend: Open) -> None:
    ledger = Ledger(3)
    clock = FakeClock()
    backend = await open_backend(clock=clock)
    city = await backend.city(ledger.genesis, b"", ())
    epoch = await city.acquire_lease("one", TTL)
    assert epoch is not None
    await backend.hand_over(ledger.genesis, epoch, "two")
    assert await city.acquire_lease("three", TTL) is None
    await clock.advance(11)
    assert await city.acquire_lease("three", TTL) is not None


async def test_who_lost_the_lease_commits_nothing_though_no_round_came_after(
    open_backend: Open,
) -> None:
    """A paused server wakes up: the fence stands where its round would be."""
    ledger = Ledger(4)
    one = await (await open_backend()).city(ledger.genesis, b"", ())
    two = await (await open_backend()).city(ledger.genesis, b"", ())
    old = await one.acquire_lease("one", TTL)
    assert old is not None
    await one.release_lease(old)
    new = await two.acquire_lease("two", TTL)
    batch = ledger.transactions(2)
    await two.append(batch, {})
    ledger.receive(batch)
    with pytest.raises(LeaseLost):
        await one.commit(ledger.round(batch, epoch=old))
    sealed = ledger.round(batch, epoch=new)
    await two.commit(sealed)
    ledger.commit(sealed)
    with pytest.raises(LeaseLost):
        await one.commit(ledger.round([], epoch=old))
    await ledger.check(one)


async def test_renewals_tell_which_of_many_leases_is_lost(open_backend: Open) -> None:
    backend, other = await open_backend(), await open_backend()
    ledgers = [Ledger(number) for number in range(5)]
    cities = [await backend.city(ledger.genesis, b"", ()) for ledger in ledgers]
    epochs = [await city.acquire_lease("one", TTL) for city in cities]
    third = await other.city(ledgers[2].genesis, b"", ())
    assert await third.acquire_lease("one", TTL) is not None
    results = await asyncio.gather(
        *(city.renew_lease(epoch or 0, TTL) for city, epoch in zip(cities, epochs, strict=True)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [
        LeaseLost if number == 2 else type(None) for number in range(5)
    ]


# --- cut short ---------------------------------------------------------------------


@pytest.mark.parametrize("loss", Loss)
async def test_a_server_that_dies_at_any_write_of_a_commit_leaves_a_round_whole_or_absent(
    open_backend: Open, mongodb_uri: str, mongodb_proxy: MongoProxy, loss: Loss
) -> None:
    uri = through(mongodb_uri, mongodb_proxy.address)
    ledger = Ledger(5, [ObjectWrite("a", 1, b"1")])
    there = 0
    for nth in count(1):
        dying = await open_backend(uri, timeout_seconds=5)
        city = await dying.city(ledger.genesis, b"", ledger.initial)
        batch = ledger.transactions(4)
        await city.append(batch, {})
        ledger.receive(batch)
        number = ledger.head.round + 1
        writes = [ObjectWrite("a", number + 1, b""), ObjectWrite(f"new {number}", 1, b"")]
        sealed = ledger.round(ledger.pending, [1], writes=writes)
        mongodb_proxy.crash(nth, loss)
        with_error = None
        try:
            await city.commit(sealed)
        except StorageError as error:
            with_error = error
        died = mongodb_proxy.is_reached
        assert bool(with_error) == died
        mongodb_proxy.heal()
        # Another server, which opens the city before or after it has looked at it.
        other = await (await open_backend()).city(ledger.genesis, b"", ledger.initial)
        if (await other.head()).round == number:
            ledger.commit(sealed)
            there += 1
        await ledger.check(other, sample=2)
        # A driver that is closed while it connects leaves a socket open.
        assert (await city.head()).round == ledger.head.round
        await dying.__aexit__(None, None, None)
        if not died:
            break
        if ledger.head.round < number:
            await other.commit(sealed)
            ledger.commit(sealed)
            await ledger.check(other, sample=2)
    assert nth > 5, "a commit has several writes"
    assert there >= nth - 2, "all but the first of them leave the round committed"


async def test_a_late_applier_sets_nothing_back(
    open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server stops between the commit and what follows, and goes on three rounds later."""
    ledger = Ledger(6)
    one = await (await open_backend()).city(ledger.genesis, b"", ())
    stopped, go_on = asyncio.Event(), asyncio.Event()
    apply = one._ledger._apply

    async def late(*arguments: Any) -> None:
        stopped.set()
        await go_on.wait()
        await apply(*arguments)

    monkeypatch.setattr(one._ledger, "_apply", late)
    batch = ledger.transactions(4)
    await one.append(batch, {})
    ledger.receive(batch)
    first = ledger.round(batch[:2], writes=[ObjectWrite("a", 1, b"1"), ObjectWrite("b", 1, b"1")])
    committing = asyncio.create_task(one.commit(first))
    await stopped.wait()
    two = await (await open_backend()).city(ledger.genesis, b"", ())
    ledger.commit(first)
    for version in range(2, 5):
        writes = [ObjectWrite("a", version, b"%d" % version)]
        sealed = ledger.round(ledger.pending[:1], writes=writes)
        await two.commit(sealed)
        ledger.commit(sealed)
    go_on.set()
    await committing
    await ledger.check(one)
    await ledger.check(two)


@pytest.mark.parametrize("code", STEP_DOWNS)
async def test_a_change_of_the_primary_is_not_noticed(
    open_backend: Open, mongodb_uri: str, fail_point: FailPoint, code: int
) -> None:
    separator = "&" if "?" in mongodb_uri else "?"
    uri = f"{mongodb_uri}{separator}appName={fail_point.application}"
    ledger = Ledger(7)
    city = await (await open_backend(uri)).city(ledger.genesis, b"", ())
    for command in ("insert", "update", "find"):
        fail_point.error([command], code)
        batch = ledger.transactions(2)
        await city.append(batch, {})
        ledger.receive(batch)
        sealed = ledger.round(batch, writes=[ObjectWrite("a", ledger.head.round + 2, b"")])
        await city.commit(sealed)
        ledger.commit(sealed)
        await ledger.check(city, sample=2)


async def test_a_write_concern_that_fails_is_told_and_the_call_made_again(
    open_backend: Open, mongodb_uri: str, fail_point: FailPoint
) -> None:
    separator = "&" if "?" in mongodb_uri else "?"
    uri = f"{mongodb_uri}{separator}appName={fail_point.application}"
    ledger = Ledger(8)
    city = await (await open_backend(uri)).city(ledger.genesis, b"", ())
    batch = ledger.transactions(3)
    fail_point.write_concern_error(["insert"], WRITE_CONCERN_TIMEOUT)
    with pytest.raises(StorageError, match="MongoDB at "):
        await city.append(batch, {})
    await city.append(batch, {})
    ledger.receive(batch)
    sealed = ledger.round(batch)
    fail_point.write_concern_error(["insert"], WRITE_CONCERN_TIMEOUT)
    with pytest.raises(StorageError, match="MongoDB at "):
        await city.commit(sealed)
    assert (await city.head()).round == 1, "head says what became of it"
    ledger.commit(sealed)
    await ledger.check(city)


# --- sizes -------------------------------------------------------------------------


async def test_a_round_too_large_for_one_document_is_kept_in_parts(
    open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "BODY_BYTES_MAX", 3_000)
    ledger = Ledger(9)
    city = await (await open_backend()).city(ledger.genesis, b"", ())
    for size in (50, 0, 3):
        batch = ledger.transactions(size)
        await city.append(batch, {})
        ledger.receive(batch)
        sealed = ledger.round(batch)
        await city.commit(sealed)
        ledger.commit(sealed)
    await ledger.check(city)
    await ledger.check(await (await open_backend()).city(ledger.genesis, b"", ()))


async def test_calls_that_wait_share_a_write(
    open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers = [Ledger(10), Ledger(11)]
    backend = await open_backend()
    cities = [await backend.city(ledger.genesis, b"", ()) for ledger in ledgers]
    groups: list[int] = []
    write = backend._intake._group._work

    async def counted(group: Any) -> Any:
        groups.append(len(group))
        return await write(group)

    monkeypatch.setattr(backend._intake._group, "_work", counted)
    batches = [ledger.transactions(1) for ledger in ledgers for _ in range(50)]
    await asyncio.gather(
        *(cities[number // 50].append(batch, {}) for number, batch in enumerate(batches))
    )
    assert sum(groups) == 100
    assert len(groups) <= 3
    for number, batch in enumerate(batches):
        ledgers[number // 50].receive(batch)
    for ledger, city in zip(ledgers, cities, strict=True):
        assert await pending(city) == ledger.pending
        assert list(await city.pending_ids()) == [t.tx_id for t in ledger.pending]


# --- the schema --------------------------------------------------------------------


async def test_a_database_of_a_newer_release_is_left_alone(
    open_backend: Open, mongodb_client: MongoClient[dict[str, Any]], mongodb_database: str
) -> None:
    await asyncio.gather(*(open_backend() for _ in range(3)))
    schema = mongodb_client[mongodb_database]["citychain"]
    schema.update_one({"_id": "schema"}, {"$set": {"version": 99}})
    with pytest.raises(StorageError, match=r"schema version 99 and this release knows 1"):
        await open_backend()


# --- many cities at once -----------------------------------------------------------


async def test_heads_of_many_cities_are_read_by_few_queries(
    open_backend: Open, mongodb_uri: str, mongodb_client: MongoClient[Any], mongodb_database: str
) -> None:
    ledgers = [Ledger(30 + number) for number in range(12)]
    async with MongoProxy(primary(mongodb_client)) as proxy, AsyncExitStack() as stack:
        compute = await stack.enter_async_context(Executor(2))
        options = MongodbOptions.model_validate(
            {"uri": through(mongodb_uri, proxy.address), "database": mongodb_database}
        )
        backend = await stack.enter_async_context(
            MongodbBackend(options, StorageContext(Path(), compute, FakeClock()))
        )
        cities = [await backend.city(ledger.genesis, b"", ()) for ledger in ledgers]
        proxy.keep = True
        assert {head.round for head in await asyncio.gather(*(c.head() for c in cities))} == {0}
        asked = [command for command in proxy.commands if command.get("find") == "cities"]
        assert 1 <= len(asked) <= 2
        # Who asks while a query is under way is told of what was written before it asked.
        asking = [asyncio.create_task(city.head()) for city in cities]
        await asyncio.sleep(0)
        await cities[0].commit(replace(ledgers[0].round(ledgers[0].transactions(1)), epoch=1))
        assert (await cities[0].head()).round == 1
        await asyncio.gather(*asking)
        # A city that is there no more takes no other one with it.
        mongodb_client[mongodb_database].cities.delete_one({"_id": ledgers[1].genesis})
        results = await asyncio.gather(*(c.head() for c in cities), return_exceptions=True)
        assert [isinstance(result, StorageError) for result in results].count(True) == 1
