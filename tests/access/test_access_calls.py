"""Who may call what of a real server, and how often."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from access.conftest import AUDIENCE, token
from access.test_access_table import NEWER
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2, status_pb2
from rpc.fakes import FakeCity, FakeDirectory, channel_to, serving
from tls_files import dev_certificates

from citychain.access.composing import guard
from citychain.access.table import NEEDS
from citychain.client import ChannelFactory, CityClient, read_credentials
from citychain.client.errors import translated
from citychain.clock import SystemClock
from citychain.config_auth import AuthSettings, RatesSettings
from citychain.config_tls import ServerTlsSettings
from citychain.errors import NotAllowed, NotAuthenticated, Overloaded
from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc._generated.citychain.v1 import services_pb2_grpc
from citychain.rpc.certificates import Certificates

Code = grpc.StatusCode
REFUSED = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)


class StillClock(SystemClock):
    """Of it no time passes."""

    def monotonic(self) -> float:
        return 1_000.0


@asynccontextmanager
async def guarded(
    files: list[Path], rates: RatesSettings | None = None, **auth: Any
) -> AsyncIterator[Any]:
    """A server with two cities, which asks for tokens where it has files of keys."""
    directory = FakeDirectory(kanazawa=FakeCity(), kaga=FakeCity())
    settings = AuthSettings(keys=tuple(files), audience=AUDIENCE, **auth) if files else None
    before = await guard(
        settings or AuthSettings(), rates or RatesSettings(), directory, StillClock()
    )
    async with serving(directory, interceptors=(before,)) as server:
        yield server


def bearer(text: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {text}")]


async def outcome(channel: Any, path: str, metadata: Any = None) -> tuple[grpc.StatusCode, str]:
    """How a call ends that sends one empty message, or nothing more; its code and reason."""
    service, _, name = path[1:].partition("/")
    method = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name)
    kind = f"{'stream' if method.client_streaming else 'unary'}_" + (
        "stream" if method.server_streaming else "unary"
    )
    make = getattr(channel, kind)(path)
    call = make(metadata=metadata) if method.client_streaming else make(b"", metadata=metadata)
    try:
        if method.client_streaming:
            await call.write(b"")
            await call.done_writing()
        if method.server_streaming:
            await call.read()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), reason(error)
    finally:
        call.cancel()
    return Code.OK, ""


def reason(error: grpc.aio.AioRpcError) -> str:
    details = dict([*error.trailing_metadata()]).get("grpc-status-details-bin", b"")
    info = error_details_pb2.ErrorInfo()
    for packed in status_pb2.Status.FromString(details).details:
        if packed.Unpack(info):
            break
    return info.reason


async def test_each_call_asks_for_its_role_and_no_other(
    keys: dict[str, Any], public_files: list[Path]
) -> None:
    roles = ("read", "submit", "vote", "admin")
    async with guarded(public_files) as server, channel_to(server) as channel:
        for path, need in NEEDS.items():
            if "StorageService" in path or path in NEWER:
                continue
            if need.role is None:
                assert (await outcome(channel, path))[0] not in REFUSED, path
                continue
            assert await outcome(channel, path) == (Code.UNAUTHENTICATED, "NOT_AUTHENTICATED")
            enough = bearer(token(keys["EdDSA"], {need.role: ["*"]}))
            assert (await outcome(channel, path, enough))[0] not in REFUSED, path
            others = {role: ["*"] for role in roles if role != need.role}
            lacking = bearer(token(keys["EdDSA"], others))
            assert await outcome(channel, path, lacking) == (
                Code.PERMISSION_DENIED,
                "NOT_ALLOWED",
            ), path


async def test_a_role_is_for_its_cities_by_whatever_name(
    keys: dict[str, Any], public_files: list[Path]
) -> None:
    of_kanazawa = bearer(token(keys["ES256"], {"read": ["kanazawa"], "submit": ["kanazawa"]}))
    async with guarded(public_files) as server, channel_to(server) as channel:
        cities: Any = services_pb2_grpc.CityServiceStub(channel)
        for name in ("kanazawa", "金沢"):
            await cities.GetCity(pb.GetCityRequest(city=name), metadata=of_kanazawa)
        await cities.ListCities(pb.ListCitiesRequest(), metadata=of_kanazawa)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await cities.GetCity(pb.GetCityRequest(city="kaga"), metadata=of_kanazawa)
        assert refused.value.code() == Code.PERMISSION_DENIED
        assert refused.value.details() == "the token of alice does not grant the role read for kaga"
        # A stream may name another city in any of its messages.
        transactions: Any = services_pb2_grpc.TransactionServiceStub(channel)
        call = transactions.SubmitStream(metadata=of_kanazawa)
        await call.write(pb.SubmitStreamRequest(city="金沢", transactions=[b"a"]))
        assert len((await call.read()).results) == 1
        await call.write(pb.SubmitStreamRequest(transactions=[b"b"]))
        assert len((await call.read()).results) == 1
        await call.write(pb.SubmitStreamRequest(city="kaga", transactions=[b"c"]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() == Code.PERMISSION_DENIED


class Offering(grpc.aio.ServerInterceptor):
    """Of a plugin: two calls of its own, which serve whoever gets as far."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        async def one(request: Any, context: Any) -> Any:
            return request

        async def many(requests: Any, context: Any) -> None:
            await context.write(pb.GetCityRequest())

        kind = pb.GetCityRequest
        forms = {"deserializer": kind.FromString, "serializer": kind.SerializeToString}
        arguments = {
            f"{'request' if 'de' in name else 'response'}_{name}": form
            for name, form in forms.items()
        }
        if details.method == "/plugin.v1.Service/One":
            return grpc.unary_unary_rpc_method_handler(one, **arguments)
        if details.method == "/plugin.v1.Service/Many":
            return grpc.stream_stream_rpc_method_handler(many, **arguments)
        return await continuation(details)


