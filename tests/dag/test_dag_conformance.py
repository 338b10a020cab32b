"""The built-in rules do what every rule must."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from citychain.dag.builtin import citychain_dag_handlers
from citychain.dag.sealed_rounds import SealedRounds
from citychain.hooks.definitions import DagDefinition
from citychain.testing.conformance import DagSuite
from citychain.types import Decision

RULES = {definition.name: definition for definition in citychain_dag_handlers()}


class TestSealedRounds(DagSuite):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["sealed-rounds"]


class TestDependenciesOnly(DagSuite):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["dependencies-only"]


class TestRandomTips(DagSuite):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["random-tips"]


class TestRandomTipsWide(DagSuite):
    big_batch = 5_000

    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["random-tips"]

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {"tips": 4, "window": 16}


class Open(SealedRounds):
    """A rule that works only between entering and leaving."""

    is_open = False

    async def __aenter__(self) -> Open:
        self.is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.is_open = False

    async def decide(self, *asked: Any) -> Decision:
        assert self.is_open
        return await super().decide(*asked)


class TestRuleThatIsEntered(DagSuite):
    big_batch = 5_000

    @pytest.fixture
    def definition(self) -> DagDefinition:
        return DagDefinition("open", lambda options, city: Open(city), api_version=2)
