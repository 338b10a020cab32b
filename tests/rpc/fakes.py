"""A city and a directory of a few lines each, behind the real server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc

from citychain import record
from citychain.city.listing import CityListing, CityState
from citychain.errors import NotFound
from citychain.genesis import Genesis, Representative
from citychain.handler import (
    EventBatch,
    InclusionProof,
    Received,
    Refusal,
    TransactionEvent,
    TransactionStatus,
)
from citychain.ports import CommitteeStatus, StoredRound
from citychain.receipt import Receipt
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.types import (
    CastVote,
    Certificate,
    Handover,
    Head,
    NodeRef,
    Objection,
    ObjectState,
    PohEntry,
    SealedNode,
    State,
    Verdict,
    Vote,
    VoteOutcome,
)

GENESIS = Genesis(
    network="test",
    city="kanazawa",
    rule="sealed-rounds/1",
    consensus="solo/1",
    operator="00" * 2592,
    committee=(Representative(public_key="00" * 2592),),
)


def digest(*parts: object) -> bytes:
    """Some 32 bytes."""
    return hashlib.sha256(repr(parts).encode()).digest()


def make_refusal(code: str, field: str | None = None, detail: str = "is wrong") -> Refusal:
    return Refusal(code, field, detail)


def make_node(round: int, seq: int = 0, parents: Sequence[NodeRef] = ()) -> SealedNode:
    return SealedNode(
        tx_id=digest("tx", round, seq),
        author=digest("author", seq % 2),
        round=round,
        seq=seq,
        node_id=digest("node", round, seq),
        parents=tuple(parents) or (NodeRef(0, 0, GENESIS.id),),
        rejection=None,
    )


def make_round(number: int, content: bytes = b"record", certified: bool = True) -> StoredRound:
    checkpoint_hash = digest("checkpoint", number)
    certificate = Certificate(number, checkpoint_hash, (Vote(digest("key"), b"s" * 4627),))
    return StoredRound(
        round=number,
        time_ms=1_000 * number,
        first_index=number - 1,
        size=number,
        record=content,
        checkpoint=b"checkpoint %d" % number,
        checkpoint_hash=checkpoint_hash,
        peaks=digest("peak", number),
        certificate=certificate if certified else None,
    )


def make_record(number: int, sealed: Sequence[tuple[bytes, Verdict]]) -> bytes:
    body = record.body_bytes(
        genesis=GENESIS.id,
        round=number,
        time_ms=1_000 * number,
        epoch=1,
        tx_ids=[tx_id for tx_id, _ in sealed],
        verdicts=[verdict for _, verdict in sealed],
        held=(),
        held_places=(),
        writes=(),
    )
    return record.with_poh(body, PohEntry(bytes(32), 1, bytes(32), bytes(32)))


def make_receipt(tx_id: bytes, filler: int = 0) -> Receipt:
    return Receipt(
        genesis=GENESIS.id,
        tx_id=tx_id,
        envelope=None,
        public_key=None,
        round=1,
        seq=0,
        node_id=digest("node", tx_id),
        parents=(GENESIS.id,),
        rejection=None,
        pop=None,
        leaf_index=3,
        inclusion=(digest(1), digest(2)),
        checkpoint=b"c" * filler,
        certificate=Certificate(1, digest("c"), (Vote(digest("key"), b"s" * 4627),)),
    )


class FakeStorage:
    """What the services read from a city's storage."""

    def __init__(self) -> None:
        self.states: dict[str, ObjectState] = {}
        self.sealed: dict[bytes, SealedNode] = {}
        self.stored: list[StoredRound] = []
        self.kept: dict[str, bytes] = {}
        self.wanted: list[Sequence[bytes]] = []

    async def notes(self, prefix: str) -> Mapping[str, bytes]:
        return {name: note for name, note in self.kept.items() if name.startswith(prefix)}

    def add(self, *nodes: SealedNode) -> None:
        for node in nodes:
            assert node.node_id is not None
            self.sealed[node.node_id] = node

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        return {name: self.states[name] for name in objects if name in self.states}

    async def nodes(self, node_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        return {node_id: self.sealed[node_id] for node_id in node_ids if node_id in self.sealed}

    async def children(
        self, parent: NodeRef, after: tuple[int, int], limit: int
    ) -> Sequence[SealedNode]:
        nodes = sorted(self.sealed.values(), key=lambda node: (node.round, node.seq))
        children = [n for n in nodes if parent in n.parents and (n.round, n.seq) > after]
        return children[:limit]

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        self.wanted.append(tx_ids)
        return {node.tx_id: node for node in self.sealed.values() if node.tx_id in tx_ids}

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        return [stored for stored in self.stored if stored.round >= first][:limit]


class FakeVoting:
    """Counts every vote."""

    def __init__(self) -> None:
        self.votes: list[CastVote] = []
        self.objections: list[Objection] = []
        self.recoveries: list[tuple[bytes, Sequence[bytes]]] = []
        self.status = CommitteeStatus(
            round=1,
            members=(),
            stake_for=0,
            stake_needed=1,
            sealed_round=0,
            approved_round=0,
        )

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        self.votes += votes
        return [VoteOutcome.COUNTED] * len(votes)

    async def object(self, objections: Sequence[Objection]) -> None:
        self.objections += objections

    async def recover(self, envelope: bytes, public_keys: Sequence[bytes]) -> None:
        self.recoveries.append((envelope, public_keys))

    async def recovers(self, tx_id: bytes) -> bool:
        return bool(self.recoveries)

    async def committee(self) -> CommitteeStatus:
        return self.status


class FakeCity:
    """Accepts what it gets; a test replaces the methods that it wants otherwise."""

    def __init__(self) -> None:
        self.genesis = GENESIS
        self.storage = FakeStorage()
        self.pending = 7
        self.voting: FakeVoting | None = FakeVoting()
        self.statuses: dict[bytes, TransactionStatus] = {}
        self.finished: dict[bytes, Receipt] = {}
        self.known_rounds: list[int] = []
        self.changes: list[Handover] = []
        self.batches: list[EventBatch] = []
        self.watched: list[tuple[Any, ...]] = []
        self.closed_streams = 0
        self.more = asyncio.Event()

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Any]:
        return [Received(digest(envelope), State.RECEIVED, False) for envelope in envelopes]

    async def status(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, TransactionStatus]:
        known = dict(self.statuses)
        for node in self.storage.sealed.values():
            known[node.tx_id] = TransactionStatus(
                node.tx_id, State.APPROVED, None, node, 1_000 * node.round, digest("poh")
            )
        return {tx_id: known[tx_id] for tx_id in tx_ids if tx_id in known}

    async def receipts(
        self, tx_ids: Sequence[bytes], known_round: int = 0
    ) -> Mapping[bytes, Receipt]:
        self.known_rounds.append(known_round)
        return {tx_id: self.finished[tx_id] for tx_id in tx_ids if tx_id in self.finished}

    async def handovers(self, known_round: int = 0) -> Sequence[Handover]:
        """Those of ``changes``, of which one a round came into office from round 1 on."""
        return self.changes[known_round:]

    def watch_transactions(
        self, tx_ids: Sequence[bytes], from_state: State
    ) -> AsyncIterator[EventBatch]:
        self.watched.append((list(tx_ids), from_state))
        return self._events(0, endless=False)

    def watch(
        self, author: bytes | None, from_state: State, after: int | None
    ) -> AsyncIterator[EventBatch]:
        self.watched.append((author, from_state, after))
        return self._events(after or 0, endless=True)

    async def _events(self, after: int, *, endless: bool) -> AsyncIterator[EventBatch]:
        try:
            while True:
                # First, or what is told while a batch is sent would wake nobody.
                self.more.clear()
                for batch in [batch for batch in self.batches if batch.position > after]:
                    yield batch
                    after = batch.position
                if not endless:
                    return
                await self.more.wait()
        finally:
            self.closed_streams += 1

    def tell(self, *batches: EventBatch) -> None:
        self.batches += batches
        self.more.set()

    async def stream_rounds(self, first: int, *, sealed: bool) -> AsyncIterator[StoredRound]:
        try:
            while True:
                self.more.clear()
                for stored in self.storage.stored:
                    if stored.round == first and (sealed or stored.certificate):
                        yield stored
                        first += 1
                await self.more.wait()
        finally:
            self.closed_streams += 1

    async def head(self) -> Head:
        rounds = self.storage.stored
        certified = [stored.round for stored in rounds if stored.certificate]
        return Head(
            round=len(rounds),
            size=len(rounds),
            checkpoint_hash=rounds[-1].checkpoint_hash if rounds else b"",
            certified_round=max(certified, default=0),
        )

    async def inclusion_proof(self, leaf_index: int, size: int) -> InclusionProof:
        return InclusionProof(digest("leaf"), size or 10, digest("root"), [digest("hash")])

    async def consistency_proof(
        self, first: int, second: int
    ) -> tuple[bytes, bytes, Sequence[bytes]]:
        return digest("root", first), digest("root", second), [digest("hash")]