async def test_a_plugins_calls_are_for_who_administers_every_city_whatever_they_name(
    keys: dict[str, Any], public_files: list[Path]
) -> None:
    directory = FakeDirectory(kanazawa=FakeCity())
    settings = AuthSettings(keys=tuple(public_files), audience=AUDIENCE)
    before = await guard(settings, RatesSettings(), directory, StillClock())
    of_one, of_all = (bearer(token(keys["EdDSA"], {"admin": [it]})) for it in ("kanazawa", "*"))
    request = pb.GetCityRequest(city="kanazawa").SerializeToString()
    async with (
        serving(directory, interceptors=(before, Offering())) as server,
        channel_to(server) as channel,
    ):
        one = channel.unary_unary("/plugin.v1.Service/One")
        many = channel.stream_stream("/plugin.v1.Service/Many")
        assert await one(request, metadata=of_all) == request
        assert await many(metadata=of_all).read() == b""
        for call in (one(request, metadata=of_one), many(metadata=of_one).read()):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() == Code.PERMISSION_DENIED
            assert "does not grant the role admin for all cities" in refused.value.details()


async def test_who_has_no_token_may_do_what_anybody_may(
    keys: dict[str, Any], public_files: list[Path]
) -> None:
    async with guarded(public_files, anonymous=("read",)) as server, channel_to(server) as channel:
        path = "/citychain.v1.CityService/ListCities"
        assert await outcome(channel, path) == (Code.OK, "")
        submits = bearer(token(keys["EdDSA"], {"submit": ["*"]}))
        assert await outcome(channel, path, submits) == (Code.OK, "")
        submit = "/citychain.v1.TransactionService/Submit"
        assert (await outcome(channel, submit))[0] == Code.UNAUTHENTICATED
        # A token that is not valid is told, even where none is needed.
        for metadata in (bearer("abc"), [("authorization", "Basic YTpi")], submits * 2):
            assert (await outcome(channel, path, metadata))[0] == Code.UNAUTHENTICATED


