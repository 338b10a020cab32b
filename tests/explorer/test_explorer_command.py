"""``citychain explorer``, and ``citychain serve --explorer``, as processes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from explorer.asking import HANG_SECONDS
from explorer.conftest import OpenExplorer
from free_ports import free_address
from tls_files import dev_certificates
from typer.testing import CliRunner

from citychain.cli.app import app
from citychain.cli.explorer_beside import _asked_at, _tls_options, explorer_beside
from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError


async def answers(http: httpx.AsyncClient, url: str) -> httpx.Response:
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            with suppress(httpx.TransportError):
                return await http.get(url)
            await asyncio.sleep(0.05)


async def test_a_server_that_speaks_tls_shows_its_cities_and_ends_its_explorer_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dev_certificates(tmp_path / "tls")
    monkeypatch.setenv("CITYCHAIN_CA", str(folder / "ca.crt"))
    assert CliRunner().invoke(app, ["init", str(tmp_path / "town")]).exit_code == 0
    with (tmp_path / "town" / "citychain.toml").open("a") as configuration:
        print("[server.tls]", file=configuration)
        for name, file in (("certificate", "server.crt"), ("key", "server.key")):
            print(f'{name} = "{folder / file}"', file=configuration)
    listen = free_address()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "citychain", "serve", "--listen", "127.0.0.1:0",
        "--explorer", listen, cwd=tmp_path / "town", stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            found = await answers(http, f"http://{listen}/api/cities?query=hometown")
            assert [city["slug"] for city in found.json()["cities"]] == ["hometown"]
        finally:
            server.send_signal(signal.SIGTERM)
            async with asyncio.timeout(HANG_SECONDS):
                assert await server.wait() == 0
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://{listen}/healthz")


@pytest.mark.parametrize(
    ("address", "hosts", "asked"),
    [
        ("127.0.0.1:1", (), "127.0.0.1:1"),
        ("town.example:1", ("town.example",), "town.example:1"),
        ("0.0.0.0:1", (), "127.0.0.1:1"),
        ("[::]:1", (), "[::1]:1"),
        ("0.0.0.0:1", ("*.example", "town.example", "192.0.2.1"), "town.example:1"),
        ("[::]:1", ("town.example", "localhost"), "localhost:1"),
        ("0.0.0.0:1", ("localhost", "127.0.0.1"), "127.0.0.1:1"),
        ("0.0.0.0:1", ("2001:db8::1",), "[2001:db8::1]:1"),
    ],
)
def test_a_server_is_asked_by_a_name_that_its_certificate_has(
    address: str, hosts: Sequence[str], asked: str
) -> None:
    assert _asked_at(address, hosts) == asked


def test_where_others_reach_the_explorer_beside_a_server_it_shows_the_servers_certificate() -> None:
    tls = ServerTlsSettings(certificate=Path("town.crt"), key=Path("town.key"))
    hosts = ("town.example", "2001:db8::1")
    assert [*_tls_options("0.0.0.0:8443", tls, hosts)] == [
        *("--certificate", "town.crt", "--key", "town.key"),
        *("--host", "town.example", "--host", "[2001:db8::1]"),
    ]
    assert [*_tls_options("127.0.0.1:8080", tls, hosts)] == []
    assert [*_tls_options("0.0.0.0:8080", None, ())] == []


async def test_an_explorer_that_ends_is_told_of_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with explorer_beside("127.0.0.1:1", "8080") as process, asyncio.timeout(HANG_SECONDS):
        assert await process.wait() == 2
        while "the explorer ended with code 2; the server goes on without it" not in caplog.text:
            await asyncio.sleep(0.01)


async def test_it_stops_in_order_once_who_started_it_is_gone(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "citychain", "explorer", "--server", "127.0.0.1:1",
        "--listen", "127.0.0.1:0", "--ready-file", str(ready), "--while-stdin",
        stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    async with asyncio.timeout(HANG_SECONDS):
        while not ready.exists():
            await asyncio.sleep(0.05)
        process.stdin.close()
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "0.0.0.0:0"], "nothing is encrypted"),
        (["--listen", "127.0.0.1:0", "--key", "x"], "--certificate"),
        (["--listen", "8080"], "host:port"),
        (["--metrics", "8080"], "--metrics: '8080' is not host:port"),
        (["--proxy", "10.0.0.1/8"], "--proxy"),
    ],
)
def test_what_cannot_be_listened_on_is_said(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["explorer", *arguments])
    assert isinstance(done.exception, ConfigurationError)
    assert words in str(done.exception)


async def test_an_address_of_nobody_here_is_said(explorer_of: OpenExplorer) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0"):
        async with explorer_of("127.0.0.1:1", listen="192.0.2.1:0", plaintext=True):
            pass
