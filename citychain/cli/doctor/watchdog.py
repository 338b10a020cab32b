"""Sees who blocks an event loop: its thread keeps account of its time, by lines of the plugin.

asyncio's debug mode tells afterwards that *some* step took long. Another thread that looks on sees
nothing while C code holds the interpreter lock, and when that lets go, the loop may have gone on
before the other thread gets the lock. So the thread of the loop itself takes account, at calls and
returns (`sys.setprofile`): a long call ends in the line that made it, whoever else waits for the
lock. Only in a long stretch without any call or return (a loop; a C class is called without such
an event, too) is the line seen better from outside: the lock is then let go now and again, and
another thread has the stack written down, by `faulthandler`: frames as objects belong to the thread
that runs them. Should it never get to look, or is no line known of what runs (of some jumps in
loops on Python 3.11), the stretch counts for the line that ended it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, NamedTuple, Self

from citychain.hooks.loading import own_place

__all__ = ["BLOCKED_SECONDS", "Block", "Watchdog"]

BLOCKED_SECONDS: Final = 0.05
"""For so long nobody else's call is answered."""
LOOK_SECONDS: Final = 0.005
DUMP_BYTES_MAX: Final = 1 << 20
"""Read of a dump, in which the newest threads stand first."""
DUMPED: Final = re.compile(r'  File "(.*)", line (\d+) in ')
"""A frame as `faulthandler` writes it."""
CALLS: Final = 200
"""By which the cost of watching is measured."""
MEASUREMENTS: Final = 20

Hook = Callable[[FrameType, str, Any], None]
"""See `sys.setprofile`."""


class Block(NamedTuple):
    """A line that the loop was held up in."""

    place: str
    """``FILE:LINE``"""
    seconds: float
    """The longest time."""


