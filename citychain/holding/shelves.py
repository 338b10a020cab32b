"""What a holder's stores have of a city's announced segments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from citychain.errors import (
    CitychainError,
    FragmentMissing,
    InvalidRequest,
    VerificationError,
)
from citychain.fragments.inventory import every_object
from citychain.fragments.proving import ChunkProof, prove
from citychain.fragments.sources import Fault, told
from citychain.ports import Compute, FragmentKey, FragmentStore

__all__ = ["Found", "NotProven", "find_held", "prove_held"]

LOST: Final = (FragmentMissing, InvalidRequest, VerificationError)
"""Said by a store that answers."""


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


async def find_held(
    announced: Collection[FragmentKey], stores: Mapping[str, FragmentStore], compute: Compute
) -> Found:
    """Which of the announced fragments there are."""
    away: dict[str, str] = {}

    def failed(fault: Fault) -> None:
        away[fault.store] = fault.detail

    found: dict[FragmentKey, list[str]] = {}
    async for sources in every_object(stores, compute, failed):
        for source in sources:
            if source.key in announced:
                found.setdefault(source.key, []).append(source.name)
    return Found(found, away)


async def prove_held(
    key: FragmentKey, chunk: int, stores: Mapping[str, FragmentStore], compute: Compute
) -> ChunkProof:
    """The proof of a chunk by whichever store has it.

    Raises:
        NotProven: none has, or none of those that answer.
    """
    faults: list[str] = []
    is_lost = True
    for name, store in stores.items():
        try:
            return await prove(store, key, chunk, compute)
        except Exception as error:  # A store may be anybody's, and raise anything.
            faults.append(f"store {name}: {told(error)}")
            is_lost &= isinstance(error, LOST)
    raise NotProven("; ".join(faults) or "there is no store", lost=bool(faults) and is_lost)
