"""What a test of a city needs besides the installed plugins, as if it were installed itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import pytest

from citychain.city.plan import Part
from citychain.compute import Executor
from citychain.hooks.definitions import (
    CityDefinition,
    ConsensusDefinition,
    DagDefinition,
    StorageDefinition,
)
from citychain.hooks.registry import ENTRY_POINT_GROUP
from citychain.hooks.specs import hookimpl
from citychain.ports import CityStorage, StorageBackend, StorageContext
from citychain.types import ObjectWrite

__all__ = ["DISTRIBUTION", "KEPT", "Keeper", "PartDefinition", "install"]

DISTRIBUTION: Final = "city-under-test"
KEPT: Final = "kept-by-the-suite"
"""Name of the storage backend that `Keeper` is the factory of."""

PartDefinition: TypeAlias = StorageDefinition | DagDefinition | ConsensusDefinition


class Keeper:
    """Makes the backends of a storage that goes with its process, and keeps them.

    The servers of a test stand for processes that end and begin anew, so what such a storage
    holds must outlive them. A second server on a directory finds the backend of the first.
    """

    def __init__(self) -> None:
        self.storage: Part[StorageDefinition] | None = None
        """What is kept; set before the first backend is made."""
        self._kept: dict[Path, _Kept] = {}

    def __call__(self, options: Any, context: StorageContext) -> StorageBackend:
        """The backend for a directory."""
        assert self.storage is not None
        if context.directory not in self._kept:
            compute = Executor(2)  # The server's own ends with it.
            backend = self.storage.definition.factory(
                self.storage.options, replace(context, compute=compute)
            )
            self._kept[context.directory] = _Kept(backend, compute)
        return self._kept[context.directory]

    async def close(self, directory: Path) -> None:
        """Close the backends below a directory."""
        for place in [place for place in self._kept if place.is_relative_to(directory)]:
            await self._kept.pop(place).close()


class _Kept:
    """A backend that is entered once, and left by `close` alone."""

    def __init__(self, backend: StorageBackend, compute: Executor) -> None:
        self._backend = backend
        self._compute = compute
        self._entered = False

    async def __aenter__(self) -> _Kept:
        if not self._entered:
            self._backend = await self._backend.__aenter__()
            self._entered = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> CityStorage:
        return await self._backend.city(genesis, genesis_file, initial)

    async def close(self) -> None:
        if self._entered:
            await self._backend.__aexit__(None, None, None)
        await self._compute.__aexit__(None, None, None)


def install(
    patch: pytest.MonkeyPatch,
    folder: Path,
    cities: Iterable[CityDefinition],
    parts: Iterable[PartDefinition],
    keeper: Keeper,
) -> None:
    """Install a distribution that offers these, until the test is over."""
    parts = [*parts, StorageDefinition(KEPT, keeper, durable=False, api_version=2)]
    offered: dict[str, list[Any]] = {
        "citychain_cities": [*cities],
        "citychain_storage_backends": [p for p in parts if isinstance(p, StorageDefinition)],
        "citychain_dag_handlers": [p for p in parts if isinstance(p, DagDefinition)],
        "citychain_consensus_steps": [p for p in parts if isinstance(p, ConsensusDefinition)],
    }
    name = DISTRIBUTION.replace("-", "_")
    module = ModuleType(name)
    for hook, definitions in offered.items():
        setattr(module, hook, hookimpl(_listing(definitions)))
    patch.setitem(sys.modules, name, module)
    information = folder / f"{name}-0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 0\n"
    )
    (information / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\n{DISTRIBUTION} = {name}\n"
    )
    patch.syspath_prepend(folder)


def _listing(definitions: list[Any]) -> Callable[[], list[Any]]:
    return lambda: definitions
