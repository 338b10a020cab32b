"""Receipts: proof, with a city's genesis file alone, of a transaction's final state.

The checks, in order, each by the name that `InvalidReceipt.check` gives:

========== ===================================================================
form       it is written in its one form, ids have their lengths, a rejection has
           no parents, and the like
genesis    the receipt and everything in it belong to this city
tx_id      the id is the hash of the signed body
key        the public key is the body's author
signature  the author signed the body
handover   each handover is certified by the committee before it, or signed by the
           operator; they lead to the committee in office, which the checkpoint
           names
checkpoint the checkpoint is in its layout and belongs to the round
quorum     a quorum of the stake of the committee in office signed the checkpoint
poh        the proof-of-history entry takes the genesis' number of hashes and
           its hash is right
node       the node id follows from rule, place, transaction and parents
inclusion  the node (or rejection) is in the checkpoint's log at its place
========== ===================================================================

What holds then: this transaction was linked with these parents, or rejected with
this code and reason, at this round and seq. A receipt says nothing that it does not
prove: no byte of one can be altered, and the result verify.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from citychain import checkpoint as checkpoints
from citychain._native import transactions
from citychain.checkpoint import Checkpoint
from citychain.committee import CommitteeChain, Term
from citychain.crypto import merkle, poh, signatures
from citychain.errors import InvalidReceipt, VerificationError
from citychain.genesis import Genesis
from citychain.node import log_leaf, node_id
from citychain.types import Certificate, Handover, Rejection

__all__ = ["Receipt", "ReceiptVerifier", "verify_form", "verify_place", "verify_transaction"]

CODE: Final = re.compile(r"[A-Z0-9_]{1,32}")
REASON_BYTES_MAX: Final = 255
PARENTS_MAX: Final = 8
VERIFIED_MAX: Final = 1_024
"""Certified checkpoints that a verifier remembers, by 32 bytes each."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction's final state and its proof."""

    genesis: bytes
    tx_id: bytes
    envelope: bytes | None
    """Stored form of the signed transaction; ``None`` once retention removed it."""
    public_key: bytes | None
    """The author's; ``None`` with the envelope."""
    round: int
    seq: int
    node_id: bytes | None
    """``None`` for a rejected transaction."""
    parents: tuple[bytes, ...]
    """Their node ids; where each stands is not part of the proof."""
    rejection: Rejection | None
    pop: bytes | None
    leaf_index: int
    inclusion: tuple[bytes, ...]
    checkpoint: bytes
    certificate: Certificate
    handovers: tuple[Handover, ...] = ()
    """From the genesis' committee, or one that the verifier knows, to the one that signed; in
    order."""


class ReceiptVerifier:
    """Verifies receipts of one city; remembers the checkpoints that it found valid, and the
    committees: later receipts need not bring the handovers that were verified.

    Args:
        start: See `citychain.committee.CommitteeChain`.
    """

    def __init__(self, genesis: Genesis, start: Term | None = None) -> None:
        self._genesis = genesis
        self._chain = CommitteeChain(genesis, start)
        self._verified: OrderedDict[bytes, None] = OrderedDict()

    @property
    def known_round(self) -> int:
        """What to ask receipts with, to be spared the handovers that are known."""
        return self._chain.known_round

    def recovered_rounds(self, round: int) -> list[int]:
        """Rounds up to this one in which the operator replaced the committee, as far as the
        receipts that were verified say."""
        return self._chain.recovered_rounds(round)

    def verify(self, receipt: Receipt) -> None:
        """Check one receipt.

        Raises:
            InvalidReceipt: naming the first check that does not hold.
        """
        verify_form(receipt)
        if receipt.genesis != self._genesis.id:
            raise InvalidReceipt(
                "genesis",
                f"of city {receipt.genesis.hex()[:16]}…, not {self._genesis.id.hex()[:16]}…",
            )
        verify_transaction(receipt)
        # Of a receipt that does not hold nothing is learnt.
        with self._chain.attempt():
            self._chain.follow(receipt.handovers, receipt.round)
            if receipt.certificate.round != receipt.round:
                raise InvalidReceipt("checkpoint", "the certificate is for another round")
            checkpoint = self._verified_checkpoint(receipt.checkpoint, receipt.certificate)
            verify_place(receipt, checkpoint)

    def verify_checkpoint(
        self, checkpoint: bytes, certificate: Certificate, handovers: Sequence[Handover] = ()
    ) -> Checkpoint:
        """Check that a checkpoint is certified and its proof of history right, and return it
        decoded.

        Raises:
            InvalidReceipt: naming the first of the checks from ``handover`` to ``poh`` that does
                not hold.
        """
        with self._chain.attempt():
            self._chain.follow(handovers, certificate.round)
            return self._verified_checkpoint(checkpoint, certificate)

    def _verified_checkpoint(self, encoded: bytes, certificate: Certificate) -> Checkpoint:
        name = _name_of(encoded, certificate, self._chain.in_office(certificate.round).link)
        if name in self._verified:
            return checkpoints.decode(encoded)
        # Votes first: they are what keeps strangers' checkpoints from costing hashes.
        checkpoint = self._chain.verify_certificate(encoded, certificate)
        self._verify_poh(encoded, checkpoint)
        self._verified[name] = None
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return checkpoint

    def _verify_poh(self, encoded: bytes, checkpoint: Checkpoint) -> None:
        entry = checkpoint.poh
        if entry.num_hashes != self._genesis.num_hashes:
            raise InvalidReceipt(
                "poh", f"{entry.num_hashes} hashes; the genesis says {self._genesis.num_hashes}"
            )
        if entry.mixin != checkpoints.mixin(checkpoints.without_poh(encoded)):
            raise InvalidReceipt("poh", "the entry mixes in another checkpoint")
        try:
            poh.verify([entry], max_num_hashes=self._genesis.num_hashes)
        except VerificationError as error:
            raise InvalidReceipt("poh", str(error)) from None


