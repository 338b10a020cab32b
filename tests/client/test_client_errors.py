"""What a server raises is what an application catches."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
import pytest
from free_ports import free_address
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from rpc.fakes import FakeCity, FakeDirectory, make_refusal, serving

from citychain import errors
from citychain.client import ChannelFactory, CityClient, retries
from citychain.client.errors import translated
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc._generated.citychain.v1.transaction_pb2 import SignedTransaction
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.rpc.status import REFUSALS
from citychain.types import Head

SOON = timedelta(milliseconds=10)
SOME_TIME = timedelta(seconds=5)
"""Which runs out; one attempt at least has to fail before, on a busy machine too."""
LONG = timedelta(hours=1)


def raises(fake: FakeCity, error: Exception) -> None:
    async def head() -> Head:
        raise error

    fake.head = head


@pytest.fixture
async def impatient(server: CoreServer) -> Any:
    """A client that repeats nothing that a server does not want soon."""
    channels = ChannelFactory([server.address])
    async with CityClient("kanazawa", channels, timeout=timedelta(seconds=60)) as client:
        yield client


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("city", "is wrong"),
        errors.NotFound("round", "7", ("6", "8, or so")),
        errors.NotFound("round", "7"),
        errors.NotSupported("this city takes no votes"),
        errors.TransactionRefused("BAD_SIGNATURE", "signature", "does not hold"),
        errors.TransactionRefused("MALFORMED", "", "is too short"),
        errors.Overloaded("full", LONG),
        errors.Overloaded("full", LONG, "AUTHOR_QUOTA"),
        errors.CityUnavailable("kanazawa", "ab12", LONG),
    ],
    ids=str,
)
async def test_an_error_arrives_as_it_was_raised(
    impatient: CityClient, fake: FakeCity, error: Exception
) -> None:
    raises(fake, error)
    with pytest.raises(type(error)) as caught:
        await impatient.info()
    assert vars(caught.value) == vars(error)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    "raised", [ZeroDivisionError("secret"), errors.PluginError("secret"), errors.InvalidProof()]
)
async def test_a_failed_server_is_a_server_error_with_its_id(
    impatient: CityClient, fake: FakeCity, raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    raises(fake, raised)
    with pytest.raises(errors.ServerError) as caught:
        await impatient.info()
    assert len(caught.value.error_id) == 16
    assert caught.value.error_id in caplog.text
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (errors.RoundTaken(1), errors.StorageError),
        (errors.ConsensusError("x"), errors.ConsensusError),
    ],
)
async def test_a_failing_part_is_told_once_it_is_too_late_to_ask_again(
    city: CityClient,
    fake: FakeCity,
    raised: Exception,
    seen: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Longer than the client has.
    monkeypatch.setattr(retries, "BACKOFF_SECONDS", (3_600.0, 3_600.0))
    asked = 0

    async def head() -> Head:
        nonlocal asked
        asked += 1
        raise raised

    fake.head = head
    with pytest.raises(seen):
        await city.info()
    assert asked == 1


async def test_an_unknown_city_comes_with_suggestions(server: CoreServer) -> None:
    async with CityClient("kanazwa", ChannelFactory([server.address])) as client:
        with pytest.raises(errors.NotFound, match=r"did you mean kanazawa, washington, d\.c\.\?"):
            await client.info()


@pytest.mark.parametrize("code", list(REFUSALS))
async def test_a_refusal_of_submit_is_an_error_with_its_code(
    server: CoreServer, fake: FakeCity, code: str
) -> None:
    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        return [make_refusal(code, "body.nonce")]

    fake.submit = submit
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        request = services_pb2.SubmitRequest(
            city="kanazawa", transaction=SignedTransaction(body=b"x")
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Submit(request)
    error, retry_after = translated(caught.value)
    assert isinstance(error, errors.TransactionRefused | errors.Overloaded)
    assert error.reason == code
    assert (retry_after is not None) == isinstance(error, errors.Overloaded)
    if isinstance(error, errors.TransactionRefused):
        assert (error.field, error.detail) == ("body.nonce", "is wrong")


async def test_no_server_at_all_is_server_unavailable() -> None:
    address = free_address()
    async with CityClient("kanazawa", ChannelFactory([address]), timeout=SOME_TIME) as client:
        told = re.escape(f"no server listens at {address}: is it running?")
        with pytest.raises(errors.ServerUnavailable, match=told):
            await client.info()


async def test_a_name_that_nobody_knows_is_told() -> None:
    channels = ChannelFactory(["nowhere.invalid:50051"])
    async with CityClient("kanazawa", channels, timeout=SOME_TIME) as client:
        told = r"no address is known for nowhere\.invalid:50051: is the name right\?"
        with pytest.raises(errors.ServerUnavailable, match=told):
            await client.info()


async def test_another_server_at_the_address_is_told() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(web, "127.0.0.1", 0) as listening:
        host, port = listening.sockets[0].getsockname()
        channels = ChannelFactory([f"{host}:{port}"])
        async with CityClient("kanazawa", channels, timeout=SOME_TIME) as client:
            told = f"what listens at 127.0.0.1:{port} is no citychain server"
            with pytest.raises(errors.ServerUnavailable, match=told):
                await client.info()


async def test_a_server_of_something_else_is_told() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with CityClient("kanazawa", ChannelFactory([f"127.0.0.1:{port}"])) as client:
        with pytest.raises(errors.ServerError, match="is no citychain server, or one of another"):
            await client.info()
    await server.stop(0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:7: Failed to "
            "connect to remote host: connect: Connection refused (111)",
            "no server listens at [::1]:7: is it running?",
        ),
        (
            "connections to all backends failing; last error: UNKNOWN: "
            "ipv6:%5B::ffff:10.0.0.1%5D:7: Failed to connect to remote host: Connection refused",
            "no server listens at 10.0.0.1:7: is it running?",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:7: Failed to "
            "connect to remote host: connect() timed out",
            "nothing answers at 10.0.0.1:7: is the address right, and the way there open?",
        ),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:10.0.0.1:7: Socket "
            "closed",
            "10.0.0.1:7 closed the connection: if it speaks TLS, give its CA, and a client's "
            "certificate if it asks for one",
        ),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:10.0.0.1:7: "
            "Handshake read failed (Socket closed)",
            "10.0.0.1:7 closed the connection: if it speaks TLS, give its CA, and a client's "
            "certificate if it asks for one",
        ),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:10.0.0.1:7: "
            "recvmsg:Connection reset by peer (104)",
            "10.0.0.1:7 closed the connection: if it speaks TLS, give its CA, and a client's "
            "certificate if it asks for one",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:7: Peer name "
            "a.example is not in peer certificate",
            "the certificate that 10.0.0.1:7 shows is for another host than was asked for",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:7: no idea",
            "no server can be reached at 10.0.0.1:7: no idea",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:7: Trying to "
            "connect an http1.x server (HTTP status 400)",
            "what listens at 10.0.0.1:7 is no citychain server: is the port right?",
        ),
        (
            "DNS resolution failed for a.example:7: C-ares status is not ARES_SUCCESS",
            "no address is known for a.example:7: is the name right?",
        ),
        ("Stream removed (ping timeout)", "the connection to the server broke: ping timeout"),
        ("", "unavailable"),
    ],
)
def test_what_grpc_says_of_connections_is_said_for_people(said: str, told: str) -> None:
    metadata = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, metadata, metadata, said)
    ours, retry_after = translated(error)
    assert isinstance(ours, errors.ServerUnavailable)
    assert (str(ours), retry_after) == (told, timedelta())


async def test_a_server_that_does_not_answer_is_a_timeout(
    server: CoreServer, fake: FakeCity
) -> None:
    async def head() -> Head:
        await asyncio.Event().wait()
        return Head()

    fake.head = head
    channels = ChannelFactory([server.address])
    timeout = timedelta(milliseconds=200)
    async with CityClient("kanazawa", channels, timeout=timeout) as client:
        with pytest.raises(TimeoutError, match="did not answer in time"):
            await client.info()


async def test_a_request_that_is_too_large_names_the_cause(directory: FakeDirectory) -> None:
    options = ServerOptions(listen="127.0.0.1:0", max_message_bytes=10_000)
    async with (
        serving(directory, options) as server,
        CityClient("kanazawa", ChannelFactory([server.address])) as client,
    ):
        with pytest.raises(errors.InvalidRequest, match="larger than max"):
            await client.submit([bytes(20_000)])


def test_past_the_number_of_calls_is_overload() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        "Concurrent RPC limit exceeded!",
    )
    ours, retry_after = translated(error)
    assert isinstance(ours, errors.Overloaded)
    assert retry_after == timedelta(seconds=1)


async def test_details_that_are_no_message_do_not_hide_the_status() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff")),
        "somebody in between",
    )
    ours, retry_after = translated(error)
    assert isinstance(ours, errors.ServerUnavailable)
    assert str(ours) == "somebody in between"
    assert retry_after == timedelta()


@pytest.mark.parametrize(
    ("reason", "detail", "kind"),
    [
        ("PRUNED", error_details_pb2.ResourceInfo(resource_name="abc"), errors.Pruned),
        ("PRUNED", error_details_pb2.ResourceInfo(resource_name="9" * 5_000), errors.Pruned),
        (
            "OVERLOADED",
            error_details_pb2.RetryInfo(retry_delay={"seconds": 10**15}),
            errors.Overloaded,
        ),
    ],
)
def test_details_that_cannot_be_are_still_an_error_of_ours(
    reason: str, detail: Message, kind: type[Exception]
) -> None:
    status = status_pb2.Status()
    for message in (error_details_pb2.ErrorInfo(reason=reason, domain="citychain"), detail):
        status.details.add().Pack(message)
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString())),
        "lies",
    )
    ours, retry_after = translated(error)
    assert type(ours) is kind
    assert retry_after is None
