"""The built-in DAG handlers, offered by the same hook as anybody else's."""

from __future__ import annotations

from collections.abc import Iterable

from citychain.dag.dependencies_only import DependenciesOnly
from citychain.dag.random_tips import RandomTips, RandomTipsOptions
from citychain.dag.sealed_rounds import SealedRounds
from citychain.hooks.definitions import API_VERSION, DagDefinition
from citychain.hooks.specs import hookimpl

__all__ = ["citychain_dag_handlers"]


@hookimpl
def citychain_dag_handlers() -> Iterable[DagDefinition]:
    """``sealed-rounds``, ``dependencies-only`` and ``random-tips``."""
    yield DagDefinition(
        "sealed-rounds", lambda options, city: SealedRounds(city), api_version=API_VERSION
    )
    yield DagDefinition(
        "dependencies-only", lambda options, city: DependenciesOnly(city), api_version=API_VERSION
    )
    yield DagDefinition("random-tips", RandomTips, RandomTipsOptions, api_version=API_VERSION)
