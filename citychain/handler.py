"""The face of one open city: what the RPC services call, and what a test replaces.

`citychain.city.pipeline.City` is the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from citychain.acknowledgement import Promise
    from citychain.between_cities import Outgoing
    from citychain.genesis import Genesis
    from citychain.ports import CityStorage, StoredRound, SupportsVotes
    from citychain.receipt import Receipt
    from citychain.types import Handover, Head, RawTransaction, Rejection, SealedNode, State

__all__ = [
    "CityHandler",
    "EventBatch",
    "InclusionProof",
    "PeerStatus",
    "Received",
    "Refusal",
    "RemittanceStatus",
    "TransactionEvent",
    "TransactionStatus",
]


class Received(NamedTuple):
    """A submitted transaction that is stored, now or before."""

    tx_id: bytes
    state: State
    duplicate: bool
    """This body had been received before; ``state`` is the original's."""
    promise: Promise | None = None
    """That it has a final state in time; set where that was asked for."""


class Refusal(NamedTuple):
    """A submitted transaction that was not stored, and why."""

    code: str
    """Stable, for programs: see docs/errors.md."""
    field: str | None
    """Path of the offending field, such as ``body.writes[2].object``."""
    detail: str
    key_id: bytes | None = None
    """The key that is not known, for ``UNKNOWN_KEY``."""
    tx_id: bytes | None = None
    """``None`` where the item could not be read."""


class TransactionStatus(NamedTuple):
    """Where a transaction stands."""

    tx_id: bytes
    state: State
    envelope: bytes | None
    """``None`` once retention removed it."""
    node: SealedNode | None
    """Set from `State.SEALED` on."""
    time_ms: int
    """Of its round; 0 before `State.SEALED`."""
    poh: bytes
    """Hash of its round's proof-of-history entry; empty before `State.SEALED`."""


class TransactionEvent(NamedTuple):
    """A transaction reached a state."""

    tx_id: bytes
    state: State
    round: int
    seq: int
    code: str
    """For a rejected one; else empty."""


class EventBatch(NamedTuple):
    """Events in order, and where to resume after them."""

    events: Sequence[TransactionEvent]
    position: int
    """All rounds up to this one have been told."""


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """A leaf's place in the log of a given size."""

    leaf_hash: bytes
    size: int
    root: bytes
    proof: Sequence[bytes]


class PeerStatus(NamedTuple):
    """A city that another one exchanges with."""

    name: str
    """Its slug."""
    genesis: bytes
    """Its genesis id."""
    pinned: bool
    """Whether the ledger names it."""
    endpoints: tuple[str, ...]
    """Where it is served; empty where the same server has it."""
    pending: int
    """Remittances to it without an outcome, as far as the server that was asked carries them."""
    trouble: str
    """What stands in the way, for people; empty where all is well."""


class RemittanceStatus(NamedTuple):
    """What became of a remittance to another city."""

    outgoing: Outgoing
    """What it sends, and its state."""
    settlement: bytes | None
    """The transaction that brought the other city's answer; ``None`` before it, and where whoever
    brought it did not name the remittance as a dependency."""
    refusal: Rejection | None
    """Why the other city refused it."""


class CityHandler(Protocol):
    """One open city."""

    @property
    def genesis(self) -> Genesis:
        """The city's genesis."""

    @property
    def storage(self) -> CityStorage:
        """For reads."""

    @property
    def pending(self) -> int:
        """Number of transactions received and not yet sealed."""

    @property
    def voting(self) -> SupportsVotes | None:
        """The consensus step, where it takes votes from elsewhere."""

    async def submit(
        self, envelopes: Sequence[bytes], *, acknowledge: bool = False
    ) -> Sequence[Received | Refusal]:
        """Check and store serialized ``SignedTransaction`` messages.

        One result an item, in order. What is `Received` is durable.

        Args:
            acknowledge: Sign for what is received: `Received.promise`.

        Raises:
            InvalidRequest: it cannot be signed here; nothing was stored.
            Overloaded: storing them would exceed a bound; nothing was stored.
            CityUnavailable: the city is closing or its storage fails.
        """

    async def status(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, TransactionStatus]:
        """Where these transactions stand; unknown ones are absent."""

    async def archived(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """Sealed transactions that the storage does not have any more, from the archive.

        Raises:
            Pruned: the archive does not give one of them here.
            NotFound: one of them is not sealed.
        """

    async def receipts(
        self, tx_ids: Sequence[bytes], known_round: int = 0
    ) -> Mapping[bytes, Receipt]:
        """Receipts of those that are final; others are absent.

        Handovers to the committee in office in ``known_round`` and before are left out.
        """

    async def handovers(self, known_round: int = 0) -> Sequence[Handover]:
        """Every change of the committee after ``known_round``, in order; more are only added
        at the end."""

    def watch_transactions(
        self, tx_ids: Sequence[bytes], from_state: State
    ) -> AsyncIterator[EventBatch]:
        """Each state from ``from_state`` on that these reach; ends when all are final.

        A state that was passed before the call is told as the present one.

        Raises:
            NotFound: one of them is unknown.
        """

    def watch(
        self, author: bytes | None, from_state: State, after: int | None
    ) -> AsyncIterator[EventBatch]:
        """Transactions of the rounds after round ``after``, or from now on, without end.

        ``from_state`` is `State.SEALED` or `State.APPROVED`: told when a round is
        committed, or once it is certified. Of one author if given.
        """

    def stream_rounds(self, first: int, *, sealed: bool) -> AsyncIterator[StoredRound]:
        """Rounds from ``first`` on, in order, each once it is approved (or only sealed)."""

    async def head(self) -> Head:
        """Where the ledger stands."""

    async def inclusion_proof(self, leaf_index: int, size: int) -> InclusionProof:
        """Proof that a leaf stands in the log as it was at ``size`` (0: as approved now).

        Raises:
            NotFound: no such leaf or size.
        """

    async def consistency_proof(
        self, first: int, second: int
    ) -> tuple[bytes, bytes, Sequence[bytes]]:
        """Both roots and the proof that the log of size ``second`` extends that of ``first``.

        Raises:
            NotFound: no round ended at one of the sizes.
        """
