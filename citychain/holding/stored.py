"""The recount of some holders of a city from its own storage; it goes on where it was.

Rounds are read some at a time, and what was counted of each holder is kept in a file of its own
(`citychain.holding.kept`). Whoever loses the files loses nothing but time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from citychain import record
from citychain._native.transactions import decode_batch
from citychain.errors import ConfigurationError, StorageError
from citychain.genesis import Genesis
from citychain.holding.kept import load_recount, save_recount
from citychain.holding.reading import stated
from citychain.holding.recount import Recount, StatedTransaction
from citychain.ports import CityStorage, Compute, StoredRound
from citychain.types import RawTransaction

__all__ = ["StoredRecounts"]

logger = logging.getLogger(__name__)

ROUNDS_PAGE: Final = 16
TRANSACTIONS_PAGE: Final = 256
PAGES_KEPT: Final = 256
"""After so many pages it is kept how far it is."""


class _Taken(NamedTuple):
    """What a recount takes of a round."""

    round: int
    time_ms: int
    checkpoint_hash: bytes
    statements: Sequence[StatedTransaction]


class StoredRecounts:
    """Recounts of one city, each of one holder alone.

    Args:
        holders: Key ids.
        archived: Gives transactions that the storage does not have any more.
        folder: For the files; made if it is missing.
        rest: Called after each page with the time at which it was begun.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        storage: CityStorage,
        holders: Iterable[bytes],
        archived: Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, RawTransaction]]],
        folder: Path,
        compute: Compute,
        monotonic: Callable[[], float],
        rest: Callable[[float], Awaitable[None]],
    ) -> None:
        self._genesis = genesis
        self._storage = storage
        self._holders = sorted(set(holders))
        self._archived = archived
        self._folder = folder
        self._compute = compute
        self._monotonic = monotonic
        self._rest = rest
        self._recounts: dict[bytes, Recount] = {}

    async def follow(self) -> Mapping[bytes, Recount]:
        """The recounts after the last certified round, by holder.

        Raises:
            StorageError: the storage failed.
            Pruned: neither it nor the archive has a transaction.
        """
        for holder in self._holders:
            if holder not in self._recounts:
                self._recounts[holder] = await self._begin(holder)
        if not self._recounts:
            return {}
        last = (await self._storage.head()).certified_round
        first = min(recount.round for recount in self._recounts.values()) + 1
        pages = 0
        try:
            while first <= last:
                began = self._monotonic()
                page = await self._storage.rounds(first, min(ROUNDS_PAGE, last + 1 - first))
                if not page:
                    break
                taken = [await self._read(stored) for stored in page]
                await self._compute(_take, self._recounts.values(), taken)
                first, pages = page[-1].round + 1, pages + 1
                if pages % PAGES_KEPT == 0:
                    await self._keep()
                await self._rest(began)
        except BaseException:
            # A page may be taken in part, or be taken still by a thread.
            self._recounts.clear()
            raise
        if pages % PAGES_KEPT:
            await self._keep()
        return self._recounts

    def _file(self, holder: bytes) -> Path:
        return self._folder / f"{holder.hex()}.json"

    async def _begin(self, holder: bytes) -> Recount:
        genesis, operator = self._genesis.id, self._genesis.operator_id
        try:
            kept = await self._compute(load_recount, self._file(holder), genesis, operator, holder)
        except (ConfigurationError, OSError) as error:
            logger.warning("%s: holdings are counted anew: %s", self._genesis.city, error)
        else:
            there = await self._storage.checkpoint_hashes([kept.round])
            if kept.round == 0 or there.get(kept.round) == kept.checkpoint_hash:
                return kept
            # The city was rebuilt, and went on otherwise.
        return Recount(operator, only=holder)

    async def _keep(self) -> None:
        try:
            await self._compute(self._save)
        except OSError as error:
            logger.warning("%s: how far holdings are counted: %s", self._genesis.city, error)

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for holder, recount in self._recounts.items():
            save_recount(self._file(holder), self._genesis.id, holder, recount)

    async def _read(self, stored: StoredRound) -> _Taken:
        decided = await self._compute(record.decode, stored.record)
        approved = [
            tx_id
            for tx_id, verdict in zip(decided.tx_ids, decided.verdicts, strict=True)
            if verdict is None
        ]
        statements: list[StatedTransaction] = []
        for begin in range(0, len(approved), TRANSACTIONS_PAGE):
            statements += await self._stated(approved[begin : begin + TRANSACTIONS_PAGE])
        return _Taken(stored.round, stored.time_ms, stored.checkpoint_hash, statements)

    async def _stated(self, tx_ids: Sequence[bytes]) -> list[StatedTransaction]:
        """Statements among approved transactions, in their order."""
        raw = dict(await self._storage.raw(tx_ids))
        if pruned := [tx_id for tx_id in tx_ids if tx_id not in raw]:
            raw |= await self._archived(pruned)
        try:
            return await self._compute(_decoded, [raw[tx_id].envelope for tx_id in tx_ids])
        except ValueError as error:
            raise StorageError(f"a transaction in the storage cannot be read: {error}") from None


def _decoded(envelopes: Sequence[bytes]) -> list[StatedTransaction]:
    return stated(decode_batch(envelopes), [None] * len(envelopes))


def _take(recounts: Collection[Recount], page: Sequence[_Taken]) -> None:
    """Move on each that is not further already."""
    for recount in recounts:
        for taken in page:
            if taken.round > recount.round:
                recount.take(*taken)
