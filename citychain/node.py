"""Node ids, and what a transaction leaves in its city's log.

Layouts, integers big-endian::

    node id = SHA-256("citychain/node/v1\\0" || len(rule) 1 | rule | genesis 32 | round 8
                      | seq 4 | tx_id 32 | number of parents 1 | parents' node ids 32 each
                      | pop 32, where the city judges place)

    leaf of a linked one  = 1 | node id 32
    leaf of a rejected one = 2 | round 8 | seq 4 | tx_id 32 | len(code) 1 | code
                               | len(reason) 1 | reason

`native/core/src/link.rs` computes the same for whole rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from citychain.types import Rejection

__all__ = ["log_leaf", "node_id"]


def node_id(
    *,
    rule: str,
    genesis: bytes,
    round: int,
    seq: int,
    tx_id: bytes,
    parents: Sequence[bytes],
    pop: bytes | None = None,
) -> bytes:
    """Id of one node, given its parents' ids in order."""
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
                *parents,
                pop or b"",
            )
        )
    ).digest()


def log_leaf(
    *, round: int, seq: int, tx_id: bytes, node_id: bytes | None, rejection: Rejection | None
) -> bytes:
    """The log's leaf for one sealed transaction, before it is hashed.

    Raises:
        ValueError: neither or both of node id and rejection, or a rejection too long.
    """
    if rejection is None and node_id is not None:
        return b"\1" + node_id
    if rejection is None or node_id is not None:
        raise ValueError("neither or both of node id and rejection")
    code, reason = rejection.code.encode(), rejection.reason.encode()
    if not 1 <= len(code) <= 32 or len(reason) > 255:
        raise ValueError("a code of 1 to 32 bytes and a reason of at most 255 are needed")
    return b"".join(
        (
            b"\2",
            round.to_bytes(8, "big"),
            seq.to_bytes(4, "big"),
            tx_id,
            bytes((len(code),)),
            code,
            bytes((len(reason),)),
            reason,
        )
    )
