"""``citychain reward-distribute``: pay those who keep a city, for an epoch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import DEFAULT_TIMEOUT, City, Config, GenesisFile, Timeout, read_genesis
from citychain.cli.output import Json
from citychain.cli.reaching import Servers, asks_servers

__all__ = ["reward_distribute"]

THOUSANDTHS: Final = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?")


def _thousandths(text: str) -> int:
    """A number with at most three decimals."""
    match = THOUSANDTHS.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r}: write it as 1.5, with at most three decimals")
    return int(match[1]) * 1_000 + int((match[2] or "").ljust(3, "0"))


@asks_servers
def reward_distribute(
    city: City,
    epoch: Annotated[int, typer.Option(min=0, help="Which epoch; the first one is 0.")],
    key: Annotated[
        Path | None, typer.Option("--key", "-k", help="The operator's key file, which pays.")
    ] = None,
    asset: Annotated[str | None, typer.Option(help="In what is paid.")] = None,
    epoch_rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rounds of an epoch.",
            show_default="as stated last, or those between two challenges",
        ),
    ] = None,
    base: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=(1 << 53) - 1,
            help="What rate 1 and score 1 get, in the asset's smallest unit.",
            show_default="10000",
        ),
    ] = None,
    full: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            parser=_thousandths,
            help="Rate of representatives.",
            show_default="1.5",
        ),
    ] = None,
    light: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", parser=_thousandths, help="Rate of holders.", show_default="1.0"
        ),
    ] = None,
    absent: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            parser=_thousandths,
            help="Multiplier, at most 1, of a key whose presence did not stand in the epoch.",
            show_default="0.5",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=(1 << 53) - 1,
            help="All together get at most this; needed to pay an epoch first.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compute and compare; pay nothing. Needs no key.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="KEY_ID", help="Say how one key's amount comes about; pay nothing."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write all of it to this file, too.", dir_okay=False)
    ] = None,
    genesis: GenesisFile = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Pay representatives and holders for an epoch, by what the city's public record says of them.

    All of the city is checked first, as by `citychain audit`. A representative gets base x 1.5 x
    the part of its rounds in office whose certificate has its vote; a holder base x 1 x the part of
    all announced fragments that it proved to have. Where the city asks for presences, a key whose
    presence did not stand in the epoch gets half. Past the budget all get less, in proportion.

    The operator states the parameters once for an epoch; later runs take what was stated. A key is
    paid once for an epoch: a second run pays nothing, and one that was broken off is completed.

    With `--dry-run` anybody compares, to the last unit, what was paid with what is due.

    Exit codes: 0 all is paid as due, or with `--dry-run` nothing was stated and paid yet; 1 it is
    not, or the votes are not those that the operator stated; 2 the epoch is not over, an option is
    missing or not as was stated, or the operator has too little; 3 the city does not answer.

    Examples:

        citychain reward-distribute --city kanazawa --epoch 4 --asset coin --dry-run
        citychain reward-distribute --city kanazawa --epoch 4 --dry-run --json --csv epoch-4.csv
        citychain reward-distribute --city kanazawa --epoch 4 --asset coin --budget 500000 \\
            --key operator.key
        citychain reward-distribute --city kanazawa --epoch 4 --explain <key id>
    """
    import asyncio

    from citychain.cli.options import parse_id
    from citychain.cli.rewarding import Distributing, Wish
    from citychain.client.keys import load_key
    from citychain.config import load_settings
    from citychain.errors import InvalidRequest

    explained = None if explain is None else parse_id(explain, "--explain")
    pays = not dry_run and explained is None
    if pays and key is None:
        raise InvalidRequest("--key", "is needed to pay; --dry-run and --explain need none")
    distributing = Distributing(
        city=city,
        wish=Wish(epoch, asset, epoch_rounds, base, full, light, absent, budget),
        key=load_key(key) if pays and key is not None else None,
        given=None if genesis is None else read_genesis(genesis),
        servers=servers,
        timeout=timeout,
        settings=load_settings(config),
        json=json,
    )
    if not asyncio.run(distributing.run(explained, csv)):
        raise typer.Exit(Exit.NO)
