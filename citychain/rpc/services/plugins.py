"""`PluginService`: what became of each plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.directory import PluginRecord

__all__ = ["PluginService"]


class PluginService(services_pb2_grpc.PluginServiceServicer):
    """See `proto/citychain/v1/services.proto`."""

    def __init__(self, plugins: Sequence[PluginRecord]) -> None:
        self._plugins = plugins

    async def ListPlugins(
        self, request: services_pb2.ListPluginsRequest, context: Any
    ) -> services_pb2.ListPluginsResponse:
        return services_pb2.ListPluginsResponse(
            plugins=[
                services_pb2.Plugin(
                    name=plugin.name,
                    distribution=plugin.distribution,
                    version=plugin.version,
                    hooks=plugin.hooks,
                    status=plugin.status,
                    reason=plugin.reason,
                )
                for plugin in self._plugins
            ]
        )
