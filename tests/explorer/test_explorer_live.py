"""What viewers are told while rounds are sealed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
import websockets
from explorer.asking import HANG_SECONDS, Explorer
from explorer.asking import Viewer as Watching
from explorer.conftest import OpenExplorer

from citychain.client.actions import Transfer
from citychain.errors import InvalidRequest, Overloaded
from citychain.explorer.following import FollowedCity
from citychain.explorer.outbox import ROUNDS_MAX, Outbox
from citychain.explorer.viewer import FOLLOWED_MAX, Viewer
from citychain.handler import TransactionEvent, TransactionStatus
from citychain.testing.server import CityServer, TransactionFactory
from citychain.types import Head, SealedNode, State


async def test_a_viewer_is_told_of_each_round_and_of_what_they_follow(
    explorer: Explorer, server: CityServer, signed_transactions: TransactionFactory
) -> None:
    async with server.client("hometown") as city, explorer.live() as viewer:
        [first] = await signed_transactions(city)
        transfer = Transfer("coin", b"\1" * 32, 5)
        [poor] = await signed_transactions(city, data=None, transfer=transfer)
        await viewer.ask(watch="故郷")
        start = await viewer.next()
        assert (start["city"], start["rounds"]) == ("hometown", [])
        heard: list[dict[str, Any]] = []

        async def until(kind: str, **fields: object) -> dict[str, Any]:
            # Where a transaction is found to stand may be told before its round.
            while True:
                for message in heard:
                    if kind in message and fields.items() <= message[kind].items():
                        return message
                heard.append(await viewer.next())

        await viewer.ask(follow=[first.tx_id.hex(), poor.tx_id.hex()])
        await city.submit([first])
        told = await until("round", round=1)
        assert (told["nodes"], told["of"]) == ([[[1, 0]]], 1)
        assert len((await until("certified", round=1))["certified"]["votes"]) == 1
        await until("transaction", tx_id=first.tx_id.hex(), state="approved")
        await city.submit([poor])
        told = await until("round", round=2)
        assert (told["nodes"], told["codes"]) == ([[]], {"0": "OVERDRAFT"})
        await until("transaction", tx_id=poor.tx_id.hex(), state="rejected", code="OVERDRAFT")
        async with explorer.live() as later:
            await later.ask(watch="hometown")
            assert [it["round"]["round"] for it in (await later.next())["rounds"]] == [1, 2]


async def test_a_hundred_viewers_take_one_stream_and_the_next_is_told_to_wait(
    server: CityServer, explorer_of: OpenExplorer, signed_transactions: TransactionFactory
) -> None:
    async with (
        explorer_of(server.address, viewers_max=100, viewers_each=100) as explorer,
        server.client("hometown") as city,
        AsyncExitStack() as stack,
    ):
        viewers = [await stack.enter_async_context(explorer.live()) for _ in range(100)]
        for viewer in viewers:
            await viewer.ask(watch="hometown")
            assert (await viewer.next())["city"] == "hometown"
        await city.submit(await signed_transactions(city))
        told = [await viewer.until("round") for viewer in viewers]
        assert all(it == told[0] for it in told)
        async with explorer.live() as late:
            assert await told_to_come_later(late)


async def test_each_address_has_so_many_viewers_behind_a_proxy_that_is_known_too(
    server: CityServer, explorer_of: OpenExplorer
) -> None:
    async def look(explorer: Explorer, stack: AsyncExitStack, forwarded: str) -> Watching:
        told = {"X-Forwarded-For": forwarded}
        return await stack.enter_async_context(explorer.live(additional_headers=told))

    async with (
        explorer_of(server.address, viewers_each=1) as direct,
        explorer_of(server.address, viewers_each=1, proxies=["127.0.0.0/8"]) as behind,
        AsyncExitStack() as stack,
    ):
        for explorer, forwarded in (
            (direct, "203.0.113.1"),
            (behind, "198.51.100.9, 203.0.113.1"),
            (behind, "203.0.113.2"),
            (behind, "2001:db8::1"),
        ):
            viewer = await look(explorer, stack, forwarded)
            await viewer.ask(watch="hometown")
            assert (await viewer.next())["city"] == "hometown"
        for explorer, forwarded in (
            (direct, "203.0.113.2"),
            # What the proxy added counts, not what it was told.
            (behind, "198.51.100.8, 203.0.113.1"),
            (behind, "2001:db8::2"),
        ):
            assert await told_to_come_later(await look(explorer, stack, forwarded))
        await stack.aclose()
        async with asyncio.timeout(HANG_SECONDS):
            while "explorer_viewers 0.0\n" not in await direct.metrics():
                await asyncio.sleep(0.01)
        viewer = await look(direct, stack, "203.0.113.2")
        await viewer.ask(watch="hometown")
        assert (await viewer.next())["city"] == "hometown"


async def test_a_proxy_is_known_where_the_explorer_listens_by_both_versions_of_ip(
    server: CityServer, explorer_of: OpenExplorer
) -> None:
    listen = "[::ffff:127.0.0.1]:0"
    proxies = ["127.0.0.1"]
    async with (
        explorer_of(
            server.address, listen=listen, plaintext=True, viewers_each=1, proxies=proxies
        ) as behind,
        AsyncExitStack() as stack,
    ):
        explorer = replace(behind, url=behind.url.replace("[::ffff:127.0.0.1]", "127.0.0.1"))
        for forwarded in ("203.0.113.1", "203.0.113.2"):
            headers = {"X-Forwarded-For": forwarded}
            viewer = await stack.enter_async_context(explorer.live(additional_headers=headers))
            await viewer.ask(watch="hometown")
            assert (await viewer.next()).get("city") == "hometown"


async def told_to_come_later(viewer: Watching) -> bool:
    assert "as this explorer serves" in (await viewer.next())["trouble"]
    with pytest.raises(websockets.ConnectionClosed) as closed:
        await viewer.next()
    return closed.value.rcvd is not None and closed.value.rcvd.code == 1013


async def test_a_round_is_certified_after_it_was_told_however_long_that_takes(
    explorer: Explorer,
    server: CityServer,
    signed_transactions: TransactionFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, gate = FollowedCity._told, asyncio.Event()

    async def slowly(*given: Any) -> Any:
        await gate.wait()
        return await told(*given)

    monkeypatch.setattr(FollowedCity, "_told", slowly)
    async with server.client("hometown") as city, explorer.live() as viewer:
        await viewer.ask(watch="hometown")
        await viewer.until("city")
        for transaction in await signed_transactions(city, 3):
            await city.submit([transaction])
            await city.wait([transaction.tx_id])
        gate.set()
        for round in (1, 2, 3):
            assert (await viewer.until("certified"))["certified"]["round"] == round


async def test_what_is_approved_while_a_viewer_begins_to_follow_it_is_told() -> None:
    """The server says that it is sealed, and before that is heard the round's votes have come."""
    tx_id, node = b"\1" * 32, SealedNode(b"\1" * 32, b"\2" * 32, 3, 0, b"\3" * 32, (), None)

    class Client:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *error: object) -> None:
            pass

        async def status(self, tx_ids: Sequence[bytes]) -> Any:
            city._certify(3, "{}")
            return {tx_id: TransactionStatus(tx_id, State.SEALED, node, None, 0, b"")}

    city = FollowedCity("hometown", lambda: cast(Any, Client()), lambda: None)
    viewer = Viewer()
    city._viewers.add(viewer)
    await city.follow(viewer, [tx_id])
    assert await viewer.outbox.next() == "{}"
    assert json.loads(await viewer.outbox.next())["transaction"]["state"] == "approved"


