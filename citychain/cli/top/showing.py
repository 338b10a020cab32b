"""Frames on a terminal, or in a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.live import Live

from citychain.cli.output import answers, print_json
from citychain.cli.top.frame import frame
from citychain.cli.top.observing import Observer, Sight
from citychain.errors import ServerUnavailable

__all__ = ["lines", "live", "once"]


async def once(observer: Observer, every: float, *, json: bool) -> None:
    """Two looks, and what happened between them.

    Raises:
        ServerUnavailable: the server is away.
    """
    sight = await observer.look()
    if not sight.error:
        await asyncio.sleep(every)
        sight = await observer.look()
    if sight.error:
        raise ServerUnavailable(sight.error)
    _print(sight, observer, json=json)


async def lines(observer: Observer, every: float, *, json: bool) -> None:
    """One frame after the other, for whoever reads a pipe."""
    while True:
        _print(await observer.look(), observer, json=json)
        await asyncio.sleep(every)


def _print(sight: Sight, observer: Observer, *, json: bool) -> None:
    if json:
        print_json({"servers": str(observer.servers), **asdict(sight)})
        return
    console = answers()
    with console.capture() as drawn:
        console.print(frame(sight, str(observer.servers), None))
    # Not by rich: it ends the process where nobody reads any more.
    print(drawn.get(), end="", flush=True)


async def live(observer: Observer, every: float) -> None:
    """On a terminal, of which it takes the whole screen meanwhile."""
    console, ended = answers(), asyncio.Event()
    with _keys(ended.set), Live(console=console, screen=True, auto_refresh=False) as screen:
        while not ended.is_set():
            looking = asyncio.ensure_future(observer.look())
            end = asyncio.ensure_future(ended.wait())
            try:
                await asyncio.wait((looking, end), return_when=asyncio.FIRST_COMPLETED)
                if not looking.done():
                    return
                shown = frame(looking.result(), str(observer.servers), console.size.height)
                screen.update(shown, refresh=True)
                await asyncio.wait((end,), timeout=every)
            finally:
                looking.cancel()
                end.cancel()
                await asyncio.gather(looking, end, return_exceptions=True)


@contextmanager
def _keys(quit: Callable[[], object]) -> Iterator[None]:
    """Call this when somebody presses ``q``, where there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()

    def pressed() -> None:
        keys = os.read(keyboard, 64)
        if not keys or b"q" in keys or b"Q" in keys:
            quit()

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, pressed)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
