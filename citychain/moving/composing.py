"""Puts together what moves cities from a server's, or a command's, `CoreContainer`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from citychain.city.founding import not_taken
from citychain.city.plan import CityPlan, Part
from citychain.city.spreading import server_name
from citychain.genesis import Genesis
from citychain.hooks.definitions import StorageDefinition
from citychain.moving.mover import CityMover
from citychain.moving.opening import Home, find_home
from citychain.ports import CityStorage

if TYPE_CHECKING:
    from citychain.containers import CoreContainer

__all__ = ["city_mover", "open_home"]

Opened = Callable[[Genesis, Part[StorageDefinition]], Awaitable[CityStorage]]
"""Opens a city in a storage; raises `NameTaken` where another one has its name."""


async def open_home(
    core: CoreContainer, plan: CityPlan, genesis: Genesis, opened: Opened | None = None
) -> Home:
    """A city in the storage in which it lives.

    Args:
        core: Its compute and its engines are entered.
        opened: Instead of the engines.

    Raises:
        ConfigurationError: it lives in a storage that is not configured, or that has another
            city of its network and name.
        StorageError: a storage cannot be opened.
    """
    finding = find_home(
        plan,
        data_dir=core.settings().data_dir,
        named=partial(core.catalogue().storage, plan.slug),
        opened=partial(opened or partial(_opened, core), genesis),
        compute=core.compute(),
    )
    return await not_taken(finding, plan.storage.name, genesis, core.compute())


def city_mover(
    core: CoreContainer, opened: Opened | None = None, server: str | None = None
) -> CityMover:
    """What moves cities between the storages that are configured; see `open_home`.

    Args:
        server: The name of the server, where one runs.
    """
    return CityMover(
        data_dir=core.settings().data_dir,
        plan=core.catalogue().plan,
        named=core.catalogue().storage,
        opened=opened or partial(_opened, core),
        backend=core.engines().backend,
        compute=core.compute(),
        clock=core.clock(),
        server=server or server_name(core.settings().network),
        lease=timedelta(seconds=core.settings().cluster.lease_seconds),
    )


async def _opened(
    core: CoreContainer, genesis: Genesis, part: Part[StorageDefinition]
) -> CityStorage:
    backend = await core.engines().backend(part)
    return await backend.city(genesis.id, genesis.file, genesis.initial_objects())
