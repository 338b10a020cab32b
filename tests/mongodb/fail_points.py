"""Errors that the server itself gives on demand: its fail point ``failCommand``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

NOT_WRITABLE_PRIMARY: Final = 10107
PRIMARY_STEPPED_DOWN: Final = 189
INTERRUPTED_BY_STEP_DOWN: Final = 11602
WRITE_CONCERN_TIMEOUT: Final = 64
SHUTDOWN_IN_PROGRESS: Final = 91

STEP_DOWNS: Final = (NOT_WRITABLE_PRIMARY, PRIMARY_STEPPED_DOWN, INTERRUPTED_BY_STEP_DOWN)


class FailPoint:
    """``failCommand`` for the clients that bear one application's name.

    Args:
        application: ``appName`` of their URI, so that tests beside this one meet nothing.
    """

    def __init__(self, client: MongoClient[dict[str, Any]], application: str) -> None:
        self._client = client
        self._application = application

    @property
    def application(self) -> str:
        """The name that the clients must bear."""
        return self._application

    def error(self, commands: Sequence[str], code: int, *, times: int = 1) -> None:
        """Refuse the next commands of these names; they have no effect."""
        self._set(commands, times, {"errorCode": code})

    def write_concern_error(self, commands: Sequence[str], code: int, *, times: int = 1) -> None:
        """Do the next commands of these names, and say that it may not last."""
        error = {"code": code, "errmsg": "as a test asked for"}
        self._set(commands, times, {"writeConcernError": error})

    def disconnect(self, commands: Sequence[str], *, times: int = 1) -> None:
        """Close the connection of the next commands of these names; they have no effect."""
        self._set(commands, times, {"closeConnection": True})

    def off(self) -> None:
        """Let everything pass."""
        self._client.admin.command("configureFailPoint", "failCommand", mode="off")

    def _set(self, commands: Sequence[str], times: int, data: dict[str, Any]) -> None:
        try:
            self._client.admin.command(
                "configureFailPoint",
                "failCommand",
                mode={"times": times},
                data={"failCommands": [*commands], "appName": self._application, **data},
            )
        except OperationFailure as error:
            pytest.skip(f"no failCommand without --setParameter enableTestCommands=1: {error}")
