"""What all suites have in common: they are told what to test, stay whole, and can run in
another process.

An author inherits a suite and overrides fixtures. A standard test that a subclass replaces no
longer says what it says for everybody, so `Suite` refuses the class, unless the replacement is
marked ``xfail`` with a reason and no condition: then the report shows the gap. Each test looks
again, since a class can be changed after it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from citychain.hooks.definitions import FOLDER
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
        mark.name == "xfail"
        and mark.kwargs.get("reason")
        and not mark.args  # By a condition it would be a gap only sometimes.
        and mark.kwargs.get("condition", True) is True
        for mark in getattr(replacement, "pytestmark", ())
    )


def _check(suite: type) -> None:
    """Refuse a suite that is not whole."""
    for name, standard in _standard_tests(suite):
        replacement = getattr(suite, name, None)
        if replacement is not standard and not _known_gap(replacement):
            raise TypeError(
                f"{suite.__qualname__} replaces the standard test {name}: delete the "
                "replacement and override fixtures instead, or, where the part cannot pass, "
                'mark it with @pytest.mark.xfail(reason="why"), without a condition, and call '
                "super()"
            )
    for name in _sizes(suite):
        size = getattr(suite, name)
        if not isinstance(size, int) or size < 1:
            raise TypeError(
                f"{suite.__qualname__}.{name} is {size!r}: a size is a number from 1 on, or its "
                "tests would test nothing"
            )


def _sizes(suite: type) -> Iterator[str]:
    """The class attributes by which an author changes sizes."""
    for ancestor in suite.__mro__:
        if f"{ancestor.__module__}.".startswith(f"{STANDARD}."):
            for name, value in vars(ancestor).items():
                if type(value) is int and not name.startswith("_"):
                    yield name


class Suite:
    """Tests of one kind of part; pytest runs it in subclasses named ``Test...``.

    Raises:
        TypeError: when a subclass is defined that lacks a standard test, or has a size below 1.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if f"{cls.__module__}.".startswith(f"{STANDARD}."):
            return
        _check(cls)

    @pytest.fixture(autouse=True)
    def _stays_whole(self) -> None:
        try:
            _check(type(self))
        except TypeError as error:
            pytest.fail(str(error), pytrace=False)

    @pytest.fixture(autouse=True)
    def _asyncio_mode_is_auto(self, pytestconfig: pytest.Config) -> None:
        """Without it pytest would say of each test, at length, that it cannot await."""
        if not pytestconfig.pluginmanager.has_plugin("asyncio"):
            pytest.fail("the suites need pytest-asyncio: install citychain[testing]", pytrace=False)
        mode = pytestconfig.getoption("asyncio_mode") or pytestconfig.getini("asyncio_mode")
        if mode != "auto":
            pytest.fail(
                'the suites need pytest-asyncio\'s auto mode: write asyncio_mode = "auto" under '
                "[tool.pytest.ini_options] in pyproject.toml",
                pytrace=False,
            )

    @pytest.fixture
    def definition(self) -> Any:
        """Override: the definition of the part that is tested."""
        pytest.fail(
            f"{type(self).__name__} does not say which part it tests: override the fixture "
            "`definition`, returning what the plugin's hook yields",
            pytrace=False,
        )

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """The part's options, as in citychain.toml. Override for a part that needs some."""
        return {}

    @pytest.fixture
    def validated_options(
        self, definition: Any, options: Mapping[str, Any], tmp_path: Path
    ) -> BaseModel:
        """The options as the part's factory gets them; paths in them are relative to
        ``tmp_path``."""
        model: type[BaseModel] = definition.options
        try:
            return model.model_validate(dict(options), context={FOLDER: tmp_path})
        except ValidationError as error:
            pytest.fail(
                f"the part does not take these options: override the fixture `options`\n{error}",
                pytrace=False,
            )

    @pytest.fixture
    def elsewhere(self, request: pytest.FixtureRequest) -> Elsewhere:
        """Runs the same test in other processes."""
        return Elsewhere(request)
