"""The fragment store suite catches each of the broken stores, by the check that is for it."""

from __future__ import annotations

import broken_fragments
import pytest
from biting import Mutant, bite, each_of

pytest_plugins = ["pytester"]


@each_of(broken_fragments)
def test_a_broken_fragment_store_is_caught(pytester: pytest.Pytester, mutant: Mutant) -> None:
    bite(pytester, broken_fragments, mutant)
