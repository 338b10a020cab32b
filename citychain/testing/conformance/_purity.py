"""Sees a rule reach for what others do not have: a clock, chance, a file, the environment.

The interpreter reports each call of a function in C while it watches, whatever name the rule's
module knows that function by.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FrameType
from typing import Any, Final, TypeVar

__all__ = ["InTurn", "impurities"]

T = TypeVar("T")

CLOCKS: Final = frozenset(
    getattr(time, f"{name}{suffix}")
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
    for suffix in ("", "_ns")
)
TODAY: Final = ("now", "utcnow", "today")
OTHERS: Final[dict[object, str]] = {os.urandom: "os.urandom", io.open: "open"}
DRAWS: Final = ("random", "getrandbits")
THE_GENERATOR: Final = random.random.__self__  # type: ignore[attr-defined]
ENVIRONMENT: Final = os._Environ.__getitem__.__code__

INNOCENT: Final = ("asyncio", "concurrent", "logging", "threading", "selectors", "importlib")
"""Packages of the library whose own look at a clock says nothing of the rule."""
THROUGH: Final = ("os", "collections", "_collections_abc", "random", "secrets", "uuid")
"""Those that only pass on what was called."""


class InTurn:
    """A `citychain.ports.Compute` that works at once, in the caller's thread, between two turns
    of the event loop: the same steps in every run."""

    async def __call__(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Run ``function`` and return its result."""
        await asyncio.sleep(0)
        result = function(*args, **kwargs)
        await asyncio.sleep(0)
        return result


@contextmanager
def impurities() -> Iterator[list[str]]:
    """Collects the names of what is called in this thread and has no place in a rule."""
    found: list[str] = []

    def watch(frame: FrameType, event: str, called: Any) -> None:
        name = None
        if event == "c_call":
            name = _impurity(called)
            caller: FrameType | None = frame
        elif event == "call" and frame.f_code is ENVIRONMENT:
            name, caller = "os.environ", frame.f_back
        while name is not None and caller is not None:
            module = str(caller.f_globals.get("__name__"))
            if (package := module.partition(".")[0]) not in THROUGH:
                if package not in INNOCENT:
                    found.append(f"{name} (in {caller.f_code.co_qualname} of {module})")
                break
            caller = caller.f_back

    before, collecting = sys.getprofile(), gc.isenabled()
    # Who times the collector, as hypothesis does, is called in the middle of anything.
    gc.disable()
    sys.setprofile(watch)
    try:
        yield found
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()


def _impurity(called: Any) -> str | None:
    if not isinstance(called, BuiltinFunctionType):
        return None
    if called in CLOCKS:
        return f"time.{called.__name__}"
    if called in OTHERS:
        return OTHERS[called]
    owner = called.__self__
    if called.__name__ in TODAY and isinstance(owner, type) and issubclass(owner, datetime.date):
        return f"{owner.__name__}.{called.__name__}"
    if owner is THE_GENERATOR and called.__name__ in DRAWS:
        return f"random.{called.__name__}"
    return None
