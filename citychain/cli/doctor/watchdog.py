"""Sees who blocks an event loop: a thread that looks at its stack while it stands still.

asyncio's debug mode tells afterwards that *some* step took long. This asks the loop again and again
to give a sign; while none comes it looks which line of the plugin the loop is in.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple, Self

from citychain.hooks.loading import own_place

__all__ = ["BLOCKED_SECONDS", "Block", "Watchdog"]

BLOCKED_SECONDS: Final = 0.05
"""For so long nobody else's call is answered."""
LOOK_SECONDS: Final = 0.005


class Block(NamedTuple):
    """A line that the loop was held up in."""

    place: str
    """``FILE:LINE``"""
    seconds: float
    """The longest time."""


class Watchdog:
    """Watches the running loop while it is entered.

    Args:
        package: Whose lines count.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._found: dict[str, float] = {}
        self._stopped = False
        self._sign = threading.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.current_thread()
        self._thread = threading.Thread(target=self._watch, name="citychain-watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped = True
        # Should the loop end meanwhile, nobody gives the sign it waits for.
        self._sign.set()
        self._thread.join()

    @property
    def blocks(self) -> list[Block]:
        """What was found."""
        return [Block(place, seconds) for place, seconds in self._found.items()]

    def _watch(self) -> None:
        signed = _Moment.of(self._watched)
        while not self._stopped:
            self._sign = threading.Event()
            places: Counter[str] = Counter()
            # What holds the interpreter lock holds this thread too, which then wakes in the
            # moment when the lock is let go: on the line to blame. So it looks first after
            # everything that waits. That it is late says nothing by itself: the machine may be
            # busy. What the loop computed does.
            began = signed
            self._look(places)
            time.sleep(LOOK_SECONDS)
            self._look(places)
            awake = _Moment.of(self._watched)
            self._look(places)
            self._loop.call_soon_threadsafe(self._sign.set)
            while not self._sign.wait(LOOK_SECONDS) and not self._stopped:
                self._look(places)
            signed = _Moment.of(self._watched)
            held = min(awake.ran - began.ran, awake.seconds - began.seconds - LOOK_SECONDS)
            # Nor is it the plugin's fault where the loop waits for a processor.
            seconds = held + signed.seconds - awake.seconds - (signed.waited - awake.waited)
            if places and seconds >= BLOCKED_SECONDS:
                [(place, _)] = places.most_common(1)
                self._found[place] = max(seconds, self._found.get(place, 0.0))

    def _look(self, places: Counter[str]) -> None:
        if place := own_place(self._stack(), self._package):
            places[place.partition(" (")[0]] += 1

    def _stack(self) -> list[FrameType]:
        frame = sys._current_frames().get(self._watched.ident or 0)
        stack = []
        while frame is not None:
            stack.append(frame)
            frame = frame.f_back
        return stack[::-1]


class _Moment(NamedTuple):
    """A time, and what a thread did until then; zeros if the system does not tell."""

    seconds: float
    ran: float
    """Seconds on a processor."""
    waited: float
    """Seconds ready to run, without one."""

    @classmethod
    def of(cls, thread: threading.Thread) -> Self:
        """Now: reading what it did lets go of the interpreter lock, and may take long."""
        seconds = time.monotonic()
        try:
            statistics = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
            ran, waited, _ = (int(number) / 1e9 for number in statistics.split())
        except (OSError, ValueError):
            ran = waited = 0.0
        return cls(seconds, ran, waited)
