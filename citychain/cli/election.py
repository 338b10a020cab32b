"""``citychain election``: who stood, who was elected, and whether that is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout, read_genesis
from citychain.cli.output import Json, answers, print_json
from citychain.cli.reaching import Servers, asks_servers, connect

if TYPE_CHECKING:
    from citychain.client.elections import Election
    from citychain.genesis import Genesis

__all__ = ["election"]

election = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@election.callback()
def _group() -> None:
    """Show an election of representatives, and compute it again.

    Nothing is changed.

    Examples:

        citychain election show --city kanazawa
        citychain election show --city kanazawa --epoch 3 --recompute
    """


@election.command()
@asks_servers
def show(
    city: City,
    epoch: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=(1 << 32) - 1,
            help="Epochs are numbered from 0.",
            show_default="the latest that is decided",
        ),
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Believe nothing but the genesis.")
    ] = False,
    genesis: Annotated[
        Path | None,
        typer.Option(
            "--genesis", "-g", help="The city's genesis file, instead of the server's word for it."
        ),
    ] = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Show who stood in an epoch, the seed, and who was elected.

    With `--recompute` the rounds from the closing of candidacy to the last one are fetched and
    checked: certificate, hashes, proof of history, the candidates in the closing round's record.
    Seed and seats are computed again. Exit code 1 says that something differs, and what. Of an
    epoch that is not decided yet there is nothing to compute.

    Examples:

        citychain election show --city kanazawa
        citychain election show --city kanazawa --epoch 3 --recompute -g kanazawa.json
    """
    import asyncio

    trusted = read_genesis(genesis) if genesis else None
    genesis_id, found, recomputed = asyncio.run(
        _ask(city, epoch, recompute, trusted, servers, timeout)
    )
    record = _record(found) | {"genesis": genesis_id, "recomputed": recomputed}
    if json:
        print_json(record)
    else:
        _print(found, genesis_id, recomputed=recomputed)


async def _ask(
    city: str,
    epoch: int | None,
    recompute: bool,
    trusted: Genesis | None,
    servers: Servers,
    timeout: float,
) -> tuple[bytes, Election, bool]:
    """The genesis, the election, and whether it was computed again."""
    from citychain.client.elections import ElectionRule, check_election, read_election
    from citychain.errors import NotFound, VerificationError
    from citychain.genesis import Genesis

    async with connect(servers, city, timeout) as client:
        info = await client.info()
        genesis = trusted or Genesis.from_bytes(info.genesis_file)
        if genesis.id != info.genesis:
            raise VerificationError(f"the server's city {city} has another genesis")
        if epoch is None:
            # That of the next round is not decided; the one before it is, if there is one.
            epoch = max(ElectionRule.of(genesis).epoch_of(info.head.certified_round + 1) - 1, 0)
        if recompute:
            try:
                return genesis.id, await check_election(client, genesis, epoch), True
            except NotFound:
                # Not decided yet, and so nothing to compute: unless the city tells of a result.
                found = await read_election(client, genesis, epoch)
                if found.decided:
                    raise
                return genesis.id, found, False
        return genesis.id, await read_election(client, genesis, epoch), False


def _record(found: Election) -> dict[str, Any]:
    def listed(seats: Any) -> list[dict[str, Any]]:
        return [{"key_id": seat.key_id.hex(), "stake": seat.stake} for seat in seats]

    return {
        "epoch": found.epoch,
        "closing_round": found.closing_round,
        "last_round": found.last_round,
        "candidates": [
            {"key_id": it.key_id.hex(), "stake": it.stake, "weight": it.weight}
            for it in found.candidates
        ],
        "seed": found.seed,
        "decided": found.decided,
        "committee": listed(found.committee),
        "next_committee": None if found.named is None else listed(found.named),
    }


def _print(found: Election, genesis: bytes, *, recomputed: bool) -> None:
    from rich.table import Table

    print(f"epoch {found.epoch}: candidacy closes after round {found.closing_round}, "
          f"decided in round {found.last_round}")  # fmt: skip
    print(f"genesis  {genesis.hex()}")
    if found.seed:
        print(f"seed     {found.seed.hex()}")
    after = {seat.key_id for seat in found.named or found.committee}
    table = Table("candidate", "stake", "weight", "elected")
    for candidate in found.candidates:
        elected = "yes" if found.decided and candidate.key_id in after else ""
        table.add_row(candidate.key_id.hex(), str(candidate.stake), str(candidate.weight), elected)
    if found.candidates:
        answers().print(table)
    elif found.decided:
        print("nobody stood")
    if not found.decided:
        print("not decided yet")
    elif found.named is None:
        print("the committee stays as it was")
    if recomputed:
        print("computed again: the same")
