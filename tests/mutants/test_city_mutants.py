"""The city suite catches each of the broken cities, by the check that is for it."""

from __future__ import annotations

import broken_city
import pytest
from biting import Mutant, bite, each_of

pytest_plugins = ["pytester"]


@each_of(broken_city)
def test_a_broken_city_is_caught(pytester: pytest.Pytester, mutant: Mutant) -> None:
    bite(pytester, broken_city, mutant)
