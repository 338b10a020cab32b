"""``citychain top``: one frame after the other, until it is told to stop."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from citychain.cli.options import Timeout, finite
from citychain.cli.output import Json
from citychain.cli.reaching import Servers, asks_servers

__all__ = ["top"]

DEFAULT_SECONDS = 2.0
DEFAULT_SILENCE = 5.0
"""What is shown is as old as that where the server is silent."""


@asks_servers
def top(
    every: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="Seconds between two looks.")
    ] = DEFAULT_SECONDS,
    once: Annotated[
        bool, typer.Option("--once", help="Look twice, show what happened between, and end.")
    ] = False,
    query: Annotated[str, typer.Option(help="Only cities with a name that begins so.")] = "",
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the server tells its metrics: shows calls, the process, and who leads.",
            show_default=False,
        ),
    ] = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_SILENCE,
    json: Json = False,
) -> None:
    """Show a server as it works: rounds and transactions of its busiest cities, calls, the process.

    Only cities that are open are asked, 100 at a time. It goes on where the server is away for a
    while. On a terminal `q` ends it.

    Examples:

        citychain top
        citychain top --metrics http://127.0.0.1:9464/metrics --every 5
        citychain top --once --json
    """
    import asyncio

    from citychain.cli.running import until_told
    from citychain.cli.top import showing
    from citychain.cli.top.observing import Observer

    observer = Observer(servers, timeout, query, metrics)
    try:
        if once:
            asyncio.run(showing.once(observer, every, json=json))
        elif not json and sys.stdout.isatty():
            asyncio.run(until_told(showing.live(observer, every)))
        else:
            asyncio.run(until_told(showing.lines(observer, every, json=json)))
    except BrokenPipeError:  # Who reads has seen enough. Python would try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
