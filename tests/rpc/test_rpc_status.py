"""The table from errors to statuses, as a client sees it, and as docs/errors.md tells it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from rpc.fakes import FakeCity, FakeDirectory, channel_to, make_refusal, serving

from citychain import errors
from citychain._native import transactions as native
from citychain.log_fields import log_fields
from citychain.rpc._generated.citychain.v1 import (
    services_pb2,
    services_pb2_grpc,
    transaction_pb2,
)
from citychain.rpc.status import DOMAIN, ERRORS, INTERNAL, REFUSALS, Row
from citychain.types import Head

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
SECRET = "the secret path /var/lib/x"


def error_classes() -> list[type[errors.CitychainError]]:
    found = [errors.CitychainError]
    for error in found:
        found += error.__subclasses__()
    return [error for error in found if error.__module__ == errors.__name__]


def instances() -> list[errors.CitychainError]:
    """One of each class."""
    special: dict[type, errors.CitychainError] = {
        errors.InvalidRequest: errors.InvalidRequest("page_size", "is too large"),
        errors.TransactionRefused: errors.TransactionRefused("EXPIRED", "body", "is too late"),
        errors.NotFound: errors.NotFound("city", "kanazwa", ("kanazawa", "washington, d.c.")),
        errors.Pruned: errors.Pruned(7, "no segment of the archive has it"),
        errors.Overloaded: errors.Overloaded("full", timedelta(milliseconds=250)),
        errors.CityUnavailable: errors.CityUnavailable("kanazawa", "abc123", timedelta(seconds=9)),
        errors.NotLeading: errors.NotLeading("kanazawa", timedelta(seconds=1)),
        errors.ServerError: errors.ServerError(SECRET, "x"),
        errors.RoundTaken: errors.RoundTaken(3),
        errors.LeaseLost: errors.LeaseLost(3),
        errors.NameTaken: errors.NameTaken(SECRET, b""),
        errors.DirectoryInUse: errors.DirectoryInUse(SECRET, "1", "stop it"),
        errors.NotRestorable: errors.NotRestorable(bytes(32), SECRET),
        errors.InvalidReceipt: errors.InvalidReceipt("node", SECRET),
        errors.InvalidAcknowledgement: errors.InvalidAcknowledgement("signature", SECRET),
        errors.InvalidRound: errors.InvalidRound(1, "verdict", SECRET),
    }
    return [special.get(error) or error(SECRET) for error in error_classes()]


class Caught:
    """A failed call with its details opened."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.error = error
        self.metadata = dict([*error.trailing_metadata()])
        self.status = status_pb2.Status.FromString(self.metadata["grpc-status-details-bin"])
        assert self.status.code == error.code().value[0]
        assert self.status.message == error.details()
        info = self.detail(error_details_pb2.ErrorInfo)
        assert info is not None
        self.info = info

    def detail(self, kind: Any) -> Any:
        for packed in self.status.details:
            message = kind()
            if packed.Unpack(message):
                return message
        return None


async def failure(call: Any) -> Caught:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Caught(caught.value)


async def raising(stub: Any, city: FakeCity, error: Exception) -> Caught:
    """What a client gets when a handler raises."""

    async def head() -> Head:
        raise error

    city.head = head
    return await failure(stub.GetCity(services_pb2.GetCityRequest(city="kanazawa")))


def test_every_error_has_a_row() -> None:
    assert set(ERRORS) == set(error_classes())


@pytest.mark.parametrize("error", instances(), ids=lambda error: type(error).__name__)
async def test_an_error_becomes_its_rows_status(
    cities: Any, city: FakeCity, error: errors.CitychainError, caplog: pytest.LogCaptureFixture
) -> None:
    row = ERRORS[type(error)]
    if isinstance(error, errors.TransactionRefused):
        row = REFUSALS[error.reason]
    caught = await raising(cities, city, error)
    assert caught.error.code() == row.code
    assert (caught.info.reason, caught.info.domain) == (row.reason, DOMAIN)
    retry = caught.detail(error_details_pb2.RetryInfo)
    assert (retry is not None) == (row.retry_after is not None)
    assert (SECRET in str(caught.status)) == (not row.hidden and SECRET in str(error))
    if row.hidden:
        error_id = caught.info.metadata["error_id"]
        assert error_id in caught.status.message
        [record] = [record for record in caplog.records if error_id in record.getMessage()]
        assert record.exc_info is not None
        assert record.exc_info[1] is error