class Watchdog:
    """Watches the running loop while it is entered, from the loop's thread.

    Args:
        package: Whose lines count.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._found: dict[str, float] = {}
        self._turn: defaultdict[str, float] = defaultdict(float)
        """Seconds of each place, since others were last served."""
        self._seen: list[str] = []
        """Places that the other thread saw since the last account."""
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._stack = _Stack(self._package)
        self._thread = threading.Thread(target=self._watch, name="citychain-watchdog", daemon=True)
        self._thread.start()
        self._event_seconds = _event_seconds()
        self._clock = _Clock()
        self._former = sys.getprofile()
        sys.setprofile(_hook(self._account, 0.0))
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.setprofile(self._former)
        self._end_turn()
        self._clock.close()
        self._stopped.set()
        self._thread.join()
        self._stack.close()

    @property
    def blocks(self) -> list[Block]:
        """What was found."""
        return [Block(place, seconds) for place, seconds in self._found.items()]

    def _account(self, frame: FrameType, event: str, now: float, events: int) -> float:
        """Count the time since the last account; return when the next is due.

        Args:
            now: When the event was.
            events: Their number since the last account, each of which took time that is ours.
        """
        seconds = self._clock.lap(now) - events * self._event_seconds
        # What is called has not run yet.
        place = self._place(frame.f_back if event == "call" else frame)
        if place:
            if self._seen and event not in ("c_return", "c_exception"):
                # It was Python that ran. Where two places were seen as often, the later did: the
                # earlier was seen before the stretch began.
                [(place, _)] = Counter(reversed(self._seen)).most_common(1)
            if not self._turn:
                # Whoever wants the loop now is served then.
                self._loop.call_soon(self._end_turn)
            self._turn[place] += seconds
        self._seen = []
        return self._clock.restart() + LOOK_SECONDS

    def _end_turn(self) -> None:
        turn = dict(self._turn)
        self._turn.clear()
        if (seconds := sum(turn.values())) >= BLOCKED_SECONDS:
            place = max(turn, key=turn.__getitem__)
            self._found[place] = max(seconds, self._found.get(place, 0.0))

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            if place := self._stack.place():
                self._seen.append(place)

    def _place(self, frame: FrameType | None) -> str:
        """Which line of the package a frame of this thread is in; empty if in none."""
        stack = []
        while frame is not None:
            stack.append(frame)
            frame = frame.f_back
        return own_place(stack[::-1], self._package).partition(" (")[0]


class _Stack:
    """The stack of the thread that makes this, for another one to look at.

    Args:
        package: Whose lines count: by their files, for a dump names no modules.
    """

    def __init__(self, package: str) -> None:
        self._thread = re.compile(rf"hread 0x0*{threading.get_ident():x} ")
        module = sys.modules.get(package)
        folders = getattr(module, "__path__", None)
        self._files = (
            (getattr(module, "__file__", None) or os.devnull,)
            if folders is None
            else tuple(os.path.join(folder, "") for folder in folders)
        )
        self._dump, name = tempfile.mkstemp(prefix="citychain-doctor-")
        os.unlink(name)

    def close(self) -> None:
        """Once; no method may be called any more."""
        os.close(self._dump)

    def place(self) -> str:
        """Which line of the package it is in; empty if in none."""
        os.ftruncate(self._dump, os.lseek(self._dump, 0, os.SEEK_SET))
        faulthandler.dump_traceback(self._dump)
        dumped = os.pread(self._dump, DUMP_BYTES_MAX, 0).decode("unicode_escape", "replace")
        for stack in dumped.split("\n\n"):
            if self._thread.search(stack):
                for file, line in DUMPED.findall(stack):
                    if file.startswith(self._files):
                        return f"{file}:{line}"
        return ""


def _hook(account: Callable[[FrameType, str, float, int], float], due: float) -> Hook:
    """What asks for an account at the first event after one is due. It runs at each call and
    return in the thread, so it has no attributes to look up."""
    clock = time.monotonic
    events = 0

    def hook(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal due, events
        events += 1
        if (now := clock()) >= due:
            due = account(frame, event, now, events)
            events = 0

    return hook


def _event_seconds() -> float:
    """What an event costs: else code that makes many short calls would seem to take long. The least
    of many: what is deducted too much could hide a block."""

    def seconds(hook: Hook | None) -> float:
        sys.setprofile(hook)
        began = time.thread_time()
        for _ in range(CALLS):
            nothing()
        took = time.thread_time() - began
        sys.setprofile(former)
        return took

    def nothing() -> None: ...

    former = sys.getprofile()
    hook = _hook(lambda *_: 0.0, float("inf"))
    least = [min(seconds(it) for _ in range(MEASUREMENTS)) for it in (None, hook)]
    return max(0.0, least[1] - least[0]) / (2 * CALLS)


class _Clock:
    """Tells for how long this thread ran or was held up, less what it was ready to run and had
    no processor: the machine may be busy. Where the system does not tell that, it counts too.

    Each pair of readings is in the order in which a pause between them makes the time shorter.
    """

    def __init__(self) -> None:
        self._file = -1
        with suppress(OSError):
            name = f"/proc/self/task/{threading.get_native_id()}/schedstat"
            self._file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self._waited = self._waited_seconds()
        self.restart()

    def close(self) -> None:
        """Once; no method may be called any more."""
        if self._file >= 0:
            os.close(self._file)

    def lap(self, now: float) -> float:
        """Seconds from the last `restart` until ``now``, just past. May let go of the interpreter
        lock, so it takes long itself; `restart` once all is done."""
        ran = time.thread_time()
        waited = self._waited_seconds()
        took = ran - self._ran
        idle = now - self._began - took - (waited - self._waited)
        self._waited = waited
        # What waited while the last lap was told must not lessen what ran in this.
        return took + max(0.0, idle)

    def restart(self) -> float:
        """Begin a lap, now; return the time."""
        self._ran = time.thread_time()
        self._began = time.monotonic()
        return self._began

    def _waited_seconds(self) -> float:
        if self._file < 0:
            return 0.0
        _, waited, _ = os.pread(self._file, 100, 0).split()
        return int(waited) / 1e9
