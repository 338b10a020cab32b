"""Which statements of retention stand in a ledger: looked for once, and noted by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from citychain import notes, record
from citychain._native.transactions import Transaction, decode_batch
from citychain.errors import StorageError, VerificationError
from citychain.genesis import Genesis
from citychain.ports import CityStorage, Clock, Compute
from citychain.retention.choosing import Extensions
from citychain.statements import Retention
from citychain.types import RawTransaction

__all__ = ["Stated"]

ROUNDS_PAGE: Final = 16
TRANSACTIONS_PAGE: Final = 256


class Stated:
    """The statements of one city."""

    def __init__(
        self, genesis: Genesis, storage: CityStorage, compute: Compute, clock: Clock
    ) -> None:
        self._genesis = genesis
        self._storage = storage
        self._compute = compute
        self._clock = clock

    async def extensions(self, now_ms: int, *, keep: bool = True, rests: float = 0.0) -> Extensions:
        """What they extend, those of all approved rounds up to now.

        Args:
            keep: Note how far they were looked for.
            rests: Times as long as each page of rounds took.
        """
        last = (await self._storage.head()).certified_round
        found = await self._look(last, keep=keep, rests=rests)
        noted = await self._storage.notes(notes.RETENTION_STATED)
        extensions = Extensions(self._genesis.operator_id)
        tx_ids = {name: notes.ids_of(note) for name, note in noted.items()}
        for name in sorted(tx_ids.keys() | found.keys()):
            stated = await self._stated(found.get(name, tx_ids.get(name, ())))
            for author, statement in stated:
                extensions.take(author, statement)
            over = tx_ids.get(name) and all(it.until <= now_ms for _, it in stated)
            if over and keep:
                await self._storage.keep({name: b""})
        return extensions

    async def _stated(self, tx_ids: Sequence[bytes]) -> list[tuple[bytes, Retention]]:
        raw = await self._storage.raw(tx_ids) if tx_ids else {}
        opened = await self._opened(raw)
        return [(item.author, statement) for item in opened if (statement := _statement(item))]

    async def _look(self, last: int, *, keep: bool, rests: float) -> dict[str, Sequence[bytes]]:
        """Look through the rounds that were not looked through before; ids by name of note."""
        scanned = await self._storage.notes(notes.RETENTION_SCANNED)
        first = notes.decode_number(scanned.get(notes.RETENTION_SCANNED, b"")) + 1
        all_found: dict[str, Sequence[bytes]] = {}
        while first <= last:
            began = self._clock.monotonic()
            page = await self._storage.rounds(first, min(ROUNDS_PAGE, last + 1 - first))
            if not page:
                break
            found: dict[str, bytes] = {}
            for stored in page:
                decided = await self._compute(record.decode, stored.record)
                approved = [
                    tx_id
                    for tx_id, verdict in zip(decided.tx_ids, decided.verdicts, strict=True)
                    if verdict is None
                ]
                if stating := await self._stating(approved):
                    name = notes.round_name(notes.RETENTION_STATED, stored.round)
                    found[name], all_found[name] = b"".join(stating), stating
            if keep:
                mark = {notes.RETENTION_SCANNED: notes.number_bytes(page[-1].round)}
                await self._storage.keep(found | mark)
            first = page[-1].round + 1
            await self._clock.sleep(rests * (self._clock.monotonic() - began))
        return all_found

    async def _stating(self, tx_ids: Sequence[bytes]) -> list[bytes]:
        found = []
        for begin in range(0, len(tx_ids), TRANSACTIONS_PAGE):
            some = await self._storage.raw(tx_ids[begin : begin + TRANSACTIONS_PAGE])
            opened = await self._opened(some)
            found += [item.tx_id for item in opened if _statement(item) is not None]
        return found

    async def _opened(self, raw: Mapping[bytes, RawTransaction]) -> list[Transaction]:
        try:
            return await self._compute(decode_batch, [it.envelope for it in raw.values()])
        except ValueError as error:
            raise StorageError(f"a transaction in the storage cannot be read: {error}") from None


def _statement(transaction: Transaction) -> Retention | None:
    if transaction.content_type != Retention.CONTENT_TYPE:
        return None
    try:
        return Retention.from_bytes(transaction.content or b"")
    except VerificationError:
        return None
