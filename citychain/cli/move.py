"""``citychain move``: a city goes to live in another storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.options import DEFAULT_TIMEOUT, City, Config, Timeout
from citychain.cli.output import Json, print_json, say
from citychain.cli.reaching import Servers, asks_servers

if TYPE_CHECKING:
    from citychain.moving.moving import MoveResult

__all__ = ["move"]


@asks_servers
def move(
    city: City,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="STORAGE",
            help="Where it goes: the name of a [storage.NAME] table, or of a backend.",
            show_default=False,
        ),
    ] = None,
    forget: Annotated[
        str | None,
        typer.Option(
            metavar="STORAGE",
            help="Remove it from this storage instead, which it left.",
            show_default=False,
        ),
    ] = None,
    operator_key: Annotated[
        Path | None,
        typer.Option(
            "--operator-key",
            help="Key file of the city's operator.",
            show_default="the configuration's",
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Do it here, without a server: none may have it open."),
    ] = False,
    volatile: Annotated[
        bool,
        typer.Option("--volatile", help="Also to a storage that forgets when the server stops."),
    ] = False,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Move a city to another storage while it goes on accepting.

    The server copies the city, compares the copy with what it is of, holds the city for a moment
    in which calls wait, copies the rest, and lets it live in the other storage from then on. What
    is broken off changes nothing, and goes on where it was when it is repeated. The old storage
    keeps what it has, with a note that says where the city went, until it is told to forget.

    Where no server answers, it is done here, as with `--offline`.

    Exit codes: 0 it lives there; 1 it lives where it lived, and the message says why.

    Examples:

        citychain move --city kanazawa --to mongodb
        citychain move --city kanazawa --to archive --offline
        citychain move --city kanazawa --forget sqlite
    """
    import asyncio

    from citychain.cli.moving import run_move
    from citychain.client.keys import load_key
    from citychain.config import load_settings
    from citychain.errors import InvalidRequest
    from citychain.moving.request import MoveRequest

    if (to is None) == (forget is None):
        raise InvalidRequest("--to", "give this, or --forget, and not both")
    settings = load_settings(config)
    request = MoveRequest(to or forget or "", forget is not None, volatile)
    result = asyncio.run(
        run_move(
            city=city,
            request=request,
            operator=None if offline else load_key(operator_key or settings.operator_key),
            servers=None if offline else servers,
            timeout=timeout,
            settings=settings,
            shown=not json,
        )
    )
    _tell(city, request.storage, None if request.forget else result, json)


def _tell(city: str, storage: str, result: MoveResult | None, json: bool) -> None:
    if result is None:
        if json:
            print_json({"city": city, "forgotten": storage})
        else:
            print(f"FORGOTTEN  {city} is removed from storage {storage}")
        return
    seconds, held = result.copying_seconds, result.held_seconds
    if json:
        print_json(
            {
                "city": city,
                "storage": storage,
                "rounds": result.rounds,
                "copied_transactions": result.transactions,
                "copying_seconds": round(seconds, 3),
                "held_seconds": round(held, 3),
            }
        )
        return
    print(
        f"MOVED  {city} lives in storage {storage}: {result.rounds} rounds; "
        f"{result.transactions} transactions copied in {seconds:.1f} s, calls waited {held:.2f} s"
    )
    say(f'write storage = "{storage}" into its table of the configuration')
