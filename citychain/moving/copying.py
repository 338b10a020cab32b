"""Copies a city's ledger from one storage to another, by what any `CityStorage` offers.

A round is built anew from its record and from what the source has of it, and all that is hashed
is hashed again on the way: a source that is damaged is found out before the copy is used. What was
copied before is not copied again, so a copy that was broken off goes on where it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from citychain.crypto import merkle
from citychain.errors import RoundTaken, StorageError
from citychain.moving.pages import TRANSACTIONS_PAGE, RoundPages
from citychain.moving.reading import GivenRounds, RoundsSource, read_page, rebuilt
from citychain.notes import HOME
from citychain.ports import CityStorage, Compute
from citychain.types import Head, RawTransaction, SealedRound

__all__ = ["CityCopy", "CopySource", "copy_waiting"]

NOTES_BYTES: Final = 4 << 20
"""Of notes that are kept in one call."""
KEYS_KNOWN_MAX: Final = 1 << 17
"""Key ids whose copying is remembered."""

Told = Callable[[int, int], None]
"""Told how many rounds are done, and of how many."""


class CopySource(RoundsSource, Protocol):
    """What is read of a `CityStorage` that is copied, or of what stands in for one."""

    async def head(self) -> Head:
        """See `CityStorage.head`."""

    async def keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `CityStorage.keys`."""

    async def notes(self, prefix: str) -> Mapping[str, bytes]:
        """See `CityStorage.notes`."""

    async def pending_ids(self) -> Sequence[bytes]:
        """See `CityStorage.pending_ids`."""

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `CityStorage.checkpoint_hashes`."""


class CityCopy:
    """Copies one city, as far as it has come, as often as it is asked to.

    Args:
        source: Goes on being written to meanwhile.
        target: Nobody else's to write to.
    """

    def __init__(
        self, genesis: bytes, source: CopySource, target: CityStorage, compute: Compute
    ) -> None:
        self._genesis = genesis
        self._source = source
        self._target = target
        self._compute = compute
        self._tree = merkle.Tree()
        self._previous = genesis
        self._pages = RoundPages()
        self._keys: set[bytes] = set()
        self._before = 0
        self.round = 0
        """The last round of the copy."""

    @property
    def transactions(self) -> int:
        """Copied so far, of those that have a place."""
        return self._tree.size - self._before

    async def begin(self) -> None:
        """Take up the thread where the target has it.

        Raises:
            StorageError: the target has another history than the source.
        """
        head = await self._target.head()
        if head.round:
            same = await self._source.checkpoint_hashes([head.round])
            if same.get(head.round) != head.checkpoint_hash:
                raise StorageError(
                    f"it has another history of this city: its round {head.round} is not the "
                    "source's; give it another storage"
                )
            self._previous = head.checkpoint_hash
        self._tree = merkle.Tree(head.size, head.peaks)
        self._before = head.size
        self.round = head.round

    async def rounds(self, told: Told = lambda done, of: None) -> int:
        """Copy the rounds that the source has now, and their certificates; how many there were.

        Raises:
            InvalidRound: the source has a round that is not whole.
        """
        first, last = self.round + 1, (await self._source.head()).round
        reading = asyncio.create_task(self._page(first, last))
        try:
            while (given := await reading) is not None:
                # The next ones are read while these are written.
                reading = asyncio.create_task(self._page(given.rounds[-1].round + 1, last))
                await self._write(given)
                told(self.round, last)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await self._certify()
        return max(0, last + 1 - first)

    async def rest(self) -> None:
        """Copy what stands beside the rounds: notes, and transactions without a place."""
        await self._notes()
        await copy_waiting(self._source, self._target)

    # --- rounds

    async def _page(self, first: int, last: int) -> GivenRounds | None:
        """The next rounds; ``None`` after the last."""
        if first > last:
            return None
        return await read_page(self._source, first, last, self._pages, self._compute)

    async def _write(self, given: GivenRounds) -> None:
        rounds, seats = await self._compute(
            rebuilt, self._genesis, given, self._tree, self._previous
        )
        self._previous = rounds[-1].checkpoint_hash
        await self._append(list(given.raw.values()), seats)
        for sealed in rounds:
            await self._commit(sealed)
        certificates = [stored.certificate for stored in given.rounds]
        if there := [certificate for certificate in certificates if certificate is not None]:
            await self._target.certify(there)

    async def _commit(self, sealed: SealedRound) -> None:
        try:
            await self._target.commit(sealed)
        except RoundTaken:
            # By an earlier call of ours that was cut off, or it is somebody else's.
            found = await self._target.checkpoint_hashes([sealed.round])
            if found.get(sealed.round) != sealed.checkpoint_hash:
                raise
        self.round = sealed.round

    async def _certify(self) -> None:
        """Bring certificates that came after their rounds were copied."""
        first, pages = (await self._target.head()).certified_round + 1, RoundPages()
        while first <= self.round:
            page = await self._source.rounds(first, pages.limit(self.round + 1 - first))
            certificates = [stored.certificate for stored in page if stored.certificate is not None]
            if certificates:
                await self._target.certify(certificates)
            pages.seen(page)
            first += len(page)

    # --- what stands beside them

    async def _append(
        self, transactions: Sequence[RawTransaction], key_ids: Iterable[bytes] = ()
    ) -> None:
        wanted = {*(item.author for item in transactions), *key_ids} - self._keys
        keys = await self._source.keys(list(wanted)) if wanted else {}
        if transactions or keys:
            await self._target.append(transactions, keys)
        if len(self._keys) > KEYS_KNOWN_MAX:
            self._keys.clear()
        self._keys.update(keys)

    async def _notes(self) -> None:
        there = await self._target.notes("")
        batch: dict[str, bytes] = {}
        for name, note in (await self._source.notes("")).items():
            if name == HOME or there.get(name) == note:
                continue
            batch[name] = note
            if sum(map(len, batch.values())) >= NOTES_BYTES:
                await self._target.keep(batch)
                batch = {}
        if batch:
            await self._target.keep(batch)


async def copy_waiting(
    source: CopySource, target: CityStorage, tx_ids: Iterable[bytes] | None = None
) -> None:
    """Copy transactions without a place, and their authors' keys; what is there stays as it is.

    Args:
        tx_ids: Those to copy; all that the source has, if it is not given.
    """
    there = set(await target.pending_ids())
    wanted = await source.pending_ids() if tx_ids is None else tx_ids
    missing = [tx_id for tx_id in wanted if tx_id not in there]
    for start in range(0, len(missing), TRANSACTIONS_PAGE):
        page = missing[start : start + TRANSACTIONS_PAGE]
        raw = await source.raw(page)
        transactions = [raw[tx_id] for tx_id in page if tx_id in raw]
        if transactions:
            authors = list({item.author for item in transactions})
            await target.append(transactions, await source.keys(authors))
