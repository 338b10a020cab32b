"""Checking all that stores have of an object: every byte, and whether it is the object.

Each fragment is held to the root in its key, as whoever restores does. The content is restored, and
thrown away: it must have the object's id, and coded again it must give the fragments that there
are. So what passes here is restored by any k of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from citychain.fragments.ahead import ahead
from citychain.fragments.coding import Found, decode_run, encode_run, lacking
from citychain.fragments.layout import Layout, Run
from citychain.fragments.manifest import Manifest
from citychain.fragments.sources import Fault, Group, Source, all_of, grouped, run_hashes
from citychain.ports import Compute

__all__ = ["Checked", "State", "check_object", "check_objects", "look_through"]

OBJECTS_AHEAD: Final = 1
"""More would take more memory, some megabytes each."""

OTHER_PART: Final = "it holds together, and is not what the code makes of the object"
OTHER_CONTENT: Final = "it holds together with others, and is of another object"


class State(StrEnum):
    """What is to be said of an object's fragments."""

    WHOLE = "whole"
    """Each is there, and nothing is wrong."""
    DAMAGED = "damaged"
    """They restore the object; some are lost or wrong."""
    LOST = "lost"
    """They do not restore it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of the fragments of one manifest."""

    object_id: bytes
    root: bytes
    manifest: Manifest | None
    """``None`` if no fragment has it."""
    good: Collection[int]
    """Indexes of fragments of which a store has a whole one."""
    missing: Sequence[int]
    """Of those that no store has."""
    faults: Sequence[Fault]
    """What is wrong, and where."""
    loss: str
    """Why the object cannot be restored; empty if it can."""

    @property
    def state(self) -> State:
        """All in one word."""
        if self.loss:
            return State.LOST
        return State.DAMAGED if self.missing or self.faults else State.WHOLE


async def check_object(
    sources: Sequence[Source], compute: Compute, told: Callable[[int], None] = lambda read: None
) -> list[Checked]:
    """Read all of an object's fragments; what is to be said of each manifest's.

    A few stretches of all fragments are in memory at a time, some megabytes each, whatever the
    object's size.

    Args:
        told: Of bytes that were read.
    """
    groups, unknown = await grouped(sources, compute)
    checked = [await _Check(group, sources, compute, told).run() for group in groups]
    for same in unknown:
        key, faults = same[0].key, [fault for source in same for fault in source.faults]
        loss = "no fragment has its manifest"
        checked.append(Checked(key.object_id, key.root, None, (), (), faults, loss))
    return checked


async def check_objects(
    objects: AsyncIterator[Sequence[Source]],
    compute: Compute,
    told: Callable[[int], None] = lambda read: None,
) -> AsyncGenerator[list[Checked], None]:
    """`check_object` of each, in order. The next ones are begun while one is checked."""

    async def calls() -> AsyncIterator[Coroutine[Any, Any, list[Checked]]]:
        async for sources in objects:
            yield check_object(sources, compute, told)

    async with aclosing(ahead(calls(), OBJECTS_AHEAD)) as checked:
        async for some in checked:
            yield some


async def look_through(
    sources: Sequence[Source], manifest: Manifest, told: Callable[[int, int], None]
) -> None:
    """Read every byte of fragments of one manifest: `Source.faults` has what is wrong.

    Args:
        told: Of how many bytes of the object this was done, and of how many.
    """
    if not sources:
        return
    await all_of(source.manifest() for source in sources)
    for run in manifest.layout.runs():
        await all_of(source.chunks(manifest, run) for source in sources)
        told(run.begin + run.length, manifest.layout.size)
    for source in sources:
        source.release()


@dataclass(slots=True)
class _Content:
    """What the good chunks make."""

    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    others: set[Source] = field(default_factory=set)
    """Those that have other chunks than the code makes of it."""

    def take(
        self, found: Sequence[Found], layout: Layout, run: Run, sources: Sequence[Source]
    ) -> None:
        """The next run, of which no stripe lacks a chunk."""
        data = decode_run(found, layout, run)
        self.digest.update(data)
        _, hashes = encode_run(data, layout, run)
        for source in sources:
            if source.hashes is not None and (
                run_hashes(source.hashes, run) != hashes[source.key.index]
            ):
                self.others.add(source)


class _Check:
    """The check of one group."""

    def __init__(
        self,
        group: Group,
        sources: Sequence[Source],
        compute: Compute,
        told: Callable[[int], None],
    ) -> None:
        self._group = group
        self._manifest = group.manifest
        self._sources = group.sources
        root = group.manifest.root
        self._strays = [it for it in sources if it.key.root == root and it not in group.sources]
        """Of indexes that the shape has not."""
        self._compute = compute
        self._told = told

    async def run(self) -> Checked:
        manifest, layout = self._manifest, self._manifest.layout
        await all_of(source.manifest() for source in (*self._sources, *self._strays))
        await all_of(self._open(index) for index in range(layout.shape.fragments))
        content, loss = _Content(), ""
        async with aclosing(self._runs()) as runs:
            async for run, found in runs:
                self._told(sum(len(piece.chunks) for piece in found))
                lacks, stripe = lacking(found, layout, run)
                if lacks > 0:
                    needed, begin = layout.shape.data, run.begin + stripe * layout.shape.stripe
                    loss = loss or f"{needed - lacks} of {needed} chunks at byte {begin}"
                if not loss:
                    await self._compute(content.take, found, layout, run, self._sources)
                elif all(source.lost for source in self._sources):
                    break
        is_other = not loss and content.digest.digest() != manifest.object_id
        loss = "it is of other content" if is_other else loss
        others = dict.fromkeys(content.others, OTHER_PART)
        if is_other:
            others = dict.fromkeys(self._sources, OTHER_CONTENT)
        self._group.release()
        faults = [*self._faults(others)]
        wrong = {(fault.store, fault.key) for fault in faults}
        kept = {source.key.index for source in self._sources}
        return Checked(
            manifest.object_id,
            manifest.root,
            manifest,
            {it.key.index for it in self._sources if (it.name, it.key) not in wrong},
            [index for index in range(len(manifest.roots)) if index not in kept],
            faults,
            loss,
        )

    async def _runs(self) -> AsyncGenerator[tuple[Run, list[Found]], None]:
        """What there is of each run; the next one is read while one is looked at."""

        async def read(run: Run) -> tuple[Run, list[Found]]:
            given = await all_of(source.chunks(self._manifest, run) for source in self._sources)
            return run, [piece for piece in given if piece is not None]

        async def calls() -> AsyncIterator[Coroutine[Any, Any, tuple[Run, list[Found]]]]:
            for run in self._manifest.layout.runs():
                yield read(run)

        async with aclosing(ahead(calls(), 1)) as found:
            async for item in found:
                yield item

    async def _open(self, index: int) -> None:
        """Get the leaf hashes of a fragment, from one store after the other."""
        for source in self._sources:
            if source.key.index == index:
                await source.open(self._manifest)
                self._group.share()

    def _faults(self, others: Mapping[Source, str]) -> Iterator[Fault]:
        for source in (*self._sources, *self._strays):
            yield from source.faults
            if source in others:
                yield Fault(source.name, source.key, others[source])
