from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from free_ports import free_address
from hypothesis import given, settings
from hypothesis import strategies as st
from rpc.fakes import FakeCity, FakeDirectory, digest, make_refusal, serving

from citychain.client import ChannelFactory, CityClient, Refused, SignedTransaction, retries
from citychain.client.submission import CHUNK_BYTES, CHUNK_TRANSACTIONS, _chunks
from citychain.errors import CityUnavailable, NotFound, Overloaded, ServerError
from citychain.handler import Received, Refusal
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.types import State

MANY = 3 * CHUNK_TRANSACTIONS + 1


def items(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def received(envelopes: Sequence[bytes]) -> list[Any]:
    return [Received(digest(envelope), State.RECEIVED, False) for envelope in envelopes]


class Recorder:
    """Replaces a city's ``submit``: records calls, and raises what it is told to."""

    def __init__(self, fake: FakeCity, *errors: Exception | None) -> None:
        self.calls: list[list[bytes]] = []
        self.times: list[float] = []
        self._errors = list(errors)
        fake.submit = self.submit

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Any]:
        self.calls.append(list(envelopes))
        self.times.append(asyncio.get_running_loop().time())
        if self._errors and (error := self._errors.pop(0)) is not None:
            raise error
        return received(envelopes)


async def test_nothing_to_submit_asks_nobody(city: CityClient, fake: FakeCity) -> None:
    recorder = Recorder(fake)
    assert await city.submit([]) == []
    assert recorder.calls == []


@pytest.mark.parametrize("count", [1, CHUNK_TRANSACTIONS, CHUNK_TRANSACTIONS + 1, MANY])
async def test_results_come_in_order(city: CityClient, fake: FakeCity, count: int) -> None:
    recorder = Recorder(fake)
    assert await city.submit(items(count)) == received(items(count))
    assert [item for call in recorder.calls for item in call] == items(count)


async def test_an_unknown_city_is_not_found(server: CoreServer) -> None:
    async with CityClient("nowhere", ChannelFactory([server.address])) as client:
        for count in (1, MANY):
            with pytest.raises(NotFound, match="no city 'nowhere'"):
                await client.submit(items(count))


async def test_few_chunks_are_under_way_at_a_time(city: CityClient, fake: FakeCity) -> None:
    working = most = 0

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await asyncio.sleep(0.01)
        working -= 1
        return received(envelopes)

    fake.submit = submit
    count = 12 * CHUNK_TRANSACTIONS
    assert await city.submit(items(count)) == received(items(count))
    assert 1 < most <= 4


@pytest.mark.parametrize("count", [1, MANY])
async def test_overload_is_waited_out_as_the_server_says(
    city: CityClient, fake: FakeCity, count: int
) -> None:
    # More than a channel waits by itself, so this is the client's own waiting.
    wait = timedelta(milliseconds=1_100)
    recorder = Recorder(fake, Overloaded("full", wait))
    assert await city.submit(items(count)) == received(items(count))
    refused, *later = recorder.times[0], *recorder.times[4 if count > 1 else 1 :]
    assert later
    assert min(later) - refused >= wait.total_seconds()


async def test_what_was_answered_is_not_sent_again(city: CityClient, fake: FakeCity) -> None:
    wait = timedelta(milliseconds=1_100)
    recorder = Recorder(fake, None, None, Overloaded("full", wait))
    assert await city.submit(items(MANY)) == received(items(MANY))
    firsts = [call[0] for call in recorder.calls]
    chunk = [b"%d" % (number * CHUNK_TRANSACTIONS) for number in range(4)]
    assert firsts.count(chunk[0]) == firsts.count(chunk[1]) == 1
    assert firsts.count(chunk[2]) == 2


@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize(
    "error",
    [
        Overloaded("full", timedelta(hours=1)),
        CityUnavailable("kanazawa", "ab12", timedelta(hours=1)),
    ],
    ids=["overloaded", "unavailable"],
)
async def test_a_longer_wait_than_the_timeout_is_told_at_once(
    city: CityClient, fake: FakeCity, error: Exception, count: int
) -> None:
    recorder = Recorder(fake, error)
    with pytest.raises(type(error)):
        await city.submit(items(count))
    assert [call[0] for call in recorder.calls].count(b"0") == 1


