"""Transactions written by hand: an encoder that knows nothing of the native parser."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from hypothesis import strategies as st

from citychain._native.transactions import Transaction, decode_batch

SIGNATURE_BYTES = 4627
PUBLIC_KEY_BYTES = 2592
U64_MAX = 2**64 - 1
T = TypeVar("T")
Keyed: TypeAlias = tuple[bytes, T]


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


def zigzag(value: int) -> int:
    """How protobuf writes a sint32: small in magnitude is small."""
    return 2 * value if value >= 0 else -2 * value - 1


def keyed(number: int, key_id: bytes, rest: bytes) -> bytes:
    """An entry of a list by key id."""
    return chunk(number, chunk(1, key_id) + rest)


@dataclass(frozen=True)
class Presence:
    latitude_e7: int = 0
    longitude_e7: int = 0
    accuracy_m: int = 0
    first_round: int = 0
    last_round: int = 0
    anchor: bytes = bytes(32)
    witnesses: tuple[tuple[bytes, bytes], ...] = ()
    """Key ids and signatures."""

    def field(self) -> bytes:
        claim = (
            integer(1, zigzag(self.latitude_e7)),
            integer(2, zigzag(self.longitude_e7)),
            integer(3, self.accuracy_m),
            integer(4, self.first_round),
            integer(5, self.last_round),
            chunk(6, self.anchor),
            *(keyed(7, key_id, chunk(2, signature)) for key_id, signature in self.witnesses),
        )
        return chunk(18, b"".join(claim))


@dataclass(frozen=True)
class Candidacy:
    asset: str
    stake: int

    def field(self) -> bytes:
        return chunk(19, chunk(1, self.asset) + integer(2, self.stake))


@dataclass(frozen=True)
class Withdrawal:
    asset: str
    stake: int

    def field(self) -> bytes:
        return chunk(20, chunk(1, self.asset) + integer(2, self.stake))


@dataclass(frozen=True)
class Witness:
    public_key: bytes
    revoked: bool = False

    def field(self) -> bytes:
        return chunk(21, chunk(1, self.public_key) + integer(2, int(self.revoked)))


@dataclass(frozen=True)
class Equivocation:
    public_key: bytes = bytes(PUBLIC_KEY_BYTES)
    round: int = 1
    first_hash: bytes = bytes(32)
    first_signature: bytes = bytes(SIGNATURE_BYTES)
    second_hash: bytes = b"\1" * 32
    second_signature: bytes = bytes(SIGNATURE_BYTES)

    def field(self) -> bytes:
        votes = (
            chunk(1, self.public_key),
            integer(2, self.round),
            chunk(3, self.first_hash),
            chunk(4, self.first_signature),
            chunk(5, self.second_hash),
            chunk(6, self.second_signature),
        )
        return chunk(22, b"".join(votes))


@dataclass(frozen=True)
class Recovery:
    from_round: int = 1
    previous: bytes = bytes(32)
    seats: tuple[tuple[bytes, int], ...] = ((bytes(32), 1),)
    """Key ids and stakes."""

    def field(self) -> bytes:
        seats = (keyed(3, key_id, integer(2, stake)) for key_id, stake in self.seats)
        fields = (integer(1, self.from_round), chunk(2, self.previous), *seats)
        return chunk(23, b"".join(fields))


@dataclass(frozen=True)
class Peer:
    genesis_file: bytes = b"{}"

    def field(self) -> bytes:
        return chunk(24, chunk(1, self.genesis_file))


@dataclass(frozen=True)
class Remittance:
    asset: str = "yen"
    city: bytes = bytes(32)
    to: bytes = bytes(32)
    amount: int = 1

    def field(self) -> bytes:
        ids = chunk(2, self.city) + chunk(3, self.to)
        return chunk(25, chunk(1, self.asset) + ids + integer(4, self.amount))


@dataclass(frozen=True)
class Delivery:
    city: bytes = bytes(32)
    tx_id: bytes = bytes(32)
    asset: str = "yen"
    to: bytes = bytes(32)
    amount: int = 1
    proof: bytes = b"proof"
    refusal_code: str = ""
    refusal_reason: str = ""

    def field(self) -> bytes:
        fields = (
            chunk(1, self.city),
            chunk(2, self.tx_id),
            chunk(3, self.asset),
            chunk(4, self.to),
            integer(5, self.amount),
            chunk(6, self.proof),
            chunk(7, self.refusal_code),
            chunk(8, self.refusal_reason),
        )
        return chunk(26, b"".join(fields))


@dataclass(frozen=True)
class Settlement:
    tx_id: bytes = bytes(32)
    payer: bytes = bytes(32)
    city: bytes = bytes(32)
    asset: str = "yen"
    amount: int = 1
    returned: bool = False
    proof: bytes = b"proof"

    def field(self) -> bytes:
        fields = (
            chunk(1, self.tx_id),
            chunk(2, self.payer),
            chunk(3, self.city),
            chunk(4, self.asset),
            integer(5, self.amount),
            integer(6, int(self.returned)),
            chunk(7, self.proof),
        )
        return chunk(27, b"".join(fields))


@dataclass(frozen=True)
class Anchor:
    city: bytes = bytes(32)
    checkpoint: bytes = bytes(42)
    proof: bytes = b"proof"

    def field(self) -> bytes:
        return chunk(28, chunk(1, self.city) + chunk(2, self.checkpoint) + chunk(3, self.proof))


@dataclass(frozen=True)
class Reward:
    epoch: int = 0
    asset: str = "yen"
    to: bytes = bytes(32)
    amount: int = 1

    def field(self) -> bytes:
        paid = chunk(2, self.asset) + chunk(3, self.to) + integer(4, self.amount)
        return chunk(29, integer(1, self.epoch) + paid)


Action: TypeAlias = (
    Data
    | Transfer
    | Presence
    | Candidacy
    | Withdrawal
    | Witness
    | Equivocation
    | Recovery
    | Peer
    | Remittance
    | Delivery
    | Settlement
    | Anchor
    | Reward
)


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
    action: Action = field(default_factory=Data)

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
ASSETS = st.text("abcxyz0189-", min_size=1, max_size=32)
STAKES = st.integers(1, 2**63 - 1)
AMOUNTS = st.integers(1, U64_MAX)
PROOFS = st.binary(min_size=1)
CODES = st.text("ABZ019_", min_size=1, max_size=32)
# Of one byte each: drawing thousands of bytes is slow, and shows nothing more.
SIGNATURES, PUBLIC_KEYS = (
    st.integers(0, 255).map(lambda byte, size=size: bytes((byte,)) * size)
    for size in (SIGNATURE_BYTES, PUBLIC_KEY_BYTES)
)


def by_key(values: st.SearchStrategy[T], **sizes: int) -> st.SearchStrategy[tuple[Keyed[T], ...]]:
    """Lists of (key id, value) in which no key id is repeated."""
    return st.dictionaries(IDS, values, **sizes).map(lambda entries: tuple(entries.items()))


@st.composite
def presences(draw: st.DrawFn) -> Presence:
    first, last = sorted(draw(st.tuples(U64, U64)))
    return Presence(
        draw(st.integers(-900_000_000, 900_000_000)),
        draw(st.integers(-1_800_000_000, 1_800_000_000)),
        draw(st.integers(0, 2**32 - 1)),
        first,
        last,
        draw(IDS),
        draw(by_key(SIGNATURES, max_size=2)),
    )


ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Data, TEXT.filter(lambda text: len(text.encode()) <= 64), st.binary()),
    st.builds(Transfer, ASSETS, IDS, AMOUNTS),
    presences(),
    st.builds(Candidacy, ASSETS, STAKES),
    st.builds(Withdrawal, ASSETS, STAKES),
    st.builds(Witness, PUBLIC_KEYS, st.booleans()),
    st.builds(Equivocation, PUBLIC_KEYS, U64, IDS, SIGNATURES, IDS, SIGNATURES).filter(
        lambda votes: votes.first_hash != votes.second_hash
    ),
    st.builds(Recovery, st.integers(1, U64_MAX), IDS, by_key(STAKES, min_size=1, max_size=3)),
    st.builds(Peer, PROOFS),
    st.builds(Remittance, ASSETS, IDS, IDS, AMOUNTS),
    st.builds(Delivery, IDS, IDS, ASSETS, IDS, AMOUNTS, PROOFS),
    st.builds(Delivery, IDS, IDS, ASSETS, IDS, AMOUNTS, PROOFS, CODES, TEXT),
    st.builds(Settlement, IDS, IDS, IDS, ASSETS, AMOUNTS, st.booleans(), PROOFS),
    st.builds(Anchor, IDS, st.binary(min_size=42, max_size=60), PROOFS),
    st.builds(Reward, U64, ASSETS, IDS, AMOUNTS),
)


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
        action=draw(ACTIONS),
    )


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a few edits of the kinds that parsers get wrong."""
    data = bytearray(draw(originals))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        edit = draw(st.sampled_from(["set", "flip", "insert", "delete", "repeat", "cut"]))
        if edit == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        elif edit == "cut":
            del data[at:]
        elif edit in ("delete", "repeat"):
            span = data[at : at + draw(st.integers(1, 40))]
            data[at : at + len(span)] = span + span if edit == "repeat" else b""
        elif at < len(data):
            mask = draw(st.integers(0, 255))
            data[at] = mask if edit == "set" else data[at] ^ (1 << (mask & 7))
    return bytes(data)


