"""``citychain cities``: the cities of a server."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.options import DEFAULT_TIMEOUT, Timeout
from citychain.cli.output import Json, answers, moment_in_words, print_json, printable, say
from citychain.cli.reaching import Servers, asks_servers, connect

if TYPE_CHECKING:
    from citychain.city.listing import CityListing
    from citychain.ports import CommitteeStatus

__all__ = ["cities"]


@asks_servers
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
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """List the cities of a server, or show one of them, which is opened if it was not.

    Of a city whose rounds are approved by votes from elsewhere: also its committee, and what it
    waits for.

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
        asyncio.run(_list(servers, query, limit, timeout, json=json))
    else:
        asyncio.run(_show(servers, name, save_genesis, timeout, json=json))


async def _list(servers: Servers, query: str, limit: int, timeout: float, *, json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from citychain.client.listing import list_cities

    table = Table("city", "titles", "source", "storage", "DAG handler", "consensus", "state")
    count = 0
    async for city in list_cities(servers.channels(), query, timeout=timedelta(seconds=timeout)):
        count += 1
        if count > limit:
            say(f"more than {limit}: see --limit and --query")
            break
        if json:
            print_json(_record(city))
        else:
            titles = ", ".join(city.titles.values())
            parts = (city.source, city.storage, city.dag, city.consensus, city.state.name.lower())
            table.add_row(*(Text(printable(cell)) for cell in (city.slug, titles, *parts)))
    if not json:
        answers().print(table)


async def _show(
    servers: Servers, name: str, save_genesis: Path | None, timeout: float, *, json: bool
) -> None:
    from citychain.errors import NotSupported

    committee = None
    async with connect(servers, name, timeout) as client:
        info = await client.info()
        with suppress(NotSupported):
            committee = await client.committee()
        approved_ms = archived_ms = None
        if info.archived_round:
            approved_ms = (await client.checkpoint(info.head.certified_round)).time_ms
            archived_ms = (await client.checkpoint(info.archived_round)).time_ms
    waits = committee is not None and committee.round <= info.head.round
    record = _record(info.listing) | {
        "genesis": info.genesis,
        "rule": info.rule,
        "step": info.consensus,
        "sealed_round": info.head.round,
        "approved_round": info.head.certified_round,
        "log_size": info.head.size,
        "checkpoint_hash": info.head.checkpoint_hash,
        "pending": info.pending,
        "archived_round": info.archived_round,
        # Of these two rounds: how far the archive is behind.
        "approved_time_ms": approved_ms,
        "archived_time_ms": archived_ms,
    }
    if save_genesis is not None:
        # Never over another: a genesis is what receipts are held against.
        with save_genesis.open("xb") as file:
            file.write(info.genesis_file)
    if json:
        print_json(record | (_committee_record(committee, waits=waits) if committee else {}))
        return
    for key, value in record.items():
        match value:
            case bytes():
                value = value.hex()
            case dict():
                value = ", ".join(f"{title} ({tag})" for tag, title in value.items())
            case list():
                value = ", ".join(value)
            case int() if key.endswith("_time_ms"):
                key, value = key.removesuffix("_ms"), moment_in_words(value)
        if value not in ("", None):
            print(printable(f"{key:<16}{value}"))
    if committee is not None:
        _print_committee(committee, waits=waits)


def _print_committee(committee: CommitteeStatus, *, waits: bool) -> None:
    """For people: a line a member, what it waits for, and who signed two checkpoints."""
    from citychain.waiting import conflict_in_words, wait_in_words

    for key, member in zip(chain(["committee"], repeat("")), committee.members, strict=False):
        voted = f"voted for round {member.last_round}" if member.last_round else "has not voted"
        print(f"{key:<16}{member.key_id.hex()}  stake {member.stake}, {voted}")
    if waits:
        print(f"{'waits':<16}{wait_in_words(committee)}")
    for key, conflict in zip(chain(["conflicts"], repeat("")), committee.conflicting, strict=False):
        print(f"{key:<16}{conflict_in_words(conflict)}")


def _committee_record(committee: CommitteeStatus, *, waits: bool) -> dict[str, Any]:
    from citychain.waiting import wait_in_words

    return {
        "committee": [
            {
                "key_id": member.key_id.hex(),
                "stake": member.stake,
                "last_round": member.last_round,
                "objection": (
                    {
                        "round": member.objection.round,
                        "check": member.objection.check,
                        "detail": member.objection.detail,
                    }
                    if member.objection
                    else None
                ),
            }
            for member in committee.members
        ],
        "stake_for": committee.stake_for,
        "stake_needed": committee.stake_needed,
        "waits": wait_in_words(committee) if waits else "",
        "conflicts": [
            {"key_id": conflict.first.vote.key_id.hex(), "round": conflict.first.round}
            for conflict in committee.conflicting
        ],
    }


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
