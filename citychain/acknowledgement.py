"""Signed acknowledgements: a city's promise that what it accepted has a final state in time.

For the transactions that it accepted of one request a city signs once, where it is asked to;
each of them has its place under the root that is signed. Integers big-endian::

    leaves    = ids of the accepted transactions in order of the answer, as RFC 6962's leaf data
    message   = genesis 32 | root 32 | size 4 | received_ms 8 | final_by_ms 8
    signature = by the genesis' operator, context "citychain/acknowledgement/v1"

What is promised: each of them is sealed, as approved or rejected, in a round whose time is not
after ``final_by_ms``, and which is certified. `citychain.promise` holds a city to it.

The checks, in order, each by the name that `InvalidAcknowledgement.check` gives:

========= ==================================================================
form      ids, hashes and signature have their lengths, numbers their bounds
genesis   it is this city's
signature the genesis' operator signed it
inclusion the transaction is under the signed root at its place
========= ==================================================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citychain.crypto import merkle, signatures
from citychain.errors import InvalidAcknowledgement, VerificationError
from citychain.genesis import Genesis
from citychain.json_members import read_json

__all__ = [
    "FILE_BYTES_MAX",
    "Acknowledgement",
    "Promise",
    "from_json",
    "sign",
    "signed_message",
    "to_fields",
    "to_json",
    "verify",
]

CONTEXT: Final = b"citychain/acknowledgement/v1"
"""Signature context of acknowledgements."""
FILE_BYTES_MAX: Final = 32 << 10
SIZE_MAX: Final = (1 << 32) - 1
TIME_MS_MAX: Final = (1 << 63) - 1
PATH_MAX: Final = 32
"""Hashes above a leaf of a tree of ``SIZE_MAX`` leaves."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a city signed for the accepted transactions of one request."""

    genesis: bytes
    root: bytes
    size: int
    """Number of the transactions."""
    received_ms: int
    """The city's time once they were stored."""
    final_by_ms: int
    """The latest time of the round that seals them."""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Promise:
    """One transaction's place under a signed acknowledgement."""

    acknowledgement: Acknowledgement
    tx_id: bytes
    leaf_index: int
    path: tuple[bytes, ...]
    """RFC 6962 inclusion proof."""


def signed_message(acknowledgement: Acknowledgement) -> bytes:
    """What the operator signs, with the context `CONTEXT`."""
    return _message(
        acknowledgement.genesis,
        acknowledgement.root,
        acknowledgement.size,
        acknowledgement.received_ms,
        acknowledgement.final_by_ms,
    )


def _message(genesis: bytes, root: bytes, size: int, received_ms: int, final_by_ms: int) -> bytes:
    return b"".join(
        (
            genesis,
            root,
            size.to_bytes(4, "big"),
            received_ms.to_bytes(8, "big"),
            final_by_ms.to_bytes(8, "big"),
        )
    )


def sign(
    operator: signatures.SigningKey,
    genesis: bytes,
    tx_ids: Sequence[bytes],
    received_ms: int,
    final_by_ms: int,
) -> list[Promise]:
    """Sign for at least one transaction; a promise each, in order. Takes some 0.5 ms."""
    hashes = merkle.leaf_hashes(tx_ids)
    tree = merkle.Tree()
    tree.append(hashes)
    root, size = tree.root(), len(tx_ids)
    signature = operator.sign(_message(genesis, root, size, received_ms, final_by_ms), CONTEXT)
    acknowledgement = Acknowledgement(genesis, root, size, received_ms, final_by_ms, signature)
    paths = merkle.round_inclusions(b"", 0, hashes, range(size))
    return [
        Promise(acknowledgement, tx_id, index, tuple(path))
        for index, (tx_id, path) in enumerate(zip(tx_ids, paths, strict=True))
    ]


def verify(genesis: Genesis, *promises: Promise) -> None:
    """Check promises of one city; each signature once.

    Raises:
        InvalidAcknowledgement: naming the first check that does not hold.
    """
    signed: set[Acknowledgement] = set()
    for promise in promises:
        _verify_form(promise)
        acknowledgement = promise.acknowledgement
        if acknowledgement not in signed:
            _verify_signature(genesis, acknowledgement)
            signed.add(acknowledgement)
        try:
            merkle.verify_inclusion(
                merkle.hash_leaf(promise.tx_id),
                promise.leaf_index,
                acknowledgement.size,
                promise.path,
                acknowledgement.root,
            )
        except VerificationError as error:
            raise InvalidAcknowledgement("inclusion", str(error)) from None


