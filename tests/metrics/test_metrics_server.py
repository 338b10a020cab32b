"""The HTTP side of the metrics, for who asks wrongly, slowly, or too often."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from metrics.asking import answer, asked
from prometheus_client import CollectorRegistry, Gauge

from citychain.metrics import server as module
from citychain.metrics.server import CONNECTIONS_MAX, MetricsServer


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


async def test_more_connections_than_there_is_room_for_are_closed_and_cost_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Handler, "timeout", None)  # Who is silent may stay.
    host, _, port = address.partition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(CONNECTIONS_MAX)]
    try:
        with socket.create_connection((host, int(port))) as late:
            late.settimeout(120)
            assert await asyncio.to_thread(late.recv, 1) == b""
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
