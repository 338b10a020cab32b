"""What a holder's stores have of a city's announced segments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from citychain.errors import (
    CitychainError,
    FragmentMissing,
    InvalidRequest,
    VerificationError,
)
from citychain.fragments.inventory import every_object
from citychain.fragments.patience import Patient, StoreHangs
from citychain.fragments.proving import ChunkProof, prove
from citychain.fragments.sources import Fault, told
from citychain.ports import Clock, Compute, FragmentKey, FragmentStore

__all__ = ["Found", "NotProven", "Shelves"]

LOST: Final = (FragmentMissing, InvalidRequest, VerificationError)
"""Said by a store that answers."""
READ_SECONDS: Final = 10.0
"""For a call. A challenge is open for some minutes, and the other stores wait meanwhile..."""
LIST_SECONDS: Final = 30.0
"""...and likewise for a call that lists."""
HANGS_SECONDS: Final = 120.0
"""How long a store that did not answer in time is not asked again."""


class NotProven(CitychainError):
    """Raised when a chunk cannot be proven; ``lost`` says whether it will not be later either."""

    def __init__(self, detail: str, *, lost: bool) -> None:
        super().__init__(detail)
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Found:
    """Fragments of announced segments."""

    stores: Mapping[FragmentKey, Collection[str]]
    """In which stores each is."""
    away: Mapping[str, str] = field(default_factory=dict)
    """Stores that did not answer, and why: they may have more."""


class Shelves:
    """A holder's stores.

    Args:
        stores: By name.
        closed: Those that could not be opened, and why: what they have is not known.
    """

    def __init__(
        self,
        stores: Mapping[str, FragmentStore],
        closed: Mapping[str, str],
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._stores = stores
        self._closed = closed
        self._compute = compute
        self._clock = clock
        self._hanging: dict[str, tuple[float, str]] = {}
        """Stores that did not answer in time: until when they are not asked, and why."""
        self._where: Mapping[FragmentKey, Collection[str]] = {}
        """As it was found last."""

    async def find(self, announced: Collection[FragmentKey]) -> Found:
        """Which of the announced fragments there are."""
        hanging = self._hangs()
        away = {**self._closed, **hanging}
        asked = {
            name: Patient(store, LIST_SECONDS)
            for name, store in self._stores.items()
            if name not in hanging
        }

        def failed(fault: Fault) -> None:
            away[fault.store] = fault.detail
            if asked[fault.store].hangs:
                self._leave(fault.store, fault.detail)

        found: dict[FragmentKey, list[str]] = {}
        async for sources in every_object(asked, self._compute, failed):
            for source in sources:
                if source.key in announced:
                    found.setdefault(source.key, []).append(source.name)
        self._where = found
        return Found(found, away)

    async def prove(self, key: FragmentKey, chunk: int) -> ChunkProof:
        """The proof of a chunk by whichever store has it.

        Raises:
            NotProven: none has, or none of those that answer.
        """
        hanging = self._hangs()
        faults = {**self._closed, **hanging}
        is_lost = not faults
        for name in self._in_order(key):
            if name in hanging:
                continue
            try:
                store = Patient(self._stores[name], READ_SECONDS)
                return await prove(store, key, chunk, self._compute)
            except Exception as error:  # A store may be anybody's, and raise anything.
                faults[name] = told(error)
                is_lost &= isinstance(error, LOST)
                if isinstance(error, StoreHangs):
                    self._leave(name, faults[name])
        detail = "; ".join(f"store {name}: {why}" for name, why in faults.items())
        raise NotProven(detail or "there is no store", lost=bool(faults) and is_lost)

    def _in_order(self, key: FragmentKey) -> Sequence[str]:
        """Those first in which it was found."""
        found = self._where.get(key, ())
        return [*found, *(name for name in self._stores if name not in found)]

    def _leave(self, name: str, why: str) -> None:
        self._hanging[name] = (self._clock.monotonic() + HANGS_SECONDS, why)

    def _hangs(self) -> dict[str, str]:
        now = self._clock.monotonic()
        self._hanging = {name: it for name, it in self._hanging.items() if it[0] > now}
        return {name: why for name, (_, why) in self._hanging.items()}
