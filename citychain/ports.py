"""The three seams of a city: storage backend, DAG handler, consensus step.

A city's pipeline calls them in this order::

    intake     storage.append(batch)                        durable, then acknowledged
    sequencer  consensus.judge  -> refusals, judgements     pure
               dag.decide       -> order, verdicts, parents pure
               consensus.seal   -> proof-of-history entry
               storage.commit(round)                        once per (city, round)
    approver   consensus.approve(checkpoint) -> certificate
               storage.certify([certificate])

Every call is about a batch. What is *pure* may depend on its arguments and on
what it reads through `StateView` alone: anybody repeats it and must get the same.

All methods run on one event loop and must not block it: CPU work goes through
`CityContext.compute`. Any call may be cancelled at any await; a cancelled
write has happened or has not, and its caller assumes neither. An exception
other than those named means the same and is answered by trying again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast, runtime_checkable

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction
    from citychain.crypto.signatures import SigningKey
    from citychain.genesis import Genesis
    from citychain.types import (
        CastVote,
        Certificate,
        ConflictingVotes,
        Decision,
        Head,
        NodeRef,
        Objection,
        ObjectState,
        ObjectWrite,
        PohEntry,
        RawTransaction,
        Rejection,
        SealedNode,
        SealedRound,
        Seat,
        VoteOutcome,
    )

__all__ = [
    "EXCHANGE_ACTIONS",
    "CityContext",
    "CityStorage",
    "Clock",
    "CommitteeStatus",
    "Compute",
    "ConsensusStep",
    "DagHandler",
    "Judgement",
    "PendingPage",
    "RepresentativeStatus",
    "RoundContext",
    "StateView",
    "StorageBackend",
    "StorageContext",
    "StoredRound",
    "SupportsServers",
    "SupportsVotes",
    "knows_servers",
    "resumes",
    "settled_actions",
    "takes_votes",
]

T = TypeVar("T")


# --- what the framework lends to the parts ---------------------------------


class Clock(Protocol):
    """Time, so that tests can move it."""

    def time_ms(self) -> int:
        """Milliseconds since 1970 UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller."""


class Compute(Protocol):
    """The one door by which blocking or CPU-bound work leaves the event loop."""

    async def __call__(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Run ``function`` in the bounded executor and return its result."""


@dataclass(frozen=True, slots=True)
class StorageContext:
    """Given to a storage backend's factory."""

    directory: Path
    """The backend's own directory below the data directory; not created yet."""
    compute: Compute
    clock: Clock


@dataclass(frozen=True, slots=True)
class CityContext:
    """Given to the factories of DAG handlers and consensus steps."""

    slug: str
    genesis: Genesis
    compute: Compute
    clock: Clock
    operator: SigningKey | None
    """The server's operator key; ``None`` where the city is only followed: then the step
    judges, and neither seals nor approves. Never log it."""
    representatives: Sequence[SigningKey] = ()
    """Keys of the representatives that vote inside the server. Never log them."""
    storage: CityStorage | None = None
    """For what a consensus step keeps beside the ledger (`CityStorage.keep`) and for public
    keys; ``None`` where the city is only followed. What is pure does not look at it."""


@dataclass(frozen=True, slots=True)
class RoundContext:
    """The round being decided, as every verifier knows it."""

    genesis: bytes
    round: int
    """From 1."""
    time_ms: int
    """The round record's time: the only clock that rules may use."""
    previous_root: bytes
    """RFC 6962 root of the city's log before this round."""
    previous_poh: bytes
    """Hash of the previous round's proof-of-history entry; the genesis id before the first."""
    previous_checkpoint: bytes
    """Hash of the previous round's checkpoint; the genesis id before the first."""


class StateView(Protocol):
    """The ledger as the previous round left it; `CityStorage` offers the same methods."""

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """States of those that exist; others are absent."""

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """Those that are sealed (linked or rejected), by transaction id; others are absent."""

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """Each author's latest linked node, by key id; authors without one are absent."""

    async def tips(self) -> Sequence[NodeRef]:
        """Linked nodes, in order of seq, of the latest round that has any; empty before it."""

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """All sealed transactions of a round in order of seq; empty for an unknown round."""

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """Checkpoint hashes of committed rounds; others are absent."""


