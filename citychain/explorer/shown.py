"""What the explorer shows, in the JSON that the page reads.

Ids and hashes are hexadecimal, times milliseconds since 1970 UTC. An integer that JavaScript has
no exact number for is written as text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from citychain import record
from citychain.city.listing import CityListing
from citychain.client.city import CityInfo
from citychain.handler import TransactionStatus
from citychain.ports import StoredRound
from citychain.record import RoundRecord
from citychain.types import Head, SealedNode

__all__ = [
    "city_shown",
    "exact",
    "head_shown",
    "info_shown",
    "nodes_shown",
    "round_shown",
    "text",
    "transaction_shown",
]

EXACT_MAX: Final = (1 << 53) - 1
"""ECMA-262, Number.MAX_SAFE_INTEGER."""


def text(value: Any) -> str:
    """JSON without white space; bytes as hexadecimal."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=bytes.hex)


def exact(value: int) -> int | str:
    """An integer as a browser reads it without rounding."""
    return value if abs(value) <= EXACT_MAX else str(value)


def city_shown(city: CityListing) -> dict[str, Any]:
    """A city as lists show it."""
    return {
        "slug": city.slug,
        "titles": dict(city.titles),
        "aliases": list(city.aliases),
        "parent": city.parent,
        "parts": {"storage": city.storage, "dag": city.dag, "consensus": city.consensus},
        "state": city.state.name.lower(),
    }


def head_shown(head: Head) -> dict[str, Any]:
    """Where a ledger stands."""
    return {
        "sealed_round": head.round,
        "approved_round": head.certified_round,
        "size": head.size,
    }


def info_shown(info: CityInfo) -> dict[str, Any]:
    """A city that is open."""
    return city_shown(info.listing) | {
        "genesis": info.genesis,
        "rule": info.rule,
        "consensus": info.consensus,
        "head": head_shown(info.head),
        "pending": info.pending,
        "archived_round": info.archived_round,
    }


def round_shown(stored: StoredRound, decided: RoundRecord | None = None) -> dict[str, Any]:
    """A round without what it seals.

    Raises:
        VerificationError: its record cannot be read.
    """
    decided = decided or record.decode(stored.record)
    rejected = sum(verdict is not None for verdict in decided.verdicts)
    certificate = stored.certificate
    return {
        "round": stored.round,
        "time_ms": stored.time_ms,
        "size": stored.size,
        "first_index": stored.first_index,
        "approved": len(decided.verdicts) - rejected,
        "rejected": rejected,
        "checkpoint_hash": stored.checkpoint_hash,
        "poh": decided.poh.hash,
        "votes": certificate and [vote.key_id for vote in certificate.votes],
    }


def nodes_shown(
    decided: RoundRecord, nodes: Mapping[int, SealedNode], limit: int
) -> Mapping[str, Any]:
    """The first nodes of a round by place, as short as can be: each by how many rounds back, and
    at which seq, its parents stand. The genesis stands in round 0; a rejected transaction has no
    parents, and a code.

    Args:
        nodes: By seq.
    """
    verdicts = decided.verdicts[:limit]
    places: list[Sequence[Sequence[int]]] = [
        [(decided.round - parent.round, parent.seq) for parent in nodes[seq].parents]
        if seq in nodes
        else []
        for seq in range(len(verdicts))
    ]
    codes = {seq: verdict.code for seq, verdict in enumerate(verdicts) if verdict is not None}
    return {"nodes": places, "codes": codes, "of": len(decided.verdicts)}


def transaction_shown(status: TransactionStatus) -> dict[str, Any]:
    """Where a transaction stands. What it says, the page reads from its signed bytes, in base64;
    there are none where retention removed them."""
    shown: dict[str, Any] = {"tx_id": status.tx_id, "state": status.state.name.lower()}
    if (node := status.node) is not None:
        place = {"round": node.round, "seq": node.seq, "time_ms": status.time_ms}
        shown |= {"author": node.author, **place}
        if node.rejection is not None:
            shown |= {"code": node.rejection.code, "reason": node.rejection.reason}
        else:
            shown["node_id"] = node.node_id
    return shown | {"envelope": base64.b64encode(status.envelope or b"").decode()}
