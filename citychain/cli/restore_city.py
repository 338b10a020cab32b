"""``citychain restore-city``: a city from its backup."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import City, Config, read_genesis
from citychain.cli.output import Json, counted, print_json, say

if TYPE_CHECKING:
    from citychain.archive.rebuilding import Rebuilt
    from citychain.genesis import Genesis

__all__ = ["restore_city"]


def restore_city(
    city: City,
    folder: Annotated[
        Path,
        typer.Option(
            "--from", metavar="DIR", help="The folder of the backup.", file_okay=False, exists=True
        ),
    ],
    genesis: Annotated[
        Path | None,
        typer.Option(
            help="The city's genesis file: it says which city it is. Without it the backup's is "
            "believed.",
            dir_okay=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="STORAGE",
            help="Name of a [storage.NAME] table, or of a backend.",
            show_default="the city's own",
        ),
    ] = None,
    receipts: Annotated[
        list[Path] | None,
        typer.Option(
            "--receipt",
            metavar="FILE",
            help="A receipt that somebody has: the city lives only with its round. Can be "
            "repeated.",
            dir_okay=False,
        ),
    ] = None,
    representatives: Annotated[
        list[Path] | None,
        typer.Option(
            "--representative",
            metavar="DIR",
            help="The state directory of a representative, or a copy: for rounds that the backup "
            "lacks. Can be repeated.",
            file_okay=False,
        ),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Restore a city whose storage is lost, from a backup.

    The whole backup is audited, then its rounds are copied into an empty storage, then those that
    came later from state directories of representatives and from the fragment stores of the
    configuration, if there are any. What is broken off goes on where it ended when it is repeated;
    until it is done no server opens the city.

    A representative votes for the rounds that it has, and for no others. They come without
    certificates, and are final when they are voted for again. Give directories of representatives
    that you trust: a round that one makes up keeps the others from voting.

    A round that is certified is final, and a city that went on without it would give its number to
    another one. So the city lives only if it has all rounds that are known: by receipts that are
    given, by what fragment stores have, and by the storage that it leaves, if that can be opened.
    Ask for the latest receipts that there are, and see that no server has the city elsewhere.

    Exit codes: 0 it lives there; 1 the backup does not hold, or certified rounds are missing: bring
    a later backup, or more stores, and repeat it; 2 the storage has the city already, or a file,
    option or setting cannot be used; 3 the backup or a storage cannot be had now.

    Examples:

        citychain restore-city --city kanazawa --from backups/kanazawa
        citychain restore-city --city kanazawa --from backups/kanazawa --receipt deed.receipt.json
        citychain restore-city --city kanazawa --from backups/kanazawa --representative rep
    """
    import asyncio

    from citychain.backup.opening import genesis_of
    from citychain.cli.backing_up import run_restore
    from citychain.config import load_settings

    of = genesis_of(folder)
    if genesis is not None:
        _check_genesis(read_genesis(genesis), of, folder)
    result, storage = asyncio.run(
        run_restore(
            city=city,
            genesis=of,
            folder=folder,
            to=to,
            known=_certified(receipts or (), of),
            representatives=representatives or (),
            settings=load_settings(config),
            shown=not json,
        )
    )
    _tell(city, storage, result, json)
    if result.lost:
        raise typer.Exit(Exit.NO)


def _check_genesis(given: Genesis, of: Genesis, folder: Path) -> None:
    from citychain.errors import ConfigurationError

    if given.id != of.id:
        raise ConfigurationError(
            f"--genesis: it is {given.city} with genesis {given.id.hex()}, and {folder} is a "
            f"backup of {of.city} with genesis {of.id.hex()}"
        )


def _certified(receipts: Iterable[Path], genesis: Genesis) -> list[tuple[int, bytes]]:
    """Rounds that receipts show to be certified, and the hashes of their checkpoints.

    Raises:
        InvalidReceipt: one does not hold.
        ConfigurationError: a file cannot be read.
    """
    from citychain.client.receipts import load_receipt
    from citychain.receipt import ReceiptVerifier

    verifier = ReceiptVerifier(genesis)
    known = []
    for path in receipts:
        receipt = load_receipt(path)
        verifier.verify(receipt)
        known.append((receipt.round, receipt.certificate.checkpoint_hash))
    return known


def _tell(city: str, storage: str, result: Rebuilt, json: bool) -> None:
    from citychain.cli.rebuilding import rebuilt_record

    if json:
        print_json(rebuilt_record(city, storage, result))
        return
    print(
        f"{'INCOMPLETE' if result.lost else 'RESTORED'}  {city} in storage {storage}: "
        f"{counted(result.round, 'round')}, {counted(result.transactions, 'transaction')}; "
        f"{counted(result.segments, 'segment')} read besides the backup"
    )
    if result.beyond:
        say(result.beyond)
    if result.lost:
        say(f"{result.lost}: no server opens it")
