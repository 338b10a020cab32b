"""The server that is looked at, as its configuration has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

from citychain.city.plan import Part, plan_city, plan_engine
from citychain.cli.checkup.results import Result
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import Settings
from citychain.containers import BUILTIN
from citychain.errors import CitychainError
from citychain.hooks.definitions import StorageDefinition
from citychain.hooks.registry import Registry, load_plugins
from citychain.keeping.stores import StorePlan, plan_stores
from citychain.ports import StorageContext
from citychain.upkeep import StorageLook, can_be_looked_at

__all__ = ["Check", "Examined", "nearest"]

DEFAULT_STORAGE: Final = "sqlite"
"""Cities that name no storage live there."""

_Storage: TypeAlias = Part[StorageDefinition] | CitychainError


@dataclass(frozen=True)
class Examined:
    """What checks are given; what several of them need is found once."""

    settings: Settings
    seconds: float
    """How long each of those may take that are asked over the network."""

    @cached_property
    def registry(self) -> Registry:
        """The plugins, as a server would load them."""
        return load_plugins(builtin=BUILTIN, **self.settings.plugins.model_dump())

    @cached_property
    def storages(self) -> Mapping[str, _Storage]:
        """By name those that the configuration names, or why one cannot be used."""
        parts: dict[str, _Storage] = {}
        named = list(self.settings.storage)
        if (self.settings.data_dir / DEFAULT_STORAGE).exists():
            named.append(DEFAULT_STORAGE)
        for name in named:
            try:
                parts[name] = plan_engine(name, self.settings, self.registry)
            except CitychainError as error:
                parts[name] = error
        for slug in self.settings.own_cities:
            try:
                part = plan_city(slug, self.settings, self.registry).storage
            except CitychainError:
                continue  # The check of cities tells it.
            parts.setdefault(part.name, part)
        return parts

    @cached_property
    def looks(self) -> Mapping[str, StorageLook | CitychainError | None]:
        """What a look at each storage finds, or why it fails; ``None`` where there is no looking
        without opening."""
        looks: dict[str, StorageLook | CitychainError | None] = {}
        for name, part in self.storages.items():
            if isinstance(part, CitychainError):
                looks[name] = part
                continue
            try:
                looks[name] = asyncio.run(self._look(part))
            except CitychainError as error:
                looks[name] = error
            except TimeoutError:
                looks[name] = CitychainError(f"no answer within {self.seconds:g} s")
            except Exception as error:  # A backend may be anybody's; what it says may be secret.
                looks[name] = CitychainError(f"looking at it raised {type(error).__name__}")
        return looks

    @cached_property
    def stores(self) -> tuple[StorePlan, ...] | CitychainError:
        """The fragment stores, or what is wrong with their tables."""
        try:
            return plan_stores(self.settings, self.registry)
        except CitychainError as error:
            return error

    async def _look(self, part: Part[StorageDefinition]) -> StorageLook | None:
        async with Executor() as compute:
            directory = self.settings.data_dir / part.name
            context = StorageContext(directory, compute, SystemClock())
            backend = can_be_looked_at(part.definition.factory(part.options, context))
            if backend is None:
                return None
            async with asyncio.timeout(self.seconds):
                return await backend.look()


Check: TypeAlias = Callable[[Examined], Iterator[Result]]
"""Looks at one subject."""


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(it for it in (path, *path.absolute().parents) if it.exists())
