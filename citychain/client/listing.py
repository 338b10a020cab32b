"""The cities that a server knows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

from citychain.city.listing import CityListing
from citychain.client import retries
from citychain.client.channels import ChannelFactory
from citychain.errors import ServerError
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.messages import decode_city

__all__ = ["city_page", "list_cities"]


async def list_cities(
    channels: ChannelFactory,
    query: str = "",
    *,
    timeout: timedelta = timedelta(seconds=30),
) -> AsyncGenerator[CityListing, None]:
    """Cities in order of slug, fetched a page at a time. How many to take is for the caller.

    Args:
        query: Only those of which some name begins with it.
        timeout: How long a page may take.

    Raises:
        ServerError: a page has no city, and leads to another one.
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
            # Or a server that gives nothing would be asked without end, whatever the caller takes.
            if not page.cities:
                raise ServerError("the list of cities does not go on: a page had none", "")
            request.page_token = page.next_page_token


async def city_page(
    channels: ChannelFactory,
    query: str = "",
    page_token: str = "",
    *,
    timeout: timedelta = timedelta(seconds=30),
) -> tuple[list[CityListing], str]:
    """One page of cities in order of slug, and the token of the next one; empty after the last.

    Args:
        query: Only those of which some name begins with it.
        page_token: Of the page before; empty for the first.
    """
    request = services_pb2.ListCitiesRequest(query=query, page_token=page_token)
    async with channels.channel() as channel:
        stub: Any = services_pb2_grpc.CityServiceStub(channel)
        page = await retries.call(stub.ListCities, request, timeout)
    return [decode_city(city) for city in page.cities], page.next_page_token
