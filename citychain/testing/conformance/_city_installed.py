"""What a test of a city needs besides the installed plugins, as if it were installed itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import pytest

from citychain.hooks.definitions import (
    CityDefinition,
    ConsensusDefinition,
    DagDefinition,
    StorageDefinition,
)
from citychain.hooks.registry import ENTRY_POINT_GROUP
from citychain.hooks.specs import hookimpl

__all__ = ["DISTRIBUTION", "PartDefinition", "install"]

DISTRIBUTION: Final = "city-under-test"

PartDefinition: TypeAlias = StorageDefinition | DagDefinition | ConsensusDefinition


def install(
    patch: pytest.MonkeyPatch,
    folder: Path,
    cities: Iterable[CityDefinition],
    parts: Iterable[PartDefinition],
) -> None:
    """Install a distribution that offers these, until the test is over."""
    parts = [*parts]
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