def _verify_form(promise: Promise) -> None:
    """What the layouts that are hashed below rely on."""
    acknowledgement = promise.acknowledgement
    hashes = (acknowledgement.genesis, acknowledgement.root, promise.tx_id, *promise.path)
    if any(len(one) != 32 for one in hashes):
        raise InvalidAcknowledgement("form", "an id or hash is not 32 bytes")
    if len(acknowledgement.signature) != signatures.SIGNATURE_BYTES:
        raise InvalidAcknowledgement("form", "the signature has another length")
    if not 0 <= promise.leaf_index < acknowledgement.size <= SIZE_MAX:
        raise InvalidAcknowledgement("form", "no such place")
    if not 0 <= acknowledgement.received_ms <= acknowledgement.final_by_ms <= TIME_MS_MAX:
        raise InvalidAcknowledgement("form", "no such times")


def _verify_signature(genesis: Genesis, acknowledgement: Acknowledgement) -> None:
    if acknowledgement.genesis != genesis.id:
        raise InvalidAcknowledgement(
            "genesis",
            f"of city {acknowledgement.genesis.hex()}, not {genesis.id.hex()}",
        )
    operator = bytes.fromhex(genesis.operator)
    try:
        signatures.verify(
            operator, signed_message(acknowledgement), CONTEXT, acknowledgement.signature
        )
    except VerificationError as error:
        raise InvalidAcknowledgement("signature", f"not the operator's: {error}") from None


# --- as a file ------------------------------------------------------------------

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Time = Annotated[int, Field(ge=0, le=TIME_MS_MAX)]


class _File(BaseModel):
    """The file of one promise; bytes in hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1]
    genesis: _Hash
    tx_id: _Hash
    leaf_index: Annotated[int, Field(ge=0, lt=SIZE_MAX)]
    path: Annotated[tuple[_Hash, ...], Field(max_length=PATH_MAX)]
    root: _Hash
    size: Annotated[int, Field(ge=1, le=SIZE_MAX)]
    received_ms: _Time
    final_by_ms: _Time
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{9254}$")]


def to_fields(promise: Promise) -> dict[str, Any]:
    """A promise for JSON; bytes in hexadecimal."""
    acknowledgement = promise.acknowledgement
    return {
        "format": 1,
        "genesis": acknowledgement.genesis.hex(),
        "tx_id": promise.tx_id.hex(),
        "leaf_index": promise.leaf_index,
        "path": [one.hex() for one in promise.path],
        "root": acknowledgement.root.hex(),
        "size": acknowledgement.size,
        "received_ms": acknowledgement.received_ms,
        "final_by_ms": acknowledgement.final_by_ms,
        "signature": acknowledgement.signature.hex(),
    }


def to_json(promise: Promise) -> str:
    """A promise as the text of a file."""
    return json.dumps(to_fields(promise), indent=1) + "\n"


def from_json(content: bytes) -> Promise:
    """Read a promise's file. What it claims is not checked: see `verify`.

    Raises:
        InvalidAcknowledgement: with the check ``form``; it is none.
    """
    if len(content) > FILE_BYTES_MAX:
        raise InvalidAcknowledgement("form", f"more than {FILE_BYTES_MAX} bytes")
    try:
        read_json(content)
        file = _File.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidAcknowledgement("form", f"{field}: {first['msg']}") from None
    except ValueError as error:
        raise InvalidAcknowledgement("form", str(error)) from None
    return Promise(
        Acknowledgement(
            genesis=bytes.fromhex(file.genesis),
            root=bytes.fromhex(file.root),
            size=file.size,
            received_ms=file.received_ms,
            final_by_ms=file.final_by_ms,
            signature=bytes.fromhex(file.signature),
        ),
        tx_id=bytes.fromhex(file.tx_id),
        leaf_index=file.leaf_index,
        path=tuple(map(bytes.fromhex, file.path)),
    )
