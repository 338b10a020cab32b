"""One city, as an application sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple, Self

import grpc

from citychain import record
from citychain.city.listing import CityListing
from citychain.client import retries
from citychain.client.channels import ChannelFactory
from citychain.client.exchange import ExchangeCalls
from citychain.client.submission import Item, Result, Submission
from citychain.client.transactions import SignedTransaction
from citychain.crypto.keys import key_id
from citychain.errors import NotFound, VerificationError
from citychain.genesis import Genesis
from citychain.handler import EventBatch, InclusionProof, TransactionEvent, TransactionStatus
from citychain.ports import CommitteeStatus, StoredRound
from citychain.receipt import Receipt
from citychain.rpc._generated.citychain.v1 import (
    ledger_pb2,
    services_pb2,
    services_pb2_grpc,
    transaction_pb2,
)
from citychain.rpc.messages import (
    LinkedNode,
    decode_city,
    decode_committee,
    decode_events,
    decode_handovers,
    decode_node,
    decode_outcomes,
    decode_receipt,
    decode_round,
    decode_transaction,
    encode_cast_vote,
    encode_objection,
)
from citychain.types import CastVote, Handover, Head, Objection, ObjectState, State, VoteOutcome

__all__ = ["CityClient", "CityInfo", "FollowedRound"]

OBJECTS_MAX: Final = 256
RECEIPTS_MAX: Final = 256
KEYS_MAX: Final = 256
NODES_PAGE: Final = 1_000
ROUND_BYTES_MAX: Final = 1 << 30
"""Transactions of one round, in memory."""
WATCHED_MAX: Final = 10_000
READS_MAX: Final = 16
"""Calls about single transactions at a time."""


@dataclass(frozen=True, slots=True)
class CityInfo:
    """What a server says of a city."""

    listing: CityListing
    genesis: bytes
    """Id of the genesis file; the file was checked to have it."""
    genesis_file: bytes
    rule: str
    consensus: str
    head: Head
    """Its round, size, checkpoint hash and certified round."""
    pending: int
    """Transactions received and not yet sealed."""
    archived_round: int = 0
    """All rounds up to this one are in announced segments; 0 if none is."""


class FollowedRound(NamedTuple):
    """A round with its transactions, as it came."""

    stored: StoredRound
    envelopes: list[bytes]
    """In their stored form: those that its record seals, then those that it newly holds."""
    waited: float
    """Seconds from asking for it until it began to come."""


class CityClient(ExchangeCalls):
    """Asks one city; an async context manager.

    A call that a server refuses for the moment, or that a broken connection ends, is made
    again within the time-out; streams go on where they broke off. What fails raises an
    error of `citychain.errors`, or `TimeoutError` where no server answers in time.

    Args:
        city: Any name of the city, in any script.
        channels: How to reach its servers.
        timeout: How long a call may go on without progress.
    """

    def __init__(
        self,
        city: str,
        channels: ChannelFactory,
        *,
        timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        self._city = city
        self._channels = channels
        self._timeout = timeout
        self._channel: grpc.aio.Channel
        self._cities: Any
        self._transactions: Any
        self._dag: Any
        self._votes: Any
        self._submission: Submission
        self._genesis: Genesis | None = None

    async def __aenter__(self) -> Self:
        self._channel = self._channels.channel(self._city)
        self._cities = services_pb2_grpc.CityServiceStub(self._channel)
        self._transactions = services_pb2_grpc.TransactionServiceStub(self._channel)
        self._dag = services_pb2_grpc.DagServiceStub(self._channel)
        self._votes = services_pb2_grpc.VoteServiceStub(self._channel)
        self._exchange = services_pb2_grpc.ExchangeServiceStub(self._channel)
        self._submission = Submission(self._channel, self._city)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._channel.close()

    async def _call(self, method: Any, request: Any) -> Any:
        return await retries.call(method, request, self._timeout)

    # --- the city

    async def info(self) -> CityInfo:
        """The city, which is opened if it was not, and where its ledger stands."""
        request = services_pb2.GetCityRequest(city=self._city)
        found = await self._call(self._cities.GetCity, request)
        if Genesis.id_of(found.genesis_file) != found.genesis:
            raise VerificationError("genesis: is not the id of the genesis file")
        return CityInfo(
            listing=decode_city(found.city),
            genesis=found.genesis,
            genesis_file=found.genesis_file,
            rule=found.rule,
            consensus=found.consensus,
            head=Head(
                round=found.head.sealed_round,
                size=found.head.size,
                checkpoint_hash=found.head.checkpoint_hash,
                certified_round=found.head.approved_round,
            ),
            pending=found.pending,
            archived_round=found.archived_round,
        )

    async def objects(self, objects: Sequence[str]) -> dict[str, ObjectState]:
        """Their states; version 0 and an empty value where one does not exist."""
        states: dict[str, ObjectState] = {}
        for start in range(0, len(objects), OBJECTS_MAX):
            request = services_pb2.GetObjectsRequest(
                city=self._city, objects=objects[start : start + OBJECTS_MAX]
            )
            found = await self._call(self._cities.GetObjects, request)
            for item in found.objects:
                states[item.object] = ObjectState(item.version, item.value)
        return states

    # --- transactions

    async def submit(
        self,
        transactions: Sequence[Item],
        *,
        timeout: timedelta | None = None,
        acknowledge: bool | Genesis = False,
    ) -> list[Result]:
        """Submit transactions and return what became of each, in order.

        A `Received` one is stored durably and will have a final state. A `Refused` one is
        not stored. A `SignedTransaction` whose key the city does not know is sent again
        with its key; one that is past a quota, again after the wait that the server names.

        Many are sent in chunks, of which a few are under way at a time. They arrive in
        order, unless the connection breaks or one must be sent again: what must stand in
        an order says so by ``depends_on`` or by the versions of objects.

        Args:
            timeout: How long to go on without progress, instead of the client's own.
            acknowledge: Have the city sign that what is received has a final state in time:
                `Received.promise`, which is checked, and which `save_acknowledgement` keeps.
                Chunks go one after the other then. The genesis that it is checked with may be
                given; else the server is asked for it, which takes the role `read` as well.

        Raises:
            InvalidAcknowledgement: the city signed something else, or nothing; the
                transactions may be stored.
            NotFound: no such city.
            Overloaded: the city was past a bound for all that time.
            CityUnavailable: the city could not be used for all that time.
            ServerUnavailable: no server could be reached for all that time.
        """
        signed_by: Genesis | None = None
        if isinstance(acknowledge, Genesis):
            signed_by = acknowledge
        elif acknowledge:
            if self._genesis is None:
                self._genesis = Genesis.from_bytes((await self.info()).genesis_file)
            signed_by = self._genesis
        return await self._submission.submit(transactions, timeout or self._timeout, signed_by)

    async def status(self, tx_ids: Sequence[bytes]) -> dict[bytes, TransactionStatus]:
        """Where these transactions stand; unknown ones are absent."""
        room = asyncio.Semaphore(READS_MAX)

        async def one(tx_id: bytes) -> TransactionStatus | None:
            request = services_pb2.GetTransactionRequest(city=self._city, tx_id=tx_id)
            async with room:
                try:
                    found = await self._call(self._transactions.GetTransaction, request)
                except NotFound as error:
                    if error.kind == "transaction":
                        return None
                    raise
            return decode_transaction(found.transaction)

        found = await asyncio.gather(*map(one, tx_ids))
        return {status.tx_id: status for status in found if status is not None}

    async def wait(
        self,
        tx_ids: Sequence[bytes],
        state: State = State.APPROVED,
        *,
        timeout: timedelta | None = None,
    ) -> dict[bytes, TransactionEvent]:
        """Wait until each of these has reached a state, and return how by id.

        A rejected transaction has reached every state: look at the event's ``state``.

        Raises:
            NotFound: one of them is unknown.
            TimeoutError: not all have reached it in time; the default is the client's own.
        """
        reached: dict[bytes, TransactionEvent] = {}
        async with asyncio.timeout((timeout or self._timeout).total_seconds()):
            for start in range(0, len(tx_ids), WATCHED_MAX):
                await self._wait(dict.fromkeys(tx_ids[start : start + WATCHED_MAX]), state, reached)
        return reached

    async def _wait(
        self, waiting: dict[bytes, None], state: State, reached: dict[bytes, TransactionEvent]
    ) -> None:
        def open_call() -> Any:
            subject = services_pb2.TxIds(tx_ids=waiting)
            return self._transactions.Watch(
                services_pb2.WatchRequest(
                    city=self._city,
                    transactions=subject,
                    from_state=ledger_pb2.State.ValueType(state),
                )
            )

        async with aclosing(retries.follow(open_call, self._timeout)) as messages:
            async for message in messages:
                for event in decode_events(message).events:
                    if event.tx_id in waiting and event.state >= state:
                        del waiting[event.tx_id]
                        reached[event.tx_id] = event
                if not waiting:
                    return
        raise NotFound("transaction", next(iter(waiting)).hex())

    async def watch(
        self,
        *,
        author: bytes | None = None,
        from_state: State = State.APPROVED,
        after: int | None = None,
    ) -> AsyncGenerator[EventBatch, None]:
        """Transactions of the city, or of one author, as they are sealed or approved.

        Without end; each is told once, in order of (round, seq), across broken connections.

        Args:
            from_state: `State.SEALED` or `State.APPROVED`.
            after: A batch's ``position`` to go on from; 0 is the beginning; the default is
                what comes next.
        """
        if after is None:
            head = (await self.info()).head
            after = head.round if from_state == State.SEALED else head.certified_round
        position, last = after, (after, 1 << 32)

        def open_call() -> Any:
            request = services_pb2.WatchRequest(
                city=self._city,
                from_state=ledger_pb2.State.ValueType(from_state),
                after_position=position,
            )
            if author is None:
                request.everything = True
            else:
                request.author = author
            return self._transactions.Watch(request)

        async with aclosing(retries.follow(open_call, self._timeout)) as messages:
            async for message in messages:
                events, position = decode_events(message)
                # After a break, a round of which a part had been told is told again.
                events = [event for event in events if (event.round, event.seq) > last]
                if events:
                    last = (events[-1].round, events[-1].seq)
                yield EventBatch(events, position)

    async def receipts(
        self, tx_ids: Sequence[bytes], *, known_round: int = 0
    ) -> dict[bytes, Receipt]:
        """Receipts of those that are final; others are absent. `verify_receipt` checks one.

        Args:
            known_round: `ReceiptVerifier.known_round` of who is to verify them; without it
                they bring all handovers since the genesis.
        """
        receipts: dict[bytes, Receipt] = {}
        start = 0
        while start < len(tx_ids):
            request = services_pb2.GetReceiptsRequest(
                city=self._city,
                tx_ids=tx_ids[start : start + RECEIPTS_MAX],
                known_round=known_round,
            )
            found = (await self._call(self._transactions.GetReceipts, request)).receipts
            if not 0 < len(found) <= len(request.tx_ids):
                raise VerificationError(f"receipts: {len(found)} for {len(request.tx_ids)} ids")
            for tx_id, message in zip(request.tx_ids, found, strict=False):
                if message.tx_id:
                    receipts[tx_id] = decode_receipt(message)
            start += len(found)
        return receipts

    # --- the graph

    async def node(self, node_id: bytes) -> LinkedNode:
        """A node of the graph."""
        request = services_pb2.GetNodeRequest(city=self._city, node_id=node_id)
        return decode_node((await self._call(self._dag.GetNode, request)).node)

    async def parents(self, node_id: bytes) -> list[LinkedNode]:
        """A node's parents, in order, without the genesis."""
        request = services_pb2.ListParentsRequest(city=self._city, node_id=node_id)
        return [*map(decode_node, (await self._call(self._dag.ListParents, request)).parents)]

    async def children(self, node_id: bytes) -> AsyncGenerator[LinkedNode, None]:
        """Nodes that have this one, or the genesis, as a parent, in order of (round, seq)."""
        request = services_pb2.ListChildrenRequest(city=self._city, node_id=node_id)
        while True:
            page = await self._call(self._dag.ListChildren, request)
            for child in page.children:
                yield decode_node(child)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def nodes(self, round: int, first: int = 0, limit: int = 100) -> list[LinkedNode]:
        """Nodes of a round, which may be only sealed, from a seq on, in order. Rejected
        transactions have none."""
        nodes: list[LinkedNode] = []
        while len(nodes) < limit:
            request = services_pb2.ListNodesRequest(
                city=self._city,
                round=round,
                from_seq=first,
                page_size=min(limit - len(nodes), NODES_PAGE),
            )
            page = (await self._call(self._dag.ListNodes, request)).nodes
            nodes += map(decode_node, page)
            if len(page) < request.page_size:
                break
            first = page[-1].seq + 1
        return nodes

    # --- rounds and proofs

    async def rounds(self, first: int = 1, limit: int = 10) -> list[StoredRound]:
        """Sealed rounds from a number on, with their certificates if they have one."""
        rounds: list[StoredRound] = []
        while len(rounds) < limit:
            request = services_pb2.ListRoundsRequest(
                city=self._city,
                from_round=first + len(rounds),
                page_size=min(limit - len(rounds), 100),
            )
            page = (await self._call(self._dag.ListRounds, request)).rounds
            if not page:
                break
            rounds += map(decode_round, page)
        return rounds

    async def follow_rounds(
        self, first: int = 1, *, sealed: bool = False
    ) -> AsyncGenerator[StoredRound, None]:
        """Rounds from a number on, in order and without end, each once it is approved, or
        once it is sealed."""

        def open_call() -> Any:
            return self._dag.StreamRounds(
                services_pb2.StreamRoundsRequest(city=self._city, from_round=first, sealed=sealed)
            )

        async with aclosing(retries.follow(open_call, self._timeout)) as messages:
            async for message in messages:
                stored = decode_round(message.round)
                first = stored.round + 1
                yield stored

    async def follow_transactions(
        self, first: int = 1, *, sealed: bool = True
    ) -> AsyncGenerator[FollowedRound, None]:
        """Rounds as `follow_rounds` gives them, each with its transactions.

        Raises:
            VerificationError: a record cannot be read, so nobody knows how many there are.
        """

        def open_call() -> Any:
            return self._dag.StreamRounds(
                services_pb2.StreamRoundsRequest(
                    city=self._city, from_round=first, sealed=sealed, transactions=True
                )
            )

        stored: StoredRound | None = None
        missing, size, envelopes = 0, 0, list[bytes]()
        loop = asyncio.get_running_loop()
        asked, waited = loop.time(), 0.0
        async with aclosing(retries.follow(open_call, self._timeout)) as messages:
            async for message in messages:
                # After a break, a round of which a part had been told is told again.
                if message.HasField("round"):
                    waited = loop.time() - asked
                    stored, envelopes, size = decode_round(message.round), [], 0
                    decided = record.decode(stored.record)
                    missing = len(decided.tx_ids) + len(decided.held)
                envelopes += message.transactions
                size += sum(map(len, message.transactions))
                if stored is None or len(envelopes) > missing or size > ROUND_BYTES_MAX:
                    raise VerificationError("transactions: more than their round has")
                if len(envelopes) == missing:
                    first = stored.round + 1
                    yield FollowedRound(stored, envelopes, waited)
                    asked = loop.time()
                    stored = None

    async def public_keys(self, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Public keys by key id, checked to have it; those that the city does not know are
        absent."""
        keys: dict[bytes, bytes] = {}
        for start in range(0, len(key_ids), KEYS_MAX):
            request = services_pb2.GetPublicKeysRequest(
                city=self._city, key_ids=key_ids[start : start + KEYS_MAX]
            )
            found = (await self._call(self._dag.GetPublicKeys, request)).public_keys
            for wanted, public_key in zip(request.key_ids, found, strict=False):
                if public_key and key_id(public_key) != wanted:
                    raise VerificationError(f"public_keys: not the key {wanted.hex()}")
                if public_key:
                    keys[wanted] = public_key
        return keys

    async def checkpoint(self, round: int = 0) -> StoredRound:
        """A round's checkpoint, without its record; 0 for the latest approved one."""
        request = services_pb2.GetCheckpointRequest(city=self._city, round=round)
        return decode_round((await self._call(self._dag.GetCheckpoint, request)).round)

    async def inclusion_proof(self, leaf_index: int, size: int = 0) -> InclusionProof:
        """That a leaf stands in the log of a size; 0 for the latest approved one."""
        request = services_pb2.GetInclusionProofRequest(
            city=self._city, leaf_index=leaf_index, size=size
        )
        found = await self._call(self._dag.GetInclusionProof, request)
        return InclusionProof(found.leaf_hash, found.size, found.root, tuple(found.proof))

    async def consistency_proof(
        self, first: int, second: int
    ) -> tuple[bytes, bytes, Sequence[bytes]]:
        """Both roots, and that the log of the second size extends that of the first."""
        request = services_pb2.GetConsistencyProofRequest(
            city=self._city, first_size=first, second_size=second
        )
        found = await self._call(self._dag.GetConsistencyProof, request)
        return found.first_root, found.second_root, tuple(found.proof)

    # --- votes

    async def cast_votes(
        self, votes: Sequence[CastVote], objections: Sequence[Objection] = ()
    ) -> list[VoteOutcome]:
        """Send a representative's votes, at most 64, and objections; one outcome a vote."""
        request = services_pb2.CastVotesRequest(
            city=self._city,
            votes=map(encode_cast_vote, votes),
            objections=map(encode_objection, objections),
        )
        found = await self._call(self._votes.CastVotes, request)
        return decode_outcomes(found.outcomes, len(votes))

    async def recover(self, transaction: SignedTransaction, public_keys: Sequence[bytes]) -> None:
        """Put the committee of the operator's recovery in office; `submit` it after that, so
        that the ledger shows it.

        Args:
            public_keys: Of the new committee, in order of its seats.
        """
        message = transaction_pb2.SignedTransaction.FromString(transaction.with_public_key())
        request = services_pb2.RecoverRequest(
            city=self._city, transaction=message, public_keys=public_keys
        )
        await self._call(self._votes.Recover, request)

    async def committee(self) -> CommitteeStatus:
        """Who is in office, who voted, and what the city waits for."""
        request = services_pb2.GetCommitteeRequest(city=self._city)
        return decode_committee(await self._call(self._votes.GetCommittee, request))

    async def handovers(self, known_round: int = 0) -> list[Handover]:
        """Every change of the committee after a round, in order, for who checks them:
        `citychain.committee.CommitteeChain`."""
        return [change async for page in self.handover_pages(known_round) for change in page]

    async def handover_pages(
        self, known_round: int = 0
    ) -> AsyncGenerator[Sequence[Handover], None]:
        """As `handovers`, as many at a time as come in one answer."""
        request = services_pb2.GetCommitteeRequest(
            city=self._city, handovers=True, known_round=known_round
        )
        while True:
            page = await self._call(self._votes.GetCommittee, request)
            yield decode_handovers(page.handovers)
            if not page.next_page_token:
                return
            if not page.handovers:
                raise VerificationError("handovers: none in a page, and not all were told")
            request.page_token = page.next_page_token
