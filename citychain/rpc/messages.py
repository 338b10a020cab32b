"""Between the model and the wire: one pair of functions a message.

The server and the client share it, so it knows protobuf and nothing of grpc.
``encode_*`` never fails. ``decode_*`` reads what somebody else wrote: every id,
key and signature must have its length and every list its bound; what does not
raises `VerificationError` naming the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from citychain.city.listing import CityListing, CityState
from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from citychain.errors import InvalidReceipt, VerificationError
from citychain.handler import EventBatch, Received, TransactionEvent, TransactionStatus
from citychain.ports import StoredRound
from citychain.receipt import Receipt
from citychain.record import RECORD_BYTES_MAX
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2
from citychain.types import Certificate, NodeRef, Rejection, SealedNode, State, Vote

__all__ = [
    "EVENTS_MAX",
    "ID_BYTES",
    "RESPONSE_BYTES",
    "LinkedNode",
    "Refused",
    "decode_certificate",
    "decode_city",
    "decode_events",
    "decode_node",
    "decode_receipt",
    "decode_results",
    "decode_round",
    "decode_transaction",
    "encode_certificate",
    "encode_city",
    "encode_events",
    "encode_node",
    "encode_receipt",
    "encode_results",
    "encode_round",
    "encode_submission",
    "encode_transaction",
]

ID_BYTES: Final = 32
RESPONSE_BYTES: Final = 2 << 20
"""Lists of large items are told in responses of about this size, at least one item each."""
EVENTS_MAX: Final = 1_000
"""Events in one message."""
PARENTS_MAX: Final = 8
VOTES_MAX: Final = 1_024
HASHES_MAX: Final = 64
"""In an inclusion proof, or peaks of a tree: one for each bit of its size."""
CHECKPOINT_BYTES_MAX: Final = 128 << 10


class Refused(NamedTuple):
    """A submitted transaction that was not accepted: nothing of it is stored."""

    code: str
    """``BAD_SIGNATURE``, ``UNKNOWN_KEY``, ``EXPIRED``, ...: docs/errors.md."""
    field: str
    """Path of the field, such as ``body.writes[2].object``; may be empty."""
    detail: str
    retryable: bool
    retry_after: timedelta
    """For overload; else zero."""
    tx_id: bytes | None = None
    """``None`` where it could not be read."""


@dataclass(frozen=True, slots=True)
class LinkedNode:
    """A node of the graph with what its round says of it."""

    node: SealedNode
    rule: str
    time_ms: int
    """Of its round; information only."""
    poh: bytes
    """Hash of its round's proof-of-history entry."""


# --- submissions


@lru_cache(4_096)
def _envelope_prefix(length: int) -> bytes:
    """Tag and length of ``bytes transactions = 2``."""
    prefix = bytearray(b"\x12")
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)


def encode_submission(city: str, envelopes: Iterable[bytes]) -> bytes:
    """A serialized ``SubmitBatchRequest`` (or ``SubmitStreamRequest``).

    Written by hand because protobuf copies each envelope three times more.
    """
    parts = [services_pb2.SubmitBatchRequest(city=city).SerializeToString()]
    for envelope in envelopes:
        parts += (_envelope_prefix(len(envelope)), envelope)
    return b"".join(parts)


def encode_results(
    response: services_pb2.SubmitBatchResponse | services_pb2.SubmitStreamResponse,
    results: Iterable[Received | Refused],
) -> None:
    """Append results to a response."""
    add = response.results.add
    for result in results:
        if isinstance(result, Refused):
            _encode_refused(result, add(tx_id=result.tx_id or b"").refusal)
        elif result.duplicate:
            add(tx_id=result.tx_id, state=_wire(result.state), duplicate=True)
        else:
            add(tx_id=result.tx_id, state=_wire(result.state))


def _encode_refused(refused: Refused, message: services_pb2.Refusal) -> None:
    message.code = refused.code
    message.field = refused.field
    message.detail = refused.detail
    message.retryable = refused.retryable
    message.retry_after_ms = refused.retry_after // timedelta(milliseconds=1)


