"""Archives a city while this server leads it: segment after segment, each announced.

What was begun is noted before each step, so that whoever leads next goes on with the same segment::

    the last round is noted -> fragments are stored -> the announcement is signed and noted
    -> it is submitted -> it is approved, and that is noted

The same rounds have the same segment, so fragments that are stored once more are there already, and
the announcement is the same transaction. It runs beside sealing, shares nothing with it but the
storage, and rests as long as it works, or longer where more waits than a round takes.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

from citychain import notes
from citychain.archive.packing import OpenSegment
from citychain.archive.resting import Rests
from citychain.archive.signed import Votes
from citychain.city.retry import pause_seconds
from citychain.client.transactions import SignedTransaction
from citychain.config_archive import ArchiveSettings
from citychain.errors import CitychainError, StorageError
from citychain.fragments.layout import Shape
from citychain.fragments.placement import Place
from citychain.fragments.storing import store_object
from citychain.genesis import Genesis
from citychain.handler import Received, Refusal
from citychain.notes import ArchivedNote, ArchivingNote
from citychain.ports import CityStorage, Clock, Compute, FragmentStore
from citychain.statements import Segment as Announcement
from citychain.types import Head

__all__ = ["SEGMENT_CHUNK", "Archive", "Archiver", "LedCity"]

logger = logging.getLogger(__name__)

SEGMENT_CHUNK: Final = 8 << 10
"""Bytes of a segment's chunks: three of them, proven, fit into a transaction."""
PAUSE_SECONDS: Final = 0.5
"""After each look, so that rounds are packed several at a time."""
FAILED_SECONDS: Final = 1.0
FAILED_SECONDS_MAX: Final = 60.0
REJECTED_SECONDS_MAX: Final = 3_600.0
"""A rejected announcement stands in the ledger, so another one is not to follow soon."""


class LedCity(Protocol):
    """What is asked of `citychain.city.pipeline.City`."""

    @property
    def genesis(self) -> Genesis: ...

    @property
    def storage(self) -> CityStorage: ...

    @property
    def pending(self) -> int: ...

    async def head(self) -> Head: ...

    def progress(self) -> asyncio.Future[None]: ...

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Received | Refusal]: ...


@dataclass(frozen=True, slots=True)
class Archive:
    """What a city is archived with."""

    settings: ArchiveSettings
    stores: Callable[[], tuple[Mapping[str, FragmentStore], Collection[Place]]]
    """Those that are open now, by name, and as placement has them."""
    data: int
    parity: int
    round_transactions: int
    """With so many a round of the city is full."""
    folder: Path
    """For segments that are being packed."""
    sign: Callable[[bytes, str], Awaitable[SignedTransaction]]
    """Signs content and its type with the server's key, which the envelope has."""


