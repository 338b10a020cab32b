"""The port of storage: where ledgers are kept, each city's in a name-space of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from citychain.ports.context import StateView

if TYPE_CHECKING:
    from citychain.types import (
        Certificate,
        Head,
        NodeRef,
        ObjectWrite,
        RawTransaction,
        SealedNode,
        SealedRound,
    )

__all__ = [
    "CityStorage",
    "PendingPage",
    "StorageBackend",
    "StoredRound",
    "SupportsRetention",
    "SupportsServers",
    "can_prune",
    "knows_servers",
]


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


@runtime_checkable
class SupportsRetention(Protocol):
    """A city's storage that can forget what old transactions say, once that is kept elsewhere.

    Offered besides `CityStorage`. Of a transaction that was pruned all remains that the ledger says
    of it: id, author, place, verdict, parents, node id and leaf, and the round with its record.
    `CityStorage.raw` lacks it, all other reads answer as before, and it is not received again.
    """

    async def sizes(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, int]:
        """How many bytes there are to forget of each sealed transaction, about; those of which
        nothing is left are absent, as are those without a place."""

    async def prune(self, tx_ids: Sequence[bytes]) -> None:
        """Forget the raw bytes of sealed transactions, and what people can query of them.

        Those without a place, and those that are pruned already, are left as they are. It goes
        in steps, between which others write. When this returns it is durable; what was pruned
        when it was cut short stays so, and a repetition prunes the rest.

        Raises:
            StorageError: some may be pruned.
        """

    async def reclaim(self) -> bool:
        """Give some of the room that became free back to the file system, or to what is below.

        A step that nobody waits for long: repeat it until it returns ``False``, with a pause.
        It does nothing where room is given back by itself, or where that is for others to do.

        Returns:
            Whether there is more to give back.
        """


def can_prune(storage: CityStorage) -> SupportsRetention | None:
    """The city's storage if it is a `SupportsRetention` too; it is asked, not inspected."""
    offered = (getattr(storage, name, None) for name in ("sizes", "prune", "reclaim"))
    return cast("SupportsRetention", storage) if all(map(callable, offered)) else None


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

    async def hand_back(self, city: bytes, server: str) -> None:
        """Refuse what was handed to this server: whoever asks first is granted the lease, and
        until then the city stands under the empty name. Does nothing where it was not handed to
        it, or was taken since."""

    async def handed(self, server: str, timeout: timedelta) -> bool:
        """Whether a city was handed to this server since the last call, as soon as that is heard
        of, at the latest after the timeout. Only a hint."""


def knows_servers(backend: StorageBackend) -> SupportsServers | None:
    """The backend if it is a `SupportsServers` too; it is asked, not inspected."""
    names = (name for name in vars(SupportsServers) if not name.startswith("_"))
    offered = (getattr(backend, name, None) for name in names)
    return cast("SupportsServers", backend) if all(map(callable, offered)) else None
