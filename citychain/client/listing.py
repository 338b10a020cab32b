"""The cities that a server knows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

from citychain.city.listing import CityListing
from citychain.client import retries
from citychain.client.channels import ChannelFactory
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.messages import decode_city

__all__ = ["list_cities"]


async def list_cities(
    channels: ChannelFactory,
    query: str = "",
    *,
    timeout: timedelta = timedelta(seconds=30),
) -> AsyncGenerator[CityListing, None]:
    """Cities in order of slug, fetched a page at a time.

    Args:
        query: Only those of which some name begins with it.
        timeout: How long a page may take.
    """
    request = services_pb2.ListCitiesRequest(query=query)
    async with channels.channel() as channel:
        stub: Any = services_pb2_grpc.CityServiceStub(channel)
        while True:
            page = await retries.call(stub.ListCities, request, timeout)
            for city in page.cities:
                yield decode_city(city)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
