"""The model: what the three parts of a city hand to each other.

Ids and hashes are 32 bytes. A transaction itself is the native
`citychain.Transaction`: its bytes are opened once, in Rust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction

__all__ = [
    "Anchor",
    "CastVote",
    "Certificate",
    "ConflictingVotes",
    "Decision",
    "Delivery",
    "Equivocation",
    "Handover",
    "Head",
    "NodeRef",
    "ObjectState",
    "ObjectWrite",
    "Objection",
    "Parent",
    "Peer",
    "PohEntry",
    "Presence",
    "Quorum",
    "RawTransaction",
    "Recovery",
    "Rejection",
    "Remittance",
    "Reward",
    "SealedNode",
    "SealedRound",
    "Seat",
    "Settlement",
    "Stake",
    "State",
    "SubtreeHash",
    "Verdict",
    "Vote",
    "VoteOutcome",
    "WitnessSignature",
]


class State(IntEnum):
    """Life of a transaction; the numbers are those of the wire."""

    RECEIVED = 1
    """Stored durably; will have a final state."""
    SEALED = 2
    """Has its verdict and its place in a round."""
    APPROVED = 3
    """Final: certified and linked."""
    REJECTED = 4
    """Final: certified as refused."""


class Rejection(NamedTuple):
    """Why a transaction was rejected."""

    code: str
    """Stable, for programs: 1 to 32 characters of A-Z, 0-9 and ``_``."""
    reason: str
    """For people: at most 255 bytes of UTF-8."""


Quorum: TypeAlias = Literal["two-thirds", "majority"]
"""How much of a committee's stake makes a certificate."""

Verdict: TypeAlias = Rejection | None
"""``None`` means approved."""


class NodeRef(NamedTuple):
    """A linked node by place and id. The genesis is ``NodeRef(0, 0, genesis)``."""

    round: int
    seq: int
    node_id: bytes


Parent: TypeAlias = NodeRef | int
"""A node of an earlier round, or the seq of an earlier node of the same round."""


class ObjectState(NamedTuple):
    """Version and value of an object; version 0 and an empty value where it does not exist."""

    version: int
    value: bytes


class ObjectWrite(NamedTuple):
    """The state in which a round leaves an object."""

    object: str
    version: int
    value: bytes


class PohEntry(NamedTuple):
    """A proof-of-history entry: ``hash`` = SHA-256 applied to ``prev`` ``num_hashes - 1``
    times, then once to the result followed by ``mixin``."""

    prev: bytes
    num_hashes: int
    mixin: bytes
    hash: bytes


class Seat(NamedTuple):
    """A representative in a committee."""

    key_id: bytes
    stake: int
    """At least 1."""


class Vote(NamedTuple):
    """A representative's signature over (genesis, round, checkpoint hash)."""

    key_id: bytes
    signature: bytes


class WitnessSignature(NamedTuple):
    """A witness's signature under somebody's claim of having been at a place."""

    key_id: bytes
    signature: bytes


class Presence(NamedTuple):
    """The claim of having been at a place, for a window of rounds."""

    latitude_e7: int
    """Degrees north times 10**7."""
    longitude_e7: int
    """Degrees east times 10**7."""
    accuracy_m: int
    first_round: int
    last_round: int
    """Not before ``first_round``."""
    anchor: bytes
    """Hash of the first round's checkpoint; for round 0 the genesis id."""
    witnesses: tuple[WitnessSignature, ...] = ()
    """At most 16, of different keys."""


class Stake(NamedTuple):
    """An amount that a candidacy locks, or a withdrawal frees."""

    asset: str
    amount: int
    """In the asset's smallest unit, at least 1."""


class Equivocation(NamedTuple):
    """Two votes of one key for different checkpoints of one round."""

    public_key: bytes
    round: int
    first_hash: bytes
    first_signature: bytes
    second_hash: bytes
    second_signature: bytes


class Recovery(NamedTuple):
    """The operator's replacement of a committee that approves nothing any more."""

    from_round: int
    """The new committee is in office from this round on."""
    previous: bytes
    """Hash of the checkpoint of the round before."""
    seats: tuple[Seat, ...]
    """1 to 256, of different keys."""


class Peer(NamedTuple):
    """The operator's pinning of another city."""

    genesis_file: bytes
    """Byte for byte, 1 to 262,144 bytes."""


class Remittance(NamedTuple):
    """An amount for a key in another city, from the author's balance."""

    asset: str
    city: bytes
    """Genesis id of the other city."""
    to: bytes
    """Key id of the payee there."""
    amount: int
    """In the asset's smallest unit, at least 1."""


class Delivery(NamedTuple):
    """The arrival of a remittance in the city that it was sent to."""

    city: bytes
    """Genesis id of the city that it was sent from."""
    tx_id: bytes
    """The remittance's, as are asset, payee and amount."""
    asset: str
    to: bytes
    amount: int
    proof: bytes
    """The sending city's receipt of the remittance."""
    refusal_code: str = ""
    """Empty: the payee gets the amount. Else the city refuses it."""
    refusal_reason: str = ""


class Settlement(NamedTuple):
    """What became of a remittance, in the city that sent it."""

    tx_id: bytes
    """The remittance's, as are payer, city, asset and amount."""
    payer: bytes
    city: bytes
    """Genesis id of the city that it was sent to."""
    asset: str
    amount: int
    returned: bool
    """Whether it was refused, and the amount goes back."""
    proof: bytes
    """The other city's receipt of the approved delivery."""


