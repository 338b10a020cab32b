"""Reads that see all that was written before, whichever member of the set is primary.

A new primary has all that a majority acknowledged, but does not know at once that a majority has
it: for a moment its reads with concern ``majority`` can be of an older state. An old primary that
is cut off goes on answering for a moment, too. So each read says after which time of the cluster it
is to be: after the latest that we were told of with an answer, such as that of our latest write. A
member that is not there yet waits, or fails. So only answers count that tell of what a majority
has: other ones name times that it may not have for long.

docs/design/mongodb-causal-reads.md has what follows for who begins to lead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.timestamp import Timestamp
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from pymongo.read_concern import ReadConcern

__all__ = ["Causal", "LatestAnswer"]


class LatestAnswer(CommandListener):
    """The latest time of the cluster that an answer about what a majority has named."""

    def __init__(self) -> None:
        self.time: Timestamp | None = None
        self._counting: set[int] = set()
        """Commands under way whose answers count."""

    def started(self, event: CommandStartedEvent) -> None:
        """A command is sent."""
        if _is_of_a_majority(event.command):
            self._counting.add(event.request_id)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command was answered."""
        if not self._counts(event) or "writeConcernError" in event.reply:
            return  # Reads after it would wait for what a majority may never have.
        time = event.reply.get("operationTime")
        if isinstance(time, Timestamp) and (self.time is None or self.time < time):
            self.time = time

    def failed(self, event: CommandFailedEvent) -> None:
        """A command failed: what it did is not relied on."""
        self._counts(event)

    def _counts(self, event: CommandSucceededEvent | CommandFailedEvent) -> bool:
        counts = event.request_id in self._counting
        self._counting.discard(event.request_id)
        return counts


def _is_of_a_majority(command: Mapping[str, Any]) -> bool:
    """Whether a command waits for a majority, or reads what it has."""
    return "getMore" in command or "majority" in (
        command.get("writeConcern", {}).get("w"),
        command.get("readConcern", {}).get("level"),
    )


class Causal(ReadConcern):
    """What a majority has, not before the latest answer; the driver asks it at each read."""

    def __init__(self, latest: LatestAnswer) -> None:
        super().__init__("majority")
        self._latest = latest

    @property
    def document(self) -> dict[str, Any]:
        """As a command has it."""
        if self._latest.time is None:
            return super().document
        return {**super().document, "afterClusterTime": self._latest.time}
