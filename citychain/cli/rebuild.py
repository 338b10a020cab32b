"""``citychain rebuild``: a city from its genesis and its fragments alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import City, Config, read_genesis
from citychain.cli.output import Json, counted, print_json, say

if TYPE_CHECKING:
    from citychain.archive.rebuilding import Rebuilt

__all__ = ["rebuild"]

FAULTS_TOLD = 20


def rebuild(
    city: City,
    genesis: Annotated[
        Path,
        typer.Option(help="The city's genesis file: it says which city it is.", dir_okay=False),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="STORAGE",
            help="Name of a [storage.NAME] table, or of a backend.",
            show_default="the city's own",
        ),
    ] = None,
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete", help="Let it live with what there is, though later rounds are lost."
        ),
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Rebuild a city whose storage is lost, from the fragments of its archive.

    Looks through all stores for the city's segments, and copies their rounds into an empty
    storage. Each is held to its hashes and its certificate: what does not hold is left out. What
    is broken off goes on where it ended when it is repeated; until it is done no server opens the
    city. Rounds that were not archived are lost.

    Exit codes: 0 all that the archive has is there; 1 there is no segment, or some rounds cannot be
    had, or may be in a store that does not answer: bring more stores, or take those that are gone
    out of the configuration, and repeat it; 2 the storage has the city already, or a file, option
    or setting cannot be used; 3 no store answers.

    Examples:

        citychain rebuild --city kanazawa --genesis kanazawa.json
        citychain rebuild --city kanazawa --genesis kanazawa.json --to fresh --json
        citychain audit --city kanazawa --genesis kanazawa.json --storage
    """
    import asyncio

    from citychain.cli.rebuilding import run_rebuild
    from citychain.config import load_settings

    result, storage = asyncio.run(
        run_rebuild(
            city=city,
            genesis=read_genesis(genesis),
            to=to,
            incomplete=incomplete,
            settings=load_settings(config),
            shown=not json,
        )
    )
    _tell(city, storage, result, incomplete, json)
    if result.lost and not incomplete:
        raise typer.Exit(Exit.NO)


def _tell(city: str, storage: str, result: Rebuilt, incomplete: bool, json: bool) -> None:
    from citychain.cli.rebuilding import rebuilt_record

    if json:
        print_json(rebuilt_record(city, storage, result))
        return
    for fault in result.faults[:FAULTS_TOLD]:
        say(fault)
    if len(result.faults) > FAULTS_TOLD:
        say(f"and {len(result.faults) - FAULTS_TOLD} more faults")
    done = "INCOMPLETE" if result.lost else "REBUILT"
    print(
        f"{done}  {city} in storage {storage}: {counted(result.round, 'round')}, "
        f"{counted(result.transactions, 'transaction')}; {counted(result.segments, 'segment')} read"
    )
    if result.beyond:
        say(result.beyond)
    if result.lost:
        say(result.lost)
    if result.lost and not incomplete:
        say("no server opens it: repeat this when more stores answer, or with --incomplete")
    else:
        say(f"check it: citychain audit --city {city} --genesis FILE --storage")
