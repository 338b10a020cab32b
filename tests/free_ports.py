"""Addresses that nobody else gets: of servers that others must know before they start, that start
again where they were, or that are never there.

A port that the system chose is anybody's again once it is closed: whoever asks for port 0, or
connects somewhere, may get it. Those here are below all that systems choose.
"""

from __future__ import annotations

import socket

__all__ = ["free_address", "free_port"]

PORTS = range(20_000, 32_000)
"""Linux chooses from 32768 on, others from 49152."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 where nobody listens; until this process ends nobody else gets it
    from here, whichever process asks."""
    for port in PORTS:
        # Nobody uses UDP: whoever has the port there is the one whose port it is.
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            claim.detach()  # Stays open as long as the process.
            return port
    raise AssertionError(f"no port of {PORTS} is free")


def free_address() -> str:
    """``host:port``, of a `free_port`."""
    return f"127.0.0.1:{free_port()}"
