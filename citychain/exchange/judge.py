"""What one city may take another's word for: judged in every round, by every consensus and rule.

Pure: it depends on the transactions, and on which genesis files the ledger has pinned. Of each
transaction it says the same whatever else is in the round. What two of them do to one another
(a remittance delivered twice, balances) is settled by the DAG rule afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from citychain._native.transactions import Transaction
from citychain.errors import InvalidReceipt
from citychain.exchange import peers
from citychain.exchange.verified import Shown, verify_checkpoint, verify_receipt
from citychain.genesis import Genesis
from citychain.ports import Compute, StateView
from citychain.types import Delivery, Rejection, Remittance, Settlement

__all__ = ["REJECTION_CODES", "judge", "mismatch"]

REJECTION_CODES: Final[Mapping[str, str]] = {
    "NOT_OPERATOR": "only the operator can do this",
    "BAD_GENESIS": "the peer's file is not the genesis of another city",
    "COSTLY_PEER": "the peer's proof of history takes more hashes than others repeat",
    "UNKNOWN_CITY": "no peer has this genesis",
    "BAD_PROOF": "the proof does not hold with the peer's genesis",
    "NOT_APPROVED": "the proof is of a transaction that was rejected",
    "WRONG_PROOF": "the proof is of something else",
}
"""What each code means that is given here."""


async def judge(
    genesis: bytes,
    operator: bytes,
    candidates: Mapping[int, Transaction],
    state: StateView,
    compute: Compute,
) -> dict[int, Rejection]:
    """Judge those candidates of a round that are of `EXCHANGE_ACTIONS`.

    Args:
        genesis: Id of the city that decides the round.
        operator: Id of its operator's key.
        candidates: By index among all candidates.
        state: The ledger before the round.

    Returns:
        Refusals by index.
    """
    if not candidates:
        return {}
    cities = {index: city for index, item in candidates.items() if (city := _city(item))}
    proven = {cities[index] for index, item in candidates.items() if _is_proven(item)}
    pinned = await peers.pinned(set(cities.values()), proven, state, compute)
    return await compute(_judge_all, genesis, operator, candidates, cities, pinned)


def _city(transaction: Transaction) -> bytes | None:
    """The other city that a transaction names."""
    named = (
        transaction.remittance
        or transaction.delivery
        or transaction.settlement
        or transaction.anchor
    )
    return named.city if named else None


def _is_proven(transaction: Transaction) -> bool:
    return transaction.action in ("delivery", "settlement", "anchor")


def _judge_all(
    genesis: bytes,
    operator: bytes,
    candidates: Mapping[int, Transaction],
    cities: Mapping[int, bytes],
    pinned: Mapping[bytes, Genesis | None],
) -> dict[int, Rejection]:
    refused: dict[int, Rejection] = {}
    for index, transaction in candidates.items():
        is_operator = transaction.author == operator
        if transaction.peer is not None:
            rejection = _judge_peer(transaction.peer.genesis_file, genesis, is_operator)
        elif (city := cities[index]) not in pinned:
            rejection = Rejection("UNKNOWN_CITY", f"no peer has the genesis {city.hex()}")
        else:
            rejection = _judge_proven(transaction, genesis, pinned[city], is_operator)
        if rejection is not None:
            refused[index] = rejection
    return refused


def _judge_peer(file: bytes, genesis: bytes, is_operator: bool) -> Rejection | None:
    if not is_operator:
        return Rejection("NOT_OPERATOR", "peers are the operator's to name")
    peer = peers.genesis_of(file)
    if peer is None:
        return Rejection("BAD_GENESIS", "the file is no genesis")
    if peer.id == genesis:
        return Rejection("BAD_GENESIS", "it is this city's own")
    if peer.num_hashes > peers.PEER_HASHES_MAX:
        return Rejection(
            "COSTLY_PEER",
            f"{peer.num_hashes} hashes a round; a peer has at most {peers.PEER_HASHES_MAX}",
        )
    return None


def _judge_proven(
    transaction: Transaction, genesis: bytes, peer: Genesis | None, is_operator: bool
) -> Rejection | None:
    """Judge what is about a pinned city."""
    if transaction.remittance is not None:
        return None
    if transaction.delivery is not None and transaction.delivery.refusal_code and not is_operator:
        return Rejection("NOT_OPERATOR", "refusing is the operator's")
    assert peer is not None
    try:
        if transaction.anchor is not None:
            verify_checkpoint(peer, transaction.anchor.checkpoint, transaction.anchor.proof)
            return None
        told = transaction.delivery or transaction.settlement
        assert told is not None
        shown = verify_receipt(peer, transaction.tx_id, told.proof)
    except InvalidReceipt as error:
        return Rejection("BAD_PROOF", f"it fails the check {error.check}")
    if shown.rejection is not None:
        return Rejection("NOT_APPROVED", f"it was rejected: {shown.rejection.code}")
    what = mismatch(told, shown, genesis)
    return None if what is None else Rejection("WRONG_PROOF", what[1])


def mismatch(told: Delivery | Settlement, shown: Shown, genesis: bytes) -> tuple[str, str] | None:
    """In what a delivery or settlement in the city ``genesis`` is not what its proof shows: the
    name of a field, and a reason; ``None`` if it is."""
    said = shown.said
    if isinstance(told, Delivery):
        if not isinstance(said, Remittance):
            return "proof", "the proof is of no remittance"
        if said.city != genesis:
            return "proof", f"the remittance is to the city {said.city.hex()}"
        pairs: Sequence[tuple[str, object, object]] = (
            ("tx_id", told.tx_id, shown.tx_id),
            ("asset", told.asset, said.asset),
            ("to", told.to, said.to),
            ("amount", told.amount, said.amount),
        )
    else:
        if not isinstance(said, Delivery):
            return "proof", "the proof is of no delivery"
        if said.city != genesis:
            return "proof", f"the delivery is from the city {said.city.hex()}"
        pairs = (
            ("tx_id", told.tx_id, said.tx_id),
            ("returned", told.returned, bool(said.refusal_code)),
        )
    for field, is_there, must_be in pairs:
        if is_there != must_be:
            return field, f"the proof has another {field}"
    return None
