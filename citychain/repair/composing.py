"""Puts together what repairs the archives of a server's cities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from citychain.config_fragments import FragmentsSettings
from citychain.fragments.pacing import Pace
from citychain.fragments.placement import Place
from citychain.genesis import Genesis
from citychain.holding.stored import StoredRecounts
from citychain.keeping.stores import OpenStores
from citychain.ports import Clock
from citychain.repair.repairer import RepairedCity, Repairer, RepairNumbers, RepairPlan
from citychain.retention.composing import segments_of
from citychain.retention.segments import ArchivedTransactions

if TYPE_CHECKING:
    from citychain.archive.resting import Rests
    from citychain.containers import CityContainer, CoreContainer

__all__ = ["Repairing", "Repairs", "city_repair"]

AT_ONCE: Final = 4
"""Objects of all cities at a time: some megabytes each, and a store that hangs holds one."""

Repairing = Callable[[RepairedCity], Coroutine[Any, Any, None]]
"""Repairs a city's archive while this server leads it, until it is cancelled."""


class Repairs:
    """What the repairs of a server's cities share."""

    def __init__(self, settings: FragmentsSettings, clock: Clock) -> None:
        self.pace = Pace(clock, settings.repair_mib_s * (1 << 20))
        """Of looking and making anew."""
        self.read_pace = Pace(clock, settings.scrub_mib_s * (1 << 20))
        """Of reading everything."""
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.numbers: dict[str, RepairNumbers] = {}
        """By city, of those that were opened."""


def city_repair(
    core: CoreContainer, city: CityContainer, stores: OpenStores | None
) -> Repairing | None:
    """What repairs a city's archive; ``None`` where there are no stores, or it is not to be.

    Args:
        city: Its plan, genesis, storage and clock.
        stores: Those of the server; those that are not open now may be later.
    """
    plan, shared = city.plan(), core.repairs()
    if stores is None or not (plan.archive.enabled and plan.archive.repair):
        return None
    genesis: Genesis = city.genesis()
    storage, compute, clock = city.storage(), core.compute(), city.clock()
    holders = {name: it.holder for name, it in stores.plans.items() if it.holder is not None}
    archived = ArchivedTransactions(segments_of(core, genesis, storage, stores)).raw

    def recounts(rests: Rests) -> StoredRecounts:
        return StoredRecounts(
            genesis=genesis,
            storage=storage,
            holders=holders.values(),
            archived=archived,
            folder=core.settings().data_dir / "holdings" / genesis.id.hex(),
            compute=compute,
            monotonic=clock.monotonic,
            rest=rests.after,
        )

    repair = RepairPlan(
        every=plan.archive.repair_every,
        read_every=plan.archive.scrub_every,
        stores=lambda: stores.stores,
        places=[Place(it.name, it.weight, it.domain) for it in stores.plans.values()],
        holders=holders,
        recounts=recounts,
        pace=shared.pace,
        read_pace=shared.read_pace,
        turns=shared.turns,
        round_transactions=plan.pacer.max_tx,
    )
    numbers = shared.numbers.setdefault(plan.slug, RepairNumbers())

    def run(city: RepairedCity) -> Coroutine[Any, Any, None]:
        return Repairer(city, repair, numbers, compute=compute, clock=clock).run()

    return run
