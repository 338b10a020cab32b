"""Who counts as one caller, where each may have so much."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

__all__ = ["network_of"]


def network_of(host: str) -> str:
    """What one customer has: an address, of IPv6 the network of 64 bits. What is no address stays
    as it is."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(found, IPv6Address):
        return host
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ip_network((found, 64), strict=False))
