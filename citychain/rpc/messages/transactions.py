"""Where transactions stand, and the events that tell of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from citychain.handler import EventBatch, TransactionEvent, TransactionStatus
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2
from citychain.rpc.messages.fields import ID_BYTES, exact, read_state, wire_state
from citychain.rpc.messages.graph import LinkedNode, decode_node, encode_node
from citychain.types import Rejection, SealedNode

__all__ = [
    "EVENTS_MAX",
    "decode_events",
    "decode_transaction",
    "encode_events",
    "encode_transaction",
]

EVENTS_MAX: Final = 1_000
"""Events in one message."""


def encode_transaction(status: TransactionStatus, rule: str) -> ledger_pb2.Transaction:
    """Where a transaction stands; ``rule`` is the city's."""
    message = ledger_pb2.Transaction(
        tx_id=status.tx_id, state=wire_state(status.state), time_ms=status.time_ms, poh=status.poh
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
    tx_id = exact(message.tx_id, ID_BYTES, "transaction.tx_id")
    envelope = message.transaction.SerializeToString() if message.HasField("transaction") else None
    node = None
    if message.HasField("node"):
        node = decode_node(message.node).node
    elif message.HasField("rejection"):
        author = exact(message.author, ID_BYTES, "transaction.author")
        rejection = Rejection(message.rejection.code, message.rejection.reason)
        node = SealedNode(tx_id, author, message.round, message.seq, None, (), rejection)
    return TransactionStatus(
        tx_id, read_state(message.state), envelope, node, message.time_ms, message.poh
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
            response.events.add(
                tx_id=tx_id, state=wire_state(state), round=round, seq=seq, code=code
            )
        yield response


def decode_events(message: services_pb2.WatchResponse) -> EventBatch:
    """Events, and where to resume after them."""
    events = [
        TransactionEvent(
            exact(event.tx_id, ID_BYTES, "events.tx_id"),
            read_state(event.state),
            event.round,
            event.seq,
            event.code,
        )
        for event in message.events
    ]
    return EventBatch(events, message.position)
