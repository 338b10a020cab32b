"""What residents state as data: segments, holdings, answers, retention, rewards.

Nobody judges these to seal a round: the ledger orders them as `Data` transactions of well-known
content types, and whoever recounts judges them. What is wrong counts for nothing.

The content is JSON in one form: members sorted, no spaces, ids in lower-case hexadecimal, integers
below 2^53, bytes in base64. Another form of the same is wrong, so a statement has one hash.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from citychain.errors import VerificationError
from citychain.ports import FragmentKey

__all__ = [
    "ANSWERS_MAX",
    "CONTENT_TYPES",
    "FRAGMENTS_MAX",
    "TX_IDS_MAX",
    "Answer",
    "AnsweredChunk",
    "Holding",
    "HoldingRules",
    "Retention",
    "Rewards",
    "Segment",
    "Statement",
    "decode",
    "is_statement",
]

FRAGMENTS_MAX: Final = 400
"""Fragments of a `Holding`."""
ANSWERS_MAX: Final = 3
"""Chunks of an `Answer`: more would not fit into a transaction."""
TX_IDS_MAX: Final = 400
"""Transactions of a `Retention`."""
INTEGER_MAX: Final = (1 << 53) - 1
CHUNK_MIN: Final = 4 << 10
CHUNK_MAX: Final = 1 << 20
FRAGMENTS_OF_OBJECT_MAX: Final = 255

Natural = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
Positive = Annotated[int, Field(ge=1, le=INTEGER_MAX)]
IdHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
Index = Annotated[int, Field(ge=0, lt=FRAGMENTS_OF_OBJECT_MAX)]


def _is_base64(text: str) -> str:
    try:
        same = base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except (binascii.Error, ValueError):
        same = False
    if not same:
        raise ValueError("is not base64")
    return text


Base64 = Annotated[str, AfterValidator(_is_base64)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Statement(_Part):
    """Any of the statements below."""

    CONTENT_TYPE: ClassVar[str]

    def encode(self) -> bytes:
        """The content of its transaction."""
        members: Any = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(
            members, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read the content of a transaction of this type.

        Raises:
            VerificationError: naming the member that is wrong.
        """
        try:
            statement = cls.model_validate_json(content)
        except ValidationError as error:
            [fault, *_] = error.errors(include_url=False, include_input=False)
            where = ".".join(map(str, fault["loc"])) or "content"
            raise VerificationError(f"{cls.__name__}: {where}: {fault['msg']}") from None
        if statement.encode() != content:
            raise VerificationError(
                f"{cls.__name__}: content: is not in the one form: members sorted and given once, "
                "no spaces"
            )
        return statement


class Segment(Statement):
    """Announces an object that has some of a city's rounds; by the server's key."""

    CONTENT_TYPE: ClassVar[str] = "application/vnd.citychain.segment+json"

    first: Positive
    """Its rounds, from this one..."""
    last: Positive
    """...to this one."""
    object: IdHex
    root: IdHex
    """Of the object's manifest."""
    data: Annotated[int, Field(ge=1, le=FRAGMENTS_OF_OBJECT_MAX)]
    """Fragments that restore it."""
    parity: Annotated[int, Field(ge=0, lt=FRAGMENTS_OF_OBJECT_MAX)]
    """Fragments besides."""
    chunk: Annotated[int, Field(ge=CHUNK_MIN, le=CHUNK_MAX)]
    """Bytes of a chunk."""
    size: Natural
    """Bytes of the object."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.last < self.first:
            raise ValueError("last is before first")
        if self.data + self.parity > FRAGMENTS_OF_OBJECT_MAX:
            raise ValueError(f"data and parity are more than {FRAGMENTS_OF_OBJECT_MAX}")
        if self.chunk & (self.chunk - 1):
            raise ValueError("chunk is no power of two")
        return self

    @property
    def keys(self) -> list[FragmentKey]:
        """All fragments of the object."""
        object_id, root = bytes.fromhex(self.object), bytes.fromhex(self.root)
        return [FragmentKey(object_id, root, index) for index in range(self.data + self.parity)]


class Holding(Statement):
    """Its author has these fragments, from the time of the round that seals it until a time."""

    CONTENT_TYPE: ClassVar[str] = "application/vnd.citychain.holding+json"

    until: Positive
    """Milliseconds since 1970 UTC."""
    fragments: Annotated[
        tuple[tuple[IdHex, IdHex, Index], ...], Field(min_length=1, max_length=FRAGMENTS_MAX)
    ]
    """Object, root of its manifest, index; sorted, each once."""

    @model_validator(mode="after")
    def _is_sorted(self) -> Self:
        if list(self.fragments) != sorted(set(self.fragments)):
            raise ValueError("fragments are not sorted, or one is given twice")
        return self

    @classmethod
    def of(cls, until: int, keys: list[FragmentKey]) -> Self:
        """States that these are held, in whatever order."""
        fragments = sorted({(key.object_id.hex(), key.root.hex(), key.index) for key in keys})
        return cls(until=until, fragments=tuple(fragments))

    @property
    def keys(self) -> list[FragmentKey]:
        """The fragments."""
        return [
            FragmentKey(bytes.fromhex(object_id), bytes.fromhex(root), index)
            for object_id, root, index in self.fragments
        ]


class HoldingRules(Statement):
    """How holders are asked for what they hold, from the next round on; by the operator."""

    CONTENT_TYPE: ClassVar[str] = "application/vnd.citychain.holding-rules+json"

    challenge_rounds: Positive = 3_600
    """The checkpoint of every so many rounds asks."""
    answer_rounds: Positive = 600
    """An answer counts in so many rounds after it."""
    receipts: Positive = 1
    """Holders that a fragment wants."""


class AnsweredChunk(_Part):
    """One chunk that was asked for."""

    object: IdHex
    root: IdHex
    index: Index
    chunk: Natural
    """Which chunk of the fragment, from 0."""
    proof: Base64
    """The chunk and its paths, as `citychain.fragments.proving.ChunkProof` writes them."""

    @property
    def key(self) -> FragmentKey:
        """The fragment."""
        return FragmentKey(bytes.fromhex(self.object), bytes.fromhex(self.root), self.index)

    @property
    def proof_bytes(self) -> bytes:
        """The proof, decoded."""
        return base64.b64decode(self.proof)

    @classmethod
    def of(cls, key: FragmentKey, chunk: int, proof: bytes) -> Self:
        """Answers for one chunk."""
        return cls(
            object=key.object_id.hex(),
            root=key.root.hex(),
            index=key.index,
            chunk=chunk,
            proof=base64.b64encode(proof).decode(),
        )


class Answer(Statement):
    """Its author's answer to what the checkpoint of a round asks of it."""

    CONTENT_TYPE: ClassVar[str] = "application/vnd.citychain.answer+json"

    challenge: Positive
    """The round."""
    answers: Annotated[tuple[AnsweredChunk, ...], Field(min_length=1, max_length=ANSWERS_MAX)]


