"""One city's dealings with others: who they are, and the work that goes on with each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from citychain.errors import CitychainError
from citychain.exchange.anchors import Anchorer
from citychain.exchange.courier import Courier
from citychain.exchange.doorkeeper import Doorkeeper
from citychain.exchange.neighbour import Backoff, Neighbour, Sign
from citychain.exchange.pins import changed_in_words, pin_all, pinned_id
from citychain.handler import CityHandler, PeerStatus, Refusal
from citychain.ports import Clock, Compute

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction

__all__ = ["Exchange", "Neighbours"]

logger = logging.getLogger(__name__)

NOT_PINNED: Final = "not pinned yet"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The cities that one city has to do with."""

    peers: Sequence[Neighbour]
    parent: Callable[[], Awaitable[Neighbour | None]] | None
    """Finds where its checkpoints are anchored, once there is something to anchor."""


class Exchange:
    """What a city does with others.

    Args:
        neighbours: Finds them; may open cities of this server.
        parent: Slug of the city where checkpoints are anchored, and where that is served;
            ``None`` without one.
        anchor_seconds: The least between two anchors.
        operator: Key id of the operator, for whom ``sign`` signs.
    """

    def __init__(
        self,
        *,
        slug: str,
        neighbours: Callable[[], Awaitable[Neighbours]],
        parent: tuple[str, tuple[str, ...]] | None,
        anchor_seconds: float,
        operator: bytes,
        sign: Sign,
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._slug = slug
        self._find = neighbours
        self.parent = parent
        self._anchor_seconds = anchor_seconds
        self._operator = operator
        self._sign = sign
        self._compute = compute
        self._clock = clock
        self._finding = asyncio.Lock()
        self._found: Neighbours | None = None
        self._doorkeeper = Doorkeeper(slug=slug, sign=sign, compute=compute, clock=clock)
        self._courier: Courier | None = None

    def refuses(self, transaction: Transaction) -> Refusal | None:
        """Why a transaction that came in is not stored, if it is not."""
        return self._doorkeeper.refuses(transaction)

    async def attend(self, home: CityHandler) -> None:
        """What every server of the city does; until cancelled."""
        if (await self._neighbours()).peers:
            await self._again(lambda: self._doorkeeper.attend(home))

    async def lead(self, home: CityHandler) -> None:
        """What the server does that leads the city; until cancelled."""
        neighbours = await self._neighbours()
        work: list[Callable[[], Awaitable[None]]] = []
        if neighbours.peers:
            self._courier = courier = Courier(
                slug=self._slug,
                home=home,
                neighbours=neighbours.peers,
                sign=self._sign,
                compute=self._compute,
                clock=self._clock,
            )
            peers = neighbours.peers
            work += [
                lambda: pin_all(home, peers, self._sign, self._clock),
                courier.run,
                lambda: self._doorkeeper.follow(home),
            ]
        if neighbours.parent is not None:
            work.append(
                Anchorer(
                    slug=self._slug,
                    home=home,
                    parent=neighbours.parent,
                    seconds=self._anchor_seconds,
                    operator=self._operator,
                    sign=self._sign,
                    compute=self._compute,
                    clock=self._clock,
                ).run
            )
        try:
            await asyncio.gather(*(self._again(each) for each in work))
        finally:
            self._courier = None

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work to its end; where it fails, from the beginning."""
        backoff = Backoff()
        while True:
            try:
                await work()
                return
            except Exception as error:
                logger.warning("%s: what it does with other cities failed: %r", self._slug, error)
            await self._clock.sleep(backoff.seconds())

    async def _neighbours(self) -> Neighbours:
        backoff = Backoff()
        async with self._finding:  # Attending and leading wait for the same.
            while self._found is None:
                try:
                    self._found = await self._find()
                except CitychainError as error:
                    logger.warning("%s: its peers are not known yet: %s", self._slug, error)
                    await self._clock.sleep(backoff.seconds())
            self._doorkeeper.know(self._found.peers)
            return self._found

    @property
    def remittances(self) -> int:
        """Those without an outcome, to all peers, as far as this server carries them."""
        courier = self._courier
        return 0 if courier is None else courier.all_pending

    async def peers(self, home: CityHandler) -> list[PeerStatus]:
        """Who they are, and how it goes with each."""
        found = self._found.peers if self._found is not None else ()
        return [await self._status(home, neighbour) for neighbour in found]

    async def _status(self, home: CityHandler, neighbour: Neighbour) -> PeerStatus:
        genesis = neighbour.genesis
        known = await pinned_id(home, genesis)
        trouble = self._courier.trouble(genesis.id) if self._courier is not None else ""
        if known is None:
            trouble = NOT_PINNED
        elif known != genesis.id:
            trouble = changed_in_words(genesis, known)
        return PeerStatus(
            name=neighbour.slug,
            genesis=genesis.id,
            pinned=known == genesis.id,
            endpoints=neighbour.endpoints,
            pending=self._courier.pending(genesis.id) if self._courier is not None else 0,
            trouble=trouble,
        )
