"""Nodes, transactions, receipts and who signs, as the page asks for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from citychain import checkpoint
from citychain.client.city import CityClient
from citychain.client.levels import fetch_level_receipt, level_receipt_json
from citychain.client.receipts import receipt_json
from citychain.errors import InvalidRequest, NotFound, NotSupported
from citychain.explorer.reading import json_response
from citychain.explorer.requests import boolean, integer, path_id, path_integer, place
from citychain.explorer.shown import exact, transaction_shown
from citychain.explorer.upstream import Upstream
from citychain.handler import TransactionEvent
from citychain.levels import LEVELS_MAX, LevelReceipt
from citychain.ports import CommitteeStatus
from citychain.rpc.messages import LinkedNode
from citychain.types import Head, State

__all__ = ["LedgerReads"]

CHILDREN_PAGE: Final = 100
CHILDREN_MAX: Final = 10_000
AUTHOR_PAGE: Final = 50
AUTHOR_ROUNDS: Final = 64
"""Looked through at a time, at most; one at first, since each may be full of what a key signed."""
AUTHOR_SECONDS: Final = 3.0
"""An author may have signed nothing for long; who wants to know goes on from there."""


class LedgerReads:
    """Answers about single things in a city's ledger."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def _of(self, request: Request) -> CityClient:
        return self._upstream.city(request.path_params["city"])

    async def node(self, request: Request) -> Response:
        """A node by its id."""
        node_id = path_id(request, "node_id")
        async with self._of(request) as city:
            return await _with_children(request, city, await city.node(node_id))

    async def node_at(self, request: Request) -> Response:
        """A node by its place."""
        round, seq = path_integer(request, "round", least=1), path_integer(request, "seq")
        if seq >= 1 << 32:
            raise InvalidRequest("seq", f"is {seq}; it is below 2^32")
        async with self._of(request) as city:
            found = await city.nodes(round, seq, 1)
            if not found or found[0].node.seq != seq:
                raise NotFound("node", f"{round}/{seq}")
            return await _with_children(request, city, found[0])

    async def transaction(self, request: Request) -> Response:
        """A transaction."""
        tx_id = path_id(request, "tx_id")
        async with self._of(request) as city:
            found = await city.status([tx_id])
        if tx_id not in found:
            raise NotFound("transaction", tx_id.hex())
        return json_response(transaction_shown(found[tx_id]))

    async def receipt(self, request: Request) -> Response:
        """A receipt, in its one JSON form; with ``levels``, up to the top city."""
        tx_id, levels = path_id(request, "tx_id"), boolean(request, "levels")
        async with self._of(request) as city:
            found = (await city.receipts([tx_id])).get(tx_id)
            if found is None:
                raise NotFound("receipt of a final transaction", tx_id.hex())
            if levels:
                through = await self._levels(city, tx_id)
                content = await asyncio.to_thread(level_receipt_json, through)
            else:
                content = await asyncio.to_thread(receipt_json, found)
        return Response(content, media_type="application/json")

    async def _levels(self, city: CityClient, tx_id: bytes) -> LevelReceipt:
        top = (await city.info()).listing
        for _ in range(LEVELS_MAX):
            if top.parent is None:
                break
            async with self._upstream.city(top.parent) as above:
                top = (await above.info()).listing

        def connect(name: str, endpoints: Sequence[str]) -> CityClient:
            return self._upstream.city(name)

        within = self._upstream.timeout
        return await fetch_level_receipt(city, tx_id, top.slug, connect, timeout=within)

    async def author(self, request: Request) -> Response:
        """What a key signed, the newest first."""
        key_id, before = path_id(request, "key_id"), place(request, "next")
        async with self._of(request) as city:
            head = (await city.info()).head
            keys = await city.public_keys([key_id])
            found, more = await _signed(city, key_id, head, before)
        shown: dict[str, Any] = {"key_id": key_id, "transactions": found}
        shown |= {"public_key": keys[key_id]} if key_id in keys else {}
        return json_response(shown | ({"next": more} if more else {}))

    async def committee(self, request: Request) -> Response:
        """Who is in office, and who voted."""
        async with self._of(request) as city:
            try:
                return json_response(_committee(await city.committee()))
            except NotSupported:
                return json_response(await _lone(city))

    async def anchors(self, request: Request) -> Response:
        """Where the cities above have this one's checkpoints."""
        chain: list[dict[str, Any]] = []
        name = request.path_params["city"]
        while len(chain) < LEVELS_MAX:
            async with self._upstream.city(name) as city:
                anchor = await city.anchor()
            if anchor is None:
                break
            here = {} if anchor.endpoints else {"city": anchor.name}
            chain.append(
                {
                    **here,
                    "genesis": anchor.parent,
                    "name": anchor.name,
                    "round": anchor.round,
                    "size": anchor.size,
                    "tx_id": anchor.tx_id,
                }
            )
            if not here:
                break
            name = anchor.name
        return json_response({"chain": chain})


