"""Who handles a request: a name, in any script, to an open city.

Cities are opened on first use. One that cannot be opened answers
`CityUnavailable` with an id that the log explains, and is tried again after a
while; the others know nothing of it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal, Protocol

from citychain.city.door import Door
from citychain.city.listing import CityListing, CityState
from citychain.city.retry import pause_seconds
from citychain.errors import CityUnavailable, ConfigurationError, NotFound, PluginError
from citychain.handler import CityHandler
from citychain.log_fields import add_log_fields, set_log_fields
from citychain.ports import Clock, Compute

__all__ = ["CityCatalogue", "CityDirectory"]

logger = logging.getLogger(__name__)

OPENING_MAX: Final = 8
"""Cities being opened at a time."""
RESOLVED_MAX: Final = 65_536
"""Spellings of names that are remembered."""
RETRY_SECONDS: Final = (1.0, 60.0)
"""First and longest pause before a failed city is tried again."""


class CityCatalogue(Protocol):
    """All cities that could be opened."""

    def find(self, name: str) -> CityListing | None:
        """The city of this name; may take a while, so it is asked in a thread."""

    def suggestions(self, name: str) -> tuple[str, ...]:
        """The nearest names that exist."""

    def listings(self, query: str, after: str, limit: int) -> Sequence[CityListing]:
        """Listed cities of which some name begins with ``query``, by slug, after a slug."""


def _offered(
    handler: CityHandler, method: Literal["drain", "ended"]
) -> Callable[[], Awaitable[None]] | None:
    """What a handler may offer besides `CityHandler`: ``drain`` returns when it has finished what
    it accepted, ``ended`` when its work has ended by itself.

    It is asked, not inspected: what stands in front of a handler for a test answers for it.
    """
    offered = getattr(handler, method, None)
    return offered if inspect.iscoroutinefunction(offered) else None


@dataclass(slots=True)
class _Entry:
    """A city that was asked for."""

    opening: asyncio.Task[CityHandler] | None = None
    handler: CityHandler | None = None
    door: Door | None = None
    """Before the handler, and before the one that is opened after it."""
    stack: AsyncExitStack | None = None
    watching: asyncio.Task[None] | None = None
    """Opens it again when its work ends by itself."""
    failure: str = ""
    """Error id; empty while there is none."""
    failures: int = 0
    retry_at: float = 0.0


class CityDirectory:
    """Resolves names to open cities; enter it before use, leave it to close them all.

    Args:
        open_city: Opens a city on an exit stack that closes it.
        compute: Runs the catalogue's look-ups.
    """

    def __init__(
        self,
        catalogue: CityCatalogue,
        open_city: Callable[[str, AsyncExitStack], Awaitable[CityHandler]],
        clock: Clock,
        compute: Compute,
    ) -> None:
        self._catalogue = catalogue
        self._open_city = open_city
        self._clock = clock
        self._compute = compute
        self._resolved: dict[str, CityListing] = {}
        self._entries: dict[str, _Entry] = {}
        self._contested: dict[str, str] = {}
        """Error ids by why nobody has a city."""
        self._room = asyncio.Semaphore(OPENING_MAX)
        self._closing = False

    async def __aenter__(self) -> CityDirectory:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close every city, whatever the others do."""
        self._closing = True
        results = await asyncio.gather(
            *(self._close(entry) for entry in self._entries.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                logger.error("a city did not close cleanly", exc_info=result)

    async def drain(self) -> None:
        """Open nothing more; let every open city seal and approve what it accepted."""
        self._closing = True
        await asyncio.gather(
            *(
                drain()
                for handler in self.open_cities().values()
                if (drain := _offered(handler, "drain")) is not None
            )
        )

    async def handler(self, name: str) -> CityHandler:
        """The open city of this name.

        Raises:
            NotFound: no city has this name; suggests near ones.
            CityUnavailable: it cannot be opened now.
        """
        listing = await self._resolve(name)
        entry = self._entries.setdefault(listing.slug, _Entry())
        if entry.handler is not None:
            return entry.handler
        if entry.opening is None:
            wait = entry.retry_at - self._clock.monotonic()
            if self._closing or (entry.failure and wait > 0):
                raise CityUnavailable(
                    listing.slug, entry.failure or "closing", timedelta(seconds=max(wait, 1.0))
                )
            entry.opening = asyncio.create_task(self._open(listing.slug, entry))
        # Shielded: one impatient caller must not stop the opening for the others.
        return await asyncio.shield(entry.opening)

    @asynccontextmanager
    async def closed(self, name: str) -> AsyncIterator[None]:
        """A city that is closed for a while, and opened again on leaving. Meanwhile calls to it
        that write wait, and are not refused.

        Raises:
            NotFound: no city has this name; suggests near ones.
            CityUnavailable: it cannot be opened, now or on leaving.
            MoveFailed: calls under way do not end; it stays open.
        """
        await self.handler(name)
        slug = (await self._resolve(name)).slug
        entry = self._entries[slug]
        if entry.handler is None:
            raise CityUnavailable(name, "closing", timedelta(seconds=1))
        async with self._door_of(entry, entry.handler).held():
            await self._end_watching(entry)
            over = asyncio.Event()
            # Who asks for the city meanwhile waits for this.
            entry.opening = asyncio.create_task(self._open_after(over, slug, entry))
            await self._close_handler(entry)
            try:
                yield
            finally:
                over.set()
                if not self._closing and entry.opening is not None:
                    await asyncio.shield(entry.opening)

    @asynccontextmanager
    async def slowed(self, name: str) -> AsyncIterator[None]:
        """A city that seals fewer rounds for a while: calls to it that write wait a little.

        Raises:
            NotFound, CityUnavailable: as `handler`.
        """
        handler = await self.handler(name)
        entry = self._entries[(await self._resolve(name)).slug]
        async with self._door_of(entry, handler).slowed():
            yield

    async def door(self, name: str) -> CityHandler:
        """The open city of this name, for a caller who waits where it is `closed` for a while.

        Raises:
            NotFound, CityUnavailable: as `handler`.
        """
        slug = (await self._resolve(name)).slug
        add_log_fields(city=slug)
        entry = self._entries.get(slug)
        if entry is not None and entry.door is not None and entry.door.is_held:
            return entry.door
        handler = await self.handler(name)
        if _offered(handler, "ended") is None:
            return handler  # It cannot be closed and opened again: a test's.
        return self._door_of(self._entries[slug], handler)

    def _door_of(self, entry: _Entry, handler: CityHandler) -> Door:
        if entry.door is None:
            entry.door = Door(handler)
        return entry.door

    async def listing(self, name: str) -> CityListing:
        """What is known of the city of this name, without opening it.

        Raises:
            NotFound: no city has this name; suggests near ones.
            CityUnavailable: several plugins claim it.
        """
        return self._with_state(await self._resolve(name))

    async def _resolve(self, name: str) -> CityListing:
        """Look a name up once; after that it costs a dictionary's look-up."""
        if (known := self._resolved.get(name)) is not None:
            return known
        try:
            found = await self._compute(self._catalogue.find, name)
        except PluginError as error:
            raise self._unavailable(name, error) from error
        if found is None:
            raise NotFound("city", name, self._catalogue.suggestions(name))
        if len(self._resolved) >= RESOLVED_MAX:
            self._resolved.clear()
        self._resolved[name] = found
        return found

    def _unavailable(self, name: str, error: PluginError) -> CityUnavailable:
        """A city that exists, but for the plugins that contradict each other about it."""
        reason = str(error)
        if reason not in self._contested:
            # Told once: it stays so, and everybody may ask.
            self._contested[reason] = secrets.token_hex(4)
            logger.error(
                "%s could not be opened (error id %s): %s", name, self._contested[reason], reason
            )
        return CityUnavailable(name, self._contested[reason], timedelta(seconds=RETRY_SECONDS[1]))

    def listings(self, query: str, after: str, limit: int) -> Sequence[CityListing]:
        """Listed cities of which some name begins with ``query``, by slug, after a slug."""
        return [self._with_state(item) for item in self._catalogue.listings(query, after, limit)]

    def open_cities(self) -> dict[str, CityHandler]:
        """Cities that are open now, by slug."""
        return {
            slug: entry.handler
            for slug, entry in self._entries.items()
            if entry.handler is not None
        }

    async def _open_after(self, over: asyncio.Event, slug: str, entry: _Entry) -> CityHandler:
        await over.wait()
        return await self._open(slug, entry)

    async def _open(self, slug: str, entry: _Entry) -> CityHandler:
        add_log_fields(city=slug)
        try:
            async with self._room:
                stack = AsyncExitStack()
                try:
                    handler = await self._open_city(slug, stack)
                except BaseException:
                    await stack.aclose()
                    raise
        except Exception as error:
            entry.failures += 1
            entry.failure = secrets.token_hex(4)
            pause = pause_seconds(entry.failures, *RETRY_SECONDS)
            entry.retry_at = self._clock.monotonic() + pause
            # What the operator can mend says it all in its message; a fault needs its traceback.
            logger.error(
                "%s could not be opened (error id %s): %s",
                slug,
                entry.failure,
                error,
                exc_info=None if isinstance(error, ConfigurationError | PluginError) else error,
            )
            raise CityUnavailable(slug, entry.failure, timedelta(seconds=pause)) from error
        else:
            entry.handler, entry.stack = handler, stack
            if entry.door is not None:
                entry.door.lead_to(handler)
            entry.failure, entry.failures = "", 0
            if (ended := _offered(handler, "ended")) is not None:
                entry.watching = asyncio.create_task(self._reopen(slug, entry, ended))
            return handler
        finally:
            entry.opening = None

    async def _reopen(self, slug: str, entry: _Entry, ended: Callable[[], Awaitable[None]]) -> None:
        """Open a city again whose work ended: what it acknowledged waits to be sealed."""
        set_log_fields(city=slug)
        await ended()
        await self._close_handler(entry)
        while not self._closing:
            try:
                await self.handler(slug)
                return
            except CityUnavailable as error:
                await self._clock.sleep(error.retry_after.total_seconds())

    async def _close(self, entry: _Entry) -> None:
        await self._end_watching(entry)
        if entry.opening is not None:
            entry.opening.cancel()
            await asyncio.gather(entry.opening, return_exceptions=True)
        await self._close_handler(entry)

    async def _end_watching(self, entry: _Entry) -> None:
        watching, entry.watching = entry.watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _close_handler(self, entry: _Entry) -> None:
        stack, entry.handler, entry.stack = entry.stack, None, None
        if stack is not None:
            await stack.aclose()

    def _with_state(self, listing: CityListing) -> CityListing:
        entry = self._entries.get(listing.slug)
        if entry is None:
            return listing
        if entry.handler is not None:
            return replace(listing, state=CityState.OPEN)
        return replace(listing, state=CityState.FAILED) if entry.failure else listing
