"""Proves that a conformance suite bites: a broken part must fail the very check that is for it.

A module ``broken_<kind>.py`` beside this one holds the broken parts, each a small change of a real
one, and the suite they are given to::

    Suite = DagSuite                        # or a subclass of it: smaller sizes, other fixtures

    class ForgetsTheLast(SealedRounds):
        '''Leaves out the last candidate.'''

    MUTANTS = [
        Mutant("forgets the last", broken(ForgetsTheLast), caught_by="test_each_candidate_once"),
    ]

and ``test_<kind>_mutants.py`` runs them::

    import broken_dag
    from biting import bite, each_of

    pytest_plugins = ["pytester"]

    @each_of(broken_dag)
    def test_a_broken_dag_rule_is_caught(pytester, mutant):
        bite(pytester, broken_dag, mutant)

The check runs by pytest within this process, in a folder of its own, with warnings as errors. The
file that it finds there names the mutant by module and name, so that `Elsewhere` can run the same
test in another process.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import Phase, settings

# Before the runs, each of which forgets what it imported: native code is imported only once.
import citychain._native  # noqa: F401
from citychain.testing.conformance._elsewhere import FAILED

__all__ = ["Mutant", "bite", "each_of"]

TEST = """
import {module} as broken
import pytest
from biting import named

MUTANT = named(broken, {name!r})


class TestMutant(broken.Suite):
    @pytest.fixture
    def definition(self):
        return MUTANT.made()

    @pytest.fixture
    def options(self):
        return MUTANT.options
"""

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
pythonpath = {here}
"""

settings.register_profile(
    "biting", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None
)
"""Of properties: no search for a smaller example. Examples are drawn without chance, and are others
where other modules are loaded, of which hypothesis takes constants. So a suite of mutants allows so
many that each mutant is caught, whatever they are."""

MISTAKES = (TypeError, AttributeError, NameError, ImportError, SyntaxError)
"""What more likely is a mistake in the mutant than the one that it stands for."""


@dataclass(frozen=True)
class Mutant:
    """A broken part."""

    name: str
    """What it does wrong, in a few words; unique in its module."""
    definition: Any
    """Its definition, or a function that makes it."""
    caught_by: str
    """Name of the suite's test that must fail."""
    options: Mapping[str, Any] = field(default_factory=dict)
    raises: type[BaseException] | tuple[type[BaseException], ...] = ()
    """Errors that count besides failed assertions, although they are `MISTAKES`."""

    def made(self) -> Any:
        """Its definition."""
        return self.definition() if callable(self.definition) else self.definition


def each_of(broken: ModuleType) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Runs a test once for each mutant of the module, as its argument ``mutant``."""
    return pytest.mark.parametrize(
        "mutant", broken.MUTANTS, ids=[mutant.name.replace(" ", "_") for mutant in broken.MUTANTS]
    )


def named(broken: ModuleType, name: str) -> Mutant:
    """The module's mutant of that name."""
    [mutant] = [mutant for mutant in broken.MUTANTS if mutant.name == name]
    return mutant


def bite(pytester: pytest.Pytester, broken: ModuleType, mutant: Mutant) -> None:
    """Fail unless the check catches the mutant; print what it said."""
    profile = settings.get_current_profile_name()
    settings.load_profile("biting")
    try:
        errors = _errors(pytester, broken, mutant)
    finally:
        settings.load_profile(profile)
    assert errors, f"the mutant {mutant.name!r} passes {mutant.caught_by}"
    for error in errors:
        by_mistake = isinstance(error, MISTAKES) and not isinstance(error, mutant.raises)
        assert not by_mistake, f"{mutant.name!r} is broken in another way than meant: {error!r}"
        assert FAILED not in str(error), (
            f"{mutant.name!r} only fails in another process, for whatever reason: {error}"
        )
    said = str(errors[0]).strip().partition("\n")[0]
    print(f"{mutant.name}: caught by {mutant.caught_by}: {type(errors[0]).__name__}: {said}")


def _errors(
    pytester: pytest.Pytester, broken: ModuleType, mutant: Mutant
) -> list[BaseException | None]:
    """What the check raised; it ran, whatever its parameters, in each case that was reached."""
    pytester.makeini(SETTINGS.format(here=Path(__file__).parent))
    test = pytester.makepyfile(test_mutant=TEST.format(module=broken.__name__, name=mutant.name))
    result = pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "-p", "no:xdist", "--exitfirst", "--tb=short"),
        f"{test.name}::TestMutant::{mutant.caught_by}",
    )
    steps = result.reprec.getcalls("pytest_runtest_makereport")
    reached = [step.call for step in steps if step.call.when == "call"]
    assert reached, f"{mutant.caught_by} was not reached: see above"
    skipped = pytest.skip.Exception
    found = [
        call.excinfo.value
        for call in reached
        if call.excinfo is not None and not isinstance(call.excinfo.value, skipped)
    ]
    errors = [error.with_traceback(None) for error in found]
    # What a failed test left behind is finished here, and not amid somebody else's test.
    del result, steps, reached, found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    return errors
