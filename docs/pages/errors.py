"""The classes of ``docs/errors.md``, from ``citychain.errors`` and the table of statuses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from citychain import errors
from citychain.rpc.status import ERRORS
from pages.tables import cell, code, table

__all__ = ["every_class"]


def every_class() -> str:
    """A row for each class, those below it after it."""
    return table(("class", "reason", "what it means"), list(_rows(errors.CitychainError, 0)))


def _rows(error: type[errors.CitychainError], depth: int) -> Iterator[list[str]]:
    name = "&emsp;" * depth + code(error.__name__)
    yield [name, code(ERRORS[error].reason), cell(inspect.getdoc(error) or "")]
    for below in error.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _rows(below, depth + 1)
