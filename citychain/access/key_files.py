"""The files of the keys that tokens are checked with, looked at as a certificate's are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

from citychain.access.composing import authorisation_of
from citychain.config_auth import AuthSettings
from citychain.errors import ConfigurationError
from citychain.file_stamps import LOOK, FileStamp, file_stamp
from citychain.ports import Clock
from citychain.rpc.access import AccessInterceptor

__all__ = ["KeyFiles"]

logger = logging.getLogger(__name__)


class KeyFiles:
    """While it is entered it looks at the files, and lets a guard judge by what is in them; files
    that cannot be used change nothing but the log.

    Args:
        auth: What the guard judges by. Without keys no file is looked at.
    """

    def __init__(
        self, guard: AccessInterceptor, auth: AuthSettings, clock: Clock, look: timedelta = LOOK
    ) -> None:
        self._guard = guard
        self._auth = auth
        self._clock = clock
        self._look = look
        self._stamps: Sequence[FileStamp | None] | None = None
        """``None`` until they are looked at: they may have changed since the guard was made."""
        self._looking: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking

    def look_at(self, auth: AuthSettings) -> None:
        """Look at other files from now on; the guard judges by them already."""
        self._auth, self._stamps = auth, None

    async def read_again(self) -> None:
        """Read the files, whether they changed or not.

        Raises:
            ConfigurationError: one cannot be used; nothing has changed.
        """
        self._stamps = None
        await self._read_changed()

    async def _keep_looking(self) -> None:
        while True:
            await self._clock.sleep(self._look.total_seconds())
            is_first = self._stamps is None
            try:
                if await self._read_changed() and not is_first:
                    logger.info("the keys of tokens were read again: their files changed")
            except ConfigurationError as error:
                logger.error("the keys of tokens stay as they were: %s", error)
            except Exception:
                logger.exception("the keys of tokens stay as they were")

    async def _read_changed(self) -> bool:
        """Read the files if they are others than before; each state of them once."""
        auth = self._auth
        stamps = await asyncio.to_thread(_stamps, auth.keys)
        if auth is not self._auth or stamps == self._stamps:
            return False
        # Noted before they are read: what changes meanwhile is seen at the next look.
        self._stamps = stamps
        authorisation = await authorisation_of(auth)
        if auth is not self._auth:  # Those that it was told of meanwhile count.
            return False
        self._guard.authorise_by(authorisation)
        return True


def _stamps(files: Sequence[Path]) -> Sequence[FileStamp | None]:
    """``None`` for one that cannot be looked at: that it is read then says why."""
    found: list[FileStamp | None] = []
    for file in files:
        try:
            found.append(file_stamp(file))
        except OSError:
            found.append(None)
    return found
