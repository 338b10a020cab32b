"""Puts together what moves cities from a server's, or a command's, `CoreContainer`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from citychain.city.founding import city_in
from citychain.city.plan import CityPlan, Part
from citychain.genesis import Genesis
from citychain.hooks.definitions import StorageDefinition
from citychain.moving.mover import CityMover
from citychain.moving.opening import Home, find_home
from citychain.ports import CityStorage

if TYPE_CHECKING:
    from citychain.containers import CoreContainer

__all__ = ["city_mover", "open_home"]

Opened = Callable[[Genesis, Part[StorageDefinition]], Awaitable[CityStorage]]
"""Opens a city in a storage."""


async def open_home(
    core: CoreContainer, plan: CityPlan, genesis: Genesis, opened: Opened | None = None
) -> Home:
    """A city in the storage in which it lives.

    Args:
        core: Its compute and its engines are entered.
        opened: Instead of the engines.

    Raises:
        ConfigurationError: it lives in a storage that is not configured.
        StorageError: a storage cannot be opened.
    """
    return await find_home(
        plan,
        data_dir=core.settings().data_dir,
        named=partial(core.catalogue().storage, plan.slug),
        opened=partial(opened or partial(_opened, core), genesis),
        compute=core.compute(),
    )


def city_mover(core: CoreContainer, opened: Opened | None = None) -> CityMover:
    """What moves cities between the storages that are configured; see `open_home`."""
    return CityMover(
        data_dir=core.settings().data_dir,
        plan=core.catalogue().plan,
        named=core.catalogue().storage,
        opened=opened or partial(_opened, core),
        backend=core.engines().backend,
        compute=core.compute(),
        clock=core.clock(),
        server=core.server_name(),
        lease=timedelta(seconds=core.settings().cluster.lease_seconds),
    )


async def _opened(
    core: CoreContainer, genesis: Genesis, part: Part[StorageDefinition]
) -> CityStorage:
    backend = await core.engines().backend(part)
    return await city_in(backend, part.name, genesis, core.compute())
