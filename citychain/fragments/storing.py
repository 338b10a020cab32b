"""Storing an object where placement says: what a store does not take goes to the next one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Literal, NamedTuple

from citychain.errors import CitychainError
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import Manifest
from citychain.fragments.patience import Patient
from citychain.fragments.placement import Place, placed
from citychain.fragments.sources import all_of
from citychain.fragments.writing import survey_object, write_fragments
from citychain.ports import Compute, FragmentStore

__all__ = ["Phase", "Refusal", "Stored", "store_object"]

Phase = Literal["reading", "checking", "writing"]


class Refusal(NamedTuple):
    """A fragment that a store did not take."""

    fragment: int
    """Its index."""
    store: str
    error: CitychainError


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an object's fragments are now."""

    manifest: Manifest
    written: Mapping[int, str]
    """By index, the store of each that was written."""
    present: Mapping[int, str]
    """Of each that was there already, and is right."""
    replaced: Collection[int]
    """Indexes of those that were written since what their store had was wrong."""
    refusals: Sequence[Refusal]
    """In the order of the attempts."""

    @property
    def stores(self) -> Mapping[int, str]:
        """The store of each fragment that is stored, by index."""
        return {**self.written, **self.present}

    @property
    def missing(self) -> Sequence[int]:
        """Indexes of those that no store took."""
        return [index for index in range(len(self.manifest.roots)) if index not in self.stores]

    @property
    def is_restorable(self) -> bool:
        """Whether enough are stored."""
        return len(self.stores) >= self.manifest.layout.shape.data


async def store_object(
    source: BinaryIO,
    shape: Shape,
    stores: Mapping[str, FragmentStore],
    places: Collection[Place],
    compute: Compute,
    told: Callable[[Phase, int, int], None] = lambda phase, done, of: None,
) -> Stored:
    """Store an object over the stores that there are.

    Those that fail are left out, and what they did not take goes where placement puts it among the
    others, until no store is left. What is there already is read, and not written again unless it
    is wrong, so a call that was cut off is completed by the same one.

    Args:
        stores: By name; ``places`` are of these.
        told: Of each phase, how many bytes of the object are done; writing begins again for what
            was not taken.

    Raises:
        ConfigurationError: it is too large for chunks of this size.
        ObjectChanged: it was written to meanwhile. Nothing more of it is stored.
    """
    survey = await survey_object(source, shape, compute, partial(told, "reading"))
    manifest = survey.manifest
    left = {place.name: place for place in places if place.weight > 0}
    there: Mapping[int, Collection[str]] = await _there(manifest, stores, left)
    written: dict[int, str] = {}
    present: dict[int, str] = {}
    replaced: list[int] = []
    refusals: list[Refusal] = []
    missing = list(range(shape.fragments))
    while missing and left:
        names = placed(manifest.object_id, left.values(), shape.fragments, there)
        some = {index: stores[names[index]] for index in missing}
        done = await write_fragments(
            source, survey, some, compute, partial(told, "writing"), partial(told, "checking")
        )
        replaced += done.replaced
        written |= {index: names[index] for index in done.stored}
        present |= {index: names[index] for index in done.present}
        # What has its place keeps it, before what is still to get one.
        settled = {index: [names[index]] for index in (*done.stored, *done.present)}
        there = {**settled, **{index: there[index] for index in there if index not in settled}}
        for index, error in sorted(done.failed.items()):
            refusals.append(Refusal(index, names[index], error))
            left.pop(names[index], None)
        missing = sorted(done.failed)
    return Stored(manifest, written, present, replaced, refusals)


async def _there(
    manifest: Manifest, stores: Mapping[str, FragmentStore], left: Collection[str]
) -> dict[int, Collection[str]]:
    """By index, the stores that have a fragment. First come those of which fewest ``left`` have
    one: they are to stay before those that can stay elsewhere."""
    root = manifest.root

    async def ask(name: str, store: FragmentStore) -> list[tuple[int, str]]:
        try:
            keys = await Patient(store).find(manifest.object_id)
        except Exception:
            return []  # If it is to get one, it is heard of again.
        return [(key.index, name) for key in keys if key.root == root]

    there: dict[int, Collection[str]] = {}
    for some in await all_of(ask(name, store) for name, store in stores.items()):
        for index, name in some:
            there[index] = [*there.get(index, ()), name]

    def first(index: int) -> tuple[int, int]:
        return sum(name in left for name in there[index]), index

    return {index: there[index] for index in sorted(there, key=first)}