def _name_of(checkpoint: bytes, certificate: Certificate, link: bytes) -> bytes:
    """Hash of all that the verdict on a certified checkpoint depends on, 32 bytes.

    The order of the votes is no part of it: in any, they hold or do not.

    Args:
        link: Of the committee in office: `citychain.committee.Term.link`.
    """
    parts = [checkpoint, link, b"%d" % certificate.round, certificate.checkpoint_hash]
    for vote in sorted(certificate.votes):
        parts += vote
    name = hashlib.sha256()
    for part in parts:
        name.update(len(part).to_bytes(8, "big"))  # No two lists of parts run together alike.
        name.update(part)
    return name.digest()


def verify_transaction(receipt: Receipt) -> None:
    """Check that the transaction is the one that is named, and signed by its author."""
    if receipt.envelope is None or receipt.public_key is None:
        return  # Retention removed it: the log has its id.
    try:
        [transaction] = transactions.decode_batch([receipt.envelope])
    except ValueError as error:
        raise InvalidReceipt("tx_id", f"the transaction cannot be read: {error}") from None
    if transaction.tx_id != receipt.tx_id:
        raise InvalidReceipt("tx_id", "not the hash of the signed body")
    if transaction.genesis != receipt.genesis:
        raise InvalidReceipt("genesis", "the body was signed for another city")
    if transactions.key_id(receipt.public_key, transaction.scheme) != transaction.author:
        raise InvalidReceipt("key", "the public key is not the author's")
    try:
        signatures.verify(
            receipt.public_key,
            transaction.body,
            signatures.TRANSACTION_CONTEXT,
            transaction.signature,
        )
    except VerificationError as error:
        raise InvalidReceipt("signature", str(error)) from None


def verify_place(receipt: Receipt, checkpoint: Checkpoint) -> None:
    """Check that the transaction has its place in the log of a checkpoint."""
    if receipt.node_id is not None:
        expected = node_id(
            rule=checkpoint.rule,
            genesis=receipt.genesis,
            round=receipt.round,
            seq=receipt.seq,
            tx_id=receipt.tx_id,
            parents=receipt.parents,
            pop=receipt.pop,
        )
        if expected != receipt.node_id:
            raise InvalidReceipt("node", "the id does not follow from the parents")
    leaf = log_leaf(
        round=receipt.round,
        seq=receipt.seq,
        tx_id=receipt.tx_id,
        node_id=receipt.node_id,
        rejection=receipt.rejection,
    )
    try:
        merkle.verify_inclusion(
            merkle.hash_leaf(leaf),
            receipt.leaf_index,
            checkpoint.size,
            receipt.inclusion,
            checkpoint.root,
        )
    except VerificationError as error:
        raise InvalidReceipt("inclusion", str(error)) from None


def verify_form(receipt: Receipt) -> None:
    """What the layouts that are hashed below rely on."""
    ids = (
        receipt.tx_id,
        *receipt.parents,
        *receipt.inclusion,
        *(one for one in (receipt.node_id, receipt.pop) if one is not None),
    )
    if any(len(one) != 32 for one in ids):
        raise InvalidReceipt("form", "an id is not 32 bytes")
    if not (0 < receipt.round < 1 << 64 and 0 <= receipt.seq < 1 << 32):
        raise InvalidReceipt("form", "no such place")
    if not 0 <= receipt.leaf_index < 1 << 64:
        raise InvalidReceipt("form", "no such leaf")
    if (receipt.envelope is None) != (receipt.public_key is None):
        raise InvalidReceipt("form", "a transaction or its author's key without the other")
    if (receipt.node_id is None) == (receipt.rejection is None):
        raise InvalidReceipt("form", "neither or both of node and rejection")
    if receipt.rejection is None:
        if not 1 <= len(set(receipt.parents)) == len(receipt.parents) <= PARENTS_MAX:
            raise InvalidReceipt("form", f"a node has 1 to {PARENTS_MAX} parents, each once")
        return
    if receipt.parents or receipt.pop is not None:
        raise InvalidReceipt("form", "a rejection has no parents and no judgement")
    code, reason = receipt.rejection
    if not CODE.fullmatch(code) or len(reason.encode()) > REASON_BYTES_MAX:
        raise InvalidReceipt("form", "no such code, or a reason longer than any is")
