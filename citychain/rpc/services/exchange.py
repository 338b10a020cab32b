"""`ExchangeService`: what cities have to do with each other."""

from __future__ import annotations

from typing import Any, Final

from citychain.city.remittances import decided, remittance
from citychain.handler import CityHandler
from citychain.notes import ANCHORED, decode_anchor
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.directory import CityDirectory
from citychain.rpc.messages.exchange import (
    AnchorStatus,
    encode_anchor,
    encode_deliveries,
    encode_peers,
    encode_remittance,
)

__all__ = ["ExchangeService"]

DELIVERIES_MAX: Final = 256


class ExchangeService(services_pb2_grpc.ExchangeServiceServicer):
    """See `proto/citychain/v1/services.proto`."""

    def __init__(self, directory: CityDirectory) -> None:
        self._directory = directory

    async def GetRemittance(
        self, request: services_pb2.GetRemittanceRequest, context: Any
    ) -> services_pb2.GetRemittanceResponse:
        name = requests.text(request.city, "city")
        tx_id = requests.id_bytes(request.tx_id, "tx_id")
        handler = await self._directory.handler(name)
        found = await remittance(handler, tx_id)
        return services_pb2.GetRemittanceResponse(remittance=encode_remittance(found))

    async def GetDeliveries(
        self, request: services_pb2.GetDeliveriesRequest, context: Any
    ) -> services_pb2.GetDeliveriesResponse:
        name = requests.text(request.city, "city")
        source = requests.id_bytes(request.source, "source")
        tx_ids = requests.ids(request.tx_ids, "tx_ids", DELIVERIES_MAX)
        handler = await self._directory.handler(name)
        return encode_deliveries(await decided(handler, source, tx_ids))

    async def ListPeers(
        self, request: services_pb2.ListPeersRequest, context: Any
    ) -> services_pb2.ListPeersResponse:
        name = requests.text(request.city, "city")
        handler = await self._directory.handler(name)
        # A handler that a plugin or a test made has none.
        peers = getattr(handler, "peers", None)
        return encode_peers(await peers() if peers is not None else ())

    async def GetAnchor(
        self, request: services_pb2.GetAnchorRequest, context: Any
    ) -> services_pb2.GetAnchorResponse:
        name = requests.text(request.city, "city")
        handler = await self._directory.handler(name)
        return encode_anchor(await self._anchor(handler))

    async def _anchor(self, handler: CityHandler) -> AnchorStatus | None:
        note = (await handler.storage.notes(ANCHORED)).get(ANCHORED)
        if note is None:
            return None
        anchored = decode_anchor(note)
        parent = getattr(handler, "parent", None)
        name, endpoints = parent if parent is not None else ("", ())
        return AnchorStatus(
            parent=anchored.parent,
            name=name,
            endpoints=endpoints,
            tx_id=anchored.tx_id,
            round=anchored.round,
            size=anchored.size,
        )
