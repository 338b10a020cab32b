"""Restoring an object from the stores that have its fragments, whole and wrong ones.

Fragments that name different manifests are different groups; each is tried. What is restored is
written to ``FILE.part``, and gets its name once its hash is the object's id: wrong data is never
shown. A restore that was cut off goes on where it was: what is there already is coded once more and
held to the hashes that the fragments have.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from citychain.errors import NotFound, NotRestorable
from citychain.fragments.layout import Run
from citychain.fragments.part import PartFile
from citychain.fragments.sources import Fault, Group, NotEnough, find_sources, grouped
from citychain.fragments.writing import Told
from citychain.ports import Compute, FragmentStore

__all__ = ["Restored", "restore_object"]

FAULTS_TOLD: Final = 8
"""In the message of an error."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and from what."""

    size: int
    root: bytes
    """Of the manifest that it was restored by."""
    resumed: int
    """Bytes that were there already and were right."""
    faults: Sequence[Fault]
    """What stores lacked or had wrong, as far as it was noticed: not every fragment is read."""


async def restore_object(
    object_id: bytes,
    stores: Mapping[str, FragmentStore],
    target: Path,
    compute: Compute,
    told: Told = lambda done, of: None,
) -> Restored:
    """Restore an object into a file; one of this name is replaced.

    Raises:
        NotFound: all stores answered, and none has a fragment of it.
        NotRestorable: too few good chunks; what was restored stays in ``FILE.part``.
        StorageError: the file cannot be written, or another process restores into it.
    """
    sources, faults = await find_sources(object_id, stores, compute)
    if not sources and not faults:
        raise NotFound("object", object_id.hex())
    groups, _ = await grouped(sources, compute)
    part = PartFile(target)
    reasons: list[str] = []
    try:
        await compute(part.open)
        for group in groups:
            attempt = _Attempt(group, part, compute, told)
            name = f"manifest {group.manifest.root.hex()[:16]}"
            try:
                digest = await attempt.run()
            except NotEnough as lack:
                reasons.append(f"{name}: {lack}")
                continue
            if digest == object_id:
                await compute(part.publish)
                faults += (fault for source in sources for fault in source.faults)
                size, root = group.manifest.layout.size, group.manifest.root
                return Restored(size, root, attempt.resumed, faults)
            reasons.append(f"{name}: it is of other content")
            await compute(part.truncate, 0)
        faults += (fault for source in sources for fault in source.faults)
        raise NotRestorable(object_id, _explanation(reasons, faults))
    finally:
        await asyncio.shield(compute(part.close))


class _Attempt:
    """A restore by one group."""

    def __init__(self, group: Group, part: PartFile, compute: Compute, told: Told) -> None:
        self.resumed = 0
        self._group = group
        self._part = part
        self._compute = compute
        self._told = told
        self._digest = hashlib.sha256()

    async def run(self) -> bytes:
        """Fill the part file; the hash of its content.

        Raises:
            NotEnough: what was found is in the part file.
        """
        runs = self._group.manifest.layout.runs()
        missing = await self._resume(runs)
        await self._compute(self._part.truncate, self.resumed)
        # The next run is read while one is hashed and written.
        reading = self._read(missing)
        try:
            while reading is not None:
                data = await reading
                run, missing = missing, next(runs, None)
                reading = self._read(missing)
                assert run is not None
                await self._compute(self._take, run, data)
                self._told(run.begin + run.length, self._group.manifest.layout.size)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        return self._digest.digest()

    async def _resume(self, runs: Iterator[Run]) -> Run | None:
        """Go over what is there and is right; the first run that is missing."""
        for run in runs:
            data = await self._compute(self._part.read, run.begin, run.length)
            if len(data) < run.length or not await self._group.holds(run, data):
                return run
            await self._compute(self._digest.update, data)
            self.resumed = run.begin + run.length
            self._told(self.resumed, self._group.manifest.layout.size)
        return None

    def _read(self, run: Run | None) -> asyncio.Task[bytes] | None:
        return None if run is None else asyncio.create_task(self._group.read(run))

    def _take(self, run: Run, data: bytes) -> None:
        self._digest.update(data)
        self._part.write(run.begin, data)


def _explanation(reasons: Sequence[str], faults: Sequence[Fault]) -> str:
    told = [
        f"store {fault.store}"
        + (f", fragment {fault.key.index}" if fault.key else "")
        + f": {fault.detail}"
        for fault in faults[:FAULTS_TOLD]
    ]
    more = [f"and {len(faults) - FAULTS_TOLD} more faults"] if len(faults) > FAULTS_TOLD else []
    return "; ".join([*reasons, *told, *more]) or "no fragment has a manifest"
