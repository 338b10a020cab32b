"""``citychain explorer``, and ``citychain serve --explorer``, as processes."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from explorer.asking import HANG_SECONDS
from explorer.conftest import OpenExplorer
from free_ports import free_address
from typer.testing import CliRunner

from citychain.cli.app import app
from citychain.errors import ConfigurationError


async def answers(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(HANG_SECONDS):
        while True:
            with suppress(httpx.TransportError):
                return await http.get(url)
            await asyncio.sleep(0.05)


async def test_a_server_shows_its_cities_and_ends_its_explorer_with_itself(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["init", str(tmp_path)]).exit_code == 0
    listen = free_address()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "citychain", "serve", "--listen", "127.0.0.1:0",
        "--explorer", listen, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        found = await answers(f"http://{listen}/api/cities?query=hometown")
        assert [city["slug"] for city in found.json()["cities"]] == ["hometown"]
    finally:
        server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(HANG_SECONDS):
            assert await server.wait() == 0
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://{listen}/healthz")


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
