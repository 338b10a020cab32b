"""`CityService`: which cities there are, and what one of them is."""

from __future__ import annotations

from typing import Any

from citychain.errors import StorageError
from citychain.notes import ARCHIVE_LAST, decode_archived
from citychain.ports import CityStorage
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.directory import CityDirectory
from citychain.rpc.messages import encode_city
from citychain.types import ObjectState

__all__ = ["CityService"]

OBJECTS_MAX = 256
OBJECT_BYTES_MAX = 255


class CityService(services_pb2_grpc.CityServiceServicer):
    """See `proto/citychain/v1/services.proto`."""

    def __init__(self, directory: CityDirectory) -> None:
        self._directory = directory

    async def ListCities(
        self, request: services_pb2.ListCitiesRequest, context: Any
    ) -> services_pb2.ListCitiesResponse:
        limit = requests.page_size(request.page_size, 100, 1_000)
        query = requests.at_most(request.query, "query", 256, "characters")
        # A page's token is the slug of its last city.
        after = requests.at_most(request.page_token, "page_token", 63, "characters")
        listings = self._directory.listings(query, after, limit + 1)
        return services_pb2.ListCitiesResponse(
            cities=map(encode_city, listings[:limit]),
            next_page_token=listings[limit - 1].slug if len(listings) > limit else "",
        )

    async def GetCity(
        self, request: services_pb2.GetCityRequest, context: Any
    ) -> services_pb2.GetCityResponse:
        name = requests.text(request.city, "city")
        handler = await self._directory.handler(name)
        listing = await self._directory.listing(name)
        head = await handler.head()
        return services_pb2.GetCityResponse(
            city=encode_city(listing),
            genesis=handler.genesis.id,
            genesis_file=handler.genesis.file,
            rule=handler.genesis.rule,
            consensus=handler.genesis.consensus,
            head=services_pb2.Head(
                sealed_round=head.round,
                approved_round=head.certified_round,
                size=head.size,
                checkpoint_hash=head.checkpoint_hash,
            ),
            pending=handler.pending,
            archived_round=await _archived_round(handler.storage),
        )

    async def GetObjects(
        self, request: services_pb2.GetObjectsRequest, context: Any
    ) -> services_pb2.GetObjectsResponse:
        name = requests.text(request.city, "city")
        objects = requests.at_most(request.objects, "objects", OBJECTS_MAX, "ids")
        for index, object in enumerate(objects):
            field = f"objects[{index}]"
            requests.text(object, field)
            requests.at_most(object.encode(), field, OBJECT_BYTES_MAX, "bytes")
        handler = await self._directory.handler(name)
        found = await handler.storage.objects(list(objects))
        absent = ObjectState(0, b"")
        return services_pb2.GetObjectsResponse(
            objects=[
                services_pb2.Object(object=object, version=state.version, value=state.value)
                for object in objects
                for state in (found.get(object, absent),)
            ]
        )


async def _archived_round(storage: CityStorage) -> int:
    try:
        kept = await storage.notes(ARCHIVE_LAST)
    except StorageError:
        return 0  # Where the ledger stands is known all the same.
    return decode_archived(kept.get(ARCHIVE_LAST, b"")).round
