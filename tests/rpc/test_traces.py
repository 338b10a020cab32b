"""What a server's traces tell: a real collector receives them over OTLP."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rpc.collector import Collector, collecting, told

from citychain import _otel
from citychain._otel import ServerTracer
from citychain.city.sealing import stored_round
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.config import Settings
from citychain.config_traces import TracesSettings
from citychain.crypto.keys import key_id
from citychain.errors import ConfigurationError, NotFound
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.testing.server import Plan, TransactionFactory, make_plan
from citychain.tracing import Tracer, open_tracer, span_parent
from citychain.types import SealedRound, State

MISSING = b"\x07" * 32
"""The id of no node."""
SUBMIT = "citychain.v1.TransactionService/SubmitBatch"


def plan(
    tmp_path: Path,
    cities: Mapping[str, Mapping[str, Any]] = MappingProxyType({"nara": {}}),
    settings: Mapping[str, Any] = MappingProxyType({}),
    **traces: Any,
) -> Plan:
    return make_plan(
        tmp_path,
        cities,
        {},
        storage="sqlite",
        clock=None,
        operator=None,
        settings={"plugins": {"allow": ()}, "traces": traces, **settings},
    )


@pytest.fixture
def exporters_stop(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Milliseconds that exporters were given to stop."""
    waits: list[float] = []
    shutdown = OTLPSpanExporter.shutdown

    def stopped(exporter: OTLPSpanExporter, timeout_millis: float = 30_000) -> None:
        waits.append(timeout_millis)
        shutdown(exporter, timeout_millis)

    monkeypatch.setattr(OTLPSpanExporter, "shutdown", stopped)
    return waits


def tracer_to(collector: Collector) -> Tracer:
    return open_tracer(TracesSettings(endpoint=f"http://{collector.address}"))


def a_round(number: int, *tx_ids: bytes) -> SealedRound:
    """As far as a trace knows it."""
    transactions: Any = [SimpleNamespace(tx_id=tx_id) for tx_id in tx_ids]
    rest: Any = ((), (), (), None, (), (), b"", b"")
    return SealedRound(number, 0, 1, 0, b"", b"", b"", transactions, *rest)


async def trace_id_of(call: Any) -> str:
    await call
    return dict([*await call.trailing_metadata()])["x-trace-id"]


async def test_one_trace_leads_from_the_client_to_the_approval(
    tmp_path: Path, signed_transactions: TransactionFactory
) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    async with collecting() as collector:
        traced = plan(tmp_path, endpoint=f"http://{collector.address}", service_name="nara-1")
        async with traced.open() as running:
            tracer = provider.get_tracer("test")
            channels = ChannelFactory([running.address], tracer=tracer, token=lambda: "S3CRET")
            async with CityClient("nara", channels, timeout=timedelta(seconds=120)) as client:
                signed = await signed_transactions(client, 3)
                with tracer.start_as_current_span("program") as program:
                    await client.submit(signed)
                await client.wait([item.tx_id for item in signed], State.APPROVED)
                with pytest.raises(NotFound):
                    await client.node(MISSING)
        # The server sends what is left when it stops.
        [call] = collector.named(SUBMIT)
        mine = program.get_span_context()
        [sent] = [span for span in kept.get_finished_spans() if span.name == SUBMIT]
        assert sent.parent == mine
        assert (call.kind, int.from_bytes(call.trace_id)) == (Span.SPAN_KIND_SERVER, mine.trace_id)
        assert int.from_bytes(call.parent_span_id) == sent.get_span_context().span_id
        assert told(call) == {
            "rpc.system.name": "grpc",
            "rpc.method": SUBMIT,
            "rpc.response.status_code": "OK",
        }
        [closed] = collector.named("round")
        assert (closed.trace_id, closed.parent_span_id) == (call.trace_id, call.span_id)
        assert [link.span_id for link in closed.links] == [call.span_id]
        assert told(closed) == {
            "citychain.city": "nara",
            "citychain.round": 1,
            "citychain.transactions": 3,
            "citychain.calls": 1,
        }
        [approval] = collector.named("approval")
        assert (approval.trace_id, approval.parent_span_id) == (call.trace_id, closed.span_id)
        assert closed.start_time_unix_nano <= closed.end_time_unix_nano
        assert closed.end_time_unix_nano == approval.start_time_unix_nano
        assert approval.start_time_unix_nano <= approval.end_time_unix_nano
        assert collector.services == {"nara-1"}
        assert b"nara" in collector.wire
        # Nothing of who calls, what about, and what it is told.
        author = key_id(signed_transactions.key().public_key)
        for word in (b"S3CRET", b"127.0.0.1", b"test ", MISSING, author, signed[0].tx_id):
            assert not any(form in collector.wire for form in (word, word.hex().encode()))
        failed = [it for it in kept.get_finished_spans() if not it.status.is_ok]
        assert "NOT_FOUND" in {dict(it.attributes or {})["error.type"] for it in failed}
        # What a caller asks wrongly is no fault of the server's.
        missed = [it for it in collector.spans if "NOT_FOUND" in told(it).values()]
        assert missed
        assert {it.status.code for it in missed} == {Status.STATUS_CODE_UNSET}
    provider.shutdown()


