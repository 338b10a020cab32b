"""Puts together what archives a server's cities."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from citychain.archive.archiver import Archive, Archiver, LedCity
from citychain.city.metering import CityMeter
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.genesis import Genesis
from citychain.keeping.stores import OpenStores

if TYPE_CHECKING:
    from citychain.containers import CityContainer, CoreContainer

__all__ = ["Archiving", "city_archiving"]

Archiving = Callable[[LedCity], Coroutine[Any, Any, None]]
"""Archives a city while this server leads it, until it is cancelled."""


def city_archiving(
    core: CoreContainer, city: CityContainer, stores: OpenStores | None
) -> Archiving | None:
    """What archives a city; ``None`` where there are no stores, or it is not to be.

    Args:
        city: Its plan, genesis, clock, meter and operator, who signs announcements.
        stores: Those of the server that are open; later there may be more.
    """
    settings, plan = core.settings(), city.plan()
    if stores is None or not plan.archive.enabled:
        return None
    compute, clock, operator = core.compute(), city.clock(), city.operator()
    genesis: Genesis = city.genesis()
    meter: CityMeter = city.meter()

    async def sign(content: bytes, content_type: str) -> SignedTransaction:
        return await compute(
            sign_transaction,
            operator,
            genesis=genesis.id,
            data=content,
            content_type=content_type,
            with_public_key=True,
        )

    archive = Archive(
        settings=plan.archive,
        stores=lambda: (stores.stores, stores.places),
        data=settings.fragments.data,
        parity=settings.fragments.parity,
        round_transactions=plan.pacer.max_tx,
        folder=settings.data_dir / "archive",
        sign=sign,
    )

    def run(city: LedCity) -> Coroutine[Any, Any, None]:
        return Archiver(city, archive, compute=compute, clock=clock, archived=meter.archived).run()

    return run
