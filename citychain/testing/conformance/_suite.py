"""What all suites have in common: they stay whole, and can run in another process.

An author inherits a suite and overrides fixtures. A standard test that a subclass replaces no
longer says what it says for everybody, so `Suite` refuses the class, unless the replacement is
marked ``xfail`` with a reason: then the report shows the gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from citychain.testing.conformance._elsewhere import Elsewhere

__all__ = ["Suite"]

STANDARD = __name__.rpartition(".")[0]


def _standard_tests(suite: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The tests that citychain defines for a suite, by name."""
    for ancestor in suite.__mro__:
        if f"{ancestor.__module__}.".startswith(f"{STANDARD}."):
            for name, attribute in vars(ancestor).items():
                if name.startswith("test_"):
                    yield name, attribute


def _known_gap(replacement: object) -> bool:
    return any(
        mark.name == "xfail" and mark.kwargs.get("reason")
        for mark in getattr(replacement, "pytestmark", ())
    )


class Suite:
    """Tests of one kind of part; pytest runs it in subclasses named ``Test...``.

    Raises:
        TypeError: when a subclass is defined that lacks a standard test.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if f"{cls.__module__}.".startswith(f"{STANDARD}."):
            return
        for name, standard in _standard_tests(cls):
            replacement = getattr(cls, name, None)
            if replacement is not standard and not _known_gap(replacement):
                raise TypeError(
                    f"{cls.__qualname__} replaces the standard test {name}: delete the "
                    "replacement and override fixtures instead, or, where the part cannot pass, "
                    'mark it with @pytest.mark.xfail(reason="why") and call super()'
                )

    @pytest.fixture
    def elsewhere(self, request: pytest.FixtureRequest) -> Elsewhere:
        """Runs the same test in other processes."""
        return Elsewhere(request)