async def test_a_round_links_to_each_call_that_brought_it_something(
    tmp_path: Path, signed_transactions: TransactionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = ServerTracer.received
    brought: list[bytes] = []

    def noted(tracer: ServerTracer, caller: object, tx_ids: Iterable[bytes]) -> None:
        ids = [*tx_ids]
        brought.extend(ids)
        received(tracer, caller, ids)

    monkeypatch.setattr(ServerTracer, "received", noted)
    async with collecting() as collector:
        traced = plan(tmp_path, endpoint=f"http://{collector.address}")
        async with traced.open() as running, traced.server(running.address).client("nara") as city:
            signed = await signed_transactions(city, 6)
            await city.submit(signed[:1])
            for one in signed[1:]:
                await city.submit([signed[0], one])
            await city.wait([item.tx_id for item in signed], State.APPROVED)
    calls = {span.span_id: span.trace_id for span in collector.named(SUBMIT)}
    rounds = collector.named("round")
    links = [(link.span_id, link.trace_id) for closed in rounds for link in closed.links]
    # Each once: a repeat brings nothing.
    assert sorted(brought) == sorted(item.tx_id for item in signed)
    assert sorted(links) == sorted(calls.items())
    assert sum(told(closed)["citychain.transactions"] for closed in rounds) == 6
    assert {it.trace_id for it in rounds} <= set(calls.values())
    assert len(collector.named("approval")) == len(rounds)
    assert collector.services == {"citychain"}


async def test_the_ids_of_a_client_are_a_spans_which_no_made_up_method_names(
    tmp_path: Path,
) -> None:
    async with collecting() as collector:
        traced = plan(tmp_path, endpoint=f"http://{collector.address}")
        async with traced.open() as running, grpc.aio.insecure_channel(running.address) as channel:
            cities = services_pb2_grpc.CityServiceStub(channel)
            trace_id = await trace_id_of(cities.ListCities(services_pb2.ListCitiesRequest()))
            # Probes are no spans.
            health = health_pb2_grpc.HealthStub(channel)
            await trace_id_of(health.Check(health_pb2.HealthCheckRequest()))
            unknown: Any = channel.unary_unary("/citychain.v1.CityService/Guess")
            with pytest.raises(grpc.aio.AioRpcError):
                await unknown(b"")
    listed, guessed = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert (listed.trace_id.hex(), listed.parent_span_id) == (trace_id, b"")
    assert guessed.name == "_OTHER"
    assert told(guessed) == {
        "rpc.system.name": "grpc",
        "rpc.method": "_OTHER",
        "rpc.response.status_code": "UNIMPLEMENTED",
        "error.type": "UNIMPLEMENTED",
    }
    assert guessed.status.code == Status.STATUS_CODE_ERROR


async def test_who_calls_says_whether_a_trace_is_kept_and_else_the_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "of-the-environment")
    async with collecting() as collector:
        traced = plan(tmp_path, endpoint=f"http://{collector.address}", ratio=0.0)
        async with (
            traced.open() as running,
            grpc.aio.insecure_channel(running.address) as channel,
        ):
            cities = services_pb2_grpc.CityServiceStub(channel)
            ids = []
            for parent in (None, f"00-{'a' * 32}-{'b' * 16}-01", f"00-{'c' * 32}-{'b' * 16}-00"):
                metadata = [("traceparent", parent)] if parent else None
                call = cities.ListCities(services_pb2.ListCitiesRequest(), metadata=metadata)
                ids.append(await trace_id_of(call))
    # Each has an id for the log, kept or not.
    assert ids[1:] == ["a" * 32, "c" * 32]
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", ids[0])
    [span] = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == ("a" * 32, "b" * 16)
    assert collector.services == {"of-the-environment"}