async def test_who_looks_elsewhere_meanwhile_is_told_nothing_of_the_city_before() -> None:
    """It begins anew, and has approved more rounds than the one that they look at now."""
    viewer, here, there = Viewer(), b"\1" * 32, b"\2" * 32

    class Client:
        async def info(self) -> Any:
            return SimpleNamespace(head=Head(certified_round=9))

        async def status(self, tx_ids: Sequence[bytes]) -> Any:
            city.remove(viewer)
            viewer.forget()
            viewer.follow([there])
            viewer.sealed({there: TransactionEvent(there, State.SEALED, 3, 0, "")})
            return {}

    city = FollowedCity("hometown", lambda: cast(Any, Client()), lambda: None)
    city._viewers.add(viewer)
    viewer.follow([here])
    await city._begin(cast(Any, Client()))
    assert viewer.followed == [there]
    assert json.loads(await viewer.outbox.next())["transaction"]["state"] == "sealed"


async def test_who_cannot_be_told_what_they_follow_comes_again(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*given: Any) -> None:
        raise Overloaded("there is too much to do", timedelta(seconds=1))

    monkeypatch.setattr(FollowedCity, "follow", busy)
    async with explorer.live() as viewer:
        await viewer.ask(watch="hometown")
        await viewer.until("city")
        await viewer.ask(follow=["01" * 32])
        assert "too much" in (await viewer.until("trouble"))["trouble"]
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await viewer.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


async def test_who_is_too_slow_skips_rounds_and_is_told_how_many() -> None:
    outbox = Outbox()
    skipped = [outbox.round(f'{{"round":{number}}}') for number in range(ROUNDS_MAX + 3)]
    assert skipped == [False] * ROUNDS_MAX + [True] * 3
    assert await outbox.next() == '{"round":3,"skipped":3}'
    assert await outbox.next() == '{"round":4}'


def test_who_takes_nothing_can_follow_only_so_much_more() -> None:
    viewer = Viewer()

    def follow(number: int) -> None:
        tx_ids = [(number * FOLLOWED_MAX + at).to_bytes(32, "big") for at in range(FOLLOWED_MAX)]
        viewer.follow(tx_ids)
        for tx_id in tx_ids:
            viewer.stands(TransactionStatus(tx_id, State.REJECTED, None, None, 0, b""))

    follow(0)
    with pytest.raises(InvalidRequest, match="follow"):
        follow(1)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:1", "http://127.0.0.1:1", "null"]
)
async def test_a_page_of_somebody_else_cannot_look(explorer: Explorer, origin: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with explorer.live(origin=origin):
            pass
    assert refused.value.response.status_code == 403
    async with explorer.live(origin=explorer.url.rstrip("/")) as viewer:
        await viewer.ask(watch=None)


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        b"{}",
        '{"watch":1}',
        r'{"watch":"\ud800"}',
        '{"follow":["x"]}',
        "[" * 9_000,
        "x" * 20_000,
    ],
)
async def test_what_is_no_request_ends_the_connection(
    explorer: Explorer, message: str | bytes
) -> None:
    async with explorer.live() as viewer:
        await viewer.connection.send(message)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await viewer.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1008, 1009)


async def test_a_city_that_is_not_there_is_trouble_and_the_viewer_stays(explorer: Explorer) -> None:
    async with explorer.live() as viewer:
        await viewer.ask(watch="nowhere")
        assert "nowhere" in (await viewer.next())["trouble"]
        await viewer.ask(watch="hometown")
        assert (await viewer.next())["city"] == "hometown"
