"""The list of cities, of a server that is not to be trusted."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from citychain.client import ChannelFactory
from citychain.client.listing import list_cities
from citychain.errors import ServerError
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc


class Endless(services_pb2_grpc.CityServiceServicer):
    """Has always another page, and nothing in it."""

    async def ListCities(  # noqa: N802 — the name in the protocol.
        self, request: Any, context: Any
    ) -> Any:
        return services_pb2.ListCitiesResponse(next_page_token=f"{request.page_token}a"[:63])


async def test_a_list_that_never_goes_on_is_given_up() -> None:
    server = grpc.aio.server()
    services_pb2_grpc.add_CityServiceServicer_to_server(Endless(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(ServerError, match="does not go on: a page had none"):
            await anext(list_cities(ChannelFactory([f"127.0.0.1:{port}"])))
    finally:
        await server.stop(None)
