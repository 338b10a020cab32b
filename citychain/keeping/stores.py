"""The fragment stores that the configuration names: planned, then opened.

A store that cannot be opened keeps nobody from the others: fragments are there to do without some.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from citychain.config import Settings
from citychain.errors import ConfigurationError, StorageError, StoreUnavailable
from citychain.explain import explain, place
from citychain.fragments.placement import Place
from citychain.fragments.sources import told
from citychain.hooks.definitions import FOLDER, FragmentStoreDefinition
from citychain.hooks.registry import Registry
from citychain.ports import Clock, Compute, FragmentStore, StorageContext

__all__ = ["OpenStores", "Opening", "StorePlan", "open_stores", "plan_stores"]


@dataclass(frozen=True, slots=True)
class StorePlan:
    """A store, chosen and configured, not built."""

    name: str
    """Of its ``[fragments.stores.NAME]``."""
    definition: FragmentStoreDefinition
    options: BaseModel = field(repr=False)
    """An instance of ``definition.options``; may hold passwords."""
    weight: float
    domain: str
    holder: bytes | None = None
    """Id of the key that proves what is in it."""


@dataclass(frozen=True, slots=True)
class OpenStores:
    """The stores that there are now."""

    plans: Mapping[str, StorePlan]
    """All that are configured, by name, open or not."""
    stores: Mapping[str, FragmentStore]
    """Those that are open, by name."""
    failed: Mapping[str, StorageError]
    """Why the others are not, by name."""

    @property
    def places(self) -> list[Place]:
        """Those that are open, as placement has them."""
        plans = (self.plans[name] for name in self.stores)
        return [Place(plan.name, plan.weight, plan.domain) for plan in plans]


Opening = Callable[..., AbstractAsyncContextManager[OpenStores]]
"""Opens what was planned: `open_stores`, or what takes the same."""


def plan_stores(settings: Settings, registry: Registry) -> tuple[StorePlan, ...]:
    """The stores of a configuration, in its order.

    Raises:
        ConfigurationError: a kind or an option does not exist or is wrong.
        PluginError: several plugins claim a kind.
    """
    plans = []
    for name, table in settings.fragments.stores.items():
        key = ("fragments", "stores", name)
        try:
            definition = registry.fragment_store(table.kind)
        except ConfigurationError as error:
            where = place(settings.sources, (*key, "kind"))
            raise ConfigurationError(f"{where}{'.'.join(key)}.kind: {error}") from None
        try:
            options = definition.options.model_validate(
                dict(table.options), context={FOLDER: settings.folder}
            )
        except ValidationError as error:
            raise ConfigurationError(
                explain(error, definition.options, settings.sources, key)
            ) from None
        plans.append(
            StorePlan(
                name,
                definition,
                options,
                table.weight,
                table.domain or name,
                None if table.holder is None else bytes.fromhex(table.holder),
            )
        )
    return tuple(plans)


@asynccontextmanager
async def open_stores(
    plans: Iterable[StorePlan], *, directory: Path, compute: Compute, clock: Clock
) -> AsyncIterator[OpenStores]:
    """Open stores, and close them on leaving.

    Args:
        directory: Each gets a directory of its name below it.
    """
    by_name = {plan.name: plan for plan in plans}
    stores: dict[str, FragmentStore] = {}
    failed: dict[str, StorageError] = {}
    async with AsyncExitStack() as stack:
        for name, plan in by_name.items():
            context = StorageContext(directory / name, compute, clock)
            try:
                stores[name] = await stack.enter_async_context(
                    plan.definition.factory(plan.options, context)
                )
            except StorageError as error:  # A full disk has no room for a folder either.
                failed[name] = error
            except Exception as error:  # A store may be anybody's, and raise anything.
                failed[name] = StoreUnavailable(told(error))
        yield OpenStores(by_name, stores, failed)
