"""The rule does what every DAG rule must."""

from __future__ import annotations

import random
from collections.abc import Callable

import citychain_kanazawa
import pytest
from citychain_kanazawa.districts import DistrictOptions

from citychain import DagDefinition
from citychain.client import Data
from citychain.testing.conformance import DagSuite

DISTRICTS = DistrictOptions().districts


class TestDistricts(DagSuite):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        [rule] = citychain_kanazawa.citychain_dag_handlers()
        return rule

    @pytest.fixture
    def traffic(self) -> Callable[[random.Random], Data]:
        return lambda choose: Data(b'{"district": "%s"}' % choose.choice(DISTRICTS).encode())
