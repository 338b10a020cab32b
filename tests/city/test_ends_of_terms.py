"""However a term of leading ends, somebody leads next: what is cancelled, closed or fails on the
way leaves no lease that nobody uses, and no city that nobody seals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from city.sharing import PATIENCE_SECONDS, Link, Servers, final, leader, sign, submit

from citychain.city.following import Follower
from citychain.city.lease import Lease, acquire
from citychain.city.pipeline import City
from citychain.city.pool import PendingPool, PoolLimits
from citychain.city.standing import Standing
from citychain.city.state import LedgerState
from citychain.city.watchers import Watchers
from citychain.clock import SystemClock
from citychain.errors import LeaseLost, RoundTaken
from citychain.ports import CityStorage
from citychain.testing.faults import FailingStorage, StallingConsensus, StallingStorage
from citychain.testing.recording import Call, Recording
from citychain.types import Head

TTL = timedelta(seconds=5)


async def _led_by(city: City) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not city.leads:
            await asyncio.sleep(0.01)


# --- closing


@pytest.mark.parametrize("left", ["nothing", "a certificate", "what is held"])
async def test_a_city_that_is_closed_with_work_left_lets_its_lease_expire(
    servers: Servers, left: str
) -> None:
    """Then it is missed, and opened where it is not; a lease that was released is not."""
    recording = Recording()
    parts: dict[str, Any] = {"storage": recording}
    if left == "a certificate":
        parts["consensus"] = StallingConsensus("approve")
    # What is held is so for as long as the test takes.
    server = await servers.start({"hold_rounds": 1_000}, **parts)
    city = await server.city()
    await leader(city)
    [parent] = sign(city)
    await submit(city, sign(city, depends_on=[parent.tx_id]) if "held" in left else [parent])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not city._standing.head.round:
            await asyncio.sleep(0.01)
    if left == "nothing":
        await final(city, [parent])
    if left != "a certificate":
        await server.directory.drain()
    await server.close()
    assert recording.calls["release_lease"] == (left == "nothing")


async def test_a_city_that_is_closed_before_it_knows_what_is_left_lets_its_lease_expire(
    servers: Servers,
) -> None:
    stalling = StallingStorage("pending_ids")
    server = await servers.start(storage=stalling)
    city = await server.city()
    await stalling.reached()
    assert city.leads
    await server.close()
    assert stalling.calls["release_lease"] == 0


async def test_who_is_cancelled_while_it_closes_a_city_knows(servers: Servers) -> None:
    link = Link()
    [city] = await servers.cities(1, storage=link)
    await leader(city)
    await submit(city, batch := sign(city))
    await final(city, batch)
    link.hold("release_lease")
    closing = asyncio.create_task(city.__aexit__(None, None, None))
    await link.reached("release_lease")
    closing.cancel()
    await asyncio.sleep(0)
    link.release()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert city._work is not None
    assert city._work.done()


# --- stepping down


@pytest.mark.parametrize("committed", [False, True])
async def test_a_city_whose_stepping_down_is_cancelled_is_led_again(
    servers: Servers, committed: bool
) -> None:
    link, recording = Link(), Recording()
    [city] = await servers.cities(1, storage=lambda real: recording(link(real)))
    await leader(city)
    link.hold("commit", after=committed)
    await submit(city, batch := sign(city))
    await link.reached("commit")
    epoch = (await city.storage.head()).epoch
    stepping = asyncio.create_task(city.step_down())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stepping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stepping
    link.release()
    await submit(city, after := sign(city))
    await final(city, batch + after)
    assert city.leads
    assert (await city.head()).epoch > epoch
    assert recording.calls["release_lease"] == 1
    await servers.check(city, batch + after)


async def test_a_lease_that_was_kept_is_given_up_also_after_the_term(servers: Servers) -> None:
    """Stepping down can be cancelled at its very end, when the term is over."""
    recording = Recording()
    [city] = await servers.cities(1, storage=recording)
    await leader(city)
    leading = city._leading
    assert leading is not None
    assert await city.step_down() == leading.lease.epoch
    await asyncio.sleep(0)
    assert recording.calls["release_lease"] == 0
    await leading.give_up_lease()
    assert recording.calls["release_lease"] == 1


# --- asking for the lease


class Asked:
    """A storage that answers who asks for the lease when it is told to."""

    def __init__(self, answer: Callable[[], Awaitable[int | None]]) -> None:
        self._answer = answer
        self.asked = asyncio.Event()
        self.released: list[int] = []

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        self.asked.set()
        return await self._answer()

    async def release_lease(self, epoch: int) -> None:
        self.released.append(epoch)


@pytest.mark.parametrize(
    ("answer", "released"), [(7, [7]), (None, []), (OSError("away"), [])], ids=str
)
async def test_a_lease_that_comes_when_nobody_waits_for_it_is_given_back(
    answer: int | OSError | None, released: list[int]
) -> None:
    come = asyncio.Event()

    async def answered() -> int | None:
        await come.wait()
        if isinstance(answer, OSError):
            raise answer
        return answer

    storage: Any = Asked(answered)
    asking = asyncio.create_task(acquire(storage, "one", TTL, SystemClock()))
    await storage.asked.wait()
    asking.cancel()
    await asyncio.sleep(0)
    come.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert storage.released == released


async def test_who_asks_for_a_lease_and_gets_no_answer_can_be_cancelled() -> None:
    storage: Any = Asked(asyncio.Event().wait)  # type: ignore[arg-type]
    asking = asyncio.create_task(acquire(storage, "one", timedelta(0.001), SystemClock()))
    await storage.asked.wait()
    for _ in range(2):
        asking.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_lease_that_comes_to_a_follower_that_is_cancelled_is_given_back() -> None:
    ending, ended = asyncio.Event(), asyncio.Event()

    class Storage(Asked):
        async def head(self) -> Head:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ending.set()
                await ended.wait()
            return Head()

    async def seven() -> int:
        return 7

    storage: Any = Storage(seven)
    follower = Follower(
        slug="tokyo",
        storage=storage,
        state=LedgerState.__new__(LedgerState),
        standing=Standing(Watchers()),
        pool=PendingPool(PoolLimits(1, 1, 1)),
        clock=SystemClock(),
        holder="one",
        ttl=TTL,
    )
    until_leading = asyncio.create_task(_after_a_turn(follower.until_leading))
    await ending.wait()
    until_leading.cancel()
    await asyncio.sleep(0)
    ended.set()
    with pytest.raises(asyncio.CancelledError):
        await until_leading
    assert storage.released == [7]


async def _after_a_turn(wait: Callable[[], Awaitable[Lease]]) -> Lease:
    return await wait()


# --- what fails


@pytest.mark.parametrize("method", ["pending_ids", "rounds", "head"])
async def test_a_read_that_fails_ends_a_term_and_not_the_city(
    servers: Servers, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing = FailingStorage(method)
    failing.mend()
    server = await servers.start(storage=failing)
    city = await server.city()
    await leader(city)
    epoch = await city.step_down()
    failing.fail(1)
    assert epoch is not None
    await city.storage.release_lease(epoch)
    city.handed_over()  # To nobody: it need not wait for as long as a lease holds.
    await failing.reached()
    await submit(city, batch := sign(city))
    await final(city, batch)
    assert await server.city() is city
    assert "it is opened again" not in caplog.text


async def test_a_term_that_fails_is_told_and_the_city_is_led_again(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    failing = FailingStorage("pending_ids", times=2)
    server = await servers.start(storage=failing)
    city = await server.city()
    await submit(city, batch := sign(city))
    await final(city, batch)
    assert await server.city() is city
    assert caplog.text.count("a term of leading failed") == 2
    assert failing.calls["acquire_lease"] >= 3
    assert failing.calls["release_lease"] == 2


class Unsure(Recording):
    """A storage that commits a round and says that it did not; whether it did, it says later."""

    _port = CityStorage

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error: Exception | None = error
        self._silent = 0

    async def _before(self, call: Call) -> None:
        if call.name == "rounds" and self._silent:
            self._silent -= 1
            raise OSError("away")

    def _after(self, call: Call, result: Any) -> Any:
        if call.name == "commit" and self._error is not None:
            error, self._error, self._silent = self._error, None, 2
            raise error
        return result


@pytest.mark.parametrize("error", [LeaseLost(1), RoundTaken(1)], ids=["lease", "round"])
async def test_a_round_of_which_it_cannot_be_read_whether_it_is_there_is_asked_for_again(
    servers: Servers, error: Exception
) -> None:
    server = await servers.start(storage=(unsure := Unsure(error)))
    city = await server.city()
    await submit(city, batch := sign(city, 2))
    await final(city, batch)
    assert unsure.calls["acquire_lease"] == 1, "it leads on: the round is its own"
    await servers.check(city, batch)


async def test_terms_that_seal_nothing_are_tried_ever_more_rarely(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the storage answers slower than a lease lasts: or servers take it from one another
    without end."""
    later: list[int] = []

    def try_later(follower: Follower, failures: int) -> None:
        later.append(failures)

    monkeypatch.setattr(Follower, "try_later", try_later)
    failing = FailingStorage("commit", error=LeaseLost(1), times=3)
    server = await servers.start(storage=failing)
    city = await server.city()
    await submit(city, batch := sign(city))
    await final(city, batch)
    assert later == [1, 2, 3]
    failing.fail(1)
    await submit(city, batch := sign(city, 2))
    await final(city, batch)
    assert later == [1, 2, 3, 1]