async def _with_children(request: Request, city: CityClient, linked: LinkedNode) -> Response:
    node = linked.node
    assert node.node_id is not None
    start = integer(request, "page_token", 0, most=CHILDREN_MAX)
    children: list[dict[str, Any]] = []
    at, more = 0, ""
    async with aclosing(city.children(node.node_id)) as found:
        async for child in found:
            if at == start + CHILDREN_PAGE:
                more = str(at) if at <= CHILDREN_MAX else ""
                break
            if at >= start:
                children.append(child.node.ref._asdict())
            at += 1
    return json_response(
        {
            "node_id": node.node_id,
            "tx_id": node.tx_id,
            "round": node.round,
            "seq": node.seq,
            "rule": linked.rule,
            "time_ms": linked.time_ms,
            "pop": node.pop or "",
            "poh": linked.poh,
            "author": node.author,
            "parents": [parent._asdict() for parent in node.parents],
            "children": children,
            "next_page_token": more,
        }
    )


async def _signed(
    city: CityClient, key_id: bytes, head: Head, before: tuple[int, int] | None
) -> tuple[Sequence[dict[str, Any]], str]:
    """Transactions before a place, the newest first, and the place to go on from; empty where
    there are no earlier ones."""
    end = min(before or (head.round + 1, 0), (head.round + 1, 0))
    # One more than a page tells that there are more.
    found: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + AUTHOR_SECONDS
    rounds = 1
    while end > (1, 0) and len(found) <= AUTHOR_PAGE and loop.time() < deadline:
        last = end[0] if end[1] else end[0] - 1
        first = max(0, last - rounds)
        part = deque[dict[str, Any]](maxlen=AUTHOR_PAGE + 1 - len(found))
        watched = city.watch(author=key_id, from_state=State.SEALED, after=first)
        async with aclosing(watched) as batches:
            async for batch in batches:
                part.extend(
                    _signed_shown(event, head)
                    for event in batch.events
                    if (event.round, event.seq) < end
                )
                if batch.position >= last:
                    break
        found += reversed(part)
        end = first + 1, 0
        rounds = min(2 * rounds, AUTHOR_ROUNDS)
    if len(found) > AUTHOR_PAGE:
        end = found[AUTHOR_PAGE - 1]["round"], found[AUTHOR_PAGE - 1]["seq"]
    return found[:AUTHOR_PAGE], f"{end[0]}.{end[1]}" if end > (1, 0) else ""


def _signed_shown(event: TransactionEvent, head: Head) -> dict[str, Any]:
    final = State.REJECTED if event.code else State.APPROVED
    state = final if event.round <= head.certified_round else State.SEALED
    shown = {"tx_id": event.tx_id, "state": state.name.lower()}
    return shown | {"round": event.round, "seq": event.seq}


def _committee(status: CommitteeStatus) -> dict[str, Any]:
    members = []
    for member in status.members:
        shown: dict[str, Any] = {
            "key_id": member.key_id,
            "stake": exact(member.stake),
            "last_round": member.last_round,
        }
        if (said := member.objection) is not None:
            shown["objection"] = {"round": said.round, "check": said.check, "detail": said.detail}
        members.append(shown)
    return {
        "round": status.round,
        "sealed_round": status.sealed_round,
        "approved_round": status.approved_round,
        "members": members,
        "stake_for": exact(status.stake_for),
        "stake_needed": exact(status.stake_needed),
    }


async def _lone(city: CityClient) -> dict[str, Any]:
    """The same of a city that takes no votes from elsewhere: its committee signs at once."""
    head = (await city.info()).head
    seats: Sequence[Any] = ()
    if head.certified_round:
        stored = await city.checkpoint(head.certified_round)
        seats = checkpoint.decode(stored.checkpoint).committee
    members = [
        {
            "key_id": seat.key_id,
            "stake": exact(seat.stake),
            "last_round": head.certified_round,
        }
        for seat in seats
    ]
    return {
        "round": head.certified_round + 1,
        "sealed_round": head.round,
        "approved_round": head.certified_round,
        "members": members,
        "stake_for": 0,
        "stake_needed": exact(sum(seat.stake for seat in seats)),
    }
