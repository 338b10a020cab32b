"""Prunes a city's storage: segment after segment, each proven in the archive just before.

Of a segment whose last round is older than the city keeps it, all fragments are read and restored.
What the storage has of its transactions must be there byte for byte; then those go that may
(`citychain.retention.choosing`). How far it came is noted behind each segment, and when to look
again at one of which something stayed. What is cut off is repeated from that segment on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from citychain import checkpoint, notes
from citychain._native.transactions import Transaction, decode_batch
from citychain.archive.segment import ArchivedRound
from citychain.between_cities import (
    RemittanceState,
    anchor_object,
    decode_anchor,
    decode_outbox,
    outbox_object,
)
from citychain.errors import VerificationError
from citychain.genesis import Genesis
from citychain.ports import CityStorage, Clock, Compute, SupportsRetention
from citychain.retention.choosing import Extensions, choose
from citychain.retention.segments import NotProven, Segments
from citychain.retention.stated import Stated
from citychain.statements import Segment as Announcement

__all__ = ["Portion", "Pruner"]

logger = logging.getLogger(__name__)

LOOK: Final = timedelta(minutes=10)
"""Between two looks whether something is old enough; twice as long after each that failed."""
DOUBLINGS_MAX: Final = 6
NEVER_MS: Final = (1 << 63) - 1
RESTS: Final = 1.0
"""For so many times as long as a step took it rests."""
RECLAIM_PAUSE: Final = 0.05
PRUNED_TOGETHER: Final = 500


@dataclass(frozen=True, slots=True)
class Portion:
    """A segment that is old enough, and what became of it, or would."""

    first: int
    last: int
    object_id: str
    gone: int = 0
    """Transactions whose bytes went, or would go."""
    bytes: int = 0
    """Of these."""
    stay: int = 0
    """Transactions that stay."""
    why_not: str = ""
    """Why nothing of it goes, if so."""


class Pruner:
    """Prunes one city.

    Args:
        retention: Of ``storage``.
        keeps: How long the city keeps transactions.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        storage: CityStorage,
        retention: SupportsRetention,
        segments: Segments,
        keeps: timedelta,
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._slug = genesis.city
        self._storage = storage
        self._retention = retention
        self._segments = segments
        self._keeps_ms = keeps // timedelta(milliseconds=1)
        self._compute = compute
        self._clock = clock
        self._stated = Stated(genesis, storage, compute, clock)

    async def run(self) -> None:
        """Prune what is old enough, without end, resting as long as it works."""
        failures = 0
        while True:
            is_in_order = True
            try:
                async for portion in self.prune(rests=RESTS):
                    self._log(portion)
                    is_in_order = is_in_order and not portion.why_not
            except Exception as error:  # The city goes on without it.
                logger.warning("%s: nothing is pruned for now: %r", self._slug, error)
                is_in_order = False
            # Each look at what is not proven reads all of it.
            failures = 0 if is_in_order else failures + 1
            pause = LOOK * 2 ** min(failures, DOUBLINGS_MAX)
            await self._clock.sleep(pause.total_seconds())

    def _log(self, portion: Portion) -> None:
        where = f"{self._slug}: rounds {portion.first} to {portion.last}"
        if portion.why_not:
            logger.warning("%s are not pruned: %s", where, portion.why_not)
        else:
            logger.info("%s: %d transactions are pruned", where, portion.gone)

    async def prune(self, *, dry: bool = False, rests: float = 0.0) -> AsyncIterator[Portion]:
        """Go through all segments that are old enough; each is told when it is done.

        Args:
            dry: Change nothing.
            rests: Times as long as each segment took.

        Raises:
            StorageError: the storage failed.
        """
        now_ms = self._clock.time_ms()
        stuck = False
        extensions: Extensions | None = None
        for announced in await self._due(now_ms):
            began = self._clock.monotonic()
            if extensions is None or not dry:
                # Each time anew: somebody may have extended something meanwhile.
                extensions = await self._stated.extensions(now_ms, keep=not dry, rests=rests)
            portion, again_ms = await self._portion(announced, extensions, now_ms, dry=dry)
            stuck = stuck or bool(portion.why_not)
            if not dry and not portion.why_not:
                await self._note(announced, again_ms, moves_on=not stuck)
                await self._reclaim()
            yield portion
            await self._clock.sleep(rests * (self._clock.monotonic() - began))

    async def _due(self, now_ms: int) -> list[Announcement]:
        """Segments that are old enough, but for those of which nothing is left to go."""
        pruned = await self._pruned()
        kept = {
            notes.round_of(name): notes.decode_number(note)
            for name, note in (await self._storage.notes(notes.RETENTION_KEPT)).items()
            if note
        }
        due: list[Announcement] = []
        for announced in await self._segments.announced():
            again_ms = kept.get(announced.last, NEVER_MS if announced.last <= pruned else 0)
            if again_ms > now_ms:
                continue
            stored = await self._storage.rounds(announced.last, 1)
            if not stored or stored[0].time_ms + self._keeps_ms > now_ms:
                break  # All later ones are younger.
            due.append(announced)
        return due

    async def _pruned(self) -> int:
        there = await self._storage.notes(notes.RETENTION_PRUNED)
        return notes.decode_number(there.get(notes.RETENTION_PRUNED, b""))

    async def _note(self, announced: Announcement, again_ms: int, *, moves_on: bool) -> None:
        kept = notes.round_name(notes.RETENTION_KEPT, announced.last)
        # Behind one that is not proven a segment that is done says so itself.
        again_ms = again_ms or (0 if moves_on else NEVER_MS)
        noted = {kept: notes.number_bytes(again_ms) if again_ms else b""}
        if moves_on:
            last = max(announced.last, await self._pruned())
            noted[notes.RETENTION_PRUNED] = notes.number_bytes(last)
        await self._storage.keep(noted)

    # --- one segment

    async def _portion(
        self, announced: Announcement, extensions: Extensions, now_ms: int, *, dry: bool
    ) -> tuple[Portion, int]:
        place = announced.first, announced.last, announced.object
        try:
            segment = await self._segments.prove(announced)
            await self._hold_to_the_ledger(segment.rounds)
            gone, size, stay, again = 0, 0, 0, 0
            for rounds in _batches(segment.rounds):
                transactions = await self._there(rounds)
                rejected = {it.tx_id for one in rounds for it in one.nodes if it.rejection}
                needed = await self._needed(transactions)
                choice = choose(transactions, rejected, extensions, needed, now_ms)
                stay += choice.stay
                if choice.again_ms:
                    again = min(again or choice.again_ms, choice.again_ms)
                gone += len(choice.go)
                size += await self._forget(choice.go, dry=dry)
        except NotProven as error:
            return Portion(*place, why_not=str(error)), 0
        return Portion(*place, gone, size, stay), again

    async def _hold_to_the_ledger(self, rounds: Sequence[ArchivedRound]) -> None:
        """See that archived rounds are the storage's.

        Raises:
            NotProven: one is another.
        """
        numbers = [archived.stored.round for archived in rounds]
        there = await self._storage.checkpoint_hashes(numbers)
        for archived in rounds:
            if there.get(archived.stored.round) != archived.stored.checkpoint_hash:
                raise NotProven(f"the archive has another round {archived.stored.round}")

    async def _there(self, rounds: Sequence[ArchivedRound]) -> list[Transaction]:
        """Sealed transactions that the storage has, each as the archive has it.

        Raises:
            NotProven: the archive has another.
        """
        items = {it.tx_id: it.envelope for one in rounds for it in one.transactions}
        raw = await self._storage.raw(list(items)) if items else {}
        for tx_id, item in raw.items():
            if items[tx_id] != item.envelope:
                raise NotProven(f"the archive has another transaction {tx_id.hex()}")
        return await self._compute(decode_batch, [items[tx_id] for tx_id in items if tx_id in raw])

    async def _needed(self, transactions: Sequence[Transaction]) -> set[bytes]:
        """Ids of remittances that are not settled, and of the latest anchors."""
        names = {}
        for item in transactions:
            if item.remittance is not None:
                names[item.tx_id] = outbox_object(item.tx_id)
            elif item.anchor is not None:
                names[item.tx_id] = anchor_object(item.anchor.city)
        states = await self._storage.objects(list(names.values())) if names else {}
        needed = set()
        for item in transactions:
            if (state := states.get(names.get(item.tx_id, ""))) is None:
                continue
            if item.remittance is not None:
                outgoing = decode_outbox(item.tx_id, state.value)
                if outgoing.state is RemittanceState.PENDING:
                    needed.add(item.tx_id)
            elif item.anchor is not None and _is_latest(item.anchor.checkpoint, state.value):
                needed.add(item.tx_id)
        return needed

    async def _forget(self, tx_ids: Sequence[bytes], *, dry: bool) -> int:
        """Prune these; how many bytes that gives."""
        size = 0
        for begin in range(0, len(tx_ids), PRUNED_TOGETHER):
            some = tx_ids[begin : begin + PRUNED_TOGETHER]
            size += sum((await self._retention.sizes(some)).values())
            if not dry:
                await self._retention.prune(some)
        return size

    async def _reclaim(self) -> None:
        while await self._retention.reclaim():
            await self._clock.sleep(RECLAIM_PAUSE)


def _batches(rounds: Sequence[ArchivedRound]) -> Iterator[Sequence[ArchivedRound]]:
    """Rounds in a row, with about `PRUNED_TOGETHER` transactions."""
    batch: list[ArchivedRound] = []
    count = 0
    for archived in rounds:
        batch.append(archived)
        count += len(archived.transactions)
        if count >= PRUNED_TOGETHER:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def _is_latest(encoded: bytes, anchored: bytes) -> bool:
    try:
        return checkpoint.checkpoint_hash(encoded) == decode_anchor(anchored)[1]
    except VerificationError:
        return True
