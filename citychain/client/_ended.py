"""Calls that have ended."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

__all__ = ["result_of"]


def result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not wait, since its call has ended."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")