def decode_results(results: Iterable[services_pb2.SubmitResult]) -> list[Received | Refused]:
    """What became of each submitted transaction."""
    decoded: list[Received | Refused] = []
    for result in results:
        if result.state == ledger_pb2.STATE_UNSPECIFIED:
            decoded.append(_decode_refused(result))
        else:
            tx_id = _exact(result.tx_id, ID_BYTES, "results.tx_id")
            decoded.append(Received(tx_id, _state(result.state), result.duplicate))
    return decoded


def _decode_refused(result: services_pb2.SubmitResult) -> Refused:
    refusal = result.refusal
    return Refused(
        refusal.code,
        refusal.field,
        refusal.detail,
        refusal.retryable,
        timedelta(milliseconds=refusal.retry_after_ms),
        _optional(result.tx_id, ID_BYTES, "results.tx_id"),
    )


# --- transactions and their events


def encode_transaction(status: TransactionStatus, rule: str) -> ledger_pb2.Transaction:
    """Where a transaction stands; ``rule`` is the city's."""
    message = ledger_pb2.Transaction(
        tx_id=status.tx_id, state=_wire(status.state), time_ms=status.time_ms, poh=status.poh
    )
    if status.envelope is not None:
        message.transaction.ParseFromString(status.envelope)
    if (node := status.node) is not None:
        message.round, message.seq, message.author = node.round, node.seq, node.author
        if node.rejection is not None:
            message.rejection.code, message.rejection.reason = node.rejection
        else:
            linked = LinkedNode(node, rule, status.time_ms, status.poh)
            message.node.CopyFrom(encode_node(linked))
    return message


def decode_transaction(message: ledger_pb2.Transaction) -> TransactionStatus:
    """Where a transaction stands."""
    tx_id = _exact(message.tx_id, ID_BYTES, "transaction.tx_id")
    envelope = message.transaction.SerializeToString() if message.HasField("transaction") else None
    node = None
    if message.HasField("node"):
        node = decode_node(message.node).node
    elif message.HasField("rejection"):
        author = _exact(message.author, ID_BYTES, "transaction.author")
        rejection = Rejection(message.rejection.code, message.rejection.reason)
        node = SealedNode(tx_id, author, message.round, message.seq, None, (), rejection)
    return TransactionStatus(
        tx_id, _state(message.state), envelope, node, message.time_ms, message.poh
    )


def encode_events(batch: EventBatch) -> Iterator[services_pb2.WatchResponse]:
    """A batch, in messages of at most `EVENTS_MAX` events.

    All but the last name a position before the round of the first event that is still to
    come, so that nothing is missed by who resumes there.
    """
    events = batch.events
    for start in range(0, max(len(events), 1), EVENTS_MAX):
        end = start + EVENTS_MAX
        position = max(events[end].round - 1, 0) if end < len(events) else batch.position
        response = services_pb2.WatchResponse(position=position)
        for tx_id, state, round, seq, code in events[start:end]:
            response.events.add(tx_id=tx_id, state=_wire(state), round=round, seq=seq, code=code)
        yield response


def decode_events(message: services_pb2.WatchResponse) -> EventBatch:
    """Events, and where to resume after them."""
    events = [
        TransactionEvent(
            _exact(event.tx_id, ID_BYTES, "events.tx_id"),
            _state(event.state),
            event.round,
            event.seq,
            event.code,
        )
        for event in message.events
    ]
    return EventBatch(events, message.position)


# --- graph


def encode_node(linked: LinkedNode) -> ledger_pb2.Node:
    """A linked node."""
    node = linked.node
    return ledger_pb2.Node(
        node_id=node.node_id or b"",
        tx_id=node.tx_id,
        author=node.author,
        parents=_encode_parents(node.parents),
        round=node.round,
        seq=node.seq,
        rule=linked.rule,
        time_ms=linked.time_ms,
        pop=node.pop or b"",
        poh=linked.poh,
    )


def decode_node(message: ledger_pb2.Node) -> LinkedNode:
    """A linked node."""
    node = SealedNode(
        tx_id=_exact(message.tx_id, ID_BYTES, "node.tx_id"),
        author=_exact(message.author, ID_BYTES, "node.author"),
        round=message.round,
        seq=message.seq,
        node_id=_exact(message.node_id, ID_BYTES, "node.node_id"),
        parents=_decode_parents(message.parents),
        rejection=None,
        pop=_optional(message.pop, ID_BYTES, "node.pop"),
    )
    return LinkedNode(
        node, message.rule, message.time_ms, _exact(message.poh, ID_BYTES, "node.poh")
    )