class Retention(Statement):
    """Nothing of these is pruned before a time; an author's own, or by the operator any."""

    CONTENT_TYPE: ClassVar[str] = "application/vnd.citychain.retention+json"

    until: Positive
    """Milliseconds since 1970 UTC."""
    tx_ids: Annotated[tuple[IdHex, ...], Field(min_length=1, max_length=TX_IDS_MAX)] | None = None
    """Sorted, each once; absent for all of the city."""

    @model_validator(mode="after")
    def _is_sorted(self) -> Self:
        if self.tx_ids is not None and list(self.tx_ids) != sorted(set(self.tx_ids)):
            raise ValueError("tx_ids are not sorted, or one is given twice")
        return self


class Rewards(Statement):
    """Parameters of an epoch's distribution, by the operator; the first approved one counts, if the
    epoch is over by then and no other one that counts has rounds of it.

    Epoch e has the rounds e * n + 1 to (e + 1) * n, for any n. Rates and multipliers are in
    thousandths, amounts in the asset's own units.
    """

    CONTENT_TYPE: ClassVar[str] = "application/vnd.citychain.rewards+json"

    epoch: Natural
    first: Positive
    """Its rounds, from this one..."""
    last: Positive
    """...to this one."""
    asset: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}\z")]
    base: Natural
    """What a payee of rate 1 and score 1 gets."""
    full: Natural
    """Rate of those who vote."""
    light: Natural
    """Rate of those who hold."""
    absent: Annotated[int, Field(ge=0, le=1_000)]
    """Multiplier of a key whose presence did not stand in the epoch; else it is 1,000."""
    budget: Natural
    """All together get at most this."""
    votes: IdHex
    """Digest of who voted in the certificates that the operator counted; see
    `citychain.rewards.counting`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.last < self.first:
            raise ValueError("last is before first")
        if self.first != self.epoch * (self.last - self.first + 1) + 1:
            raise ValueError("first is not the round after so many epochs of so many rounds")
        return self


CONTENT_TYPES: Final[dict[str, type[Statement]]] = {
    kind.CONTENT_TYPE: kind for kind in (Segment, Holding, HoldingRules, Answer, Retention, Rewards)
}


def decode(content_type: str, content: bytes) -> Statement | None:
    """The statement of a transaction; ``None`` where its content type is none of these.

    Raises:
        VerificationError: naming the member that is wrong.
    """
    kind = CONTENT_TYPES.get(content_type)
    return None if kind is None else kind.from_bytes(content)


def is_statement(content_type: str, content: bytes) -> bool:
    """Whether a transaction's data is a statement, and a right one."""
    try:
        return decode(content_type, content) is not None
    except VerificationError:
        return False
