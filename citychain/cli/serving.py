"""How commands that serve tell that they do, and end."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from citychain.cli.exits import Exit
from citychain.cli.output import print_json
from citychain.errors import CitychainError, InvalidRequest

if TYPE_CHECKING:
    import asyncio

__all__ = ["clear_ready_file", "reloads_held", "serve_until_stopped"]

logger = logging.getLogger(__name__)


class Serving(Protocol):
    """A server that answers."""

    @property
    def address(self) -> str:
        """Host and port."""


AnyServer = TypeVar("AnyServer", bound=Serving)


def clear_ready_file(path: Path) -> None:
    """Remove what an earlier server left, and see that there can be another.

    Raises:
        InvalidRequest: there cannot.
    """
    try:
        path.unlink(missing_ok=True)
        unfinished = _unfinished(path)
        unfinished.touch()
        unfinished.unlink()
    except OSError as error:
        raise InvalidRequest(
            "--ready-file", f"{path}: cannot be written: {error.strerror}"
        ) from None


@contextmanager
def reloads_held() -> Iterator[None]:
    """Let SIGHUP wait until `serve_until_stopped` heeds it: it would end who still starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def serve_until_stopped(
    server: AbstractAsyncContextManager[AnyServer],
    *,
    answers: str,
    stopping: str,
    ready_file: Path | None,
    json: bool,
    reload: Callable[[AnyServer], Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal comes; a second one ends the process at once.

    Args:
        server: Entered for so long.
        answers: Who it is that answers, for people.
        stopping: What is still done then, for people.
        ready_file: Is given the address once the server answers.
        json: Whether the address is printed, too.
        reload: Takes up another configuration, at SIGHUP; what it raises is logged, and the server
            goes on. Without it SIGHUP ends the process.
    """
    import asyncio

    stop, asked = asyncio.Event(), asyncio.Event()

    def told_to_stop() -> None:
        if stop.is_set():
            # What is acknowledged is durable: there is nothing to save.
            os._exit(Exit.INTERRUPTED)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop)
    if reload is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    async with server as serving:
        if ready_file is not None:
            _write_whole(ready_file, f"{serving.address}\n")
        if json:
            print_json({"address": serving.address})
        logger.info("%s answers on %s", answers, serving.address)
        reloading = reload and asyncio.create_task(_reload_when(asked, reload, serving))
        await stop.wait()
        logger.info("stopping: %s; another signal ends it at once", stopping)
        if reloading is not None:
            reloading.cancel()
            with suppress(asyncio.CancelledError):
                await reloading


async def _reload_when(
    asked: asyncio.Event, reload: Callable[[AnyServer], Awaitable[None]], serving: AnyServer
) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            await reload(serving)
        except CitychainError as error:
            logger.error("the configuration stays as it was: %s", error)
        except Exception:
            logger.exception("the configuration stays as it was")


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}")


def _write_whole(path: Path, text: str) -> None:
    """Write a file that nobody sees half-written."""
    unfinished = _unfinished(path)
    unfinished.write_text(text)
    unfinished.replace(path)