@asynccontextmanager
async def trouble(kind: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Where a collector should be, and when it is known that it is none."""
    begun = asyncio.Event()
    if kind in ("away", "silent"):
        begun.set()
        # Bound, so that nobody else has it: who listens there accepts nothing.
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            if kind == "silent":
                bound.listen()
            yield f"127.0.0.1:{bound.getsockname()[1]}", begun
        return

    async def refuse(context: Any) -> None:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not from you")

    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    async with collecting(refuse if kind == "refusing" else hang) as collector:
        yield collector.address, collector.asked


@pytest.mark.parametrize("kind", ["away", "silent", "hanging", "refusing"])
async def test_a_collector_that_takes_nothing_holds_nothing_up(
    kind: str,
    tmp_path: Path,
    signed_transactions: TransactionFactory,
    monkeypatch: pytest.MonkeyPatch,
    exporters_stop: list[float],
) -> None:
    monkeypatch.setattr(_otel, "CLOSE_SECONDS", 120 if kind == "refusing" else 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    # Room for a span, so that most have none.
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    async with trouble(kind) as (address, begun):
        traced = plan(tmp_path, endpoint=f"http://{address}")
        async with traced.open() as running, traced.server(running.address).client("nara") as city:
            signed = await signed_transactions(city, 3)
            for one in signed:
                await city.submit([one])
            await city.wait([item.tx_id for item in signed], State.APPROVED)
            await begun.wait()
        assert not [it for it in threading.enumerate() if it.name.startswith("Otel")]
    # Who refuses is tried to the end; others are left at once, before the SDK did so after half a
    # minute.
    assert (exporters_stop[0] == 0) == (kind != "refusing")


async def test_no_proxy_is_asked_for_what_is_sent_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20word")
        async with collecting() as collector, aclosing(tracer_to(collector)) as tracer:
            tracer.call(f"/{SUBMIT}", None).end("OK")
    assert len(collector.spans) == 1


async def test_what_a_city_does_by_itself_belongs_to_no_call(
    tmp_path: Path, signed_transactions: TransactionFactory
) -> None:
    cities = {"world": {}, "nara": {"parent": "world"}}
    async with collecting() as collector:
        settings = {"exchange": {"anchor_seconds": 0.05}}
        traced = plan(tmp_path, cities, settings, endpoint=f"http://{collector.address}")
        async with traced.open() as running, traced.server(running.address).client("nara") as city:
            # This call opens the city, which goes on, and sends its parent what it signs.
            signed = await signed_transactions(city, 1)
            await city.submit(signed)
            while await city.anchor() is None:
                await asyncio.sleep(0.05)
    assert {told(it)["citychain.city"] for it in collector.named("round")} == {"nara"}


async def test_what_is_kept_of_calls_and_their_links_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_otel, "WAITING_MAX", 3)
    monkeypatch.setattr(_otel, "LINKS_MAX", 2)
    ids = [bytes([number]) * 32 for number in range(5)]
    async with collecting() as collector, aclosing(tracer_to(collector)) as tracer:

        async def call(tx_id: bytes) -> None:
            span = tracer.call(f"/{SUBMIT}", None)
            tracer.received(tracer.caller(), [tx_id])
            span.end("OK")

        # Who brings a waiting one again has no part in it.
        for tx_id in (*ids, ids[2]):
            await asyncio.create_task(call(tx_id))
        tracer.sealed("nara", a_round(1, *ids))
    calls = collector.named(SUBMIT)
    [closed] = collector.named("round")
    assert closed.parent_span_id == calls[2].span_id
    assert [link.span_id for link in closed.links] == [it.span_id for it in calls[2:4]]
    assert told(closed)["citychain.calls"] == 3


async def test_a_call_has_its_ids_where_the_environment_turns_traces_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with collecting() as collector, aclosing(tracer_to(collector)) as tracer:
        span = tracer.call(f"/{SUBMIT}", None)
        assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", span.trace_id)
        tracer.received(tracer.caller(), [b"\x01" * 32])
        tracer.sealed("nara", a_round(1, b"\x01" * 32))
        tracer.approved("nara", stored_round(a_round(1, b"\x01" * 32)))
        span.end("OK")
        given = span_parent(f"00-{'a' * 32}-{'b' * 16}-01")
        assert tracer.call(f"/{SUBMIT}", given).trace_id == "a" * 32
    assert collector.spans == []


async def test_who_is_in_a_hurry_waits_for_no_collector(exporters_stop: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        tracer = open_tracer(TracesSettings(endpoint=f"http://{address}"))
        tracer.call(f"/{SUBMIT}", None).end("OK")
        closing = asyncio.create_task(tracer.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert exporters_stop[0] == 0


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:4317", "http://here", "ftp://here:1", "http://a:b@here:1", "http://h:1/x"],
)
def test_an_endpoint_is_a_url_of_a_host_and_port(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"traces\.endpoint\n.*http://host:port"):
        Settings(traces={"endpoint": endpoint})  # type: ignore[arg-type]


def test_nothing_of_opentelemetry_is_imported_where_it_is_off_and_its_lack_is_told() -> None:
    statements = """
import asyncio, sys
from citychain import containers
from citychain.config_traces import TracesSettings
from citychain.tracing import UNTRACED, open_tracer
assert open_tracer(TracesSettings()) is UNTRACED
assert not [name for name in sys.modules if name.startswith("opentelemetry")]

# A client needs what makes its spans, and not what sends a server's.
from opentelemetry.trace import NoOpTracer
from citychain.client import ChannelFactory

async def connect():
    await ChannelFactory(["127.0.0.1:1"], tracer=NoOpTracer()).channel().close()

asyncio.run(connect())
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]

