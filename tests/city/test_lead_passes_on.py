"""Whoever leads, and however the lead passes on: nothing is lost, doubled or told twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from city.sharing import (
    LEASE_SECONDS,
    PATIENCE_SECONDS,
    Link,
    PausableClock,
    Servers,
    expire,
    final,
    leader,
    sign,
    submit,
    told_by,
)

from citychain import record
from citychain.city.lately import SealedLately
from citychain.city.pool import Expected
from citychain.errors import LeaseLost, RoundTaken
from citychain.handler import Received
from citychain.testing.faults import FailingStorage
from citychain.types import State


async def sealed_ids(city) -> Counter[bytes]:
    rounds = await city.storage.rounds(1, 10_000)
    return Counter(tx_id for stored in rounds for tx_id in record.decode(stored.record).tx_ids)


# --- a transaction that comes to two servers


@pytest.fixture(params=["both", "expected", "lately", "neither"])
def times(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a transaction is sealed that falls into a trap: once, by either guard. Without
    one twice, which shows that the trap is one."""
    if request.param not in ("both", "expected"):
        monkeypatch.setattr(Expected, "note", lambda self, sealed: None)
    if request.param not in ("both", "lately"):
        monkeypatch.setattr(SealedLately, "add", lambda self, sealed: None)
    return 2 if request.param == "neither" else 1


async def test_what_is_sealed_while_it_is_being_stored_again_is_sealed_once(
    servers: Servers, times: int
) -> None:
    link = Link()
    [one] = await servers.cities(1, storage=link)
    await leader(one)
    [two] = await servers.cities(1)
    # The leader picks it up: it is not in its pool yet, when it comes to it as well.
    link.hold("raw")
    [both] = batch = sign(one)
    await submit(two, batch)
    await link.reached("raw")
    link.hold("append")
    link.hold("find", after=True)
    late = asyncio.create_task(one.submit([both.envelope]))
    await link.reached("find")
    link.release("find")
    link.release("raw")
    await link.reached("append")
    await final(two, batch)
    link.release()
    [result] = await late
    assert isinstance(result, Received)
    await submit(one, after := sign(one))
    await final(one, after)
    assert (await sealed_ids(one))[both.tx_id] == times
    assert one.pending == 0


async def test_what_is_sealed_while_it_is_being_picked_up_is_sealed_once(
    servers: Servers, times: int
) -> None:
    link = Link()
    [one] = await servers.cities(1, storage=link)
    await leader(one)
    [two] = await servers.cities(1)
    link.hold("append", after=True)
    received = asyncio.create_task(submit(one, batch := sign(one)))
    await link.reached("append")
    # The leader has read that it is pending, and has not heard so yet.
    link.hold("pending_ids", after=True)
    await link.reached("pending_ids")
    link.release("append")
    await received
    await final(one, batch)
    link.release("pending_ids")
    await submit(two, after := sign(two))
    await final(one, after)
    assert (await sealed_ids(one))[batch[0].tx_id] == times


# --- leases that are lost


@pytest.mark.parametrize("error", [LeaseLost(1), RoundTaken(1)], ids=["lease", "round"])
async def test_a_lost_round_is_made_anew_by_whoever_leads_and_the_city_stays_open(
    servers: Servers, error: Exception
) -> None:
    failing = FailingStorage("commit", first=2, times=1, error=error)
    server = await servers.start(storage=failing)
    city = await server.city()
    watching = asyncio.create_task(told_by(city, State.APPROVED, 6))
    sent = []
    for _ in range(3):
        await submit(city, batch := sign(city, 2))
        await final(city, batch)
        sent += batch
    assert failing.calls["acquire_lease"] >= 2
    assert await watching == [signed.tx_id for signed in sent]
    assert await server.city() is city
    await servers.check(city, sent)


async def test_a_leader_that_cannot_renew_its_lease_stops_and_another_goes_on(
    servers: Servers,
) -> None:
    failing, clock = FailingStorage("renew_lease"), PausableClock()
    failing.mend()
    one = await (await servers.start(storage=failing, clock=clock)).city()
    await leader(one)
    [two] = await servers.cities(1)
    failing.fail()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not two.leads:
            if one.leads:  # As it may once more, if it is the first to ask.
                clock.leap(LEASE_SECONDS)
            await asyncio.sleep(0.01)
    await submit(one, batch := sign(one, 3))
    await asyncio.gather(final(one, batch), final(two, batch))
    await servers.check(two, batch)


@pytest.mark.parametrize("held", ["commit", "certify", "pending_ids", ""])
async def test_a_leader_that_was_paused_finds_itself_fenced(servers: Servers, held: str) -> None:
    link, clock = Link(), PausableClock()
    first = await servers.start(storage=link, clock=clock)
    one = await first.city()
    await leader(one)
    second = await servers.start()
    two = await second.city()
    watching = [
        asyncio.create_task(told_by(city, state, 9))
        for city in (one, two)
        for state in (State.SEALED, State.APPROVED)
    ]
    await submit(one, sent := sign(one, 3))
    await final(two, sent)
    if held:
        link.hold(held)
    await submit(one, before := sign(one, 3))
    if held:
        await link.reached(held)
    link.pause()
    clock.pause()
    expire(two)
    await submit(two, meanwhile := sign(two, 3))
    await final(two, before + meanwhile)
    assert two.leads
    epoch = (await two.head()).epoch
    link.release()
    link.go_on()
    clock.leap(LEASE_SECONDS)
    clock.go_on()
    sent += before + meanwhile
    await final(one, sent)
    told = await asyncio.gather(*watching)
    assert all(ids == told[0] for ids in told)
    assert first.counted("citychain_leases_lost_total") >= 1
    assert second.counted("citychain_terms_total") >= 1
    assert Counter(told[0]) == Counter(signed.tx_id for signed in sent)
    await submit(one, after := sign(one))
    await asyncio.gather(final(one, after), final(two, after))
    assert two.leads
    assert not one.leads
    assert (await two.head()).epoch == epoch
    await servers.check(two, sent + after)


async def test_what_was_held_for_a_dependency_is_held_by_who_leads_next(servers: Servers) -> None:
    # Held for as long as the test takes.
    one, two = [await (await servers.start({"hold_rounds": 1_000})).city() for _ in range(2)]
    first = await leader(one, two)
    second = two if first is one else one
    [parent] = sign(first)
    [child] = sign(first, depends_on=[parent.tx_id])
    await submit(first, [child])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await second.head()).round:
            await asyncio.sleep(0.01)
    epoch = await first.step_down()
    assert epoch is not None
    await first.storage.release_lease(epoch)
    await leader(second)
    assert second.leads
    await submit(first, [parent])
    await asyncio.gather(final(first, [parent, child]), final(second, [parent, child]))
    await servers.check(second, [parent, child])


async def test_a_server_that_steps_down_leaves_the_lease_to_whom_it_is_given(
    servers: Servers,
) -> None:
    one, two = await servers.cities(2)
    first = await leader(one, two)
    second = two if first is one else one
    assert await second.step_down() is None
    epoch = await first.step_down()
    assert epoch is not None
    assert not first.leads
    with pytest.raises(LeaseLost):
        await second.storage.renew_lease(epoch + 1, second._ttl)
    await submit(first, batch := sign(first))
    await first.storage.release_lease(epoch)
    await final(first, batch)
    assert second.leads
