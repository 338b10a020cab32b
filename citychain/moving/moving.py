"""Moves a city: copies it while it goes on, holds it for a moment, and decides in one step.

In order, with what a crash after each step leaves:

1. A note in the target says that it is being copied to.  The city lives in the source.
2. Rounds are copied and compared until few are left.     The same; a repetition goes on from there.
   A city that grows as fast as it is copied is slowed.
3. The city is held: calls to it wait. The rest is copied, all that is left is compared.
4. A note in the source says that the city moved.         It lives in the target: this decides.
5. What was stored in the source by then (`citychain save` asks no server) is copied, the target's
   note is taken away, the data directory remembers the target. Whoever opens the source is led to
   the target, and does what is left of this. Who stores in the source later sees the note.
6. The city is opened again; the calls go on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Final, Literal, NamedTuple

from citychain.errors import MoveFailed, StorageError, VerificationError
from citychain.genesis import Genesis
from citychain.moving.comparing import Comparison
from citychain.moving.copying import CityCopy, copy_waiting
from citychain.moving.mark import HomeNote, home_bytes
from citychain.moving.opening import home_note
from citychain.notes import HOME
from citychain.ports import CityStorage, Clock, Compute

__all__ = ["MoveResult", "Phase", "Place", "Told", "move_city"]

logger = logging.getLogger(__name__)

LAG_SECONDS: Final = 0.5
"""What a pass did in so little time is little enough for when the city is held."""
SHRINKS: Final = 0.7
"""A pass that took more than this part of the one before shows that there will always be more."""
HOLD_SECONDS: Final = 10.0
"""The longest that a city is held: what is not done by then is given up."""

PAUSE_SECONDS: Final = 0.05
LEASE: Final = timedelta(seconds=30)
"""Of the source, while the city is held."""

Phase = Literal["copying", "comparing", "holding"]
Told = Callable[[Phase, int, int], None]
"""Told of the phase, how many rounds are done in it, and of how many; must not block."""


class Place(NamedTuple):
    """A city in a storage."""

    name: str
    """Of the storage."""
    storage: CityStorage


class MoveResult(NamedTuple):
    """What a move did."""

    rounds: int
    """Of the city."""
    transactions: int
    """Copied, of those that have a place."""
    copying_seconds: float
    """From the first round to the last before the city was held."""
    held_seconds: float


async def move_city(
    *,
    genesis: Genesis,
    source: Place,
    target: Place,
    server: str,
    held: Callable[[], AbstractAsyncContextManager[object]],
    slowed: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    remember: Callable[[str], Awaitable[None]],
    compute: Compute,
    clock: Clock,
    told: Told = lambda phase, done, of: None,
) -> MoveResult:
    """Move a city from one storage to another.

    Args:
        server: The name by which this server leads the city: a lease that it kept, for work that
            was left, is its own.
        held: While entered, nobody writes to the source; on leaving, the city is opened where
            it lives then.
        slowed: While entered, the source grows by fewer rounds.
        remember: Told the name of the storage in which it lives, once that is decided.

    Raises:
        MoveFailed: the message says why. The city lives in the source.
        StorageError: one of the two failed. Where the city lives is what the source's note says.
    """
    move = await _begin(source, target)
    began = clock.monotonic()
    copy = CityCopy(genesis.id, source.storage, target.storage, compute)
    check = Comparison(source.storage, target.storage, genesis.initial_objects(), compute)
    try:
        await copy.begin()
        async with AsyncExitStack() as stack:
            if not await _catch_up(copy, check, clock, told):
                await stack.enter_async_context(slowed())
                await _catch_up(copy, check, clock, told)
            copying = clock.monotonic() - began
            told("holding", copy.round, copy.round)
            await stack.enter_async_context(held())
            holding = clock.monotonic()
            try:
                async with (
                    asyncio.timeout(HOLD_SECONDS) as time,
                    _fenced(source.storage, server, clock) as epoch,
                ):
                    await _finish(copy, check, clock)
                    await _reach(target.storage, server, epoch)
                    time.reschedule(None)
                    await _decide(move, source, target, remember)
            except TimeoutError:
                raise MoveFailed(
                    f"what was left took longer than {HOLD_SECONDS:.0f} s, for which the city is "
                    "held at most; try again when it is less busy, what is copied stays"
                ) from None
            seconds = clock.monotonic() - holding
    except VerificationError as error:
        raise MoveFailed(str(error)) from error
    return MoveResult(copy.round, copy.transactions, copying, seconds)


async def _begin(source: Place, target: Place) -> bytes:
    """Say in the target that it is being copied to; the move's id.

    Raises:
        MoveFailed: the city lives in the target, or not in the source.
    """
    if await home_note(source.storage) is not None:
        raise MoveFailed(f"it does not live in storage {source.name}")
    if await home_note(target.storage) is None:
        head = await target.storage.head()
        if head.round or await target.storage.pending_ids():
            raise MoveFailed(
                f"storage {target.name} has this city already, and not as a copy: it may be at "
                "work there; give the city another storage"
            )
    move = secrets.token_bytes(16)
    note = HomeNote(False, move, 0, bytes(32), source.name)
    await target.storage.keep({HOME: home_bytes(note)})
    if await home_note(source.storage) is not None:
        await target.storage.keep({HOME: b""})
        raise MoveFailed(f"storages {source.name} and {target.name} are one and the same")
    return move


async def _catch_up(copy: CityCopy, check: Comparison, clock: Clock, told: Told) -> bool:
    """Copy and compare until little is left; ``False`` where it does not become less: the city
    grows as fast as it is copied."""
    before = float("inf")
    while True:
        began = clock.monotonic()
        await copy.rounds(lambda done, of: told("copying", done, of))
        await copy.rest()
        await check.rounds(lambda done, of: told("comparing", done, of))
        took = clock.monotonic() - began
        if took <= LAG_SECONDS:
            return True
        if took > SHRINKS * before:
            return False
        before = took


@asynccontextmanager
async def _fenced(source: CityStorage, server: str, clock: Clock) -> AsyncIterator[int]:
    """See that no round is committed any more by who sealed the city's rounds so far: a commit
    that was cancelled may still be under way."""
    while (epoch := await source.acquire_lease(server, LEASE)) is None:
        await clock.sleep(PAUSE_SECONDS)
    try:
        yield epoch
    finally:
        await source.release_lease(epoch)


async def _reach(target: CityStorage, server: str, epoch: int) -> None:
    """Bring the target's leases to the source's: a city that moves back brings rounds of newer
    epochs than the leases that were given there."""
    while (reached := await target.acquire_lease(server, LEASE) or epoch) < epoch:
        pass
    await target.release_lease(reached)


async def _finish(copy: CityCopy, check: Comparison, clock: Clock) -> None:
    """Copy what is left, until the two are the same.

    Raises:
        VerificationError: they differ.
    """
    for last in (False, False, True):
        await copy.rounds()
        await copy.rest()
        try:
            await check.whole()
            return
        except VerificationError:
            # Another write that was cancelled can have come between: what nobody was told of.
            if last:
                raise
            await clock.sleep(PAUSE_SECONDS)


async def _decide(
    move: bytes, source: Place, target: Place, remember: Callable[[str], Awaitable[None]]
) -> None:
    """Let the city live in the target, in one step, and do what follows from it."""
    head = await source.storage.head()
    note = HomeNote(True, move, head.round, head.checkpoint_hash or bytes(32), target.name)
    try:
        await source.storage.keep({HOME: home_bytes(note)})
    except StorageError:
        if await home_note(source.storage) != note:
            raise
    # It is decided: what fails from here on is done when the city is opened.
    try:
        await copy_waiting(source.storage, target.storage)
        await target.storage.keep({HOME: b""})
        await remember(target.name)
    except Exception as error:
        logger.warning("the city lives in storage %s, and it was not noted: %r", target.name, error)
