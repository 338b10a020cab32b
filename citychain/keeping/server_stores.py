"""The fragment stores of a server: one that does not answer is tried again until it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from citychain.errors import StorageError, StoreUnavailable
from citychain.fragments.sources import told
from citychain.keeping.stores import OpenStores, StorePlan
from citychain.ports import Clock, Compute, FragmentStore, StorageContext

__all__ = ["keep_stores"]

logger = logging.getLogger(__name__)

FIRST_SECONDS: Final = 5.0
"""For so long a server waits for its stores when it starts; those that take longer come later."""
RETRY_SECONDS: Final = 60.0
"""Until a store that could not be opened is tried again."""


@asynccontextmanager
async def keep_stores(
    plans: Iterable[StorePlan],
    *,
    directory: Path,
    compute: Compute,
    clock: Clock,
    first_seconds: float = FIRST_SECONDS,
) -> AsyncIterator[OpenStores]:
    """Open stores, each in a task of its own, and close them on leaving.

    What this gives changes: more stores are open when they come to answer.

    Args:
        directory: Each gets a directory of its name below it.
        first_seconds: For so long all are waited for.
    """
    by_name = {plan.name: plan for plan in plans}
    stores: dict[str, FragmentStore] = {}
    failed: dict[str, StorageError] = {}
    closing = asyncio.Event()

    async def keep(plan: StorePlan, tried: asyncio.Event) -> None:
        context = StorageContext(directory / plan.name, compute, clock)
        while not closing.is_set():
            try:
                async with plan.definition.factory(plan.options, context) as store:
                    stores[plan.name] = store
                    failed.pop(plan.name, None)
                    tried.set()
                    await closing.wait()
                    del stores[plan.name]
            except Exception as error:  # A store may be anybody's, and raise anything.
                stores.pop(plan.name, None)
                why = error if isinstance(error, StorageError) else StoreUnavailable(told(error))
                if str(why) != str(failed.get(plan.name)):
                    logger.warning("store %s does not answer: %s", plan.name, why)
                failed[plan.name] = why
                tried.set()
                await clock.sleep(RETRY_SECONDS)

    events = {plan.name: asyncio.Event() for plan in by_name.values()}
    tasks = {name: asyncio.create_task(keep(by_name[name], events[name])) for name in by_name}
    first = [asyncio.create_task(event.wait()) for event in events.values()]
    try:
        if first:
            await asyncio.wait(first, timeout=first_seconds)
        yield OpenStores(by_name, stores, failed)
    finally:
        closing.set()
        for name, task in tasks.items():
            if name not in stores:
                task.cancel()
        for one in first:
            one.cancel()
        await asyncio.gather(*tasks.values(), *first, return_exceptions=True)
