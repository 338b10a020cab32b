"""The store among the files of an IPFS node, without one: what is told, and its options."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_address
from pydantic import SecretStr, ValidationError

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import StorageError, StoreFull, StoreUnavailable
from citychain.fragments._ipfs_options import IpfsOptions
from citychain.fragments.builtin import citychain_fragment_stores
from citychain.hooks.definitions import FOLDER
from citychain.ports import StorageContext

pytest.importorskip("httpx", reason="httpx is not installed: pip install 'citychain[ipfs]'")

[IPFS] = [it for it in citychain_fragment_stores() if it.name == "ipfs"]
ENDPOINT = "http://127.0.0.1:5001"


async def failure(endpoint: str) -> StorageError:
    """What opening a store says."""
    async with Executor(1) as compute:
        context = StorageContext(Path("/nowhere"), compute, SystemClock())
        with pytest.raises(StorageError) as told:
            async with IPFS.factory(IpfsOptions(endpoint=endpoint), context):
                pass
    return told.value


async def test_a_node_that_is_away_is_unavailable() -> None:
    told = await failure(f"http://{free_address()}")
    assert isinstance(told, StoreUnavailable)
    assert "see that the node is running" in str(told)


@pytest.mark.parametrize(
    ("status", "answer", "raised", "says"),
    [
        (500, b'{"Message": "write /repo: no space left on device"}', StoreFull, "make room"),
        (500, b'{"Message": "something broke"}', StoreUnavailable, "something broke"),
        (500, b"<html>", StoreUnavailable, "it answers with status 500; see that"),
        (500, b"[]", StoreUnavailable, "it answers with status 500; see that"),
        (200, b"<html>", StoreUnavailable, "what answers is no IPFS node; see that"),
        (200, b"[]", StoreUnavailable, "what answers is no IPFS node; see that"),
        (200, b"[" * 100_000, StoreUnavailable, "what answers is no IPFS node; see that"),
    ],
)
async def test_what_a_node_refuses_is_told(
    status: int, answer: bytes, raised: type[StorageError], says: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 %d It\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (status, len(answer)) + answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        told = await failure(f"http://127.0.0.1:{port}")
    assert type(told) is raised
    assert says in str(told)


@pytest.mark.parametrize(
    ("pause", "seconds", "says"),
    [(0.0, 300, "gives more than the 3 bytes"), (0.05, 1, "its answer has no end after 1 s")],
)
async def test_an_answer_without_end_is_given_up(
    pause: float, seconds: float, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from citychain.fragments import _ipfs_node

    # However long the machine makes wait for the next part, it is the end that does not come.
    monkeypatch.setattr(_ipfs_node, "TIMES", seconds / 100)
    sent, has_ended = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 It\r\nContent-Type: text/plain\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                part = b"x" if pause else bytes(1 << 16)
                sent += len(part)
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.close()
        has_ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(120):
        port = server.sockets[0].getsockname()[1]
        node = _ipfs_node.Node(f"http://127.0.0.1:{port}", None, 100, "here")
        with pytest.raises(StoreUnavailable, match=says):
            await node.call("files/read", "/x", most=3, count=3)
        await node.close()
        await has_ended.wait()
    assert sent < 64 << 20


def test_without_its_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ipfs", "_ipfs_node"):
        monkeypatch.delitem(sys.modules, f"citychain.fragments.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    context = StorageContext(Path("/nowhere"), Executor(1), SystemClock())
    with pytest.raises(StoreUnavailable, match=r"pip install 'citychain\[ipfs\]'"):
        IPFS.factory(IpfsOptions(endpoint=ENDPOINT), context)


def test_a_token_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hidden\n")
    given = {"endpoint": ENDPOINT, "token_file": "token"}
    options = IpfsOptions.model_validate(given, context={FOLDER: tmp_path})
    assert options.bearer() == "hidden"
    assert IpfsOptions(endpoint=ENDPOINT).bearer() is None
    assert IpfsOptions(endpoint=ENDPOINT, token=SecretStr("hidden ")).bearer() == "hidden"
    (tmp_path / "token").write_text("hidden\nhidden\n")
    with pytest.raises(ValidationError, match=r"token_file .*: give a token of one") as refused:
        IpfsOptions.model_validate(given, context={FOLDER: tmp_path})
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"token": "hidden", "token_file": "x"}, "has both token and token_file"),
        ({"token_file": "/nowhere/token"}, "token_file /nowhere/token cannot be read"),
        ({"token": "hidden\nhidden"}, "token: give a token of one line"),
        ({"token": "hidden\xe9"}, "token: give a token of one line"),
        ({"token": "  "}, "token: give a token of one line"),
        ({"endpoint": "http://node:port"}, "endpoint"),
        ({"endpoint": "http://node:99999"}, "endpoint"),
        ({"endpoint": "http://[::1"}, "endpoint"),
        ({"endpoint": "/ip4/127.0.0.1/tcp/5001"}, "endpoint"),
        ({"endpoint": "https://me:hidden@example.org"}, "endpoint"),
        ({"path": "city"}, "path"),
        ({"path": "/"}, "path"),
        ({"path": "/a/../b"}, "path"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as refused:
        IpfsOptions.model_validate({"endpoint": ENDPOINT, **wrong})
    assert "hidden" not in str(refused.value)
