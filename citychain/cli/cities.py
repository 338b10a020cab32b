"""``citychain cities``: the cities of a server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.options import DEFAULT_SERVER, DEFAULT_TIMEOUT, Server, Timeout, connect
from citychain.cli.output import Json, answers, print_json, say

if TYPE_CHECKING:
    from citychain.city.listing import CityListing

__all__ = ["cities"]


def cities(
    name: Annotated[
        str | None, typer.Argument(help="One city, by any of its names.", show_default=False)
    ] = None,
    query: Annotated[str, typer.Option(help="Only those with a name that begins so.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    save_genesis: Annotated[
        Path | None,
        typer.Option(help="With a name: write the city's genesis file here.", dir_okay=False),
    ] = None,
    server: Server = DEFAULT_SERVER,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """List the cities of a server, or show one of them, which is opened if it was not.

    A genesis file that comes from the server says what the server claims. Whoever wants to verify
    receipts against it compares its id with what somebody else says.

    Examples:

        citychain cities --query ka
        citychain cities 金沢 --save-genesis kanazawa.json
    """
    import asyncio

    from citychain.errors import InvalidRequest

    if name is None:
        if save_genesis is not None:
            raise InvalidRequest("--save-genesis", "needs the name of a city")
        asyncio.run(_list(server, query, limit, timeout, json=json))
    else:
        asyncio.run(_show(server, name, save_genesis, timeout, json=json))


async def _list(server: str, query: str, limit: int, timeout: float, *, json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from citychain.client.channels import ChannelFactory
    from citychain.client.listing import list_cities

    table = Table("city", "titles", "source", "storage", "DAG handler", "consensus", "state")
    count = 0
    async for city in list_cities(
        ChannelFactory([server]), query, timeout=timedelta(seconds=timeout)
    ):
        count += 1
        if count > limit:
            say(f"more than {limit}: see --limit and --query")
            break
        if json:
            print_json(_record(city))
        else:
            titles = ", ".join(city.titles.values())
            parts = (city.source, city.storage, city.dag, city.consensus, city.state.name.lower())
            table.add_row(*map(Text, (city.slug, titles, *parts)))
    if not json:
        answers().print(table)


async def _show(
    server: str, name: str, save_genesis: Path | None, timeout: float, *, json: bool
) -> None:
    async with connect(server, name, timeout) as client:
        info = await client.info()
    record = _record(info.listing) | {
        "genesis": info.genesis,
        "rule": info.rule,
        "step": info.consensus,
        "sealed_round": info.head.round,
        "approved_round": info.head.certified_round,
        "log_size": info.head.size,
        "checkpoint_hash": info.head.checkpoint_hash,
        "pending": info.pending,
    }
    if save_genesis is not None:
        # Never over another: a genesis is what receipts are held against.
        with save_genesis.open("xb") as file:
            file.write(info.genesis_file)
    if json:
        print_json(record)
        return
    for key, value in record.items():
        match value:
            case bytes():
                value = value.hex()
            case dict():
                value = ", ".join(f"{title} ({tag})" for tag, title in value.items())
            case list():
                value = ", ".join(value)
        if value not in ("", None):
            print(f"{key:<16}{value}")


def _record(city: CityListing) -> dict[str, Any]:
    return {
        "city": city.slug,
        "titles": dict(city.titles),
        "aliases": list(city.aliases),
        "parent": city.parent or "",
        "source": city.source,
        "storage": city.storage,
        "dag": city.dag,
        "consensus": city.consensus,
        "state": city.state.name.lower(),
    }