async def test_an_unknown_exception_tells_an_error_id_and_nothing_else(
    cities: Any, city: FakeCity, caplog: pytest.LogCaptureFixture
) -> None:
    caught = await raising(cities, city, ZeroDivisionError(SECRET))
    assert caught.error.code() == grpc.StatusCode.INTERNAL
    assert caught.info.reason == INTERNAL.reason
    everything = str(caught.status) + str(caught.metadata) + caught.error.debug_error_string()
    for word in (SECRET, "ZeroDivisionError", "Traceback", "fakes.py", ".py"):
        assert word not in everything
    assert caught.info.metadata["error_id"] in caplog.text
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text


async def test_a_malformed_field_is_named(cities: Any) -> None:
    request = services_pb2.ListCitiesRequest(page_size=1_001)
    caught = await failure(cities.ListCities(request))
    assert caught.error.code() == grpc.StatusCode.INVALID_ARGUMENT
    [violation] = caught.detail(error_details_pb2.BadRequest).field_violations
    assert violation.field == "page_size"
    assert violation.description == "is 1001; at most 1000 is allowed"


async def test_an_unknown_city_comes_with_suggestions(cities: Any) -> None:
    caught = await failure(cities.GetCity(services_pb2.GetCityRequest(city="kanazwa")))
    assert caught.error.code() == grpc.StatusCode.NOT_FOUND
    resource = caught.detail(error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("city", "kanazwa")
    assert caught.info.metadata["suggestions"] == "kanazawa\nwashington, d.c."


async def test_overload_says_how_long_to_wait(cities: Any, city: FakeCity) -> None:
    error = errors.Overloaded("full", timedelta(milliseconds=250), "AUTHOR_QUOTA")
    caught = await raising(cities, city, error)
    assert caught.info.reason == "AUTHOR_QUOTA"
    delay = caught.detail(error_details_pb2.RetryInfo).retry_delay
    assert delay.ToTimedelta() == timedelta(milliseconds=250)
    # What grpc's own repetition goes by.
    assert caught.metadata["grpc-retry-pushback-ms"] == "250"


async def test_a_broken_city_tells_the_id_that_the_log_explains(
    cities: Any, directory: FakeDirectory
) -> None:
    directory.failed["kanazawa"] = errors.CityUnavailable("kanazawa", "ab12", timedelta(seconds=9))
    caught = await failure(cities.GetCity(services_pb2.GetCityRequest(city="金沢")))
    assert caught.error.code() == grpc.StatusCode.UNAVAILABLE
    assert dict(caught.info.metadata) == {"city": "kanazawa", "error_id": "ab12"}
    delay = caught.detail(error_details_pb2.RetryInfo).retry_delay
    assert delay.ToTimedelta() == timedelta(seconds=9)
    # So long a wait is the application's to decide: the channel must not hide the error.
    assert caught.metadata["grpc-retry-pushback-ms"] == "-1"
    # And the others know nothing of it.
    await cities.GetCity(services_pb2.GetCityRequest(city="kaga"))


@pytest.mark.parametrize("row", list(REFUSALS.values()), ids=lambda row: row.reason)
async def test_a_refusal_of_one_transaction_is_the_calls_status(
    transactions: Any, city: FakeCity, row: Row
) -> None:
    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        return [make_refusal(row.reason, "body.nonce")]

    city.submit = submit
    request = services_pb2.SubmitRequest(
        city="kanazawa", transaction=transaction_pb2.SignedTransaction(body=b"body")
    )
    caught = await failure(transactions.Submit(request))
    assert caught.error.code() == row.code
    assert caught.info.reason == row.reason
    if row.retry_after is None:
        [violation] = caught.detail(error_details_pb2.BadRequest).field_violations
        assert violation.field == "transaction.body.nonce"
    else:
        assert caught.detail(error_details_pb2.RetryInfo) is not None


async def test_long_texts_are_cut_so_that_the_details_arrive(cities: Any, city: FakeCity) -> None:
    long = "🏯" * 5_000
    caught = await raising(cities, city, errors.NotFound("round", long, (long, long)))
    assert len(caught.status.message) == 256
    caught = await raising(cities, city, errors.InvalidRequest("name", long))
    assert len(caught.status.message) == 256


def test_every_native_refusal_has_a_row() -> None:
    assert set(native.REFUSAL_CODES) <= set(REFUSALS)


def test_the_documentation_has_the_same_table() -> None:
    documented = {}
    of_calls, _, _ = DOCS.read_text().partition("\n## Rejections\n")
    for line in of_calls.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if found := re.fullmatch(r"`([A-Z_]+)`", cells[0]):
            documented[found[1]] = (cells[1].strip("`"), cells[2])

    def repeats(row: Row) -> str:
        if row.retry_changed:
            return "changed"
        return "no" if row.retry_after is None else "later"

    rows = [*ERRORS.values(), *REFUSALS.values()]
    assert documented == {row.reason: (row.code.name, repeats(row)) for row in rows}


# --- the interceptor


class Plugin(grpc.aio.ServerInterceptor):
    """A plugin's interceptor that breaks, in one of several ways."""

    def __init__(self, way: str) -> None:
        self.way = way

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if self.way == "raises":
            raise ZeroDivisionError(SECRET)
        handler = await continuation(handler_call_details)
        if self.way == "aborts":

            async def abort(request: Any, context: Any) -> Any:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

            return grpc.unary_unary_rpc_method_handler(abort)
        if self.way == "is not async":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: None)
        if self.way == "generates":

            async def generate(request: Any, context: Any) -> Any:
                yield services_pb2.WatchResponse(position=5)
                raise ZeroDivisionError(SECRET)

            return grpc.unary_stream_rpc_method_handler(
                generate, handler.request_deserializer, handler.response_serializer
            )
        return handler


