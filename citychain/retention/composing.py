"""Puts together what prunes a server's cities, and what gives back what was pruned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from citychain.city.answers import Archived
from citychain.genesis import Genesis
from citychain.keeping.stores import OpenStores
from citychain.ports import can_prune
from citychain.retention.pruner import Pruner
from citychain.retention.segments import ArchivedTransactions, Segments

if TYPE_CHECKING:
    from citychain.containers import CityContainer, CoreContainer
    from citychain.ports import CityStorage

__all__ = ["CityRetention", "city_retention", "segments_of"]

logger = logging.getLogger(__name__)


class CityRetention(NamedTuple):
    """What a city is given; ``None`` where it cannot be had."""

    prune: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Prunes its storage while this server leads it, until it is cancelled."""
    archived: Archived | None = None
    """Gives what was pruned."""


def segments_of(
    core: CoreContainer, genesis: Genesis, storage: CityStorage, stores: OpenStores
) -> Segments:
    """The archive of a city, as far as the stores that are open have it."""
    return Segments(
        genesis=genesis,
        storage=storage,
        stores=stores.stores,
        folder=core.settings().data_dir / "archive",
        compute=core.compute(),
    )


def city_retention(
    core: CoreContainer, city: CityContainer, stores: OpenStores | None
) -> CityRetention:
    """What prunes a city, and what gives pruned transactions.

    Args:
        city: Its plan, genesis, storage and clock.
        stores: Those of the server; those that are not open now may be later.
    """
    if stores is None or not stores.plans:
        return CityRetention()
    plan, storage = city.plan(), city.storage()
    segments = segments_of(core, city.genesis(), storage, stores)
    archived = ArchivedTransactions(segments).raw
    if (retention := can_prune(storage)) is None:
        logger.info("%s: its storage cannot forget what transactions say", plan.slug)
        return CityRetention(archived=archived)
    pruner = Pruner(
        genesis=city.genesis(),
        storage=storage,
        retention=retention,
        segments=segments,
        keeps=plan.retention,
        compute=core.compute(),
        clock=city.clock(),
    )
    return CityRetention(pruner.run, archived)