class Archiver:
    """Archives one city, for one term of leading it.

    Args:
        archived: Told up to which round it is archived.
    """

    def __init__(
        self,
        city: LedCity,
        archive: Archive,
        *,
        compute: Compute,
        clock: Clock,
        archived: Callable[[int], None],
    ) -> None:
        self._city = city
        self._slug = city.genesis.city
        self._archive = archive
        self._compute = compute
        self._clock = clock
        self._archived = archived
        self._last: ArchivedNote | None = None
        """How far it is archived; ``None`` until that is read."""
        self._next: ArchivingNote | None = None
        """What is under way, if it was noted."""
        self._submitted = False
        self._rejections = 0
        """Of announcements, in a row."""
        self._open: OpenSegment | None = None
        self._votes = Votes(city.genesis, city.storage, compute)
        self._rests = Rests(lambda: city.pending, archive.round_transactions, clock)

    async def run(self) -> None:
        """Archive the city until it is cancelled; what fails is tried again."""
        failures = 0
        try:
            while True:
                progress = self._city.progress()
                try:
                    await self.look()
                    failures, pause = 0, PAUSE_SECONDS
                except Exception as error:
                    failures += 1
                    pause = self._pause(error, failures)
                    logger.warning(
                        "%s: the archive waits at round %d: %s",
                        self._slug,
                        self._last.round if self._last else 0,
                        str(error) or repr(error),
                    )
                    self._drop()
                await self._clock.sleep(pause)
                if not failures:
                    await self._until(progress)
        finally:
            self._drop()

    def _pause(self, error: Exception, failures: int) -> float:
        if isinstance(error, _Rejected):
            return pause_seconds(self._rejections, FAILED_SECONDS_MAX, REJECTED_SECONDS_MAX)
        return pause_seconds(failures, FAILED_SECONDS, FAILED_SECONDS_MAX)

    async def _until(self, progress: asyncio.Future[None]) -> None:
        """Wait for the next round, or until the segment is due by its age."""
        waiting: set[asyncio.Future[None]] = {asyncio.ensure_future(asyncio.shield(progress))}
        if self._next is None and self._open is not None and self._open.since_ms is not None:
            due_ms = self._open.since_ms + self._every_ms - self._clock.time_ms()
            waiting.add(asyncio.ensure_future(self._clock.sleep(max(0, due_ms) / 1_000)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    @property
    def _every_ms(self) -> int:
        return round(self._archive.settings.every.total_seconds() * 1_000)

    def _drop(self) -> None:
        """Forget what is packed: it is packed anew from the storage."""
        if self._open is not None:
            file, self._open = self._open.file, None
            _close(file)

    # --- one step after the other

    async def look(self) -> None:
        """Do all that can be done now."""
        if self._last is None:
            self._last, self._next = await self._noted()
            self._archived(self._last.round)
        if self._next is None or not self._next.envelope:
            await self._pack()
        while self._next is not None and self._next.envelope and await self._announced():
            await self._pack()

    async def _noted(self) -> tuple[ArchivedNote, ArchivingNote | None]:
        last = await self._city.storage.notes(notes.ARCHIVE_LAST)
        following = await self._city.storage.notes(notes.ARCHIVE_NEXT)
        return (
            notes.decode_archived(last.get(notes.ARCHIVE_LAST, b"")),
            notes.decode_archiving(following.get(notes.ARCHIVE_NEXT, b"")),
        )

    async def _pack(self) -> None:
        """Put what is approved into the segment; once that is due, store its fragments."""
        planned = None if self._next is None else self._next.round
        upto = await self._certified() if planned is None else planned
        segment = self._open
        if segment is None:
            segment = self._open = await self._begin()
        while segment.last < upto and (planned is not None or not self._is_full(segment)):
            began = self._clock.monotonic()
            await segment.grow(upto)
            await self._rests.after(began)
        if planned is None:
            if not (self._is_full(segment) or self._is_old(segment)):
                return
            await self._note(ArchivingNote(segment.last))
        await self._store(segment)

    async def _begin(self) -> OpenSegment:
        assert self._last is not None
        spooling = asyncio.ensure_future(self._compute(_spool, self._archive.folder))
        try:
            file = await asyncio.shield(spooling)
        except asyncio.CancelledError:
            # A disk that hangs is not waited for; what it gives in the end nobody else would close.
            spooling.add_done_callback(_close_unwanted)
            raise
        try:
            return await OpenSegment.begin(
                genesis=self._city.genesis.id,
                after=self._last.round,
                previous=self._last.object_id,
                operator=self._city.genesis.operator_id,
                storage=self._city.storage,
                compute=self._compute,
                votes=self._votes,
                file=file,
            )
        except BaseException:
            _close(file)
            raise

    def _is_full(self, segment: OpenSegment) -> bool:
        has_reason = segment.since_ms is not None
        return has_reason and segment.bytes >= self._archive.settings.segment_bytes

    def _is_old(self, segment: OpenSegment) -> bool:
        since = segment.since_ms
        return since is not None and self._clock.time_ms() - since >= self._every_ms

    async def _certified(self) -> int:
        """Up to this round all have a certificate."""
        return (await self._city.head()).certified_round

    async def _store(self, segment: OpenSegment) -> None:
        await segment.close()
        archive = self._archive
        shape = Shape(archive.data, archive.parity, SEGMENT_CHUNK)
        began = self._clock.monotonic()
        stores, places = archive.stores()
        stored = await store_object(segment.file, shape, stores, places, self._compute)
        for refusal in stored.refusals:
            logger.warning(
                "%s: store %s does not take fragment %d of rounds %d to %d: %s",
                self._slug,
                refusal.store,
                refusal.fragment,
                segment.first,
                segment.last,
                refusal.error,
            )
        if stored.missing:
            raise StorageError(
                f"no store takes {len(stored.missing)} of {shape.fragments} fragments of rounds "
                f"{segment.first} to {segment.last}"
            )
        manifest = stored.manifest
        announcement = Announcement(
            first=segment.first,
            last=segment.last,
            object=manifest.object_id.hex(),
            root=manifest.root.hex(),
            data=shape.data,
            parity=shape.parity,
            chunk=shape.chunk,
            size=manifest.layout.size,
        )
        await self._sign(announcement)
        self._drop()
        await self._rests.after(began)

    async def _sign(self, announcement: Announcement) -> None:
        content = announcement.encode()
        signed = await self._archive.sign(content, announcement.CONTENT_TYPE)
        await self._note(ArchivingNote(announcement.last, signed.tx_id, content, signed.envelope))
        self._submitted = False

    async def _note(self, note: ArchivingNote) -> None:
        await self._city.storage.keep({notes.ARCHIVE_NEXT: notes.archiving_bytes(note)})
        self._next = note

    # --- the announcement

    async def _announced(self) -> bool:
        """Whether the announcement is approved, and the segment so done."""
        city = self._city
        assert self._next is not None
        tx_id, content = self._next.tx_id, self._next.content
        announcement = Announcement.from_bytes(content)
        node = (await city.storage.find([tx_id])).get(tx_id)
        if node is None and not self._submitted:
            [result] = await city.submit([self._next.envelope])
            if isinstance(result, Refusal):
                raise StorageError(f"its announcement is refused: {result.code}: {result.detail}")
            self._submitted = True
        if node is None or node.round > await self._certified():
            return False
        if node.rejection is not None:
            self._rejections += 1
            await self._sign(announcement)
            raise _Rejected(
                f"the announcement of its segment was rejected: {node.rejection.code}: "
                f"{node.rejection.reason}; the server's key needs what any author needs"
            )
        done = ArchivedNote(announcement.last, bytes.fromhex(announcement.object))
        await city.storage.keep(
            {
                notes.round_name(notes.SEGMENT, announcement.last): tx_id + content,
                notes.ARCHIVE_LAST: notes.archived_bytes(done),
                notes.ARCHIVE_NEXT: b"",
            }
        )
        self._last, self._next, self._rejections = done, None, 0
        self._archived(done.round)
        logger.info(
            "%s: rounds %d to %d are archived as %s",
            self._slug,
            announcement.first,
            announcement.last,
            announcement.object,
        )
        return True


class _Rejected(CitychainError):
    """The announcement was rejected."""


def _close(file: BinaryIO) -> None:
    """Close a file that nobody wants any more: what is still to be written has no room on a full
    disk, and that is no reason for anything."""
    with suppress(OSError):
        file.close()


def _close_unwanted(spooling: asyncio.Future[BinaryIO]) -> None:
    if not spooling.cancelled() and spooling.exception() is None:
        _close(spooling.result())


def _spool(folder: Path) -> BinaryIO:
    """A file without a name, which is gone with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