def fields_of(message: bytes) -> list[tuple[int, int | bytes]]:
    """Numbers and values of a well-formed message."""
    fields: list[tuple[int, int | bytes]] = []
    at = 0

    def take() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag, value = take(), take()
        if tag & 7 == 0:
            fields.append((tag >> 3, value))
        else:
            fields.append((tag >> 3, message[at : at + value]))
            at += value
    return fields


EDGES = st.sampled_from(
    [
        edge + step
        for edge in (1, 2**31, 2**32, 2**63, 1_800_000_000, 3_600_000_000, 2**64 - 2)
        for step in (-1, 0, 1)
    ]
)


@st.composite
def disturbed(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Well-formed messages in whose action, or in an entry of it, one field is not as it was."""

    def disturb(message: bytes, nested: tuple[int, ...]) -> bytes:
        fields = fields_of(message)
        within = [at for at, (number, _) in enumerate(fields) if number in nested]
        if within and (16 in nested or draw(st.booleans())):
            at = draw(st.sampled_from(within))
            number, value = fields[at]
            assert isinstance(value, bytes)
            fields[at] = (number, disturb(value, {18: (7,), 23: (3,)}.get(number, ())))
        elif fields:
            disturb_field(fields, draw(st.integers(0, len(fields) - 1)))
        return b"".join(
            integer(number, value) if isinstance(value, int) else chunk(number, value)
            for number, value in fields
        )

    def disturb_field(fields: list[tuple[int, int | bytes]], at: int) -> None:
        number, value = fields[at]
        edit = draw(st.sampled_from(["drop", "repeat", "move", *["value"] * 4]))
        if edit == "repeat":
            fields.append(fields[at])
        elif edit in ("drop", "move"):
            moved = fields.pop(at)
            fields.extend([moved] if edit == "move" else [])
        elif isinstance(value, int):
            fields[at] = (number, draw(EDGES))
        else:
            others = [other for _, other in fields if isinstance(other, bytes)]
            fields[at] = (number, draw(st.sampled_from([value[:-1], value + b"\0", *others])))

    return disturb(draw(originals), tuple(range(16, 29)))
