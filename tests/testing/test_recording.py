"""The recorder: it forwards everything, tells the calls in order, and is never silently wrong."""

from __future__ import annotations

import asyncio
import errno
import traceback
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from citychain.errors import DirectoryInUse, LeaseLost, StorageError
from citychain.ports import CityStorage, Clock, ConsensusStep, DagHandler, takes_votes
from citychain.testing import FailingStorage, FakeClock, Recording, StallingStorage
from citychain.testing.faults import EVERY
from citychain.testing.liars import LyingConsensus, LyingDag
from citychain.testing.server import CityServerFactory
from citychain.types import State


class Part:
    """A part with a method of each kind."""

    name = "a part"

    async def take(self, items: Sequence[int], *, label: str = "") -> list[int]:
        await asyncio.sleep(0)
        return [*items, *items]

    async def fail(self, error: Exception) -> None:
        raise error

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def stream(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        if count > 2:
            raise StorageError("no more")

    def now(self) -> int:
        return 7

    def promise(self, number: int) -> Any:
        return self.take([number])

    def break_promise(self, error: Exception) -> Any:
        return asyncio.ensure_future(self.fail(error))


async def test_it_forwards_results_errors_streams_and_attributes() -> None:
    part = Recording()(Part())
    assert part.name == "a part"
    assert part.now() == 7
    assert await part.take([1, 2]) == [1, 2, 1, 2]
    assert await part.promise(3) == [3, 3]
    assert [number async for number in part.stream(2)] == [0, 1]
    error = StorageError("no space")
    with pytest.raises(StorageError) as raised:
        await part.fail(error)
    assert raised.value is error
    with pytest.raises(AttributeError):
        part.nothing  # noqa: B018


async def test_it_tells_calls_in_the_order_in_which_they_began() -> None:
    recording = Recording()
    part = recording(Part())
    waiting = asyncio.create_task(part.wait())
    await asyncio.sleep(0)
    await part.take([1, 2, 3], label="x")
    with pytest.raises(StorageError):
        await part.fail(StorageError("no space"))
    with pytest.raises(StorageError):
        _ = [number async for number in part.stream(3)]
    part.now()
    [running] = recording.named("wait")
    assert not running.ended
    assert str(recording) == (
        "1  wait() ...\n"
        "2  take(3 items, label='x') -> 6 items\n"
        "3  fail(error=StorageError) !! StorageError: no space\n"
        "4  stream(count=3) !! StorageError: no more\n"
        "5  now() -> 7"
    )
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert str(running) == "wait() !! CancelledError"
    assert recording.calls.names == ["wait", "take", "fail", "stream", "now"]
    [took] = recording.named("take")
    assert (took.arguments, took.result) == (
        {"items": [1, 2, 3], "label": "x"},
        [1, 2, 3, 1, 2, 3],
    )
    assert recording.named("stream")[0].result == 3
    assert str(recording.calls[1:2]) == "2  take(3 items, label='x') -> 6 items"


async def test_what_is_promised_is_recorded_when_it_is_there() -> None:
    recording = Recording()
    part = recording(Part())
    promised = part.promise(1)
    part.now()
    assert str(recording) == "1  promise(number=1) ...\n2  now() -> 7"
    assert await promised == [1, 1]
    error = StorageError("no space")
    with pytest.raises(StorageError) as raised:
        await part.break_promise(error)
    assert raised.value is error
    assert str(recording) == (
        "1  promise(number=1) -> 2 items\n"
        "2  now() -> 7\n"
        "3  break_promise(error=StorageError) !! StorageError: no space"
    )
    assert recording.calls[2].error is error


async def test_a_stream_that_is_left_has_no_error() -> None:
    recording = Recording()
    items = recording(Part()).stream(100)
    assert await anext(items) == 0
    await items.aclose()
    assert str(recording) == "1  stream(count=100) -> 1"


async def test_it_keeps_the_latest_calls_and_counts_all() -> None:
    recording = Recording(keep=3)
    part = recording(Part())
    for number in range(10):
        await part.take([number])
    assert recording.calls["take"] == 10
    assert "take" in recording.calls
    assert "now" not in recording.calls
    assert [call.arguments["items"] for call in recording.calls] == [[7], [8], [9]]
    assert recording.calls[-1].nth == 10
    assert str(recording).startswith("(7 earlier calls are not kept)\n 8  take(1 items)")


async def test_a_call_that_does_not_fit_is_told_by_the_part_itself() -> None:
    recording = Recording()
    part = recording(Part())
    with pytest.raises(TypeError, match="unexpected keyword argument 'lable'"):
        await part.take([1], lable="x")
    assert "!! TypeError" in str(recording)


def test_a_misspelt_name_is_refused_rather_than_found_never_called() -> None:
    recording = Recording(Part())
    with pytest.raises(ValueError, match=r"Part has no method 'tak'; .*did you mean take\?"):
        recording.named("tak")
    with pytest.raises(ValueError, match="did you mean take"):
        assert not recording.calls["tak"]
    with pytest.raises(ValueError, match="did you mean take"):
        assert not recording.calls[:]["tak"]
    with pytest.raises(ValueError, match="did you mean take"):
        assert "tak" not in recording.named("take")[:]
    assert recording.calls["take"] == recording.calls[:]["take"] == 0
    for unused in (Recording().calls, Recording().calls[:]):
        with pytest.raises(ValueError, match=r"'take': nothing was recorded yet.* city is opened"):
            assert unused["take"] == 0
    with pytest.raises(ValueError, match="nothing was recorded yet"):
        Recording().named("take")
    for wrong in (FailingStorage, StallingStorage):
        with pytest.raises(ValueError, match=r"CityStorage has no method 'comit'; .*commit\?"):
            wrong("comit")
    with pytest.raises(ValueError, match="did you mean make money"):
        LyingDag("make mony")
    with pytest.raises(ValueError, match="let anybody in, seat a stranger"):
        LyingConsensus("?")


def test_a_part_is_offered_for_what_it_is() -> None:
    """However a Python looks at protocols: votes are taken where the part takes them."""

    class Solo:
        async def judge(self) -> None: ...

    class Voting(Solo):
        async def cast(self) -> None: ...
        async def object(self) -> None: ...
        async def recover(self) -> None: ...
        async def committee(self) -> None: ...

    for stand_in in (Recording(), LyingConsensus("hash less")):
        assert takes_votes(stand_in(Solo())) is None
        assert takes_votes(stand_in(Voting()))
        assert takes_votes(Recording()(stand_in(Voting())))


async def test_one_in_front_of_another_both_record() -> None:
    inner, outer = Recording(), Recording()
    part = outer(inner(Part()))
    await part.take([1])
    assert inner.calls["take"] == outer.calls["take"] == 1
    assert outer.calls[0].arguments == {"items": [1]}


async def test_a_promised_coroutine_may_be_a_plain_function() -> None:
    """A storage may return an awaitable; what fails must fail all the same."""

    class Plain:
        def append(self, transactions: Any, keys: Any) -> Any:
            return asyncio.sleep(0, "stored")

    failing = FailingStorage(times=1)
    storage = failing(Plain())
    with pytest.raises(StorageError):
        await storage.append([], {})
    assert await storage.append([], {}) == "stored"
    assert [call.result for call in failing.calls] == [None, "stored"]


async def test_it_fails_at_the_calls_that_were_said_and_can_be_told_otherwise() -> None:
    async def outcomes(failing: FailingStorage, *names: str) -> str:
        storage, told = failing(FakeStorage()), ""
        for name in names:
            try:
                await getattr(storage, name)()
                told += "."
            except StorageError:
                told += "!"
        return told

    assert await outcomes(FailingStorage("commit", first=2, times=2), *["commit"] * 5) == ".!!.."
    assert await outcomes(FailingStorage("commit"), "append", "commit", "append") == ".!."
    assert await outcomes(FailingStorage(EVERY, first=2, times=2), *"aabb") == ".!!."
    failing = FailingStorage("commit", times=0)
    assert await outcomes(failing, "commit", "commit") == ".."
    failing.fail()
    assert await outcomes(failing, "commit", "commit") == "!!"
    failing.mend()
    assert await outcomes(failing, "commit") == "."
    failing.fail(times=1)
    assert await outcomes(failing, "append", "commit", "commit") == ".!."


class Wordy(Exception):
    """Its constructor does not take its args."""

    def __init__(self, *, number: int) -> None:
        super().__init__(f"number {number}")
        self.number = number


class Stubborn(Exception):
    """Cannot be copied."""

    def __new__(cls, *args: Any, sure: bool = False) -> Stubborn:
        assert sure
        return super().__new__(cls)

    def __init__(self, *, sure: bool) -> None:
        super().__init__("no")


@pytest.mark.parametrize(
    "error",
    [
        StorageError("no space"),
        LeaseLost(7),
        DirectoryInUse("there", "7", "stop it"),
        OSError(errno.ENOSPC, "No space left", "there"),
        UnicodeDecodeError("ascii", b"x", 0, 1, "no"),
        Wordy(number=3),
        Stubborn(sure=True),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_each_failure_is_told_anew(error: Exception) -> None:
    """Or the traceback of the thousandth is a thousand calls long."""
    error.add_note("on purpose")
    error.__cause__ = KeyError("why")
    storage = FailingStorage(error=error)(FakeStorage())
    raised = []
    for _ in range(3):
        with pytest.raises(type(error)) as failed:
            await storage.append()
        raised.append(failed.value)
        assert len(traceback.extract_tb(failed.value.__traceback__)) == 3
    for copied in raised:
        assert (type(copied), str(copied), repr(copied)) == (type(error), str(error), repr(error))
        assert vars(copied) == vars(error)
        assert copied.__cause__ is error.__cause__
    assert len({id(one) for one in raised}) == (1 if isinstance(error, Stubborn) else 3)


class FakeStorage:
    """Answers to whatever a test of faults asks."""

    def __getattr__(self, name: str) -> Any:
        async def answer() -> None: ...

        return answer


@pytest.mark.parametrize("part", ["storage", "dag", "consensus"])
async def test_the_calls_of_a_city_are_those_of_its_port(
    city_server: CityServerFactory, signed_transactions: Any, part: str
) -> None:
    recording = Recording()
    cities = {"tokyo": {"consensus": "poh-pop", "num_hashes": 10}}
    async with (
        city_server(cities, {"tokyo": {part: recording}}) as server,
        server.client("tokyo") as city,
    ):
        sent = await signed_transactions(city, 3)
        await city.submit(sent)
        await city.wait([one.tx_id for one in sent], State.APPROVED)
        assert bool((await city.committee()).members)
    print(recording)
    first = {
        "storage": "append(3 transactions, 1 keys) -> None",
        "dag": "decide(round=RoundContext(round 1), 3 candidates, 3 held_since, 0 refused, "
        "state=LedgerState) -> Decision(3 transactions)",
        "consensus": "seal(previous_poh=<32 bytes>, mixin=<32 bytes>) -> PohEntry",
    }[part]
    assert any(str(call) == first for call in recording.calls)
    assert all(call.ended for call in recording.calls)


async def test_a_clock_is_recorded_too() -> None:
    recording = Recording()
    clock: Clock = recording(FakeClock(5))
    assert clock.time_ms() == 5
    sleeping = asyncio.create_task(clock.sleep(2))
    await asyncio.sleep(0)
    await clock.advance(2)  # type: ignore[attr-defined]
    await sleeping
    assert str(recording).splitlines() == [
        "1  time_ms() -> 5",
        "2  sleep(seconds=2) -> None",
        "3  advance(seconds=2) -> None",
    ]


@pytest.mark.parametrize("port", [CityStorage, DagHandler, ConsensusStep])
def test_every_method_of_a_port_can_be_got_in_the_way_of(port: type) -> None:
    from citychain.testing import FailingConsensus, FailingDag

    failing = {
        CityStorage: FailingStorage,
        DagHandler: FailingDag,
        ConsensusStep: FailingConsensus,
    }[port]
    for name in vars(port):
        if not name.startswith("_"):
            failing(name)


async def test_texts_of_values_stay_short() -> None:
    recording = Recording()
    part = recording(Part())
    await part.take(["x"], label="y" * 1_000)
    with pytest.raises(StorageError):
        await part.fail(StorageError())
    assert max(map(len, str(recording).splitlines())) < 120
    assert str(recording).endswith("!! StorageError")
    from citychain.testing.recording import _brief

    assert _brief(timedelta(seconds=3)) == "0:00:03"
