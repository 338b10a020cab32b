"""What the framework lends to the parts of a city: time, threads, and what stands so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from citychain.crypto.signatures import SigningKey
    from citychain.genesis import Genesis
    from citychain.ports.storage import CityStorage
    from citychain.types import NodeRef, ObjectState, SealedNode

__all__ = ["CityContext", "Clock", "Compute", "RoundContext", "StateView", "StorageContext"]

T = TypeVar("T")


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


class StorageMeter(Protocol):
    """Counts what a storage backend asks of a database elsewhere; may be told from any thread."""

    def command(self, name: str, seconds: float, *, failed: bool) -> None:
        """A command of this name has ended."""

    def connections(self, state: Literal["open", "used"], change: int) -> None:
        """So many connections more, or less, are open, or used of those."""


@dataclass(frozen=True, slots=True)
class StorageContext:
    """Given to a storage backend's factory."""

    directory: Path
    """The backend's own directory below the data directory; not created yet."""
    compute: Compute
    clock: Clock
    meter: StorageMeter | None = None
    """Where the server counts."""


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
