"""``citychain backup``: a copy of a city, taken while its server runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.options import (
    DEFAULT_TIMEOUT,
    City,
    Config,
    FromBackup,
    FromStorage,
    GenesisFile,
    Timeout,
    read_genesis,
)
from citychain.cli.output import Json, counted, print_json
from citychain.cli.reaching import Servers, asks_servers

if TYPE_CHECKING:
    from citychain.cli.backing_up import Taken

__all__ = ["backup"]


@asks_servers
def backup(
    city: City,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The folder of the backup: a new one, or one to go on with.",
            file_okay=False,
        ),
    ],
    up_to: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="ROUND",
            help="Take no later round: a copy to read and audit. No city lives on from it alone.",
            show_default="the last certified one",
        ),
    ] = None,
    genesis: GenesisFile = None,
    storage: FromStorage = False,
    folder: FromBackup = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Take a backup of a city, while its server goes on.

    The rounds that are certified by now come into the folder, with all that they are made of. Each
    is recomputed before it is kept, as `citychain audit` does. The next backup into the same folder
    takes what came since; what was broken off goes on where it ended. What is not certified yet is
    not in it, nor the operator's key: keep that apart.

    As of an earlier round there is a copy by `--up-to`, from a server or `--from` another backup:
    `citychain audit --from` reads it. It knows that it lacks certified rounds, as one that was
    broken off does, and `restore-city` lets no city live without them.

    While the command runs the folder is its own. Afterwards its files can be copied anywhere.

    Exit codes: 0 all certified rounds are in it; 1 something does not hold, and the rounds before
    it are in it; 2 the folder is something else's; 3 no server answers.

    Examples:

        citychain backup --city kanazawa -o backups/kanazawa
        citychain backup --city kanazawa -o backups/kanazawa --storage
        citychain backup --city kanazawa --from backups/kanazawa --up-to 1000 -o as-of-1000
    """
    import asyncio

    from citychain.cli.backing_up import run_backup
    from citychain.config import load_settings

    taken = asyncio.run(
        run_backup(
            city=city,
            given=None if genesis is None else read_genesis(genesis),
            folder=output,
            up_to=up_to,
            servers=None if storage else servers,
            source=folder,
            timeout=timeout,
            settings=load_settings(config),
            shown=not json,
        )
    )
    _tell(city, output, taken, json)


def _tell(city: str, folder: Path, taken: Taken, json: bool) -> None:
    first, found = taken
    if json:
        print_json(
            {
                "city": city,
                "folder": folder,
                "round": found.rounds,
                "new_rounds": found.rounds + 1 - first,
                "new_transactions": found.transactions,
                "seconds": round(found.seconds, 3),
            }
        )
        return
    print(
        f"BACKED UP  {city} up to round {found.rounds} in {folder}: "
        f"{counted(found.rounds + 1 - first, 'new round')}, "
        f"{counted(found.transactions, 'new transaction')}, all of which hold"
    )
