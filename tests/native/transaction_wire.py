"""Transactions written by hand: an encoder that knows nothing of the native parser."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from hypothesis import strategies as st

from citychain._native.transactions import Transaction, decode_batch

SIGNATURE_BYTES = 4627
PUBLIC_KEY_BYTES = 2592
U64_MAX = 2**64 - 1


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def integer(number: int, value: int) -> bytes:
    """A field of wire type 0."""
    return varint(number << 3) + varint(value)


def chunk(number: int, value: bytes | str) -> bytes:
    """A field of wire type 2."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tx_id_of(body: bytes) -> bytes:
    return sha256(b"citychain/tx/v1\0", body)


@dataclass(frozen=True)
class Data:
    content_type: str = ""
    content: bytes = b""

    def field(self) -> bytes:
        return chunk(16, chunk(1, self.content_type) + chunk(2, self.content))


@dataclass(frozen=True)
class Transfer:
    asset: str
    to: bytes
    amount: int

    def field(self) -> bytes:
        return chunk(17, chunk(1, self.asset) + chunk(2, self.to) + integer(3, self.amount))


@dataclass(frozen=True)
class Body:
    """The fields of a TransactionBody."""

    genesis: bytes = bytes(32)
    author: bytes = bytes(32)
    nonce: bytes = bytes(8)
    created_at_ms: int = 1
    valid_until_ms: int | None = None
    depends_on: tuple[bytes, ...] = ()
    reads: tuple[tuple[str, int], ...] = ()
    writes: tuple[tuple[str, int], ...] = ()
    action: Data | Transfer = field(default_factory=Data)

    def fields(self) -> list[bytes]:
        """The encoded fields in order of number."""
        until = self.valid_until_ms
        return [
            chunk(1, self.genesis),
            chunk(2, self.author),
            chunk(3, self.nonce),
            integer(4, self.created_at_ms),
            *([] if until is None else [integer(5, until)]),
            *(chunk(6, tx_id) for tx_id in self.depends_on),
            *(chunk(7, chunk(1, name) + integer(2, version)) for name, version in self.reads),
            *(chunk(8, chunk(1, name) + integer(2, version)) for name, version in self.writes),
            self.action.field(),
        ]

    def encode(self) -> bytes:
        return b"".join(self.fields())

    @property
    def tx_id(self) -> bytes:
        return tx_id_of(self.encode())


def stored_form(body: bytes, key_id: bytes, signature: bytes = bytes(SIGNATURE_BYTES)) -> bytes:
    return chunk(1, body) + integer(2, 1) + chunk(4, key_id) + chunk(5, signature)


def transaction(body: Body) -> Transaction:
    """As if it came out of storage, where signatures are not checked again."""
    [decoded] = decode_batch([stored_form(body.encode(), body.author)])
    return decoded


IDS = st.binary(min_size=32, max_size=32)
U64 = st.integers(0, U64_MAX)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
OBJECTS = TEXT.filter(lambda name: name != "" and not name.startswith("$"))
VERSIONS = st.dictionaries(OBJECTS, U64, max_size=3).map(lambda named: tuple(named.items()))


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    created_at_ms = draw(st.integers(1, U64_MAX - 1))
    return Body(
        genesis=draw(IDS),
        author=draw(IDS),
        nonce=draw(st.binary(min_size=8, max_size=8)),
        created_at_ms=created_at_ms,
        valid_until_ms=draw(st.none() | st.integers(created_at_ms + 1, U64_MAX)),
        depends_on=tuple(draw(st.lists(IDS, max_size=4, unique=True))),
        reads=draw(VERSIONS),
        writes=draw(VERSIONS),
        action=draw(
            st.builds(Data, TEXT.filter(lambda text: len(text.encode()) <= 64), st.binary())
            | st.builds(
                Transfer,
                st.text("abcxyz0189-", min_size=1, max_size=32),
                IDS,
                st.integers(1, U64_MAX),
            )
        ),
    )
