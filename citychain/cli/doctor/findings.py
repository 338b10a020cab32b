"""What the doctor can find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, Literal, NamedTuple

from citychain.hooks.checks import Fault
from citychain.hooks.loading import is_within

__all__ = ["FINDINGS", "Finding", "Level", "Row", "line_of"]

Level = Literal["ERROR", "WARNING"]


class Row(NamedTuple):
    """One kind of finding."""

    level: Level
    meaning: str
    fix: str
    """In general; a finding has its own."""


FINDINGS: Final[Mapping[str, Row]] = {
    # The distribution
    "not-installed": Row(
        "ERROR", "no distribution has this name", "install it, or give its right name"
    ),
    "no-entry-point": Row(
        "ERROR",
        "nothing of it is a plugin",
        "add one to `[project.entry-points.citychain]`, and install it again",
    ),
    "wrong-group": Row(
        "ERROR",
        "an entry point stands in a group that is nearly ours; it is not imported",
        "name the group `citychain`",
    ),
    "missing-requirement": Row("ERROR", "what it requires is not installed", "install it"),
    "unfit-requirement": Row(
        "ERROR", "what it requires is installed in another version", "install a version that fits"
    ),
    "malformed-requirement": Row(
        "ERROR",
        "a requirement in its metadata cannot be read",
        "mend it in `pyproject.toml`, and install again",
    ),
    "citychain-not-required": Row(
        "WARNING", "it does not require citychain", "add `citychain` to `dependencies`"
    ),
    "untyped": Row(
        "WARNING",
        "its package has no `py.typed`: type checkers ignore its types",
        "add an empty `py.typed` to the package",
    ),
    "disabled": Row(
        "WARNING", "this configuration does not load it", "change `[plugins]`, if that is not meant"
    ),
    # Its module
    "import-failed": Row("ERROR", "importing it raises an error", "mend the line that is named"),
    "hangs": Row(
        "ERROR",
        "what was called does not end",
        "mend the line that is named; what takes long is done when a city is opened",
    ),
    "class": Row("ERROR", "the entry point names a class", "name a module or an instance"),
    "no-hooks": Row(
        "ERROR",
        "no function is marked with `@hookimpl`",
        "write a function for a hook, and mark it",
    ),
    "misspelt-hook": Row(
        "ERROR", "no hook has the name of a marked function", "take the name that is meant"
    ),
    "unmarked-hook": Row(
        "ERROR",
        "a function called `citychain_...` is not marked",
        "mark it with `@hookimpl`, or name it otherwise",
    ),
    "hook-signature": Row(
        "ERROR", "a hook takes what it is not given", "take what the hook gives, by name"
    ),
    "async-hook": Row("ERROR", "a hook is a coroutine", "write a plain `def`"),
    "wrapper": Row(
        "ERROR", "a hook wraps those of other plugins", "mark it with a plain `@hookimpl`"
    ),
    # What it offers
    "hook-failed": Row("ERROR", "a hook raises an error", "mend the line that is named"),
    "not-a-list": Row("ERROR", "a hook returned one thing, or none, where it lists", "yield each"),
    "too-many": Row("ERROR", "a hook lists too many", "answer `citychain_find_city` instead"),
    "wrong-type": Row(
        "ERROR", "a hook yielded something of another type", "yield what the hook says"
    ),
    "slug": Row(
        "ERROR", "a city's slug is malformed", "1 to 63 of a-z, 0-9 and `-`, a letter first"
    ),
    "name": Row(
        "ERROR", "the name of a part or command is malformed", "1 to 63 of a-z, 0-9 and `-`"
    ),
    "city-field": Row("ERROR", "a field of a city is wrong", "see `CityDefinition`"),
    "part-field": Row("ERROR", "a field of a part's definition is wrong", "see the definition"),
    "api-version": Row(
        "ERROR",
        "a part is made for an `api_version` that this citychain has not",
        "install matching versions of both",
    ),
    "api-version-old": Row(
        "WARNING",
        "a part is made for an older `api_version`, or does not say",
        "read [Compatibility](compatibility.md), and state the present one",
    ),
    "conflict": Row(
        "ERROR", "somebody offers the same name", "rename it, or disable one of the two"
    ),
    "command-hidden": Row(
        "WARNING", "a command has the name of a built-in one, which goes first", "rename it"
    ),
    "command-unusable": Row(
        "ERROR",
        "a command cannot be made of what is offered",
        "give a `typer.Typer`, or a function for one",
    ),
    "city-parts": Row(
        "ERROR",
        "a city names a part or an option that does not exist",
        "name what there is, or require the distribution that has it",
    ),
    # Its options
    "option-undocumented": Row(
        "WARNING",
        "an option has neither a description nor a docstring",
        "write a string below the field",
    ),
    "options-extra": Row(
        "WARNING",
        "a misspelt option would not be noticed",
        '`model_config = ConfigDict(extra="forbid")`',
    ),
    "options-needed": Row(
        "WARNING",
        "a part has options without a default, so it was not tried",
        "give defaults, or a city that has the options; for storage, defaults alone count",
    ),
    # Its parts, at work
    "factory-failed": Row(
        "ERROR", "a part cannot be made with these options", "mend the line that is named"
    ),
    "method-missing": Row("ERROR", "a part lacks a method of its port", "write it as shown"),
    "method-signature": Row(
        "ERROR", "a method cannot be called as its port says", "write it as shown"
    ),
    "method-not-async": Row("ERROR", "a method of a part is no coroutine", "write `async def`"),
    "parameter-names": Row(
        "WARNING", "a method's parameters have other names than its port's", "take the port's names"
    ),
    "votes-incomplete": Row(
        "WARNING",
        "a consensus step has some methods of `SupportsVotes` only",
        "write all of them, or inherit `ApprovedByVotes`",
    ),
    "city-failed": Row(
        "ERROR", "a city cannot be opened, used or closed with it", "mend the line that is named"
    ),
    "part-failed": Row(
        "ERROR", "a part raised an error while a city worked", "mend the line that is named"
    ),
    "not-final": Row(
        "WARNING",
        "transactions did not become final in time",
        "mend what else is told; a step that waits for votes from elsewhere is well",
    ),
    "store-failed": Row(
        "ERROR",
        "a fragment store cannot be opened, used or closed, or gives back what was not put",
        "mend the line that is named",
    ),
    "blocks-loop": Row(
        "ERROR",
        "the event loop stood still while the plugin's code ran",
        "await, and compute by `context.compute`",
    ),
}
"""By code; docs/plugins.md shows them."""


class Finding(NamedTuple):
    """One thing that is wrong."""

    code: str
    where: str
    """A file and line, or what else names the place."""
    what: str
    fix: str

    @property
    def level(self) -> Level:
        """Whether it must be mended."""
        return FINDINGS[self.code].level

    @classmethod
    def of(cls, fault: Fault, where: str) -> Finding:
        """A fault as a finding."""
        return cls(fault.code, where, fault.what, fault.fix)


def line_of(error: BaseException, package: str) -> str:
    """``FILE:LINE`` of a package from which an error came, the innermost; empty if none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    found = ""
    for traceback in _tracebacks(error.__traceback__):
        frame = traceback.tb_frame
        if is_within(frame.f_globals.get("__name__"), package):
            found = f"{frame.f_code.co_filename}:{traceback.tb_lineno}"
    return found


def _tracebacks(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next