def make_listing(slug: str, state: CityState = CityState.REGISTERED) -> CityListing:
    return CityListing(
        slug=slug,
        titles={"en": slug.title(), "ja": "金沢市"},
        aliases=("金沢",),
        parent=None,
        source="citychain-test",
        storage="memory",
        dag="sealed-rounds",
        consensus="solo",
        state=state,
    )


class FakeDirectory:
    """Cities by slug."""

    def __init__(self, **cities: FakeCity) -> None:
        self.cities = cities
        self.opened: set[str] = set()
        self.failed: dict[str, Exception] = {}

    async def handler(self, name: str) -> Any:
        listing = await self.listing(name)
        if listing.slug in self.failed:
            raise self.failed[listing.slug]
        self.opened.add(listing.slug)
        return self.cities[listing.slug]

    async def listing(self, name: str) -> CityListing:
        slug = "kanazawa" if name == "金沢" else name
        if slug not in self.cities:
            raise NotFound("city", name, ("kanazawa", "washington, d.c."))
        listing = make_listing(slug)
        if slug in self.failed:
            return replace(listing, state=CityState.FAILED)
        return replace(listing, state=CityState.OPEN) if slug in self.opened else listing

    def listings(self, query: str, after: str, limit: int) -> Sequence[CityListing]:
        slugs = sorted(slug for slug in self.cities if slug.startswith(query) and slug > after)
        return [make_listing(slug) for slug in slugs[:limit]]


def make_event(round: int, seq: int = 0, state: State = State.APPROVED) -> TransactionEvent:
    code = "CONFLICT" if state == State.REJECTED else ""
    return TransactionEvent(digest("tx", round, seq), state, round, seq, code)


@asynccontextmanager
async def serving(
    directory: FakeDirectory, options: ServerOptions | None = None, **arguments: Any
) -> AsyncIterator[CoreServer]:
    """The real server on a free port."""
    options = options or ServerOptions(listen="127.0.0.1:0")
    async with CoreServer(directory, options=options, **arguments) as server:
        yield server


@asynccontextmanager
async def channel_to(server: CoreServer, *options: tuple[str, Any]) -> AsyncIterator[Any]:
    """A plain channel that never tries again by itself."""
    arguments = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1), *options]
    async with grpc.aio.insecure_channel(server.address, options=arguments) as channel:
        yield channel


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens on this loop."""
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)
