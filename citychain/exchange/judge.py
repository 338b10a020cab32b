"""What one city may take another's word for, and who may pay rewards: judged in every round, by
every consensus and rule.

Pure: it depends on the transactions, and on which genesis files the ledger has pinned and which
committees of these it knows. Of each transaction it says the same whatever else is in the round.
What two of them do to one another (a remittance delivered twice, balances) is settled by the DAG
rule afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from citychain._native.transactions import Transaction
from citychain.committee import Term
from citychain.errors import InvalidReceipt, VerificationError
from citychain.exchange import peers, terms
from citychain.exchange.proof import decode_certified, decode_receipt, handovers_of, start_of
from citychain.exchange.verified import Shown, shown_by, verify_checkpoint, verify_receipt
from citychain.genesis import Genesis
from citychain.ports import Compute, StateView
from citychain.types import Delivery, Rejection, Remittance, Settlement

__all__ = [
    "PROVEN",
    "PROVEN_BYTES_MIN",
    "REJECTION_CODES",
    "Judged",
    "judge",
    "mismatch",
    "shown_most",
    "unproven",
]

PROVEN: Final = frozenset(("delivery", "settlement", "anchor"))
"""Actions that bring a proof."""
PROVEN_BYTES_MIN: Final = 7_000
"""The least that a transaction takes whose proof can hold, or whose genesis can be one: its own
signature, and a public key or another signature. Asking for an action takes longer than for a
size, so who looks through many asks for this first."""

REJECTION_CODES: Final[Mapping[str, str]] = {
    "NOT_OPERATOR": "only the operator can do this",
    "BAD_GENESIS": "the peer's file is not the genesis of another city",
    "COSTLY_PEER": "the peer's proof of history takes more hashes than others repeat",
    "UNKNOWN_CITY": "no peer has this genesis",
    "UNKNOWN_TERM": "the proof starts from a committee that no proof has shown here",
    "BAD_PROOF": "the proof does not hold with the peer's genesis",
    "NOT_APPROVED": "the proof is of a transaction that was rejected",
    "WRONG_PROOF": "the proof is of something else",
}
"""What each code means that is given here."""

NOT_TO_PAY: Final = "rewards are the operator's to pay"


class Judged(NamedTuple):
    """What is made of the candidates of a round, each by its index."""

    refused: dict[int, Rejection]
    shown: dict[int, dict[str, bytes]]
    """Objects of the committees that a proof which holds has brought: the ledger has them from
    now on, whatever else becomes of the transaction in this round."""


def shown_most(transaction: Transaction) -> int:
    """The most that the committees which a transaction's proof brings add to a round record."""
    return terms.recorded_most(handovers_of(_proof(transaction)))


async def judge(
    genesis: bytes,
    operator: bytes,
    candidates: Mapping[int, Transaction],
    state: StateView,
    compute: Compute,
) -> Judged:
    """Judge those candidates of a round that are of `SETTLED_ACTIONS`.

    Args:
        genesis: Id of the city that decides the round.
        operator: Id of its operator's key.
        candidates: By index among all candidates.
        state: The ledger before the round.

    Raises:
        StorageError: a committee that the ledger keeps is not what its name says.
    """
    if not candidates:
        return Judged({}, {})
    cities = {index: city for index, item in candidates.items() if (city := _city(item))}
    proven = {cities[index] for index, item in candidates.items() if item.action in PROVEN}
    pinned = await peers.pinned(set(cities.values()), proven, state, compute)
    starts = {
        index: (city, start)
        for index, city in cities.items()
        if city in pinned and (start := _start(candidates[index])) not in (None, city)
    }
    known = await terms.known(set(starts.values()), state, compute)
    begun = {index: known.get(start) for index, start in starts.items()}
    return await compute(_judge_all, genesis, operator, candidates, cities, pinned, begun)


def _city(transaction: Transaction) -> bytes | None:
    """The other city that a transaction names."""
    named = (
        transaction.remittance
        or transaction.delivery
        or transaction.settlement
        or transaction.anchor
    )
    return named.city if named else None


def _proof(transaction: Transaction) -> bytes:
    proven = transaction.delivery or transaction.settlement or transaction.anchor
    return proven.proof if proven is not None else b""


def _start(transaction: Transaction) -> bytes | None:
    return start_of(_proof(transaction))