async def test_a_server_that_comes_back_is_sent_what_it_did_not_answer(
    directory: FakeDirectory, fake: FakeCity
) -> None:
    answered = asyncio.Event()

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        if int(envelopes[0]) >= 2 * CHUNK_TRANSACTIONS and not answered.is_set():
            answered.set()
            await asyncio.Event().wait()
        return received(envelopes)

    fake.submit = submit
    options = ServerOptions(listen=free_address())
    async with (
        serving(directory, options) as first,
        CityClient("kanazawa", ChannelFactory([first.address])) as client,
    ):
        submitting = asyncio.create_task(client.submit(items(MANY)))
        await asyncio.wait_for(answered.wait(), 120)
        # It is cut off in the middle of its work.
        await first._server.stop(0)
        async with CoreServer(directory, options=options):
            assert await submitting == received(items(MANY))


# --- refusals


def signed(number: int) -> SignedTransaction:
    message = transaction_pb2.SignedTransaction(body=b"%d" % number, scheme=1, key_id=b"id")
    return SignedTransaction(digest(number), message.SerializeToString(), b"public")


def has_key(envelope: bytes) -> bool:
    return bool(transaction_pb2.SignedTransaction.FromString(envelope).public_key)


def only_with_keys(envelopes: Sequence[bytes]) -> list[Any]:
    return [
        Received(envelope, State.RECEIVED, False)
        if has_key(envelope)
        else make_refusal("UNKNOWN_KEY", "key_id")
        for envelope in envelopes
    ]


async def test_an_unknown_key_is_sent_by_value(city: CityClient, fake: FakeCity) -> None:
    calls: list[list[bytes]] = []

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        calls.append(list(envelopes))
        return only_with_keys(envelopes)

    fake.submit = submit
    with_key = signed(1).with_public_key()
    fake_id = digest("x")

    async def admit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        return [
            result if isinstance(result, Refusal) else Received(fake_id, State.RECEIVED, False)
            for result in await submit(envelopes)
        ]

    fake.submit = admit
    results = await city.submit([signed(0), with_key, signed(2)])
    assert results == [Received(fake_id, State.RECEIVED, False)] * 3
    # Only those that were refused, in order.
    assert calls[1] == [signed(0).with_public_key(), signed(2).with_public_key()]
    assert len(calls) == 2


async def test_an_unknown_key_of_bytes_is_the_callers(city: CityClient, fake: FakeCity) -> None:
    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        return only_with_keys(envelopes)

    fake.submit = submit
    [refused] = await city.submit([signed(0).envelope])
    assert refused == Refused("UNKNOWN_KEY", "key_id", "is wrong", True, timedelta())


async def test_a_city_that_never_knows_the_key_is_not_asked_forever(
    city: CityClient, fake: FakeCity
) -> None:
    calls = 0

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        nonlocal calls
        calls += 1
        return [make_refusal("UNKNOWN_KEY") for _ in envelopes]

    fake.submit = submit
    [refused] = await city.submit([signed(0)])
    assert isinstance(refused, Refused)
    assert calls == 2


async def test_a_quota_is_waited_out(city: CityClient, fake: FakeCity) -> None:
    calls: list[list[bytes]] = []

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        calls.append(list(envelopes))
        if len(calls) > 1:
            return received(envelopes)
        return [received([envelopes[0]])[0], *(make_refusal("AUTHOR_QUOTA") for _ in envelopes[1:])]

    fake.submit = submit
    assert await city.submit(items(3)) == received(items(3))
    assert calls == [[b"0", b"1", b"2"], [b"1", b"2"]]


async def test_a_quota_that_stays_is_the_result(
    city: CityClient, fake: FakeCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the client has.
    monkeypatch.setattr(retries, "BACKOFF_SECONDS", (3_600.0, 3_600.0))

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        return [make_refusal("AUTHOR_QUOTA") for _ in envelopes]

    fake.submit = submit
    [refused] = await city.submit(items(1))
    assert isinstance(refused, Refused)
    assert refused.code == "AUTHOR_QUOTA"


@pytest.mark.parametrize("count", [2, MANY])
async def test_a_wrong_number_of_results_is_the_servers_fault(
    city: CityClient, fake: FakeCity, count: int
) -> None:
    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        return received(envelopes[1:])

    fake.submit = submit
    with pytest.raises(ServerError, match="results for"):
        await city.submit(items(count))


@settings(deadline=None)
@given(st.lists(st.integers(0, 400_000), max_size=600))
def test_chunks_are_bounded_complete_and_in_order(sizes: list[int]) -> None:
    envelopes = [bytes(size) for size in sizes]
    chunks = list(_chunks(envelopes))
    assert [item for chunk in chunks for item in chunk] == envelopes
    for chunk in chunks:
        assert 0 < len(chunk) <= CHUNK_TRANSACTIONS
        assert sum(map(len, chunk)) <= CHUNK_BYTES or len(chunk) == 1