# --- storage ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingPage:
    """Received transactions without a place, in arrival order."""

    transactions: Sequence[RawTransaction]
    cursor: bytes | None
    """Continue after this page; ``None`` at the end."""


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A committed round as read back. See `SealedRound` for the layouts."""

    round: int
    time_ms: int
    first_index: int
    size: int
    """Number of log leaves after this round."""
    record: bytes
    checkpoint: bytes
    checkpoint_hash: bytes
    peaks: bytes
    certificate: Certificate | None = None


class CityStorage(StateView, Protocol):
    """One city's name-space in a storage backend.

    Reads see every write whose call has returned. Ids that do not exist are
    absent from a returned mapping; nothing here raises for them.
    """

    # Intake

    async def append(
        self, transactions: Sequence[RawTransaction], keys: Mapping[bytes, bytes]
    ) -> None:
        """Make transactions, and public keys by key id, durable, all or none.

        Where the definition says ``whole_appends=False``, what a crash or an error cuts short
        may be stored in part: each transaction whole, and all keys before any of them.

        When this returns they survive a power cut. A transaction id stored
        before (by any server) is left as it is. Calls may overlap; arrival
        order is the order in which they were made.

        Raises:
            StorageError: nothing of the call may be assumed stored.
        """

    async def keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Public keys by key id."""

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """Stored transactions, sealed or not; those that retention removed are absent."""

    async def pending(self, cursor: bytes | None, limit: int) -> PendingPage:
        """Transactions without a place, each once, in arrival order, after the cursor."""

    async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
        """Ids of all transactions without a place, or of the ``limit`` oldest, in arrival order.

        The truth about what other servers received: it is compared from the oldest on, since what
        became visible late has a place before what is known already. Cheap: so many ids alone.
        Since api_version 2.
        """

    async def changed(self, timeout: timedelta) -> None:
        """Return when another server may have written since the last call returned, at the
        latest after the timeout.

        Only a hint: its caller looks at `pending` and `head` again, whatever woke it.
        """

    # Sequencer

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        """Become the city's sequencer: a new fencing epoch, or ``None`` while another holds it.

        ``holder`` names the server, as in `SupportsServers`. Once this has returned, no round
        of an older epoch is committed any more. Epochs grow by each acquisition, also by the
        same holder, and are newer than those of all committed rounds, which may have been sealed
        in another storage. Expiry is judged by the waiting side's monotonic clock, never by
        comparing clocks. A backend that only one process can open always grants it.
        """

    async def renew_lease(self, epoch: int, ttl: timedelta) -> None:
        """Keep the lease for another ``ttl``.

        Raises:
            LeaseLost: a newer epoch exists.
        """

    async def release_lease(self, epoch: int) -> None:
        """Give the lease up; does nothing if it is lost already."""

    async def commit(self, sealed: SealedRound) -> None:
        """Make a round durable: everything in it, or nothing, exactly once.

        Rounds come in order without gaps, each from the log's size on. The record,
        unique on (city, round), is what commits; a backend without transactions
        across its collections writes it first and redoes the rest from it when it
        next opens the city or reads behind it. A `SealedRound` whose parts do not fit
        together raises an error of any kind, and is not committed.

        Raises:
            RoundTaken: this round exists already.
            LeaseLost: a newer lease epoch than the round's exists; before the first lease it
                is 0.
            StorageError: whether it is committed is unknown: ask `head`. Also for a round
                that does not follow the latest one, by its number or its `first_index`;
                that is not committed.
        """

    async def head(self) -> Head:
        """Where the ledger stands; a default `Head` before the first round."""

    # Approver

    async def certify(self, certificates: Sequence[Certificate]) -> None:
        """Store certificates of committed rounds; a round that has one keeps it.

        So repeating one changes nothing, nor does another one of the same round.

        Raises:
            StorageError: nothing of the call may be assumed stored. Also for the certificate
                of a round that is not committed.
        """

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        """Make notes durable, all or none; one of the same name is replaced.

        Notes stand beside the ledger: few, small, and no part of what is hashed. A name has
        1 to 255 bytes of UTF-8, a note at most 1 MiB.

        Raises:
            StorageError: nothing of the call may be assumed stored.
        """

    async def notes(
        self, prefix: str, known: Mapping[str, bytes] | None = None
    ) -> Mapping[str, bytes]:
        """Notes whose names begin with ``prefix``, in order of name; without those whose SHA-256
        is ``known``, by name, which are best not even read."""

    # Reads for receipts, verifiers and people

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """Committed rounds from ``first`` on, in order, at most ``limit``."""

    async def round_of_size(self, size: int) -> StoredRound | None:
        """The first round after which the log had ``size`` leaves; ``None`` if none ended there.

        Since api_version 2.
        """

    async def nodes(self, node_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """Linked nodes by node id; no two cities have one in common, since it is a hash over the
        genesis."""

    async def children(
        self, parent: NodeRef, after: tuple[int, int], limit: int
    ) -> Sequence[SealedNode]:
        """Nodes that name ``parent``, in order of (round, seq), after that place."""

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """Leaf hashes of the log, 32 bytes each, for leaves in ``[begin, end)`` that exist."""

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        """Stored subtree hashes of a level (8, 16, ...), 32 bytes each, by index; those up to
        the first that is not stored."""


class StorageBackend(Protocol):
    """A storage engine, shared by the cities that are configured alike.

    Entered before use and left after the last city is closed; leaving waits
    for writes under way. An idle city costs it no file and no connection.
    """

    async def __aenter__(self) -> StorageBackend:
        """Open the engine.

        Raises:
            DirectoryInUse: another process has it open.
            StorageError: it cannot be opened; the message says why.
        """

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the engine."""

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> CityStorage:
        """The name-space of the city with this genesis id, made on first use, with its genesis
        file and initial object states, all or none. Later it is as it stands.

        Raises:
            NameTaken: another city has its `citychain.genesis.city_name`. Since api_version 2.
        """


@runtime_checkable
class SupportsServers(Protocol):
    """A storage backend that several servers share, and that knows which of them are at work.

    Offered, besides `StorageBackend`, where the definition says ``shared``; cities are then
    spread over the servers. Nobody compares clocks: who lives is judged by whether their beats
    go on, on the monotonic clock of who asks.
    """

    async def beat(self, server: str) -> None:
        """Say that this server is at work."""

    async def leave(self, server: str) -> None:
        """Say that this server stops: it is forgotten at once."""

    async def servers(self, ttl: timedelta) -> Mapping[str, Sequence[bytes]]:
        """The servers whose beats went on within ``ttl``, each with the genesis ids of the
        cities whose leases it holds, or that were handed to it. One that is seen for the
        first time counts. Cities whose lease is held by a server that is not among them
        stand under the empty name."""

    async def genesis_files(self, cities: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Genesis files by genesis id, of those that are stored here."""

    async def hand_over(self, city: bytes, epoch: int, successor: str) -> None:
        """Give a city's lease up for one server: others are not granted it until that one took
        it, or a ttl of theirs has passed. Does nothing if the lease is lost already."""

    async def handed(self, server: str, timeout: timedelta) -> bool:
        """Whether a city was handed to this server since the last call, as soon as that is heard
        of, at the latest after the timeout. Only a hint."""


def knows_servers(backend: StorageBackend) -> SupportsServers | None:
    """The backend if it is a `SupportsServers` too; it is asked, not inspected."""
    names = ("beat", "leave", "servers", "genesis_files", "hand_over", "handed")
    offered = (getattr(backend, name, None) for name in names)
    return cast("SupportsServers", backend) if all(map(callable, offered)) else None


# --- DAG --------------------------------------------------------------------


EXCHANGE_ACTIONS: Final = frozenset(("peer", "remittance", "delivery", "settlement", "anchor"))
"""Actions that another city has a part in."""


class DagHandler(Protocol):
    """Decides order, validity and parents of a city's transactions. Pure.

    What is between cities it is only given if it says that it settles that: see
    `settled_actions`.
    """

    async def decide(
        self,
        round: RoundContext,
        candidates: Sequence[Transaction],
        held_since: Sequence[int],
        refused: Mapping[int, Rejection],
        state: StateView,
    ) -> Decision:
        """Decide one round.

        Args:
            candidates: Without repeats: first those held in earlier rounds,
                then new ones in arrival order.
                Who repeats the round has the new ones in the order that was decided.
            held_since: For each candidate the round that first held it, 0 if new.
            refused: Verdicts of the consensus step by index into ``candidates``.
            state: The ledger before this round.

        Each candidate is in the result once, sealed or held, and a held one is
        sealed within `Genesis.hold_rounds` rounds.
        """


def settled_actions(rule: DagHandler) -> frozenset[str]:
    """Which of `EXCHANGE_ACTIONS` a rule settles, as docs/protocol.md, section 10, says.

    They are in its attribute ``settles``. Without one it settles none, and transactions with
    such an action are refused before it sees them: it would approve that amounts leave for
    another city, or come from there, and move nothing. `citychain.LedgerRules` settles all.
    """
    settles = getattr(rule, "settles", None)
    return settles & EXCHANGE_ACTIONS if isinstance(settles, frozenset) else frozenset()


# --- consensus --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judgement:
    """What consensus says of a round's candidates before they are ordered."""

    committee: tuple[Seat, ...]
    """In office for this round: named in the checkpoint, certifies it."""
    next_committee: tuple[Seat, ...] | None = None
    """Set in the last round of an epoch."""
    refused: Mapping[int, Rejection] = field(default_factory=dict)
    """By index into the candidates."""
    pops: Sequence[bytes] | None = None
    """For each candidate the 32-byte hash of its judgement of place; ``None``
    where the city judges none."""
    actions: frozenset[str] = frozenset()
    """Names of the actions beyond ``data`` and ``transfer`` that the step gives a meaning
    to; transactions with others are rejected as ``UNSUPPORTED_ACTION``."""
    effects: Callable[[Sequence[Transaction]], Mapping[str, bytes]] | None = None
    """Values of the ``$``-objects of the step's own that the round writes, given those
    candidates that are approved, in order. Pure; called once, in a worker thread."""


class ConsensusStep(Protocol):
    """Decides when a round is proven and approved.

    A step that takes votes from elsewhere is a `SupportsVotes` too.
    """

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """Judge candidates and name the committee. Pure.

        Who repeats a round has its candidates in the order that the DAG rule gave them
        afterwards: what is said of each must not depend on their order.
        """

    async def seal(self, previous_poh: bytes, mixin: bytes) -> PohEntry:
        """The round's proof-of-history entry over ``mixin``, the hash of all else in
        the checkpoint."""

    async def approve(self, round: StoredRound) -> Certificate:
        """Return a certificate by a quorum of the round's committee.

        Called once the round is durable, for several rounds at once and in any
        order; again for the same round after a restart, so a representative
        that voted must repeat that vote. A key signs one checkpoint of a round, ever:
        the one that the storage has. It may wait for as long as the quorum
        takes: votes can come from other processes. It is cancelled at shutdown.
        """


@dataclass(frozen=True, slots=True)
class RepresentativeStatus:
    """A member of the committee in office."""

    key_id: bytes
    stake: int
    last_round: int
    """The latest round that it voted for since the city was opened, 0 for none."""
    objection: Objection | None = None
    """Its latest; ``None`` once it votes again."""


@dataclass(frozen=True, slots=True)
class CommitteeStatus:
    """Who is in office, and what the city waits for."""

    round: int
    """The first round that waits for its certificate, or the next one."""
    members: Sequence[RepresentativeStatus]
    stake_for: int
    """Stake that signed that round so far."""
    stake_needed: int
    sealed_round: int
    """The latest round."""
    approved_round: int
    """All rounds up to this one have certificates that are durable."""
    conflicting: Sequence[ConflictingVotes] = ()
    """Proofs that a key signed two checkpoints of one round."""


def takes_votes(step: ConsensusStep) -> SupportsVotes | None:
    """The step if it is a `SupportsVotes` too.

    It is asked, not inspected: what stands in front of a step for a test answers for it.
    """
    offered = (getattr(step, name, None) for name in ("cast", "object", "recover", "committee"))
    return cast("SupportsVotes", step) if all(map(callable, offered)) else None


def resumes(step: ConsensusStep) -> Callable[[], Awaitable[None]] | None:
    """What a step that remembers anything of the ledger offers besides, ``resume``; it is asked,
    not inspected.

    Awaited before a server begins to seal a city's rounds, when it has ceased to, and while it
    does not where another one may have changed the committee: what the step knows of the ledger is
    to be read anew when it is next asked, and what it does by itself ends. No round is being
    judged or approved meanwhile.
    """
    offered = getattr(step, "resume", None)
    return cast("Callable[[], Awaitable[None]]", offered) if callable(offered) else None


@runtime_checkable
class SupportsVotes(Protocol):
    """A consensus step whose representatives may be elsewhere."""

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        """Take votes, authenticated by their signatures; one outcome each, in order."""

    async def object(self, objections: Sequence[Objection]) -> None:
        """Take objections of representatives; those that do not verify are dropped."""

    async def recover(self, envelope: bytes, public_keys: Sequence[bytes]) -> None:
        """Put the committee of an operator's recovery in office.

        Args:
            envelope: The signed transaction with the recovery.
            public_keys: Of the new committee, in order of its seats.

        Raises:
            InvalidRequest: it is not the operator's, or does not fit where the ledger stands.
        """

    async def recovers(self, tx_id: bytes) -> bool:
        """Whether `recover` put the recovery of this transaction in force, even if another or
        an election has ended it.

        The ledger may name no committee that receipts do not lead to: what did not come that
        way is not let into it.
        """

    async def committee(self) -> CommitteeStatus:
        """Who is in office now."""
