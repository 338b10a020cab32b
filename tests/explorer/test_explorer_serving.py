"""How the explorer serves: slow viewers, silent connections, TLS, and a server that goes away."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from explorer.asking import HANG_SECONDS, Explorer
from explorer.conftest import OpenExplorer
from tls_files import dev_certificates

from citychain.client.channels import ChannelFactory
from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError
from citychain.explorer import app, serving
from citychain.explorer.serving import ExplorerOptions, open_explorer
from citychain.explorer.tls import open_context
from citychain.explorer.upstream import Upstream
from citychain.testing import FaultProxy
from citychain.testing.server import CityServer, TransactionFactory


async def test_a_viewer_that_reads_nothing_holds_up_nobody_and_learns_what_it_skipped(
    explorer: Explorer,
    server: CityServer,
    signed_transactions: TransactionFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that a few rounds fill what the system keeps for the slow one.
    monkeypatch.setattr("citychain.explorer.following.nodes_shown", padded)
    host, port = explorer.url.removeprefix("http://").rstrip("/").split(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, (host, int(port)))
    async with (
        server.client("hometown") as city,
        explorer.live(sock=narrow, max_queue=1, close_timeout=0.1) as slow,
        explorer.live() as quick,
    ):
        for viewer in (slow, quick):
            await viewer.ask(watch="hometown")
        await quick.until("city")
        for round, transaction in enumerate(await signed_transactions(city, 24), 1):
            await city.submit([transaction])
            assert (await quick.until("round"))["round"]["round"] == round
        told = [(await slow.until("round")) for _ in range(2)]
        while "skipped" not in told[-1]:
            told.append(await slow.until("round"))
        before, after = told[-2:]
        assert after["skipped"] == after["round"]["round"] - before["round"]["round"] - 1 > 0
        told = f"\ncitychain_explorer_rounds_skipped_total {after['skipped']}.0\n"
        assert told in await explorer.metrics()


def padded(*given: object) -> dict[str, object]:
    return {"nodes": [], "codes": {}, "of": 1, "padding": "x" * 100_000}


async def test_what_goes_on_while_the_server_is_away_is_told_once_it_is_back(
    server: CityServer, explorer_of: OpenExplorer, signed_transactions: TransactionFactory
) -> None:
    async with (
        FaultProxy(server.address) as proxy,
        explorer_of(proxy.address, timeout=timedelta(seconds=5)) as explorer,
        server.client("hometown") as city,
        explorer.live() as viewer,
    ):
        await viewer.ask(watch="hometown")
        await viewer.until("city")
        proxy.refuse()
        [sent] = await signed_transactions(city)
        await city.submit([sent])
        await city.wait([sent.tx_id])
        answer = await explorer.http.get("api/cities/hometown")
        assert answer.json()["error"]["code"] in ("UNAVAILABLE", "TIMEOUT")
        proxy.heal()
        told = await viewer.next()
        while "round" not in told and not told.get("rounds"):
            told = await viewer.next()
        first = told["round"] if "round" in told else told["rounds"][0]["round"]
        assert first["round"] == 1


async def test_connections_that_ask_nothing_are_ended(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.0)
    host, port = explorer.url.removeprefix("http://").rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(HANG_SECONDS):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
    finally:
        writer.close()


async def test_no_answer_is_waited_for_without_end_and_health_does_not_wait_in_line(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ANSWER_SECONDS", 0.0)
    assert (await explorer.get("api/cities", 504))["error"]["code"] == "TIMEOUT"
    for bound in ("AT_WORK_EACH", "AT_WORK_MAX"):
        with monkeypatch.context() as bounded:
            bounded.setattr(app, bound, 0)
            assert (await explorer.get("api/about", 503))["error"]["code"] == "BUSY"
        await explorer.get("api/about")
    monkeypatch.setattr(app, "AT_WORK_MAX", 0)
    # Who watches over it asks by its address as it is there.
    for host in ("localhost", "10.1.2.3:8080"):
        assert (await explorer.http.get("healthz", headers={"Host": host})).text == "ok\n"


async def test_who_leaves_amid_a_transaction_is_no_fault_of_the_explorer(
    server: CityServer, explorer_of: OpenExplorer, caplog: pytest.LogCaptureFixture
) -> None:
    async with explorer_of(server.address, submits=True) as explorer:
        host, port = explorer.url.removeprefix("http://").rstrip("/").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /api/cities/hometown/transactions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-protobuf\r\nContent-Length: 9\r\n\r\nx"
        )
        await writer.drain()
        writer.close()
        async with asyncio.timeout(HANG_SECONDS):
            while "explorer_failures_total 1.0\n" not in await explorer.metrics():
                await asyncio.sleep(0.01)
    assert "error" not in caplog.text


async def test_it_speaks_tls_and_takes_up_a_new_certificate(
    server: CityServer, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citychain.explorer.tls.LOOK", timedelta(seconds=0.01))
    folder, later = dev_certificates(tmp_path / "tls"), dev_certificates(tmp_path / "later")
    files = ServerTlsSettings(certificate=folder / "server.crt", key=folder / "server.key")
    upstream = Upstream(lambda token: ChannelFactory([server.address], token=token))
    options = ExplorerOptions("127.0.0.1:0", names=["explorer.example"], page=page)
    async with open_explorer(upstream, options, files) as served:
        assert served.url.startswith("https://")
        async with trusting(folder) as http:
            found = await http.get(f"{served.url}api/cities", params={"query": "hometown"})
            assert [city["slug"] for city in json.loads(found.text)["cities"]] == ["hometown"]
            # A browser remembers it for all ports of the name.
            assert "strict-transport-security" not in found.headers
            named = await http.get(served.url, headers={"Host": "explorer.example:8443"})
            assert named.headers["strict-transport-security"].startswith("max-age=")
        (later / "server.key").replace(files.key)
        (later / "server.crt").replace(files.certificate)
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                with suppress(httpx.ConnectError):
                    async with trusting(later) as http:
                        assert (await http.get(f"{served.url}healthz")).text == "ok\n"
                    break
    files.key.write_text("broken")
    with pytest.raises(ConfigurationError, match=r"server\.key"):
        async with open_context(files):
            pass


def trusting(folder: Path) -> httpx.AsyncClient:
    """A client that trusts the authority of a folder alone."""
    trusted = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    return httpx.AsyncClient(verify=trusted, trust_env=False, timeout=HANG_SECONDS)
