"""Node ids.

Layout, integers big-endian::

    node id = SHA-256("citychain/node/v1\\0" || len(rule) 1 | rule | genesis 32 | round 8
                      | seq 4 | tx_id 32 | number of parents 1 | parents' node ids 32 each
                      | pop 32, where the city judges place)

`native/core/src/link.rs` computes the same for whole rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from citychain.types import NodeRef

__all__ = ["node_id"]


def node_id(
    *,
    rule: str,
    genesis: bytes,
    round: int,
    seq: int,
    tx_id: bytes,
    parents: Sequence[NodeRef],
    pop: bytes | None = None,
) -> bytes:
    """Id of one node.

    Raises:
        ValueError: a parent does not stand before the node.
    """
    for parent in parents:
        if (parent.round, parent.seq) >= (round, seq):
            raise ValueError(f"a parent at ({parent.round}, {parent.seq}) does not stand before")
    rule_bytes = rule.encode()
    return hashlib.sha256(
        b"".join(
            (
                b"citychain/node/v1\0",
                bytes((len(rule_bytes),)),
                rule_bytes,
                genesis,
                round.to_bytes(8, "big"),
                seq.to_bytes(4, "big"),
                tx_id,
                bytes((len(parents),)),
                *(parent.node_id for parent in parents),
                pop or b"",
            )
        )
    ).digest()
