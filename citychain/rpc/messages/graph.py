"""Linked nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages.fields import ID_BYTES, at_most, exact, optional
from citychain.types import NodeRef, SealedNode

__all__ = ["LinkedNode", "decode_node", "decode_parents", "encode_node", "encode_parents"]

PARENTS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class LinkedNode:
    """A node of the graph with what its round says of it."""

    node: SealedNode
    rule: str
    time_ms: int
    """Of its round; information only."""
    poh: bytes
    """Hash of its round's proof-of-history entry."""


def encode_node(linked: LinkedNode) -> ledger_pb2.Node:
    """A linked node."""
    node = linked.node
    return ledger_pb2.Node(
        node_id=node.node_id or b"",
        tx_id=node.tx_id,
        author=node.author,
        parents=encode_parents(node.parents),
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
        tx_id=exact(message.tx_id, ID_BYTES, "node.tx_id"),
        author=exact(message.author, ID_BYTES, "node.author"),
        round=message.round,
        seq=message.seq,
        node_id=exact(message.node_id, ID_BYTES, "node.node_id"),
        parents=decode_parents(message.parents),
        rejection=None,
        pop=optional(message.pop, ID_BYTES, "node.pop"),
    )
    return LinkedNode(node, message.rule, message.time_ms, exact(message.poh, ID_BYTES, "node.poh"))


def encode_parents(parents: Iterable[NodeRef]) -> list[ledger_pb2.NodeRef]:
    """A node's parents."""
    return [
        ledger_pb2.NodeRef(round=round, seq=seq, node_id=node_id) for round, seq, node_id in parents
    ]


def decode_parents(parents: Sequence[ledger_pb2.NodeRef]) -> tuple[NodeRef, ...]:
    """A node's parents; whether they stand before it is for others to say."""
    at_most(len(parents), PARENTS_MAX, "node.parents")
    return tuple(
        NodeRef(
            parent.round,
            parent.seq,
            exact(parent.node_id, ID_BYTES, f"node.parents[{index}].node_id"),
        )
        for index, parent in enumerate(parents)
    )
