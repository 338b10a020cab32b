"""``citychain demo``: the demonstration as a sub-command."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.output import Json, answers, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from citychain.cli.demo.check import CityResult
    from citychain.cli.demo.lie import Caught
    from citychain.cli.demo.plan import CityPlan

__all__ = ["demo"]

TRANSACTIONS = 2_000


def demo(
    transactions: Annotated[
        int, typer.Option(min=1, help="How many are sent, to all cities together.")
    ] = TRANSACTIONS,
    city: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SLUG",
            help="Beside the four, one of an installed plugin, with the parts that it chooses; "
            "they must approve ordinary notes and transfers.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides what is sent in which order.")] = 1,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="A new directory, instead of a temporary one; it is kept."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary directory.")] = False,
    explorer: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="When all is checked, show the cities in a browser, here, until Ctrl-C; anybody "
            "who reaches it may send to them.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run four cities on one server, kill it half-way, check what came of everything, and
    catch a server that lies.

    Signed transactions go over gRPC to cities whose parts differ, some faulty on purpose: altered
    signatures, repeats, write conflicts, overdrafts, breaches of a city's own rule, dependencies
    that come later or are rejected, a city that is not there. What must come of each is known
    before anything is sent. After the kill every acknowledged transaction must become final, and
    every receipt is fetched, and checked without the server.

    Then a second server passes off as approved what its city's rules reject, and the city's
    three representatives, each in a process of its own, refuse it and say why.

    Exit codes: 0 everything came as it must; 1 something did not, and is named.

    Examples:

        citychain demo
        citychain demo --transactions 20000 --json
        citychain demo --city harbour
        citychain demo --explorer 127.0.0.1:8080
    """
    import asyncio
    from dataclasses import asdict

    from citychain.cli.demo.check import check
    from citychain.cli.demo.plan import CITIES, SHARE_MIN, City, plan
    from citychain.cli.demo.table import draw, record
    from citychain.hooks.checks import SLUG

    for name in city or ():
        # It becomes a table of the configuration.
        if not SLUG.fullmatch(name):
            raise typer.BadParameter(
                f"{name!r} is not a slug: 1 to 63 of a-z, 0-9 and '-', starting with a letter",
                param_hint="--city",
            )
    known = {town.slug for town in CITIES}
    more = [City(slug) for slug in dict.fromkeys(city or ()) if slug not in known]
    towns = (*CITIES, *more)
    if transactions < SHARE_MIN * len(towns):
        raise typer.BadParameter(
            f"{len(towns)} cities need at least {SHARE_MIN * len(towns)}",
            param_hint="--transactions",
        )
    plans = plan(transactions, seed, towns)
    place = directory or Path(tempfile.mkdtemp(prefix="citychain-demo-"))
    keep = keep or directory is not None
    try:
        cities, unknown_answer = asyncio.run(_demonstrate(plans, place))
        caught = asyncio.run(_catch_a_lie(place.absolute() / "lie"))
        differences = [*check(cities, unknown_answer), *caught.differences]
        # Whoever looks for the cause needs the server's log.
        keep = keep or bool(differences)
        if json:
            print_json(
                {
                    "transactions": transactions,
                    "seed": seed,
                    "cities": [record(city) for city in cities],
                    "unknown_city": unknown_answer,
                    "lie": asdict(caught),
                    "differences": differences,
                }
            )
        else:
            answers().print(draw(cities))
        for difference in differences:
            say(f"difference: {difference}")
        if keep:
            say(f"kept: {place}")
        if differences:
            raise typer.Exit(Exit.NO)
        say(f"all {transactions} transactions came to what they must, and the lie to nothing")
        if explorer is not None:
            asyncio.run(_show(place, explorer))
    finally:
        if not keep:
            shutil.rmtree(place)


async def _catch_a_lie(directory: Path) -> Caught:
    import asyncio
    import signal

    from citychain.cli.demo.lie import catch_a_lie

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _interrupt)
    return await catch_a_lie(directory, say)


async def _demonstrate(plans: Sequence[CityPlan], directory: Path) -> tuple[list[CityResult], str]:
    """Run server and plans, and show how far it is."""
    import asyncio
    import signal

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from citychain.cli.demo.run import Stage, ask_unknown_city, run
    from citychain.cli.demo.setup import check_setup, make_directory
    from citychain.cli.server_process import ServerProcess

    # As Ctrl-C does: the server is stopped on the way out.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _interrupt)
    towns = [plan.city for plan in plans]
    residents = make_directory(directory, towns)
    check_setup(directory, towns)
    server = ServerProcess(directory)
    try:
        await server.start()
        unknown_answer = await ask_unknown_city(server)
        with Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
        ) as progress:
            bars = {
                plan.city.slug: progress.add_task(plan.city.slug, total=plan.work) for plan in plans
            }
            stage = Stage(
                lambda slug, count: progress.advance(bars[slug], count), progress.console.print
            )
            stage.say(f"a server answers on {server.address}, in {directory}")
            cities = await run(plans, server, directory / "data", residents, stage)
    finally:
        await server.stop()
    return cities, unknown_answer


async def _show(directory: Path, listen: str) -> None:
    """Run the server again, and an explorer beside it, until it is told to stop."""
    import asyncio
    import signal

    from citychain.cli.explorer_beside import explorer_beside
    from citychain.cli.server_process import ServerProcess

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = ServerProcess(directory)
    try:
        await server.start()
        async with explorer_beside(server.address, listen, "--submit") as explorer:
            ended = asyncio.create_task(explorer.wait())
            stopped = asyncio.create_task(stop.wait())
            say(f"Ctrl-C ends what is shown on http://{listen}/")
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not stop.is_set():
                raise typer.Exit(abs(await ended))
            ended.cancel()
    finally:
        await server.stop()


def _interrupt() -> None:
    raise KeyboardInterrupt
