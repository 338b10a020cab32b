"""The HTTP side of the metrics, for who asks wrongly, slowly, or too often."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from metrics.asking import answer, asked
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from citychain.errors import ConfigurationError
from citychain.metrics import server as module
from citychain.metrics.server import CONNECTIONS_MAX, MetricsServer


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a server waits."""
    monkeypatch.setattr(module, "LOOP_SECONDS", 120)
    monkeypatch.setattr(module._Handler, "timeout", 120)


@pytest.fixture
async def address() -> AsyncIterator[str]:
    registry = CollectorRegistry()
    Gauge("depth", "Of something.", registry=registry).set(7)
    async with MetricsServer("127.0.0.1:0", registry, lambda: True) as server:
        yield server.address


async def test_three_paths_are_answered_and_no_other(address: str) -> None:
    assert "depth 7.0" in (await asked(address, "/metrics"))[1]
    assert await asked(address, "/healthz") == (200, "ok\n")
    assert await asked(address, "/readyz") == (200, "ok\n")
    assert await asked(address, "/") == (404, "there is /metrics, /healthz and /readyz\n")


async def test_a_server_whose_event_loop_hangs_is_neither_healthy_nor_ready(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOP_SECONDS", 0.1)
    # Asked from the event loop itself, which so does nothing else.
    assert answer(address, "/healthz")[0] == 503
    assert answer(address, "/readyz")[0] == 503
    assert answer(address, "/metrics")[0] == 200


async def test_what_cannot_be_told_is_an_error_without_a_traceback(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Collector):
        def collect(self) -> Iterator[Metric]:
            raise ValueError("none of your business")

    registry = CollectorRegistry()
    registry.register(Broken())
    async with MetricsServer("127.0.0.1:0", registry, lambda: True) as server:
        with pytest.raises(HTTPError) as told:
            await asyncio.to_thread(urlopen, f"http://{server.address}/metrics", timeout=120)
    with told.value as error:
        assert (error.code, error.read()) == (500, b"the log says why\n")
    assert [record.levelname for record in caplog.records if record.name == module.__name__] == [
        "WARNING"
    ]
    assert capfd.readouterr().err == ""


async def test_a_client_that_takes_no_answer_is_left_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module._Handler, "timeout", 0.2)
    left = threading.Event()

    class Server(module._HttpServer):
        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            left.set()

    monkeypatch.setattr(module, "_HttpServer", Server)
    registry = CollectorRegistry()
    Gauge("depth", "x" * (16 << 20), registry=registry)  # More than both ends keep.
    async with MetricsServer("127.0.0.1:0", registry, lambda: True) as server:
        host, _, port = server.address.partition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert await asyncio.to_thread(left.wait, 120)
    assert capfd.readouterr().err == ""


async def test_one_answer_at_a_time_is_made() -> None:
    together = threading.Barrier(2)
    met: list[bool] = []

    class Meeting(Collector):
        def describe(self) -> Iterator[Metric]:
            yield from ()

        def collect(self) -> Iterator[Metric]:
            try:
                together.wait(0.1)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)
            yield from ()

    registry = CollectorRegistry()
    registry.register(Meeting())
    async with MetricsServer("127.0.0.1:0", registry, lambda: True) as server:
        await asyncio.gather(*(asked(server.address, "/metrics") for _ in range(2)))
    assert met == [False, False]


async def test_threads_that_cannot_be_started_take_no_room(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def refuse(*_: Any) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr(ThreadingMixIn, "process_request", refuse)
        for _ in range(CONNECTIONS_MAX):
            with pytest.raises(OSError, match=r"closed|reset"):
                await asked(address, "/healthz")
    assert await asked(address, "/healthz") == (200, "ok\n")


async def test_a_server_that_is_stopped_while_it_starts_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answered = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def late(*args: Any, **options: Any) -> Any:
        asked.set()
        assert answered.wait(120)
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    server = MetricsServer("127.0.0.1:0", CollectorRegistry(), lambda: True)
    starting = asyncio.create_task(server.__aenter__())
    await asyncio.to_thread(asked.wait, 120)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    answered.set()
    # It waits for the look-up; a socket that is left then is a ResourceWarning.
    await asyncio.get_running_loop().shutdown_default_executor()
    gc.collect()


@pytest.mark.parametrize("host", ["..", "a" * 64])
async def test_what_is_no_host_is_named_with_its_setting(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"metrics\.listen: cannot listen on"):
        await MetricsServer(f"{host}:0", CollectorRegistry(), lambda: True).__aenter__()


async def test_more_connections_than_there_is_room_for_are_closed_and_cost_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Handler, "timeout", None)  # Who is silent may stay.
    host, _, port = address.partition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(CONNECTIONS_MAX)]
    try:
        with pytest.raises(OSError, match=r"closed|reset"):
            await asked(address, "/readyz")
    finally:
        for connection in silent:
            connection.close()
    async with asyncio.timeout(120):
        while True:
            try:
                assert await asked(address, "/healthz") == (200, "ok\n")
                break
            except OSError:
                # Those before it are not all noticed yet.
                await asyncio.sleep(0.01)


async def test_it_listens_to_ipv6_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with MetricsServer("[::1]:0", CollectorRegistry(), lambda: False) as server:
        assert server.address.startswith("[::1]:")
        assert (await asked(server.address, "/readyz"))[0] == 503
