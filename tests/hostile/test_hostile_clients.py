"""Clients that do nothing but harm, against a server in a process of its own.

Each comes from addresses of its own. While it holds what it can an ordinary client is served, and
the server's memory stays within what is stated; then it goes away, and so does all it held.
"""

from __future__ import annotations

import asyncio
import base64
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cli.conftest import SECONDS_MAX, Server, run_here
from hostile.raw import Raw, bomb, connect, frame, message, wait_for_end

from citychain.client import ChannelFactory, CityClient
from citychain.client.transactions import sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc._generated.citychain.v1 import transaction_pb2

LIST = "/citychain.v1.CityService/ListCities"
GET = "/citychain.v1.CityService/GetCity"
SUBMIT = "/citychain.v1.TransactionService/SubmitBatch"
STREAM = "/citychain.v1.TransactionService/SubmitStream"
HEALTH = "/grpc.health.v1.Health/Watch"
TOWN = message(pb.GetCityRequest(city="town").SerializeToString())
START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
INVALID, EXHAUSTED, UNIMPLEMENTED, UNAUTHENTICATED = 3, 8, 12, 16
OPEN_CALLS = 1_024
ENDED_MAX = 32
"""Files that a server keeps open beyond those of its calm, such as of its threads."""


class Target(Server):
    """A server whose memory and files are looked at."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.genesis = self.ask()

    def ask(self) -> bytes:
        """What an ordinary client is told of the city; its own calls are repeated as usual."""

        async def ask() -> bytes:
            channels = ChannelFactory([self.address])
            timeout = timedelta(seconds=SECONDS_MAX)
            async with CityClient("town", channels, timeout=timeout) as city:
                return (await city.info()).genesis

        return asyncio.run(ask())

    def peak_mib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @contextmanager
    def attacked(self, mib: int) -> Iterator[ExitStack]:
        """What is entered into the stack harms, for the time of the block.

        Args:
            mib: Most that the server may need meanwhile beyond what it needed before.
        """
        self.forget_peak()
        calm, files = self.peak_mib(), self.files()
        with ExitStack() as stack:
            yield stack
            assert self.ask() == self.genesis
            assert self.peak_mib() - calm <= mib
        until(lambda: self.files() <= files + ENDED_MAX)
        assert self.ask() == self.genesis
        # Of what the address held nothing is counted any more.
        with Raw(self.address, "127.0.0.2") as again:
            until(lambda: again.status(again.call(GET, TOWN))[0] == 0)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def files_max() -> Iterator[int]:
    """Files that this process and the server may have open each: as many as can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard if hard != resource.RLIM_INFINITY else 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def town(files_max: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    assert run_here("init", "town", "--city", "town", cwd=folder).code == 0
    folder /= "town"
    made = run_here("token", "keygen", "tokens.key", "--public", "tokens.pub", cwd=folder)
    assert made.code == 0, made.err
    settings = folder / "citychain.toml"
    settings.write_text(
        settings.read_text()
        + '\n[auth]\nkeys = ["tokens.pub"]\naudience = "town"\nanonymous = ["read", "submit"]\n'
    )
    target = Target(folder)
    yield target
    assert target.end().code == 0


@pytest.fixture
def raw(town: Target) -> Iterator[Raw]:
    with Raw(town.address, "127.0.0.2") as raw:
        yield raw


def test_a_message_that_is_too_large_is_refused_by_its_length_alone(town: Target, raw: Raw) -> None:
    with town.attacked(mib=24):
        code, words = raw.status(raw.call(SUBMIT, message(b"x" * 1_000, length=1 << 31)))
        assert (code, "larger than max" in words) == (EXHAUSTED, True)


def test_a_gibibyte_in_a_mebibyte_is_not_inflated(town: Target, raw: Raw) -> None:
    with town.attacked(mib=24):
        packed = message(bomb(1_024), compressed=True)
        code, words = raw.status(raw.call(SUBMIT, packed, [("grpc-encoding", "gzip")]))
        assert (code, "'gzip' is disabled" in words) == (UNIMPLEMENTED, True)


@pytest.mark.parametrize(
    "payload",
    [b"\x0b" * 200_000 + b"\x0c" * 200_000, b"\x0a\xff\xff\xff\xff\x07", b"\xff" * 1_000],
    ids=["nested", "truncated", "no tag"],
)
def test_what_is_no_message_is_the_callers_fault(town: Target, raw: Raw, payload: bytes) -> None:
    with town.attacked(mib=24):
        code, words = raw.status(raw.call(GET, message(payload)))
        assert (code, words) == (INVALID, "request: is not a message of this method's type")
        assert raw.status(raw.call(GET, b"")) == (INVALID, "request: is missing")


def test_json_that_is_nested_deeply_is_no_token(town: Target, raw: Raw) -> None:
    part = base64.urlsafe_b64encode(b"[" * 4_000).decode().rstrip("=")
    with town.attacked(mib=24):
        header = ("authorization", f"Bearer {part}.e30.eA")
        code, words = raw.status(raw.call(GET, TOWN, [header]))
        assert (code, words) == (UNAUTHENTICATED, "the token is no JSON Web Token")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) * 64,
        START + frame(1, 4, 1, b"\xff" * 1_000),
        START + frame(9, 4, 1, b"goes on with nothing"),
        START + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    ],
    ids=["HTTP/1", "noise", "headers", "continuation", "frame too large"],
)
def test_what_is_no_http2_ends_its_own_connection_alone(town: Target, garbage: bytes) -> None:
    with town.attacked(mib=24) as stack:
        connection = stack.enter_context(connect(town.address, "127.0.0.2"))
        connection.sendall(garbage)
        wait_for_end(connection)


