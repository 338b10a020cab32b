"""Proofs that a city gives to another, inside transactions.

Layouts, integers big-endian; ``counted(n)`` is a length in ``n`` bytes and so many bytes::

    receipt proof     = version 2 = 1 | kind 1 = 1 | start 32 | genesis 32 | tx_id 32
                        | counted(4) envelope | public key 2592 | round 8 | seq 4
                        | 0 | node id 32 | parents 1, each 32 | 0, or 1 and pop 32
                          or 1 | counted(1) code | counted(1) reason
                        | leaf index 8 | inclusion hashes 1, each 32
                        | counted(4) checkpoint | certified
    certificate proof = version 2 = 1 | kind 1 = 2 | start 32 | certified

    certified         = certificate | handovers 2, each
                          0 | counted(4) checkpoint | certificate | keys 2, each 2592
                          or 1 | counted(4) recovery | keys 2, each 2592
    certificate       = round 8 | checkpoint hash 32 | votes 2, each key id 32 | signature 4627

There is a vote in each certificate, a key in each handover, and room for a signature in each
recovery: so what a proof may add to the ledger, one term a handover, is of the size of the proof.

``start`` is the committee that the first handover follows on, or that signed where there is none:
the genesis id for that of the genesis, else the id of a term that the ledger knows to which the
proof is given (`citychain.exchange.terms`).

What is read is in form and no more; `citychain.receipt.ReceiptVerifier` says whether it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from citychain.committee import HANDOVERS_MAX
from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from citychain.errors import VerificationError
from citychain.layout import Reader
from citychain.receipt import PARENTS_MAX, Receipt
from citychain.types import Certificate, Handover, Rejection, Vote

__all__ = [
    "decode_certified",
    "decode_receipt",
    "encode_certified",
    "encode_receipt",
    "handover_bytes",
    "handovers_of",
    "start_of",
]

_VERSION: Final = (1).to_bytes(2, "big")
_RECEIPT: Final = 1
_CERTIFIED: Final = 2
_WHAT: Final = "proof"
_HEAD_BYTES: Final = 2 + 1 + 32

ENVELOPE_BYTES_MAX: Final = (4 << 20) + 8_192
"""A body of the format's own bound, and its signature."""
CHECKPOINT_BYTES_MAX: Final = 131_072
RECOVERY_BYTES: Final = (SIGNATURE_BYTES, 65_536)
"""The least and the most."""
HASHES_MAX: Final = 64
VOTES_MAX: Final = 1_024
KEYS_MAX: Final = 1_024


def encode_receipt(receipt: Receipt, start: bytes | None = None) -> bytes:
    """The proof that a receipt is.

    Args:
        start: What its handovers follow on; the genesis if it is not given.

    Raises:
        VerificationError: it has no transaction, or something in it has no place in the layout.
    """
    if receipt.envelope is None or receipt.public_key is None:
        raise VerificationError(f"{_WHAT}: the receipt has no transaction; retention removed it")
    if receipt.node_id is not None and receipt.rejection is None:
        outcome = [
            b"\0",
            _exact(receipt.node_id, 32),
            _listed([_exact(parent, 32) for parent in receipt.parents], 1),
            b"\0" if receipt.pop is None else b"\1" + _exact(receipt.pop, 32),
        ]
    elif (
        receipt.rejection is not None
        and receipt.node_id is None
        and receipt.pop is None
        and not receipt.parents
    ):
        code, reason = receipt.rejection
        outcome = [b"\1", _counted(code.encode(), 1), _counted(reason.encode(), 1)]
    else:
        raise VerificationError(f"{_WHAT}: neither a node alone nor a rejection alone")
    return _checked(
        b"".join(
            (
                _VERSION,
                bytes((_RECEIPT,)),
                _exact(receipt.genesis if start is None else start, 32),
                _exact(receipt.genesis, 32),
                _exact(receipt.tx_id, 32),
                _counted(receipt.envelope, 4),
                _exact(receipt.public_key, PUBLIC_KEY_BYTES),
                _integer(receipt.round, 8),
                _integer(receipt.seq, 4),
                *outcome,
                _integer(receipt.leaf_index, 8),
                _listed([_exact(digest, 32) for digest in receipt.inclusion], 1),
                _counted(receipt.checkpoint, 4),
                _certified_bytes(receipt.certificate, receipt.handovers),
            )
        ),
        decode_receipt,
    )


