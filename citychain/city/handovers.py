"""The changes of a city's committee, made from what its storage holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from citychain import checkpoint, notes
from citychain.errors import StorageError
from citychain.ports import CityStorage
from citychain.types import Handover

__all__ = ["Handovers"]


class _Change(NamedTuple):
    first_round: int
    """In office from here on."""
    is_recovery: bool
    """After an election for the same round, which it replaced."""
    handover: Handover


class Handovers:
    """Makes the handovers of one city, each once."""

    def __init__(self, storage: CityStorage) -> None:
        self._storage = storage
        self._elections: dict[int, _Change] = {}
        self._changes: Sequence[_Change] = ()
        self._through = 0
        """All changes that lead to who is in office up to this round are known."""

    async def between(self, known_round: int, round: int) -> tuple[Handover, ...]:
        """Those by which the committee in office in ``round``, which is certified, follows on
        the one in office in ``known_round``."""
        if round > self._through:
            await self._load()
        return tuple(
            change.handover for change in self._changes if known_round < change.first_round <= round
        )

    async def after(self, known_round: int) -> tuple[Handover, ...]:
        """All that follow on the committee in office in ``known_round``, in order."""
        await self._load()
        return tuple(
            change.handover for change in self._changes if change.first_round > known_round
        )

    async def _load(self) -> None:
        # The notes of a change are kept before its committee certifies anything, so those
        # read after this have all that this round needs.
        through = (await self._storage.head()).certified_round
        elected = map(notes.round_of, await self._storage.notes(notes.HANDOVER))
        for round in elected:
            # One that is not certified yet, whatever its note says, may still be another's.
            if round <= through and round not in self._elections:
                self._elections[round] = await self._election(round)
        self._changes = sorted(
            [*self._elections.values(), *await self._recoveries()], key=lambda change: change[:2]
        )
        self._through = through

    async def _election(self, round: int) -> _Change:
        [stored] = await self._storage.rounds(round, 1)
        seats = checkpoint.decode(stored.checkpoint).next_committee or ()
        keys = await self._storage.keys([seat.key_id for seat in seats])
        if missing := [seat.key_id.hex() for seat in seats if seat.key_id not in keys]:
            raise StorageError(f"the public key {missing[0]}, elected in round {round}, is gone")
        handover = Handover(
            tuple(keys[seat.key_id] for seat in seats), stored.checkpoint, stored.certificate
        )
        return _Change(round + 1, False, handover)

    async def _recoveries(self) -> list[_Change]:
        kept = await self._storage.notes(notes.RECOVERY)
        return [
            _Change(notes.round_of(name), True, Handover(keys, recovery=envelope))
            for name, note in kept.items()
            for envelope, keys in [notes.decode_recovery(note)]
        ]
