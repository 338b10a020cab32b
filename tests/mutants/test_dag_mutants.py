"""The DAG suite catches each of the broken rules, by the check that is for it."""

from __future__ import annotations

import broken_dag
import pytest
from biting import Mutant, bite, each_of

pytest_plugins = ["pytester"]


@each_of(broken_dag)
def test_a_broken_dag_rule_is_caught(pytester: pytest.Pytester, mutant: Mutant) -> None:
    bite(pytester, broken_dag, mutant)
