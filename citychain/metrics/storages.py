"""Metrics of databases elsewhere, by the name of the storage."""

from __future__ import annotations

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from citychain.metrics.codes import Codes
from citychain.ports import StorageMeter

__all__ = ["StorageMetrics"]

COMMANDS_MAX: Final = 32
BUCKETS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class StorageMetrics:
    """Those of one server's storages."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.command_name = Codes(COMMANDS_MAX)
        self.seconds = Histogram(
            "citychain_storage_command_seconds",
            "How long a database took for each command that it answered (MongoDB).",
            ("storage", "command"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.failures = Counter(
            "citychain_storage_command_failures",
            "Commands that a database refused, or did not answer (MongoDB).",
            ("storage", "command"),
            registry=registry,
        )
        self.connections = Gauge(
            "citychain_storage_connections",
            "Connections to a database, open, and of these used now (MongoDB).",
            ("storage", "state"),
            registry=registry,
        )

    def meter(self, storage: str) -> StorageMeter:
        """Counts for a storage."""
        return _Meter(self, storage)


class _Meter:
    """See `StorageMeter`."""

    def __init__(self, metrics: StorageMetrics, storage: str) -> None:
        self._metrics = metrics
        self._storage = storage

    def command(self, name: str, seconds: float, *, failed: bool) -> None:
        labels = (self._storage, self._metrics.command_name(name))
        if failed:
            self._metrics.failures.labels(*labels).inc()
        else:
            self._metrics.seconds.labels(*labels).observe(seconds)

    def connections(self, state: Literal["open", "used"], change: int) -> None:
        self._metrics.connections.labels(self._storage, state).inc(change)