async def test_a_client_sends_its_token_with_each_kind_of_call_and_nobody_logs_it(
    keys: dict[str, Any], public_files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = token(keys["EdDSA"], {"read": ["kanazawa"], "submit": ["kanazawa"]})
    async with guarded(public_files) as server:
        channels = ChannelFactory([server.address], token=lambda: text)
        async with CityClient("kanazawa", channels, timeout=timedelta(seconds=120)) as city:
            assert (await city.info()).rule == "sealed-rounds/1"
        async with CityClient("kaga", channels, timeout=timedelta(seconds=120)) as city:
            with pytest.raises(NotAllowed, match="role read for kaga"):
                await city.info()
        nobody = ChannelFactory([server.address])
        async with CityClient("kanazawa", nobody, timeout=timedelta(seconds=120)) as city:
            with pytest.raises(NotAuthenticated, match="needs the role read"):
                await city.info()
    assert text not in caplog.text


async def test_who_calls_too_often_waits_and_nobody_else_does(
    keys: dict[str, Any], public_files: list[Path]
) -> None:
    rates = RatesSettings(per_second=0.1, burst_seconds=30)
    alice, bob = (bearer(token(keys["EdDSA"], {"read": ["*"]}, name)) for name in ("alice", "bob"))
    path = "/citychain.v1.CityService/ListCities"
    async with guarded(public_files, rates) as server, channel_to(server) as channel:
        ends = [await outcome(channel, path, alice) for _ in range(4)]
        assert ends == [*[(Code.OK, "")] * 3, (Code.RESOURCE_EXHAUSTED, "OVERLOADED")]
        assert await outcome(channel, path, bob) == (Code.OK, "")
        # Guessing is counted by where it comes from, as the two tokens were that were new.
        guesses = [await outcome(channel, path, bearer(f"guess{n}")) for n in range(3)]
        assert [code for code, _ in guesses] == [
            Code.UNAUTHENTICATED,
            Code.RESOURCE_EXHAUSTED,
            Code.RESOURCE_EXHAUSTED,
        ]
        assert await outcome(channel, path, bob) == (Code.OK, "")


async def test_each_transaction_counts_and_the_wait_is_told() -> None:
    rates = RatesSettings(per_second=1, burst_seconds=10)
    async with guarded([], rates) as server:
        async with channel_to(server) as channel:
            stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
            batch = pb.SubmitBatchRequest(city="kanazawa", transactions=[b"a"] * 500)
            await stub.SubmitBatch(batch)
        channels = ChannelFactory([server.address])
        async with CityClient("kanazawa", channels, timeout=timedelta(seconds=120)) as city:
            with pytest.raises(Overloaded, match=r"127\.0\.0\.1 calls too often") as overloaded:
                await city.info()
        assert overloaded.value.retry_after >= timedelta(seconds=490)


async def test_who_shows_a_certificate_is_counted_by_its_name(tmp_path: Path) -> None:
    made = dev_certificates(tmp_path / "tls")
    tls = ServerTlsSettings(
        certificate=made / "server.crt", key=made / "server.key", client_ca=made / "ca.crt"
    )
    directory = FakeDirectory(kanazawa=FakeCity())
    rates = RatesSettings(per_second=0.001)
    before = await guard(AuthSettings(), rates, directory, StillClock())
    async with (
        Certificates(tls) as certificates,
        serving(directory, interceptors=(before,), certificates=certificates) as server,
    ):
        shown = read_credentials(made / "ca.crt", made / "client.crt", made / "client.key")
        channels = ChannelFactory([server.address], credentials=shown)
        async with CityClient("kanazawa", channels, timeout=timedelta(seconds=120)) as city:
            await city.info()
            with pytest.raises(Overloaded, match=r"^certificate of \S+ calls too often"):
                await city.info()


async def test_what_no_server_would_take_keeps_nobody_waiting_longer_and_health_is_told() -> None:
    rates = RatesSettings(per_second=10, burst_seconds=10)
    async with guarded([], rates) as server, channel_to(server) as channel:
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        batch = pb.SubmitBatchRequest(city="kanazawa", transactions=[b""] * 100_000)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SubmitBatch(batch)
        assert refused.value.code() == Code.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SubmitBatch(batch)
        _, wait = translated(refused.value)
        assert wait is not None
        assert timedelta(seconds=90) <= wait <= timedelta(seconds=91)
        # Who watches over the server asks from the same address.
        assert (await outcome(channel, "/grpc.health.v1.Health/Check"))[0] == Code.OK


async def test_a_stream_that_is_too_fast_is_slowed_and_not_broken_off() -> None:
    directory = FakeDirectory(kanazawa=FakeCity())
    rates = RatesSettings(per_second=200, burst_seconds=0.01)
    before = await guard(AuthSettings(), rates, directory, SystemClock())
    async with serving(directory, interceptors=(before,)) as server, channel_to(server) as channel:
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        call = stub.SubmitStream()
        for _ in range(20):
            await call.write(pb.SubmitStreamRequest(city="kanazawa", transactions=[b"a"]))
        await call.done_writing()
        assert len([answer async for answer in call]) == 20
