"""What a record of the log says besides its text: which call and which city it belongs to.

The fields go along into whatever a task awaits and into the tasks that it starts, so that nobody
hands them on. `citychain.cli.logs` writes them; with a `logging` of your own, a filter can put
`log_fields` into each record.

They are no `structlog.contextvars`: importing these takes longer than the rest of a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

__all__ = ["add_log_fields", "log_fields", "set_log_fields"]

_FIELDS: Final[ContextVar[Mapping[str, str]]] = ContextVar(
    "citychain_log_fields", default=MappingProxyType({})
)


def log_fields() -> Mapping[str, str]:
    """The fields of a record that is made here: ``city``, ``request_id``, ``trace_id``, those that
    are known."""
    return _FIELDS.get()


def add_log_fields(**fields: str) -> None:
    """From here on in this task, and in those that it starts, records have these fields too."""
    _FIELDS.set(MappingProxyType({**_FIELDS.get(), **fields}))


def set_log_fields(**fields: str) -> None:
    """From here on in this task, and in those that it starts, records have these fields alone.

    For work that outlives what began it: a city goes on after the call that opened it.
    """
    _FIELDS.set(MappingProxyType(fields))