class Anchor(NamedTuple):
    """A checkpoint of a city that has this one for a parent."""

    city: bytes
    """Genesis id of the other city."""
    checkpoint: bytes
    proof: bytes
    """Its certificate."""


class Reward(NamedTuple):
    """What a key is paid for an epoch, from the operator's balance; signed by the operator."""

    epoch: int
    asset: str
    to: bytes
    """Key id of the payee."""
    amount: int
    """In the asset's smallest unit, at least 1."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Votes for one checkpoint whose stakes reach the quorum."""

    round: int
    checkpoint_hash: bytes
    votes: tuple[Vote, ...]


class CastVote(NamedTuple):
    """A vote on its way to the city."""

    round: int
    checkpoint_hash: bytes
    vote: Vote


class VoteOutcome(IntEnum):
    """What became of a cast vote; the numbers are those of the wire."""

    COUNTED = 1
    REPEATED = 2
    """This vote is known."""
    LATE = 3
    """The round has its certificate; the vote is kept."""
    UNKNOWN_ROUND = 4
    """The round does not exist here, or not yet."""
    OTHER_CHECKPOINT = 5
    """For another checkpoint than the round's."""
    NO_SEAT = 6
    """The key has no seat in the round's committee."""
    BAD_SIGNATURE = 7
    EQUIVOCATION = 8
    """The key voted for another checkpoint of this round: the proof is kept."""


class ConflictingVotes(NamedTuple):
    """Proof, by itself, that a key signed two checkpoints of one round."""

    public_key: bytes
    first: CastVote
    second: CastVote


class Objection(NamedTuple):
    """Why a representative does not vote for a checkpoint."""

    round: int
    checkpoint_hash: bytes
    check: str
    """Which check failed, 1 to 32 bytes."""
    detail: str
    """For people, at most 512 bytes of UTF-8."""
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Handover:
    """A change of the committee: an election, or the operator's recovery."""

    public_keys: tuple[bytes, ...]
    """Of the new committee, in order of its seats."""
    checkpoint: bytes = b""
    """Of an election: names the next committee, in office from the round after."""
    certificate: Certificate | None = None
    """By the committee that was in office."""
    recovery: bytes = b""
    """Of a recovery: the operator's signed transaction in its stored form."""


@dataclass(frozen=True, slots=True)
class RawTransaction:
    """A transaction as received: what `CityStorage.append` makes durable."""

    tx_id: bytes
    author: bytes
    envelope: bytes
    """A serialized ``SignedTransaction`` in its stored form (signer by key id)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a DAG handler decides about one round: order, verdicts, parents, state."""

    order: Sequence[Transaction]
    """Sealed in this round, in order; a transaction's index here is its seq."""
    verdicts: Sequence[Verdict]
    """One for each of ``order``."""
    parents: Sequence[tuple[Parent, ...]]
    """One for each of ``order``: 1 to 8 without repeats, ``()`` for a rejected one."""
    held: Sequence[Transaction] = ()
    """Candidates that wait for a dependency: they are candidates again next round."""
    writes: Sequence[ObjectWrite] = ()
    """Final state of each object that the round changes, sorted by object."""


class SubtreeHash(NamedTuple):
    """Hash of the perfect subtree over leaves ``[number << level, (number + 1) << level)``."""

    level: int
    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class SealedNode:
    """A sealed transaction as storage returns it: linked if ``rejection`` is ``None``."""

    tx_id: bytes
    author: bytes
    round: int
    seq: int
    node_id: bytes | None
    """``None`` for a rejected transaction."""
    parents: tuple[NodeRef, ...]
    rejection: Rejection | None
    pop: bytes | None = None

    @property
    def ref(self) -> NodeRef:
        """The node's reference; only for a linked one."""
        assert self.node_id is not None
        return NodeRef(self.round, self.seq, self.node_id)


@dataclass(frozen=True, slots=True)
class SealedRound:
    """A round, complete: what `CityStorage.commit` makes durable in one step.

    ``record`` alone decides; all else is derived from it and from the rounds
    before, and is given so that no backend has to derive it again.
    """

    round: int
    time_ms: int
    epoch: int
    """Lease epoch of the sequencer."""
    first_index: int
    """Number of leaves in the city's log before this round."""
    record: bytes
    """`citychain.record` layout, < 8 MiB."""
    checkpoint: bytes
    """`citychain.checkpoint` layout."""
    checkpoint_hash: bytes
    transactions: Sequence[Transaction]
    """In order of seq."""
    verdicts: Sequence[Verdict]
    node_ids: Sequence[bytes | None]
    parents: Sequence[tuple[NodeRef, ...]]
    pops: Sequence[bytes] | None
    held: Sequence[bytes]
    """Transaction ids first held in this round."""
    writes: Sequence[ObjectWrite]
    leaf_hashes: bytes
    """32 bytes a transaction, in order of seq."""
    peaks: bytes
    """Peaks of the log's Merkle tree after this round, 32 bytes each, left to right."""
    subtrees: Sequence[SubtreeHash] = field(default=())
    """Subtrees that this round completed, at levels 8, 16, 24, ..."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a city's ledger stands."""

    round: int = 0
    """Latest committed round; 0 before the first."""
    time_ms: int = 0
    epoch: int = 0
    size: int = 0
    """Number of leaves in the log."""
    peaks: bytes = b""
    checkpoint: bytes = b""
    checkpoint_hash: bytes = b""
    certified_round: int = 0
    """All rounds up to this one have a certificate."""
