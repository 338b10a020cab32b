"""Tells a `StorageMeter` of the driver's commands and connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

if TYPE_CHECKING:
    from citychain.ports import StorageMeter

__all__ = ["CommandTimes", "PoolCounts"]


class CommandTimes(CommandListener):
    """Each command, and how long its answer took."""

    def __init__(self, meter: StorageMeter) -> None:
        self._meter = meter

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing is known yet."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command was answered."""
        self._ended(event, failed=False)

    def failed(self, event: CommandFailedEvent) -> None:
        """A command was refused, or not answered."""
        self._ended(event, failed=True)

    def _ended(self, event: CommandSucceededEvent | CommandFailedEvent, *, failed: bool) -> None:
        self._meter.command(event.command_name, event.duration_micros / 1e6, failed=failed)


class PoolCounts(ConnectionPoolListener):
    """Connections that are open, and those in use."""

    def __init__(self, meter: StorageMeter) -> None:
        self._meter = meter

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        """One more is open."""
        self._meter.connections("open", 1)

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        """One less."""
        self._meter.connections("open", -1)

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """One more is in use."""
        self._meter.connections("used", 1)

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        """One less."""
        self._meter.connections("used", -1)

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        """Not counted, as all below: their commands fail, if anything does."""

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None: ...

    def connection_ready(self, event: ConnectionReadyEvent) -> None: ...

    def pool_created(self, event: PoolCreatedEvent) -> None: ...

    def pool_ready(self, event: PoolReadyEvent) -> None: ...

    def pool_cleared(self, event: PoolClearedEvent) -> None: ...

    def pool_closed(self, event: PoolClosedEvent) -> None: ...
