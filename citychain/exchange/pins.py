"""Pins the cities that a city is configured to exchange with in its ledger, by their genesis.

What a pinned city sends is verified with that genesis alone, by everybody who repeats a round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from citychain.errors import CitychainError
from citychain.exchange.local import LocalCity
from citychain.exchange.neighbour import Backoff, Neighbour, Sign, closing
from citychain.genesis import Genesis
from citychain.handler import CityHandler, Refusal
from citychain.ports import Clock
from citychain.types import Peer, State

__all__ = ["pin", "pin_all", "pinned_id"]

logger = logging.getLogger(__name__)


async def pinned_id(home: CityHandler, genesis: Genesis) -> bytes | None:
    """Genesis id of the city that is pinned by the name of this one."""
    return await LocalCity(home).pinned(genesis.network, genesis.city)


async def pin_all(
    home: CityHandler, neighbours: Sequence[Neighbour], sign: Sign, clock: Clock
) -> None:
    """Return once each is pinned, or cannot be for good; what fails is tried again."""
    await asyncio.gather(*(_pin_in_time(home, it, sign, clock) for it in neighbours))


async def _pin_in_time(home: CityHandler, neighbour: Neighbour, sign: Sign, clock: Clock) -> None:
    backoff, slug = Backoff(), home.genesis.city
    while True:
        try:
            if trouble := await pin(home, neighbour.genesis, sign):
                logger.error("%s: %s is not pinned: %s", slug, neighbour.slug, trouble)
            return
        except CitychainError as error:
            logger.info("%s: %s is not pinned yet: %s", slug, neighbour.slug, error)
        await clock.sleep(backoff.seconds())


async def pin(home: CityHandler, genesis: Genesis, sign: Sign) -> str:
    """Pin a city if it is not; returns why it cannot be, for people, or nothing.

    Raises:
        CitychainError: it may succeed later.
    """
    known = await pinned_id(home, genesis)
    if known == genesis.id:
        return ""
    if known is not None:
        return changed_in_words(genesis, known)
    [signed] = await sign(home.genesis.id, [Peer(genesis.file)], [()])
    [result] = await home.submit([signed.envelope])
    if isinstance(result, Refusal):
        return f"{result.code}: {result.detail}"
    async with closing(home.watch_transactions([signed.tx_id], State.APPROVED)) as batches:
        async for batch in batches:
            for event in batch.events:
                if event.state == State.REJECTED and await pinned_id(home, genesis) != genesis.id:
                    return f"its transaction {event.tx_id.hex()} was rejected: {event.code}"
    return ""


def changed_in_words(genesis: Genesis, known: bytes) -> str:
    """Why a city is not pinned a second time."""
    return (
        f"genesis {known.hex()[:16]}… is pinned for {genesis.network}/{genesis.city}, and "
        f"{genesis.id.hex()[:16]}… is configured: a city's genesis never changes, so this is "
        "another city, which needs another name; give the genesis file of the pinned one"
    )
