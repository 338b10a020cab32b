"""What proofs show, each verified with the genesis of the city that it is from and the term that
it names as its start.

Neither depends on the ledger, which only says whether it knows that term: its id, of which the
transaction's id is made too, is a hash of all that there is to it. So what was found is
remembered: for the whole process, since the sequencer, the representatives beside it and cities
that share a server ask for the same. Nothing else that one proof teaches makes another hold.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final, NamedTuple

from citychain._native.transactions import decode_batch
from citychain.committee import Term
from citychain.errors import InvalidReceipt, VerificationError
from citychain.exchange import proof as proofs
from citychain.exchange.remembered import Remembered
from citychain.exchange.terms import follow, term_id
from citychain.genesis import Genesis
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.types import Delivery, Handover, Rejection, Remittance

__all__ = ["Shown", "forget", "shown_by", "verify_checkpoint", "verify_receipt"]

SHOWN_MAX: Final = 8_192
"""Proofs whose result is remembered, some 1 KB each."""
VERIFIERS_KEYS: Final = (1_024, 32)
"""Seats of all committees on the ways from a start to a committee that are remembered, whose keys
may be prepared, 66 KB each; and for how many a way with fewer counts."""


class Shown(NamedTuple):
    """What a receipt shows: a transaction and what became of it."""

    tx_id: bytes
    rejection: Rejection | None
    said: Remittance | Delivery | None
    """What the transaction says, without a proof of its own; ``None`` where it is neither."""


def shown_by(receipt: Receipt) -> Shown:
    """What a receipt from a proof shows if it holds.

    Raises:
        InvalidReceipt: its transaction is not in form.
    """
    assert receipt.envelope is not None
    try:
        [transaction] = decode_batch([receipt.envelope])
    except ValueError as error:
        raise InvalidReceipt("tx_id", f"the transaction cannot be read: {error}") from None
    said: Remittance | Delivery | None = transaction.remittance
    if transaction.delivery is not None:
        said = transaction.delivery._replace(proof=b"")
    return Shown(transaction.tx_id, receipt.rejection, said)


def verify_receipt(genesis: Genesis, tx_id: bytes, proof: bytes, start: Term | None) -> Shown:
    """What a receipt proof shows, which must hold.

    Args:
        genesis: Of the city that it is from.
        tx_id: Of the transaction that carries it.
        start: The term that the proof names; ``None`` for the genesis'.

    Raises:
        InvalidReceipt: naming the first check that does not hold.
    """
    key = (genesis.id, tx_id)
    found = _SHOWN.get(key)
    if found is None:
        try:
            found = _verified_receipt(genesis, proof, start)
        except InvalidReceipt as error:
            found = error.check
        _SHOWN.put(key, found)
    if isinstance(found, str):
        raise InvalidReceipt(found, "the proof does not hold")
    return found


def _verified_receipt(genesis: Genesis, proof: bytes, start: Term | None) -> Shown:
    try:
        receipt = proofs.decode_receipt(proof)
    except VerificationError as error:
        raise InvalidReceipt("form", str(error)) from None
    _verify(genesis, start, receipt.handovers, lambda verifier: verifier.verify(receipt))
    return shown_by(receipt)


def verify_checkpoint(
    genesis: Genesis, checkpoint: bytes, proof: bytes, start: Term | None
) -> None:
    """Check that a certificate proof certifies a checkpoint.

    Args:
        genesis: Of the city that it is from.
        start: The term that the proof names; ``None`` for the genesis'.

    Raises:
        InvalidReceipt: naming the first check that does not hold.
    """
    try:
        certificate, handovers = proofs.decode_certified(proof)
    except VerificationError as error:
        raise InvalidReceipt("form", str(error)) from None

    def verify(verifier: ReceiptVerifier) -> None:
        verifier.verify_checkpoint(checkpoint, certificate, handovers)

    _verify(genesis, start, handovers, verify)


class _SharedVerifier:
    """A verifier of what all starts from one term and leads to the same ones, for one thread at a
    time.

    A proof that leaves a handover out, or brings one of another term, never comes to a verifier
    that knows it; one that shows a term by other votes has these verified. So what holds here
    holds with genesis and start alone.
    """

    def __init__(self, genesis: Genesis, start: Term | None) -> None:
        self.verifier = ReceiptVerifier(genesis, start)
        self.lock = Lock()


def _verify(
    genesis: Genesis,
    start: Term | None,
    handovers: tuple[Handover, ...],
    verify: Callable[[ReceiptVerifier], None],
) -> None:
    try:
        led = follow(genesis, start, handovers)
    except InvalidReceipt:
        # It cannot hold; which check says so first is the verifier's to find.
        verify(ReceiptVerifier(genesis, start))
        raise
    begun = b"" if start is None else term_id(genesis, start)
    # Not by the handovers: a quorum signs one in as many ways as there are orders of its votes.
    key = (genesis.id, begun, tuple(term_id(genesis, term) for term in led))
    shared = _VERIFIERS.get(key) or _SharedVerifier(genesis, start)
    with shared.lock:
        verify(shared.verifier)
    # Only now: what does not hold drives nothing out.
    first = genesis.seats if start is None else start.seats
    _VERIFIERS.put(key, shared, len(first) + sum(len(term.seats) for term in led))


_SHOWN: Final[Remembered[tuple[bytes, bytes], Shown | str]] = Remembered(SHOWN_MAX)
_VERIFIERS: Final[Remembered[tuple[bytes, bytes, tuple[bytes, ...]], _SharedVerifier]] = Remembered(
    VERIFIERS_KEYS[0], least=VERIFIERS_KEYS[1]
)


def forget() -> None:
    """Remember nothing, as a process that begins."""
    _SHOWN.clear()
    _VERIFIERS.clear()
