"""The log on standard error: for people, or as JSON.

Records are rendered where they are made and written by a thread, so that a standard error that
nobody reads holds up nothing: what does not find room is dropped, counted, and told of later.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from citychain.cli.log_text import formatter, without_secrets
from citychain.cli.output import say

__all__ = ["Log", "LogFormat", "LogLevel"]

QUEUE_MAX: Final = 2_048
"""Records that wait to be written; each has at most some `log_text.TEXT_MAX` characters twice."""
CLOSE_SECONDS = 5.0
"""For writing what waits, at the end."""
STANDARD_ERROR: Final = 2


class LogFormat(StrEnum):
    """What a record looks like."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass
class Log:
    """The log of one run of the command. Nobody is shown it before `show`."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.CONSOLE
    _writer: _Writer | None = field(default=None, init=False)
    _before: tuple[list[logging.Handler], int] = field(default=([], 0), init=False)

    def show(self) -> None:
        """Write records to standard error from here on, until `close`."""
        # Without a standard error its number may be another file's: a database's.
        if self._writer is not None or sys.stderr is None:
            return
        root = logging.getLogger()
        self._before = root.handlers[:], root.level
        self._writer = _Writer()
        json = self.format is LogFormat.JSON
        self._writer.setFormatter(formatter(json=json, colours=sys.stderr.isatty()))
        self._writer.addFilter(_is_of_use)
        root.handlers[:] = [self._writer]
        root.setLevel(self.level.upper())
        logging.captureWarnings(True)

    def close(self) -> bool:
        """Write what waits, within some seconds, and show nothing more.

        Returns:
            Whether somebody reads standard error.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return True
        root = logging.getLogger()
        logging.captureWarnings(False)
        root.handlers[:], level = self._before
        root.setLevel(level)
        writer.close()
        return not writer.is_stuck

    def fail(self, message: str, error: Exception | None) -> None:
        """Tell why the command fails, as the last line.

        Args:
            error: Shown with where it comes from.
        """
        message = without_secrets(message)
        if self.format is LogFormat.JSON:
            self.show()
        if self.format is LogFormat.JSON or error is not None:
            logging.getLogger(__name__).critical("%s", message, exc_info=error)
        if self.close() and self.format is LogFormat.CONSOLE:
            say(f"citychain: {message}")


class _Writer(logging.Handler):
    """Writes lines to standard error in a thread of its own.

    By the file descriptor: a thread that is stuck in `sys.stderr` keeps its lock, and with it the
    interpreter from ending.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_MAX)
        self._dropped = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Render a record, which may hold what changes later."""
        try:
            line = self.format(record)
        except Exception as error:
            # Such as one with arguments that its text does not have: the fault of who made it.
            line = self._own(f"a record of {record.name}:{record.lineno} is none: {error!r}")
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            with self._counting:
                self._dropped += 1

    def close(self) -> None:
        """Write what waits; leaves it where nobody reads."""
        try:
            self._lines.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)
        except queue.Full:
            pass
        super().close()

    @property
    def is_stuck(self) -> bool:
        """Whether something is still to be written, once closed."""
        return self._thread.is_alive()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            _write_whole(line)
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            _write_whole(self._own(f"{dropped} records were dropped: standard error was not read"))

    def _own(self, text: str) -> str:
        record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, text, None, None)
        return self.format(record)


def _is_of_use(record: logging.LogRecord) -> bool:
    """gRPC tells at each call, several times, that there is an event loop."""
    return record.levelno > logging.DEBUG or record.name != "grpc._cython.cygrpc"


def _write_whole(line: str) -> None:
    data = memoryview(f"{line}\n".encode(errors="backslashreplace"))
    try:
        while data:
            # Somebody else may have made it one that does not wait.
            select.select([], [STANDARD_ERROR], [])
            data = data[os.write(STANDARD_ERROR, data) :]
    except OSError:
        pass  # Nobody reads, nor will.
