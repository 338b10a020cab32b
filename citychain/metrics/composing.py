"""Puts together what a server counts, and where it tells of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc
    from prometheus_client import CollectorRegistry

    from citychain.config_metrics import MetricsSettings
    from citychain.metrics.certificates import CertificateMetrics
    from citychain.metrics.cities import CityMetrics
    from citychain.metrics.loop import LoopMetrics
    from citychain.metrics.storages import StorageMetrics
    from citychain.ports import Clock, StorageMeter
    from citychain.repair.repairer import RepairNumbers

__all__ = ["ServerMetrics", "server_metrics", "storage_meters", "tell_metrics"]


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """What one server counts."""

    registry: CollectorRegistry
    cities: CityMetrics
    storages: StorageMetrics
    certificates: CertificateMetrics
    loop: LoopMetrics
    interceptors: Sequence[grpc.aio.ServerInterceptor]
    """They count its calls."""


def server_metrics(
    settings: MetricsSettings, clock: Clock, repairs: Mapping[str, RepairNumbers]
) -> ServerMetrics | None:
    """What a server counts; ``None`` where nobody is told.

    Args:
        repairs: Numbers by city.
    """
    if settings.listen is None:
        return None
    from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

    from citychain.metrics.certificates import CertificateMetrics
    from citychain.metrics.cities import CityMetrics
    from citychain.metrics.loop import LoopMetrics
    from citychain.metrics.storages import StorageMetrics
    from citychain.rpc.counting import CallMetrics, CountingInterceptor

    # Its own, not that of the process, which may have several servers.
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry)
    return ServerMetrics(
        registry,
        CityMetrics(registry, settings.cities, clock, repairs),
        StorageMetrics(registry),
        CertificateMetrics(registry),
        LoopMetrics(registry),
        (CountingInterceptor(CallMetrics(registry)),),
    )


def storage_meters(metrics: ServerMetrics | None) -> Callable[[str], StorageMeter] | None:
    """What makes a meter for a storage of a name."""
    return None if metrics is None else metrics.storages.meter


@asynccontextmanager
async def tell_metrics(
    settings: MetricsSettings, metrics: ServerMetrics | None, ready: Callable[[], bool]
) -> AsyncIterator[str]:
    """Tell whoever asks, until this is left; gives the address, empty where nobody is told.

    Args:
        ready: Whether calls are to be sent to the server; asked from any thread.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    if metrics is None or settings.listen is None:
        yield ""
        return
    from citychain.metrics.server import MetricsServer

    async with (
        metrics.loop.watched(),
        MetricsServer(settings.listen, metrics.registry, ready) as server,
    ):
        yield server.address
