"""``citychain peers``: the cities that a city exchanges with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout
from citychain.cli.output import Json, answers, print_json, printable
from citychain.cli.reaching import Servers, asks_servers, connect

if TYPE_CHECKING:
    from citychain.handler import PeerStatus

__all__ = ["peers"]


@asks_servers
def peers(
    city: City,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """List the cities that a city exchanges with, and how it goes with each.

    They are configured under `[peers.SLUG]`. A peer is pinned by its genesis in the city's ledger,
    for good; `pending` counts amounts for it that have no outcome yet.

    Examples:

        citychain peers --city kanazawa
    """
    import asyncio

    async def ask() -> list[PeerStatus]:
        async with connect(servers, city, timeout) as client:
            return await client.peers()

    found = asyncio.run(ask())
    if json:
        for peer in found:
            print_json(peer._asdict())
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("peer", "genesis", "pinned", "served by", "pending", "trouble", box=None)
    for peer in found:
        cells = (
            peer.name,
            f"{peer.genesis.hex()[:16]}…",
            "yes" if peer.pinned else "no",
            ", ".join(peer.endpoints) or "this server",
            str(peer.pending),
            peer.trouble,
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))  # Lest it be read as markup.
    answers().print(table)
