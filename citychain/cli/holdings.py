"""``citychain holdings``: who holds a city's archive, counted by anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import (
    DEFAULT_TIMEOUT,
    City,
    Config,
    FromStorage,
    GenesisFile,
    Timeout,
    read_genesis,
)
from citychain.cli.output import Json, counted, print_json
from citychain.cli.reaching import Servers, asks_servers

if TYPE_CHECKING:
    from citychain.holding.recount import Recount

__all__ = ["holdings"]


@asks_servers
def holdings(
    city: City,
    genesis: GenesisFile = None,
    first_round: Annotated[
        int,
        typer.Option(min=1, help="Count the challenges that were over from this round on."),
    ] = 1,
    last_round: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Count those that were over up to this round.",
            show_default="the last certified one",
        ),
    ] = None,
    storage: FromStorage = False,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Count who holds what of a city's archive, and who proved it when a checkpoint asked.

    All of the city is checked first, as by `citychain audit`; nobody is believed, neither the
    holders nor the server. Of each holder: fragments with a live receipt, chunks asked for and
    answered, and their ratio, the availability. Then the fragments that have fewer holders than
    the city wants: one that failed when it was asked for last is not counted, nor is anything of a
    holder that is silent, which answered nothing in its last challenge.

    Exit codes: 0 every fragment has its holders; 1 some have not, or the city does not hold; 2 a
    file or a round cannot be used; 3 the city does not answer.

    Examples:

        citychain holdings --city kanazawa
        citychain holdings --city kanazawa --first-round 1001 --last-round 2000 --json
    """
    import asyncio

    from citychain.cli.recounts import recount_city
    from citychain.clock import SystemClock
    from citychain.config import load_settings
    from citychain.errors import InvalidRequest

    if last_round is not None and first_round > last_round:
        raise InvalidRequest("--first-round", f"is {first_round}, after --last-round {last_round}")
    pinned = None if genesis is None else read_genesis(genesis)
    recount = asyncio.run(
        recount_city(
            city=city,
            given=pinned,
            servers=None if storage else servers,
            timeout=timeout,
            settings=load_settings(config),
            progress=not json,
        )
    )
    last = recount.round if last_round is None else last_round
    if last > recount.round:
        detail = f"is {last}, and the city's last certified round is {recount.round}"
        raise InvalidRequest("--last-round", detail)
    if first_round > max(last, 1):
        detail = f"is {first_round}, and the city's last certified round is {last}"
        raise InvalidRequest("--first-round", detail)
    now_ms = SystemClock().time_ms()
    _tell(recount, first_round, last, now_ms, json)
    if recount.lacking(now_ms):
        raise typer.Exit(Exit.NO)


def _tell(recount: Recount, first: int, last: int, now_ms: int, json: bool) -> None:
    holders = [_holder(recount, key_id, first, last, now_ms) for key_id in recount.holders]
    lacking: list[dict[str, Any]] = [
        {
            "object": key.object_id,
            "root": key.root,
            "index": key.index,
            "holders": count,
            "wanted": recount.rules.receipts,
        }
        for key, count in sorted(recount.lacking(now_ms).items())
    ]
    total = {
        "round": recount.round,
        "first_round": first,
        "last_round": last,
        "at_ms": now_ms,
        "holders": len(holders),
        "segments": len(recount.segments),
        "fragments": len(recount.fragments),
        "lacking": len(lacking),
    }
    if json:
        for record in (*holders, *lacking, total):
            print_json(record)
        return
    for it in holders:
        part = "-" if it["availability"] is None else f"{it['answered'] / it['asked']:.1%}"
        has = f"{counted(it['receipts'], 'fragment')}, {it['failed']:,} of them failed"
        print(
            f"HOLDER   {it['holder'].hex()}  {has}  answered {it['answered']:,} of "
            f"{it['asked']:,}  {part}{'  silent' if it['silent'] else ''}"
        )
    for it in lacking:
        print(
            f"LACKING  {it['object'].hex()}  fragment {it['index']}: {it['holders']} of "
            f"{it['wanted']} holders"
        )
    print(
        f"COUNTED  rounds {first} to {last}: {counted(len(holders), 'holder')}; "
        f"{counted(len(recount.fragments), 'fragment')} of "
        f"{counted(len(recount.segments), 'segment')}, {len(lacking):,} of them "
        f"{'lacks' if len(lacking) == 1 else 'lack'} holders"
    )


def _holder(recount: Recount, key_id: bytes, first: int, last: int, now_ms: int) -> dict[str, Any]:
    receipts = recount.receipts(key_id, now_ms)
    asked, answered = recount.tally(key_id, first, last)
    availability = recount.availability(key_id, first, last)
    return {
        "holder": key_id,
        "receipts": len(receipts),
        "silent": recount.is_silent(key_id),
        "failed": len(recount.failed(key_id) & receipts.keys()),
        "asked": asked,
        "answered": answered,
        "availability": None if availability is None else str(availability),
    }