def _encode_parents(parents: Iterable[NodeRef]) -> list[ledger_pb2.NodeRef]:
    return [
        ledger_pb2.NodeRef(round=round, seq=seq, node_id=node_id) for round, seq, node_id in parents
    ]


def _decode_parents(parents: Sequence[ledger_pb2.NodeRef]) -> tuple[NodeRef, ...]:
    _at_most(len(parents), PARENTS_MAX, "node.parents")
    return tuple(
        NodeRef(
            parent.round,
            parent.seq,
            _exact(parent.node_id, ID_BYTES, f"node.parents[{index}].node_id"),
        )
        for index, parent in enumerate(parents)
    )


# --- rounds


def encode_certificate(certificate: Certificate) -> ledger_pb2.Certificate:
    """A quorum's votes."""
    return ledger_pb2.Certificate(
        round=certificate.round,
        checkpoint_hash=certificate.checkpoint_hash,
        votes=[
            ledger_pb2.Vote(key_id=key_id, signature=signature)
            for key_id, signature in certificate.votes
        ],
    )


def decode_certificate(message: ledger_pb2.Certificate) -> Certificate:
    """A quorum's votes; whether they hold is for others to say."""
    _at_most(len(message.votes), VOTES_MAX, "certificate.votes")
    return Certificate(
        message.round,
        _exact(message.checkpoint_hash, ID_BYTES, "certificate.checkpoint_hash"),
        tuple(
            Vote(
                _exact(vote.key_id, ID_BYTES, f"certificate.votes[{index}].key_id"),
                _exact(vote.signature, SIGNATURE_BYTES, f"certificate.votes[{index}].signature"),
            )
            for index, vote in enumerate(message.votes)
        ),
    )


def encode_round(stored: StoredRound, *, with_record: bool = True) -> ledger_pb2.Round:
    """A committed round."""
    return ledger_pb2.Round(
        round=stored.round,
        time_ms=stored.time_ms,
        first_index=stored.first_index,
        size=stored.size,
        record=stored.record if with_record else b"",
        checkpoint=stored.checkpoint,
        checkpoint_hash=stored.checkpoint_hash,
        peaks=stored.peaks,
        certificate=encode_certificate(stored.certificate) if stored.certificate else None,
    )


def decode_round(message: ledger_pb2.Round) -> StoredRound:
    """A committed round; its record is empty where the server left it out."""
    _at_most(len(message.record), RECORD_BYTES_MAX, "round.record")
    _at_most(len(message.checkpoint), CHECKPOINT_BYTES_MAX, "round.checkpoint")
    if len(message.peaks) % ID_BYTES or len(message.peaks) > ID_BYTES * HASHES_MAX:
        raise VerificationError(f"round.peaks: {len(message.peaks)} bytes are no list of hashes")
    return StoredRound(
        round=message.round,
        time_ms=message.time_ms,
        first_index=message.first_index,
        size=message.size,
        record=message.record,
        checkpoint=message.checkpoint,
        checkpoint_hash=_exact(message.checkpoint_hash, ID_BYTES, "round.checkpoint_hash"),
        peaks=message.peaks,
        certificate=(
            decode_certificate(message.certificate) if message.HasField("certificate") else None
        ),
    )


# --- receipts


def encode_receipt(receipt: Receipt) -> ledger_pb2.Receipt:
    """A transaction's final state and its proof."""
    message = ledger_pb2.Receipt(
        genesis=receipt.genesis,
        tx_id=receipt.tx_id,
        public_key=receipt.public_key or b"",
        round=receipt.round,
        seq=receipt.seq,
        leaf_index=receipt.leaf_index,
        inclusion=receipt.inclusion,
        checkpoint=receipt.checkpoint,
        certificate=encode_certificate(receipt.certificate),
    )
    if receipt.envelope is not None:
        message.transaction.ParseFromString(receipt.envelope)
    if receipt.node_id is not None:
        message.node.node_id = receipt.node_id
        message.node.tx_id = receipt.tx_id
        message.node.round = receipt.round
        message.node.seq = receipt.seq
        message.node.pop = receipt.pop or b""
        message.node.parents.extend(_encode_parents(receipt.parents))
    if receipt.rejection is not None:
        message.rejection.code, message.rejection.reason = receipt.rejection
    return message


