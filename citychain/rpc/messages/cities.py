"""Cities as lists show them."""

from __future__ import annotations

from citychain.city.listing import CityListing, CityState
from citychain.errors import VerificationError
from citychain.rpc._generated.citychain.v1 import services_pb2

__all__ = ["decode_city", "encode_city"]


def encode_city(listing: CityListing) -> services_pb2.City:
    """What is known of a city without opening it."""
    return services_pb2.City(
        slug=listing.slug,
        titles=listing.titles,
        aliases=listing.aliases,
        parent=listing.parent or "",
        source=listing.source,
        parts=services_pb2.CityParts(
            storage=listing.storage, dag=listing.dag, consensus=listing.consensus
        ),
        state=services_pb2.CityState.ValueType(listing.state),
    )


def decode_city(message: services_pb2.City) -> CityListing:
    """What is known of a city."""
    try:
        state = CityState(message.state)
    except ValueError:
        raise VerificationError(f"city.state: {message.state} is unknown") from None
    return CityListing(
        slug=message.slug,
        titles=dict(message.titles),
        aliases=tuple(message.aliases),
        parent=message.parent or None,
        source=message.source,
        storage=message.parts.storage,
        dag=message.parts.dag,
        consensus=message.parts.consensus,
        state=state,
    )
