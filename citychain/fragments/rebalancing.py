"""Rebalancing: the fragments of many objects come where placement says, some objects at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import nullcontext
from typing import Final

from citychain.fragments.checking import Checked, check_object
from citychain.fragments.manifest import fragment_bytes
from citychain.fragments.patience import ANSWER_SECONDS, within
from citychain.fragments.relocating import Copy, Means, Outcome, Relocation, Trouble
from citychain.fragments.sources import Source, grouped, told

__all__ = ["rebalance_objects"]

AT_ONCE: Final = 4
"""Objects at a time: stores take their time to sync."""
LARGE_BYTES: Final = 4 << 20
"""What is larger has the stores for itself: it has its buffers, and its hashes."""


async def rebalance_objects(
    objects: AsyncIterator[Sequence[Source]], means: Means, *, check: bool = False
) -> AsyncGenerator[Outcome, None]:
    """Bring objects in order; what became of the fragments of each manifest, as they are done.

    Args:
        objects: All fragments of each, as stores name them.
        check: Every fragment is read first, and one that is wrong is made anew.
    """
    if means.dry_run:
        await _look_for_room(means)
    large = asyncio.Lock()
    at_work: set[asyncio.Task[list[Outcome]]] = set()
    try:
        async for sources in objects:
            at_work.add(asyncio.create_task(_rebalance(sources, means, large, check=check)))
            if len(at_work) >= AT_ONCE:
                done, at_work = await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
                for outcome in _outcomes(done):
                    yield outcome
        for next_done in asyncio.as_completed(at_work):
            for outcome in await next_done:
                yield outcome
    finally:
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)


async def _look_for_room(means: Means) -> None:
    """Ask stores that have a limit what they may still take."""
    for name, store in means.stores.items():
        try:
            used, limit = await within(ANSWER_SECONDS, store.space())
        except Exception:  # Whoever asks it for its fragments is told why.
            continue
        if limit is not None:
            means.room[name] = max(0, limit - used)


def _outcomes(done: Iterable[asyncio.Task[list[Outcome]]]) -> list[Outcome]:
    return [outcome for task in done for outcome in task.result()]


async def _rebalance(
    sources: Sequence[Source], means: Means, large: asyncio.Lock, *, check: bool
) -> list[Outcome]:
    try:
        return await _relocated(sources, means, large, check=check)
    except Exception as error:  # Stores may be anybody's: one object keeps none from the others.
        key, loss = sources[0].key, f"it was given up: {told(error)}"
        return [Outcome(key.object_id, key.root, None, loss=loss)]


async def _relocated(
    sources: Sequence[Source], means: Means, large: asyncio.Lock, *, check: bool
) -> list[Outcome]:
    sources = [means.source(it.name, it.key) for it in sources]
    groups, unknown = await grouped(sources, means.compute)
    size = max((group.manifest.layout.size for group in groups), default=0)
    async with large if size > LARGE_BYTES else nullcontext():
        checked: dict[bytes, Checked] = {}
        if check:
            found = await check_object(sources, means.compute, lambda read: means.told(read, 0))
            checked = {it.root: it for it in found}
        outcomes = []
        for group in groups:
            # Who has all of it may lie, and so may each of several that claim to be the object.
            is_doubtful = len(groups) > 1 or group.stores == 1
            relocation = Relocation(means, group, is_doubtful=is_doubtful)
            outcomes.append(await relocation.run(checked.get(group.manifest.root)))
            if not check:
                means.told(len(group.sources) * fragment_bytes(group.manifest.layout), 0)
    for same in unknown:
        outcomes.append(_lost(same, means))
    return outcomes


def _lost(sources: Sequence[Source], means: Means) -> Outcome:
    """Of fragments of which none has a manifest, unless a store did not give it."""
    key, loss = sources[0].key, "no fragment has its manifest"
    outcome = Outcome(key.object_id, key.root, None, loss=loss)
    for it in sources:
        if it.unanswered:
            outcome.unanswered.append(Copy(it.key.index, it.name))
            outcome.troubles.append(Trouble(it.key.index, it.name, it.unanswered))
            means.failed.setdefault(it.name, it.unanswered)
    return outcome