def _judge_all(
    genesis: bytes,
    operator: bytes,
    candidates: Mapping[int, Transaction],
    cities: Mapping[int, bytes],
    pinned: Mapping[bytes, Genesis | None],
    starts: Mapping[int, Term | None],
) -> Judged:
    judged = Judged({}, {})
    for index, transaction in candidates.items():
        is_operator = transaction.author == operator
        if transaction.peer is not None:
            rejection = _judge_peer(transaction.peer.genesis_file, genesis, is_operator)
        elif transaction.reward is not None:
            rejection = None if is_operator else Rejection("NOT_OPERATOR", NOT_TO_PAY)
        elif (city := cities[index]) not in pinned:
            rejection = Rejection("UNKNOWN_CITY", f"no peer has the genesis {city.hex()}")
        elif transaction.remittance is not None:
            rejection = None
        elif _refuses(transaction) and not is_operator:
            rejection = Rejection("NOT_OPERATOR", "refusing is the operator's")
        elif index in starts and starts[index] is None:
            unknown = _start(transaction) or b""
            reason = f"no proof has shown the committee {unknown.hex()}"
            rejection = Rejection("UNKNOWN_TERM", reason)
        else:
            peer, start = pinned[city], starts.get(index)
            assert peer is not None
            rejection = _judge_proven(transaction, genesis, peer, start)
            if rejection is None and (handovers := handovers_of(_proof(transaction))):
                shown = terms.follow(peer, start, handovers)
                judged.shown[index] = terms.objects_of(peer.id, shown)
        if rejection is not None:
            judged.refused[index] = rejection
    return judged


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
    transaction: Transaction, genesis: bytes, peer: Genesis, start: Term | None
) -> Rejection | None:
    """Judge what brings a proof of a pinned city."""
    try:
        if transaction.anchor is not None:
            anchor = transaction.anchor
            verify_checkpoint(peer, anchor.checkpoint, anchor.proof, start)
            return None
        told = transaction.delivery or transaction.settlement
        assert told is not None
        shown = verify_receipt(peer, transaction.tx_id, told.proof, start)
    except InvalidReceipt as error:
        return Rejection("BAD_PROOF", f"it fails the check {error.check}")
    if shown.rejection is not None:
        return Rejection("NOT_APPROVED", f"it was rejected: {shown.rejection.code}")
    what = mismatch(told, shown, genesis)
    return None if what is None else Rejection("WRONG_PROOF", what[1])


def _refuses(transaction: Transaction) -> bool:
    return transaction.delivery is not None and bool(transaction.delivery.refusal_code)


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


# --- before anything is stored


def unproven(
    genesis: bytes, operator: bytes, transactions: Sequence[Transaction]
) -> dict[bytes, tuple[str, str]]:
    """Those of `EXCHANGE_ACTIONS` that no round could approve, as far as can be seen at once:
    without the ledger, and without checking a signature.

    Returns:
        By transaction id the field that is wrong, and what is wrong with it.
    """
    found = (
        (item.tx_id, _unproven(item, genesis, item.author == operator)) for item in transactions
    )
    return {tx_id: wrong for tx_id, wrong in found if wrong is not None}


def _unproven(
    transaction: Transaction, genesis: bytes, is_operator: bool
) -> tuple[str, str] | None:
    if transaction.peer is not None:
        rejection = _judge_peer(transaction.peer.genesis_file, genesis, is_operator)
        field = "author" if not is_operator else "peer.genesis_file"
        return None if rejection is None else (f"body.{field}", rejection.reason)
    if _refuses(transaction) and not is_operator:
        return "body.author", "is not the operator's, who alone refuses deliveries"
    where = f"body.{transaction.action}"
    try:
        if transaction.anchor is not None:
            decode_certified(transaction.anchor.proof)
            return None
        told = transaction.delivery or transaction.settlement
        if told is None:
            return None
        receipt = decode_receipt(told.proof)
        shown = shown_by(receipt)
    except VerificationError as error:
        return f"{where}.proof", f"is not as another city gives it: {error}"
    if receipt.genesis != told.city:
        return f"{where}.city", f"is not the city of the proof, {receipt.genesis.hex()}"
    if shown.rejection is not None:
        return f"{where}.proof", f"is of a transaction that was rejected: {shown.rejection.code}"
    what = mismatch(told, shown, genesis)
    return None if what is None else (f"{where}.{what[0]}", what[1])
