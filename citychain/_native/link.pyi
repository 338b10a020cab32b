from collections.abc import Mapping, Sequence
from typing import Final

from citychain._native.transactions import Transaction
from citychain.types import NodeRef, Parent

PARENTS_MAX: Final = 8

def sealed_rounds_parents(
    *,
    genesis: bytes,
    round: int,
    previous_root: bytes,
    order: Sequence[Transaction],
    approved: Sequence[bool],
    dependencies: Mapping[bytes, NodeRef],
    latest: Mapping[bytes, NodeRef],
    tips: Sequence[NodeRef],
) -> list[tuple[Parent, ...]]: ...
def node_ids(
    *,
    rule: str,
    genesis: bytes,
    round: int,
    tx_ids: Sequence[bytes],
    parents: Sequence[tuple[Parent, ...]],
    approved: Sequence[bool],
    pops: Sequence[bytes] | None = None,
) -> list[bytes | None]: ...
def leaf_hashes(
    *,
    round: int,
    tx_ids: Sequence[bytes],
    node_ids: Sequence[bytes | None],
    rejections: Sequence[tuple[str, str] | None],
) -> bytes: ...