def test_large_metadata_is_refused(town: Target) -> None:
    bombs = ([("x-a", "v" * 100_000)], [(f"x-{n}", "v" * 100) for n in range(2_000)])
    with town.attacked(mib=24), grpc.insecure_channel(town.address) as channel:
        for metadata in bombs:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(LIST)(b"", metadata=metadata, timeout=SECONDS_MAX)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_headers_that_never_end_are_not_kept(town: Target) -> None:
    header = b"\x00\x01a\x7f\x80\x01" + b"v" * 255
    with town.attacked(mib=64) as stack:
        many = stack.enter_context(connect(town.address, "127.0.0.2"))
        many.sendall(START + frame(1, 0, 1, b"\x83"))
        one = stack.enter_context(connect(town.address, "127.0.0.2"))
        # A value of 1 GiB, by its length.
        one.sendall(START + frame(1, 0, 1, b"\x00\x01a\x7f\x81\xff\xff\xff\x03"))
        with suppress(ConnectionError):  # Their end would be right, too.
            for _ in range(4_000):  # Of either 60 MiB.
                many.sendall(frame(9, 0, 1, header * 60))
                one.sendall(frame(9, 0, 1, b"v" * 16_000))


def test_connections_that_say_nothing_more_cost_little(town: Target, files_max: int) -> None:
    count = min(10_000, files_max // 2 - 100)
    with town.attacked(mib=count * 32 // 1_024) as stack:
        for index in range(count):
            source = f"127.0.0.{2 + index % 8}"
            connection = stack.enter_context(connect(town.address, source))
            # A part of them has time to say the rest until the handshake's time is over.
            connection.sendall(START if index % 8 else START[: 1 + index // 8 % len(START)])
        until(lambda: town.files() >= count * 7 // 8)


def test_answers_that_are_never_read_are_bounded_for_each_caller(town: Target) -> None:
    with town.attacked(mib=160) as stack:
        raw = stack.enter_context(Raw(town.address, "127.0.0.2", window=0))
        streams = [raw.call(GET, TOWN) for _ in range(OPEN_CALLS + 100)]
        # The last: some of those before it may have been dropped in the server's queue.
        while (refused := raw.status(streams[-1]))[0] == 1:
            streams.append(raw.call(GET, TOWN))
        assert refused == (EXHAUSTED, f"127.0.0.2 has {OPEN_CALLS} calls open: end some")


def test_refusals_that_nobody_takes_off_the_network_are_bounded(town: Target) -> None:
    headers = _list_headers(town.address)
    with town.attacked(mib=48) as stack:
        connection = stack.enter_context(connect(town.address, "127.0.0.2"))
        connection.sendall(START + frame(4, 1, 0, b""))
        # A server that waits until it can write reads no more after a while.
        connection.settimeout(2)
        with suppress(OSError):
            for stream in range(1, 2 * 40_000, 2):
                connection.sendall(frame(1, 4, stream, headers))


def _list_headers(authority: str) -> bytes:
    """A call's headers, each of them literal (RFC 7541, 6.2.2), and no more than its headers."""

    def literal(name: str, value: str) -> bytes:
        return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    named = ((":path", LIST), (":authority", authority), ("te", "trailers"))
    kind = literal("content-type", "application/grpc")
    return b"\x83\x86" + b"".join(literal(*one) for one in named) + kind


def test_streams_that_are_never_closed_are_bounded_for_each_caller(town: Target) -> None:
    with town.attacked(mib=160) as stack:
        raw = stack.enter_context(Raw(town.address, "127.0.0.2"))
        streams = [raw.open(STREAM) for _ in range(OPEN_CALLS + 100)]
        while (refused := raw.status(streams[-1]))[0] == 1:
            streams.append(raw.open(STREAM))
        assert refused == (EXHAUSTED, f"127.0.0.2 has {OPEN_CALLS} calls open: end some")


def test_watchers_of_health_leave_room_whatever_addresses_they_have(town: Target) -> None:
    with town.attacked(mib=100) as stack:
        for index in range(5):
            raw = stack.enter_context(Raw(town.address, f"127.0.0.{2 + index}"))
            streams = [raw.call(HEALTH, message(b"")) for _ in range(150)]
            raw.status(raw.call(LIST, message(b"")))  # Once it is answered, they have begun.
        while (refused := raw.status(streams[-1]))[0] == 1:
            streams.append(raw.call(HEALTH, message(b"")))
        assert refused == (EXHAUSTED, "512 calls watch health already")


def test_messages_that_never_end_cost_what_was_sent(town: Target) -> None:
    count, mib = 16, 4
    with town.attacked(mib=2 * count * mib) as stack:
        raw = stack.enter_context(Raw(town.address, "127.0.0.2"))
        for _ in range(count):
            raw.send(raw.open(SUBMIT), message(bytes(mib << 20), 31 << 20), end=False)


def test_calls_that_are_taken_back_at_once_leave_nothing(town: Target) -> None:
    with town.attacked(mib=100) as stack:
        raw = stack.enter_context(Raw(town.address, "127.0.0.2"))
        for _ in range(2_000):
            raw.http.reset_stream(raw.open(LIST), 8)
            raw.flush()


def test_what_was_signed_for_another_city_is_refused_here(town: Target, raw: Raw) -> None:
    key = SigningKey(bytes(32))
    there = sign_transaction(key, genesis=b"x" * 32, data=b"pay", with_public_key=True)
    here = sign_transaction(
        key, genesis=town.genesis, data=b"pay", with_public_key=True, valid_for=timedelta(days=1)
    )
    # The signature of what was signed there, under what would be right here.
    stolen = transaction_pb2.SignedTransaction.FromString(here.envelope)
    stolen.signature = transaction_pb2.SignedTransaction.FromString(there.envelope).signature
    request = pb.SubmitBatchRequest(
        city="town", transactions=[there.envelope, stolen.SerializeToString(), here.envelope]
    )
    with town.attacked(mib=32), grpc.insecure_channel(town.address) as channel:
        answer = pb.SubmitBatchResponse.FromString(
            channel.unary_unary(SUBMIT)(request.SerializeToString(), timeout=SECONDS_MAX)
        )
        refusals = [result.refusal.code for result in answer.results]
        assert refusals == ["WRONG_GENESIS", "BAD_SIGNATURE", ""]