sys.modules["opentelemetry.context"] = None
open_tracer(TracesSettings(endpoint="http://127.0.0.1:4317"))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", statements],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1].endswith(
        "traces.endpoint: needs the module opentelemetry.context: pip install 'citychain[otel]'"
    ), done.stderr


WRONG = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "much",
    "OTEL_BSP_SCHEDULE_DELAY": "-7",
}


@pytest.mark.parametrize("variable", WRONG)
def test_a_wrong_variable_is_told(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, WRONG[variable])
    with pytest.raises(ConfigurationError, match=r"OTEL_\.\.\. is wrong: "):
        open_tracer(TracesSettings(endpoint="http://127.0.0.1:4317"))


@pytest.mark.parametrize("variable", ["HEADERS", "TRACES_HEADERS"])
@pytest.mark.parametrize(
    "headers",
    ["S3CRET", "a=b, Bearer S3CRET", "a=S3C;RET", "a=S3CRET\u00e9", "a=S3CRET%0a", "a-bin=S3CRET"],
)
def test_a_password_in_a_wrong_variable_is_not_told(
    variable: str, headers: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"OTEL_EXPORTER_OTLP_{variable}"
    monkeypatch.setenv(name, headers)
    with pytest.raises(ConfigurationError, match=f"{name} is not name=value,name=value") as told:
        open_tracer(TracesSettings(endpoint="http://127.0.0.1:4317"))
    assert "S3C" not in str(told.value) + caplog.text
