"""What proofs show, each verified with the genesis of the city that it is from and the term that
it names as its start.

Neither depends on the ledger, which only says whether it knows that term: its id, of which the
transaction's id is made too, is a hash of all that there is to it. So what was found is
remembered: for the whole process, since the sequencer, the representatives beside it and cities
that share a server ask for the same. Nothing else that one proof teaches makes another hold.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final, Generic, NamedTuple, TypeVar

from citychain._native.transactions import decode_batch
from citychain.committee import Term
from citychain.errors import InvalidReceipt, VerificationError
from citychain.exchange import proof as proofs
from citychain.exchange.terms import term_id
from citychain.genesis import Genesis
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.types import Delivery, Handover, Rejection, Remittance

__all__ = ["Shown", "forget", "shown_by", "verify_checkpoint", "verify_receipt"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SHOWN_MAX: Final = 8_192
"""Proofs whose result is remembered, some 1 KB each."""
VERIFIERS_MAX: Final = 32
"""Ways from a genesis to a committee that are remembered, with the committee's keys prepared."""


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
    """A verifier of what all starts from one term and brings the same handovers, for one thread
    at a time.

    A proof that leaves one out, or brings another, never comes to a verifier that knows it: so
    what holds here holds with genesis and start alone.
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
    key = (genesis.id, b"" if start is None else term_id(genesis, start), handovers)
    shared = _VERIFIERS.get(key) or _SharedVerifier(genesis, start)
    with shared.lock:
        verify(shared.verifier)
    # Only now: what does not hold drives nothing out.
    _VERIFIERS.put(key, shared)


class _Remembered(Generic[K, V]):
    """What was used last, within a bound; for threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            return self._items.get(key)

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            if len(self._items) > self._size:
                self._items.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._items.clear()


_SHOWN: Final[_Remembered[tuple[bytes, bytes], Shown | str]] = _Remembered(SHOWN_MAX)
_VERIFIERS: Final[_Remembered[tuple[bytes, bytes, tuple[Handover, ...]], _SharedVerifier]] = (
    _Remembered(VERIFIERS_MAX)
)


def forget() -> None:
    """Remember nothing, as a process that begins."""
    _SHOWN.clear()
    _VERIFIERS.clear()
