"""Runs the code of plugins in a thread of its own, so that one that hangs hangs there alone.

The caller waits for each plugin until its deadline. A thread whose plugin passed that is left
behind, and the next plugin gets another: Python cannot end a thread, but can raise an exception
in it, which ends what runs Python code; what blocks elsewhere stays, asleep, and does not keep
the process from ending. A plugin whose package the caller itself is just importing runs in the
caller's thread, without a limit: another would wait for that import, which waits for the plugin.
What this costs and what was rejected: docs/design/loading-plugins.md.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from types import FrameType, TracebackType
from typing import Final

from citychain.errors import PluginError

__all__ = [
    "LOAD_SECONDS",
    "Overdue",
    "Steps",
    "Work",
    "guarded",
    "is_within",
    "own_place",
    "run_in_turn",
]

LOAD_SECONDS: Final = 10.0
"""Time for one plugin: its import and all of its hooks that list something."""


class Steps:
    """What is being done with a plugin, and since when."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.doing = ""
        self._since = self.began

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """One step, `guarded`."""
        self.doing, self._since = doing, time.monotonic()
        with guarded(doing):
            try:
                yield
            except KeyboardInterrupt:
                if threading.current_thread() is threading.main_thread():
                    raise
                # Ctrl-C is told to the main thread alone: this one the plugin made.
                raise PluginError(f"{doing} failed: KeyboardInterrupt; mend the plugin") from None

    @property
    def seconds(self) -> float:
        """How long the present step has taken so far."""
        return time.monotonic() - self._since


HEARS_SECONDS: Final = 1.0
"""A signal that comes just before a wait begins is not heard until it is over."""


@contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Run a plugin's code; whatever it raises becomes a `PluginError`.

    ``sys.exit`` in a plugin must not stop the server either; only the
    operator's Ctrl-C passes.
    """
    try:
        yield
    except (KeyboardInterrupt, PluginError):
        raise
    except ModuleNotFoundError as error:
        raise PluginError(
            f"{doing} failed: there is no module {error.name!r}; install what provides it"
        ) from error
    except BaseException as error:
        raise PluginError(
            f"{doing} failed: {type(error).__name__}: {error}; mend or disable the plugin"
        ) from error


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be run of one plugin."""

    run: Callable[[Steps], None]
    package: str
    """The plugin's top-level package: whose line is to blame."""


class Overdue(Exception):
    """Raised when a plugin did not end in time; its cause has the stack."""

    def __init__(self, steps: Steps, place: str) -> None:
        self.doing = steps.doing
        """The step that did not end."""
        self.place = place or "a place outside the plugin's own code"
        """The innermost line of the plugin's own code."""
        super().__init__(
            f"{self.doing} did not end in time: it began {steps.seconds:.1f} s ago and hangs at "
            f"{self.place}"
        )


def run_in_turn(works: Sequence[Work], seconds: float) -> list[BaseException | None]:
    """Run one after another, each for so long at most; return what each raised.

    What is overdue raised `Overdue`, and is left behind. Works of a package that this thread is
    importing run in it, and may take as long as they like.
    """
    outcomes: list[BaseException | None] = []
    importing = _importing()
    while len(outcomes) < len(works):
        rest = works[len(outcomes) :]
        if rest[0].package in importing:
            outcomes.append(_run_here(rest[0]))
        else:
            others = list(takewhile(lambda work: work.package not in importing, rest))
            outcomes += _Thread(others).watch(seconds)
    return outcomes


def _importing() -> set[str]:
    """Top-level packages that have a module whose import, in this thread, is not over."""
    packages = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        spec = frame.f_globals.get("__spec__")
        if spec is not None and getattr(spec, "_initializing", False):
            packages.add(spec.name.partition(".")[0])
        frame = frame.f_back
    return packages


def _run_here(work: Work) -> BaseException | None:
    try:
        work.run(Steps())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    return None


class _GivenUp(BaseException):
    """Raised in a thread that is left behind."""


class _Thread:
    """Runs works until one hangs. Nothing passes between it and its watcher for each, so that
    200 plugins load as fast as without it."""

    def __init__(self, works: Sequence[Work]) -> None:
        self._works = works
        self._lock = threading.Lock()
        """Held to take a step: what is left behind takes none any more."""
        self._left_behind = False
        self._outcomes: list[BaseException | None] = []
        self._steps = Steps()
        self._ended = threading.Event()
        # A daemon: a plugin that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._run, name="citychain-loading-plugins", daemon=True
        )
        self._thread.start()

    def watch(self, seconds: float) -> list[BaseException | None]:
        """What each work raised, up to the first that is overdue."""
        remaining = seconds
        try:
            while not self._ended.wait(min(remaining, HEARS_SECONDS)):
                with self._lock:
                    remaining = self._steps.began + seconds - time.monotonic()
                    if remaining <= 0 and len(self._outcomes) < len(self._works):
                        return [*self._outcomes, self._overdue()]
        except BaseException:  # Ctrl-C.
            self._leave_behind()
            raise
        return self._outcomes

    def _overdue(self) -> Overdue:
        frame = sys._current_frames().get(self._thread.ident or 0)
        stack = []
        while frame is not None:
            stack.append(frame)
            frame = frame.f_back
        stack.reverse()
        work = self._works[len(self._outcomes)]
        error = Overdue(self._steps, own_place(stack, work.package))
        error.__cause__ = TimeoutError("left behind here").with_traceback(_traceback(stack))
        self._leave_behind()
        return error

    def _leave_behind(self) -> None:
        import ctypes

        self._left_behind = True
        given_up, tell = ctypes.py_object(_GivenUp), ctypes.pythonapi.PyThreadState_SetAsyncExc
        # A loop would take its share of the interpreter from the server for ever.
        tell(ctypes.c_ulong(self._thread.ident or 0), given_up)
        # What is asleep does not hear it, and until it does every thread would stop at each call
        # to see whether it is meant; one that is profiled, or traced, for ever in Python 3.11.
        # Whoever hears it ends that, so this thread does. The other is told again as it awakes.
        with suppress(_GivenUp):
            tell(ctypes.c_ulong(threading.get_ident()), given_up)
            while True:
                pass

    def _run(self) -> None:
        with suppress(_GivenUp):  # It may come just after the end of what it was for.
            for work in self._works:
                outcome = None
                try:
                    work.run(self._steps)
                except BaseException as error:
                    outcome = error
                with self._lock:
                    if self._left_behind:
                        return
                    self._outcomes.append(outcome)
                    self._steps = Steps()
            self._ended.set()


def is_within(module: object, package: str) -> bool:
    """Whether a module, by its name, is of a package."""
    return isinstance(module, str) and f"{module}.".startswith(f"{package}.")


def own_place(stack: list[FrameType], package: str) -> str:
    """``FILE:LINE (FUNCTION)`` of the innermost frame of a package; empty if it has none.

    Args:
        stack: The innermost frame last.
    """
    for frame in reversed(stack):
        if is_within(frame.f_globals.get("__name__"), package):
            code = frame.f_code
            return f"{code.co_filename}:{frame.f_lineno} ({code.co_name})"
    return ""


def _traceback(stack: list[FrameType]) -> TracebackType | None:
    """The stack as a traceback, for the log."""
    traceback = None
    for frame in reversed(stack):
        traceback = TracebackType(traceback, frame, frame.f_lasti, frame.f_lineno)
    return traceback