def decode_receipt(proof: bytes) -> Receipt:
    """The receipt that a proof is; what it claims is for `ReceiptVerifier` to check.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = _opened(proof, _RECEIPT)
    genesis, tx_id = reader.take(32), reader.take(32)
    envelope = _bounded(reader, 1, ENVELOPE_BYTES_MAX, "bytes of a transaction")
    public_key = reader.take(PUBLIC_KEY_BYTES)
    round, seq = reader.integer(8), reader.integer(4)
    node_id, parents, pop, rejection = None, [], None, None
    if _flag(reader):
        rejection = Rejection(reader.text(), reader.text())
    else:
        node_id = reader.take(32)
        parents = _list(reader, 1, 1, PARENTS_MAX, "parents", 32)
        pop = reader.take(32) if _flag(reader) else None
    leaf_index = reader.integer(8)
    inclusion = _list(reader, 1, 0, HASHES_MAX, "inclusion hashes", 32)
    checkpoint = _bounded(reader, 1, CHECKPOINT_BYTES_MAX, "bytes of a checkpoint")
    certificate, handovers = _certified(reader)
    return Receipt(
        genesis=genesis,
        tx_id=tx_id,
        envelope=envelope,
        public_key=public_key,
        round=round,
        seq=seq,
        node_id=node_id,
        parents=tuple(parents),
        rejection=rejection,
        pop=pop,
        leaf_index=leaf_index,
        inclusion=tuple(inclusion),
        checkpoint=checkpoint,
        certificate=certificate,
        handovers=handovers,
    )


def encode_certified(
    start: bytes, certificate: Certificate, handovers: Sequence[Handover] = ()
) -> bytes:
    """The proof that a checkpoint, given beside it, is certified.

    Args:
        start: What the handovers follow on.

    Raises:
        VerificationError: something has no place in the layout.
    """
    return _checked(
        _VERSION
        + bytes((_CERTIFIED,))
        + _exact(start, 32)
        + _certified_bytes(certificate, handovers),
        decode_certified,
    )


def decode_certified(proof: bytes) -> tuple[Certificate, tuple[Handover, ...]]:
    """Certificate and handovers of a proof.

    Raises:
        VerificationError: it is not in this layout.
    """
    return _certified(_opened(proof, _CERTIFIED))


def start_of(proof: bytes) -> bytes | None:
    """What a proof starts from; ``None`` if it does not even begin as one."""
    has_one = len(proof) >= _HEAD_BYTES and proof.startswith(_VERSION)
    return proof[3:_HEAD_BYTES] if has_one and proof[2] in (_RECEIPT, _CERTIFIED) else None


def handovers_of(proof: bytes) -> tuple[Handover, ...]:
    """The handovers that a proof of either kind brings; none if it is not in its layout."""
    try:
        if proof[2:3] == bytes((_RECEIPT,)):
            return decode_receipt(proof).handovers
        return decode_certified(proof)[1]
    except VerificationError:
        return ()


def handover_bytes(handover: Handover) -> int:
    """How much a handover adds to a proof."""
    return len(_handover_bytes(handover))


# --- writing


def _checked(proof: bytes, decode: Callable[[bytes], object]) -> bytes:
    """What was written, once it is known to be read again: the bounds stand in one place."""
    decode(proof)
    return proof


def _certified_bytes(certificate: Certificate, handovers: Sequence[Handover]) -> bytes:
    return _certificate_bytes(certificate) + _listed(list(map(_handover_bytes, handovers)), 2)


def _certificate_bytes(certificate: Certificate) -> bytes:
    votes = [
        _exact(vote.key_id, 32) + _exact(vote.signature, SIGNATURE_BYTES)
        for vote in certificate.votes
    ]
    return (
        _integer(certificate.round, 8) + _exact(certificate.checkpoint_hash, 32) + _listed(votes, 2)
    )


def _handover_bytes(handover: Handover) -> bytes:
    if handover.certificate is not None and not handover.recovery:
        change = b"\0" + _counted(handover.checkpoint, 4) + _certificate_bytes(handover.certificate)
    elif handover.certificate is None and handover.recovery and not handover.checkpoint:
        change = b"\1" + _counted(handover.recovery, 4)
    else:
        raise VerificationError(f"{_WHAT}: a handover is either an election or a recovery")
    return change + _listed([_exact(key, PUBLIC_KEY_BYTES) for key in handover.public_keys], 2)


def _integer(value: int, length: int) -> bytes:
    try:
        return value.to_bytes(length, "big")
    except OverflowError:
        raise VerificationError(f"{_WHAT}: {value} does not fit in {length} bytes") from None


def _exact(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise VerificationError(f"{_WHAT}: {len(data)} bytes where {length} stand")
    return data


def _counted(data: bytes, length_bytes: int) -> bytes:
    return _integer(len(data), length_bytes) + data


def _listed(items: Sequence[bytes], length_bytes: int) -> bytes:
    return _integer(len(items), length_bytes) + b"".join(items)


# --- reading


def _opened(proof: bytes, kind: int) -> Reader:
    reader = Reader(proof, _WHAT)
    if (version := reader.take(2)) != _VERSION:
        raise VerificationError(f"{_WHAT}: layout version {version.hex()} is unknown")
    if (given := reader.integer(1)) != kind:
        raise VerificationError(f"{_WHAT}: of kind {given}, not {kind}")
    reader.take(32)  # See `start_of`.
    return reader


def _certified(reader: Reader) -> tuple[Certificate, tuple[Handover, ...]]:
    """A certificate and its handovers, which end a proof."""
    certificate = _certificate(reader)
    count = _within(reader.integer(2), 0, HANDOVERS_MAX, "handovers")
    handovers = tuple(_handover(reader) for _ in range(count))
    reader.end()
    return certificate, handovers


def _certificate(reader: Reader) -> Certificate:
    round, digest = reader.integer(8), reader.take(32)
    count = _within(reader.integer(2), 1, VOTES_MAX, "votes")
    votes = tuple(Vote(reader.take(32), reader.take(SIGNATURE_BYTES)) for _ in range(count))
    return Certificate(round, digest, votes)


def _handover(reader: Reader) -> Handover:
    if _flag(reader):
        recovery = _bounded(reader, *RECOVERY_BYTES, "bytes of a recovery")
        return Handover(_keys(reader), recovery=recovery)
    checkpoint = _bounded(reader, 1, CHECKPOINT_BYTES_MAX, "bytes of a checkpoint")
    certificate = _certificate(reader)
    return Handover(_keys(reader), checkpoint, certificate)


def _keys(reader: Reader) -> tuple[bytes, ...]:
    return tuple(_list(reader, 2, 1, KEYS_MAX, "public keys", PUBLIC_KEY_BYTES))


def _list(
    reader: Reader, length_bytes: int, least: int, most: int, what: str, size: int
) -> list[bytes]:
    count = _within(reader.integer(length_bytes), least, most, what)
    return [reader.take(size) for _ in range(count)]


def _bounded(reader: Reader, least: int, most: int, what: str) -> bytes:
    return reader.take(_within(reader.integer(4), least, most, what))


def _flag(reader: Reader) -> bool:
    return _within(reader.integer(1), 0, 1, "as a flag") == 1


def _within(value: int, least: int, most: int, what: str) -> int:
    if not least <= value <= most:
        raise VerificationError(f"{_WHAT}: {value} {what}; {least} to {most} are allowed")
    return value