def decode_receipt(message: ledger_pb2.Receipt) -> Receipt:
    """A receipt in its form; what it claims is for `ReceiptVerifier` to check.

    Raises:
        InvalidReceipt: with the check ``format``; the detail names the field.
    """
    try:
        return _decode_receipt(message)
    except VerificationError as error:
        raise InvalidReceipt("format", str(error)) from None


def _decode_receipt(message: ledger_pb2.Receipt) -> Receipt:
    if message.handovers:
        raise VerificationError("handovers: a change of committee cannot be verified yet")
    _at_most(len(message.inclusion), HASHES_MAX, "inclusion")
    _at_most(len(message.checkpoint), CHECKPOINT_BYTES_MAX, "checkpoint")
    node = message.node if message.HasField("node") else None
    if node is not None:
        for name in ("tx_id", "round", "seq"):
            if getattr(node, name) != getattr(message, name):
                raise VerificationError(f"node.{name}: not the receipt's {name}")
    return Receipt(
        genesis=_exact(message.genesis, ID_BYTES, "genesis"),
        tx_id=_exact(message.tx_id, ID_BYTES, "tx_id"),
        envelope=(
            message.transaction.SerializeToString() if message.HasField("transaction") else None
        ),
        public_key=_optional(message.public_key, PUBLIC_KEY_BYTES, "public_key"),
        round=message.round,
        seq=message.seq,
        node_id=_exact(node.node_id, ID_BYTES, "node.node_id") if node else None,
        parents=_decode_parents(node.parents) if node else (),
        rejection=(
            Rejection(message.rejection.code, message.rejection.reason)
            if message.HasField("rejection")
            else None
        ),
        pop=_optional(node.pop, ID_BYTES, "node.pop") if node else None,
        leaf_index=message.leaf_index,
        inclusion=tuple(
            _exact(digest, ID_BYTES, f"inclusion[{index}]")
            for index, digest in enumerate(message.inclusion)
        ),
        checkpoint=message.checkpoint,
        certificate=decode_certificate(message.certificate),
    )


# --- cities


def encode_city(listing: CityListing) -> services_pb2.City:
    """What is known of a city without opening it."""
    return services_pb2.City(
        slug=listing.slug,
        titles=listing.titles,
        aliases=listing.aliases,
        parent=listing.parent or "",
        source=listing.source,
        parts=services_pb2.CityParts(
            storage=listing.storage, dag=listing.dag, consensus=listing.consensus
        ),
        state=services_pb2.CityState.ValueType(listing.state),
    )


def decode_city(message: services_pb2.City) -> CityListing:
    """What is known of a city."""
    try:
        state = CityState(message.state)
    except ValueError:
        raise VerificationError(f"city.state: {message.state} is unknown") from None
    return CityListing(
        slug=message.slug,
        titles=dict(message.titles),
        aliases=tuple(message.aliases),
        parent=message.parent or None,
        source=message.source,
        storage=message.parts.storage,
        dag=message.parts.dag,
        consensus=message.parts.consensus,
        state=state,
    )


# --- fields


def _wire(state: State) -> ledger_pb2.State.ValueType:
    return ledger_pb2.State.ValueType(state)


_STATES: Final = {state.value: state for state in State}


def _state(state: int) -> State:
    try:
        return _STATES[state]
    except KeyError:
        raise VerificationError(f"state: {state} is unknown") from None


def _exact(value: bytes, length: int, field: str) -> bytes:
    if len(value) != length:
        raise VerificationError(f"{field}: {len(value)} bytes, not {length}")
    return value


def _optional(value: bytes, length: int, field: str) -> bytes | None:
    return _exact(value, length, field) if value else None


def _at_most(count: int, maximum: int, field: str) -> None:
    if count > maximum:
        raise VerificationError(f"{field}: {count}; at most {maximum} are allowed")