async def call_with(way: str, directory: FakeDirectory) -> grpc.aio.AioRpcError:
    async with (
        serving(directory, interceptors=[Plugin(way)]) as server,
        channel_to(server) as channel,
    ):
        stub: Any = services_pb2_grpc.CityServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListCities(services_pb2.ListCitiesRequest())
    return caught.value


@pytest.mark.parametrize("way", ["raises", "is not async"])
async def test_a_plugins_broken_interceptor_is_an_internal_error(
    directory: FakeDirectory, way: str
) -> None:
    caught = Caught(await call_with(way, directory))
    assert caught.error.code() == grpc.StatusCode.INTERNAL
    assert SECRET not in str(caught.status)


async def test_a_plugin_may_abort(
    directory: FakeDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    error = await call_with("aborts", directory)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_plugin_may_answer_with_a_generator(directory: FakeDirectory) -> None:
    async with (
        serving(directory, interceptors=[Plugin("generates")]) as server,
        channel_to(server) as channel,
    ):
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        call = stub.Watch(services_pb2.WatchRequest(city="kanazawa", everything=True))
        assert (await call.read()).position == 5
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert Caught(caught.value).error.code() == grpc.StatusCode.INTERNAL


async def test_bytes_that_are_no_message_are_the_callers_fault(channel: Any) -> None:
    unary = channel.unary_unary("/citychain.v1.CityService/GetCity")
    caught = await failure(unary(b"\xff\xff\xff"))
    assert caught.error.code() == grpc.StatusCode.INVALID_ARGUMENT
    stream = channel.stream_stream("/citychain.v1.TransactionService/SubmitStream")()
    await stream.write(b"\xff\xff\xff")
    caught = await failure(stream.read())
    assert caught.error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/citychain.v1.CityService/Nothing")(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("given", "is_kept"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False), (None, False)]
)
async def test_a_call_has_an_id(cities: Any, given: str | None, is_kept: bool) -> None:
    metadata = [("x-request-id", given)] if given else None
    call = cities.ListCities(services_pb2.ListCitiesRequest(), metadata=metadata)
    await call
    told = dict([*await call.trailing_metadata()])["x-request-id"]
    assert (told == given) == is_kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", told)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-00-more", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (None, False),
    ],
)
async def test_a_call_belongs_to_a_trace(cities: Any, given: str | None, is_kept: bool) -> None:
    metadata = [("traceparent", given)] if given else None
    call = cities.ListCities(services_pb2.ListCitiesRequest(), metadata=metadata)
    await call
    told = dict([*await call.trailing_metadata()])["x-trace-id"]
    assert (told == TRACE) == is_kept
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", told)


async def test_a_failed_calls_ids_are_in_the_log(
    cities: Any, city: FakeCity, caplog: pytest.LogCaptureFixture
) -> None:
    fields: list[dict[str, str]] = []

    def keep_fields(_: logging.LogRecord) -> bool:
        fields.append(dict(log_fields()))
        return True

    caplog.handler.addFilter(keep_fields)
    with caplog.at_level(logging.ERROR):
        told = [await raising(cities, city, ZeroDivisionError()) for _ in range(2)]
    caplog.handler.removeFilter(keep_fields)
    ids = [
        {"request_id": it.metadata["x-request-id"], "trace_id": it.metadata["x-trace-id"]}
        for it in told
    ]
    assert fields == ids
    assert ids[0] != ids[1]
    assert ids[0]["request_id"] in caplog.text
