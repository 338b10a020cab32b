"""What a check says."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Grade", "Result", "fault", "ok", "warning"]

Grade = Literal["ok", "warning", "fault"]


class Result(NamedTuple):
    """What one check says of one thing."""

    grade: Grade
    """A fault keeps a server, or a part of it, from its work; a warning may do so later."""
    subject: str
    """A setting, a file, a storage."""
    what: str
    fix: str = ""
    """Empty where all is well."""


def ok(subject: object, what: str) -> Result:
    """All is well with this."""
    return Result("ok", str(subject), what)


def warning(subject: object, what: str, fix: str) -> Result:
    """This works, and may not for long."""
    return Result("warning", str(subject), what, fix)


def fault(subject: object, what: str, fix: str) -> Result:
    """This does not work."""
    return Result("fault", str(subject), what, fix)
