"""The runner of the mutants fails where nothing was caught."""

from __future__ import annotations

import sys

import broken_nothing
import pytest
from biting import bite, named

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("does all right", "passes test_a_new_city_is_empty"),
        ("is broken by mistake", "in another way than meant: AttributeError"),
        ("fails elsewhere", "only fails in another process"),
        ("cannot be made", "was not reached"),
        ("has no such check", "was not reached"),
    ],
)
def test_what_is_not_caught_is_told(pytester: pytest.Pytester, name: str, said: str) -> None:
    modules = set(sys.modules)
    with pytest.raises(AssertionError, match=said):
        bite(pytester, broken_nothing, named(broken_nothing, name))
    assert set(sys.modules) == modules
