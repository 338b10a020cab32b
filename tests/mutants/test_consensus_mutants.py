"""The consensus suite catches each of the broken steps, by the check that is for it."""

from __future__ import annotations

import broken_consensus
import pytest
from biting import Mutant, bite, each_of

pytest_plugins = ["pytester"]


@each_of(broken_consensus)
def test_a_broken_consensus_step_is_caught(pytester: pytest.Pytester, mutant: Mutant) -> None:
    bite(pytester, broken_consensus, mutant)
