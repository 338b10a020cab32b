"""Calling a plugin's code, with a limit, and making a finding of what it raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from citychain.cli.doctor.findings import Finding, line_of
from citychain.hooks.loading import Overdue, Steps, Work, run_in_turn

__all__ = ["Attempts", "Unusable"]

T = TypeVar("T")


class Unusable(Exception):
    """Raised where there is nothing to go on with."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


class Attempts:
    """Calls the code of one plugin.

    Args:
        package: Where its lines are: its top-level package, or one of citychain's own.
        seconds: For each call.
    """

    def __init__(self, package: str, seconds: float) -> None:
        self.package = package
        self._seconds = seconds

    def __call__(self, code: str, where: str, doing: str, function: Callable[[], T]) -> T:
        """Call ``function`` and return what it returns.

        Args:
            code: Of the finding, if it raises.
            where: What the finding names, if no line of the plugin is known.

        Raises:
            Unusable: it raised, or did not end.
        """
        results: list[T] = []

        def run(steps: Steps) -> None:
            with steps.step(doing):
                results.append(function())

        [failure] = run_in_turn([Work(run, self.package)], self._seconds)
        if isinstance(failure, Overdue):
            line = failure.place.partition(" (")[0]
            what = f"{doing} did not end within {self._seconds:g} s"
            raise Unusable(Finding("hangs", line, what, "return at once, or mend what waits there"))
        if failure is not None:
            cause = failure.__cause__ or failure
            what, _, fix = str(failure).rpartition("; ")
            if fix.startswith("mend"):
                fix = "mend it there"  # Its author does not disable it.
            raise Unusable(Finding(code, line_of(cause, self.package) or where, what, fix))
        return results[0]
