"""The rule of Kyoto's choice, with the options that Kyoto gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import citychain_kyoto
import pytest

from citychain import DagDefinition
from citychain.dag.builtin import citychain_dag_handlers
from citychain.testing.conformance import DagSuite

[KYOTO] = citychain_kyoto.citychain_cities()


class TestRuleOfKyoto(DagSuite):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        [rule] = [rule for rule in citychain_dag_handlers() if rule.name == KYOTO.dag]
        return rule

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return KYOTO.dag_options
