"""What the other modules here need of another city, wherever it is served."""

from __future__ import annotations

import random
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from citychain.between_cities import Decided, anchor_object, decode_anchor, peer_name_object
from citychain.errors import CitychainError
from citychain.genesis import Genesis
from citychain.handler import Received, Refusal
from citychain.ports import StoredRound
from citychain.receipt import Receipt
from citychain.types import Anchor, Delivery, Handover, Peer, Settlement

__all__ = [
    "REJECTED_SECONDS_MAX",
    "ROUND_MAX",
    "Backoff",
    "Neighbour",
    "PeerCity",
    "Sign",
    "Signed",
    "Stranger",
    "closing",
]

T = TypeVar("T")

ROUND_MAX: Final = (1 << 63) - 1
"""A round that is known in which all handovers are."""
PAUSE_SECONDS: Final = (0.25, 15.0)
"""First and longest pause before what failed is tried again; doubled from one to the next."""
REJECTED_SECONDS_MAX: Final = 600.0
"""Longest pause after what was rejected: each one stays in the other city's ledger."""


class Signed(NamedTuple):
    """A transaction of this server's operator."""

    tx_id: bytes
    envelope: bytes
    """With the public key by value: the other city may not know it."""


Sign: TypeAlias = Callable[
    [bytes, Sequence[Peer | Delivery | Settlement | Anchor], Sequence[Sequence[bytes]]],
    Awaitable[Sequence[Signed]],
]
"""Signs actions for a city, by its genesis id, as the operator, each with what it depends on."""


class PeerCity(Protocol):
    """A city that can be asked and sent transactions; any call raises where it cannot be had."""

    async def genesis(self) -> Genesis:
        """What who answers says of itself."""

    async def pinned(self, network: str, slug: str) -> bytes | None:
        """Genesis id of the city that it has pinned by this name."""
        name = peer_name_object(network, slug)
        return (await self.objects([name])).get(name)

    async def anchored(self, city: bytes) -> int:
        """The latest round of a city below that it has; 0 for none."""
        name = anchor_object(city)
        found = (await self.objects([name])).get(name)
        return decode_anchor(found)[0] if found is not None else 0

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Received | Refusal]:
        """One result an envelope, in order."""

    async def wait(self, tx_ids: Sequence[bytes]) -> None:
        """Return once each of these is final; raise where that takes long."""

    async def decided(self, source: bytes, tx_ids: Sequence[bytes]) -> Mapping[bytes, Decided]:
        """What it decided about remittances of another city, by their ids."""

    async def receipts(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, Receipt]:
        """Receipts of those that are final, without handovers."""

    async def objects(self, objects: Sequence[str]) -> Mapping[str, bytes]:
        """Values of those objects of its ledger that exist."""

    def handovers(self, known_round: int) -> AsyncIterator[Sequence[Handover]]:
        """Every change of its committee after a round, in order, some at a time."""

    async def latest_round(self) -> int:
        """The number of the latest sealed round; 0 before the first."""

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """Sealed rounds from a number on, with their certificates if they have one."""

    async def round(self, round: int) -> StoredRound:
        """One of them, which there is."""
        [stored] = await self.rounds(round, 1)
        return stored


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A city to exchange with, as it is configured."""

    slug: str
    genesis: Genesis
    endpoints: tuple[str, ...]
    """Empty for a city of this server."""
    assets: Collection[str] | None
    """Those that are accepted from it; ``None`` for all."""
    connect: Callable[[], AbstractAsyncContextManager[PeerCity]]


class Backoff:
    """Pauses between attempts: longer from one to the next, none alike."""

    def __init__(self, longest: float = PAUSE_SECONDS[1]) -> None:
        self._next = PAUSE_SECONDS[0]
        self._longest = longest

    def reset(self) -> None:
        """Something succeeded."""
        self._next = PAUSE_SECONDS[0]

    def seconds(self) -> float:
        """How long to wait now."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause * random.uniform(0.75, 1.25)


class Stranger(CitychainError):
    """Raised when who answers for a city is another one than the one that is pinned."""

    def __init__(self, neighbour: Neighbour, theirs: Genesis) -> None:
        super().__init__(
            f"who answers for {neighbour.slug} has genesis {theirs.id.hex()[:16]}…, and "
            f"{neighbour.genesis.id.hex()[:16]}… is pinned: a city's genesis never changes"
        )


def closing(items: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    """Iterate over what a handler streams, and end that with the block."""
    return aclosing(cast("AsyncGenerator[T, None]", items))
