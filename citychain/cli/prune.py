"""``citychain prune``: let go what is older than a city keeps it, and is proven archived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import City, Config
from citychain.cli.output import Json, counted, print_json, say

if TYPE_CHECKING:
    from citychain.cli.pruning import Pruned
    from citychain.retention.pruner import Portion

__all__ = ["prune"]

MIB = 1 << 20


def prune(
    city: City,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and how much; change nothing.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Let go what transactions say that are older than the city keeps them.

    How long that is says `retention` in the configuration, 180 days by default. A server does the
    same for the cities that it leads. It goes by segments of the archive: all fragments of one are
    read, and what they restore must have each transaction byte for byte, before anything of it
    goes. Ids, places, verdicts and proofs stay, so receipts hold.

    What a statement of retention extends stays, as does what the ledger, its holders or another
    city may still need.

    Exit codes: 0 all that may go is gone, or nothing may; 1 a segment is not proven in the archive;
    2 a setting cannot be used; 3 the storage or all stores cannot be had now, or a segment is not
    proven while a store does not answer.

    Examples:

        citychain prune --city kanazawa --dry-run
        citychain prune --city kanazawa --json
    """
    import asyncio

    from citychain.cli.pruning import run_prune
    from citychain.config import load_settings

    def told(portion: Portion) -> None:
        _tell(portion, dry_run, json)

    pruned = asyncio.run(
        run_prune(city=city, dry=dry_run, settings=load_settings(config), told=told)
    )
    _tell_sum(pruned, dry_run, json)
    if pruned.unproven:
        raise typer.Exit(Exit.UNAVAILABLE if pruned.away else Exit.NO)


def _tell(portion: Portion, dry: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "first": portion.first,
                "last": portion.last,
                "object": portion.object_id,
                "state": "UNPROVEN" if portion.why_not else "DUE" if dry else "PRUNED",
                "transactions": portion.gone,
                "bytes": portion.bytes,
                "stay": portion.stay,
                "detail": portion.why_not or None,
            }
        )
        return
    rounds = f"rounds {portion.first} to {portion.last}"
    if portion.why_not:
        print(f"UNPROVEN  {rounds}  {portion.why_not}", flush=True)
        return
    state = "DUE" if dry else "PRUNED"
    print(f"{state:<8}  {rounds}  {_amount(portion.gone, portion.bytes, portion.stay)}", flush=True)


def _amount(gone: int, size: int, stay: int) -> str:
    amount = f"{size:,} bytes" if size < MIB else f"{size / MIB:,.1f} MiB"
    left = f"; {stay:,} {'stays' if stay == 1 else 'stay'}" if stay else ""
    return f"{counted(gone, 'transaction')}, {amount}{left}"


def _tell_sum(pruned: Pruned, dry: bool, json: bool) -> None:
    from citychain.config_tables import FOREVER, duration_text

    if json:
        print_json(
            {
                "city": pruned.city,
                "storage": pruned.storage,
                "retention": duration_text(pruned.keeps),
                "dry_run": dry,
                "segments": pruned.portions,
                "transactions": pruned.gone,
                "bytes": pruned.bytes,
                "stay": pruned.stay,
                "unproven": pruned.unproven,
                "away": sorted(pruned.away),
                "storage_bytes_before": pruned.bytes_before,
                "storage_bytes": pruned.bytes_after,
            }
        )
        return
    if pruned.keeps == FOREVER:
        say(f"{pruned.city} keeps everything: its retention is forever")
        return
    keeps = f"{pruned.city} keeps {duration_text(pruned.keeps)}"
    if not (pruned.portions or pruned.unproven):
        say(f"{keeps}, and nothing archived is older")
        return
    state = "would go" if dry else "gone"
    say(f"{state}: {_amount(pruned.gone, pruned.bytes, pruned.stay)}: {keeps}")
    if not dry and pruned.bytes_before:
        say(
            f"storage {pruned.storage} has {pruned.bytes_after / MIB:,.1f} MiB, "
            f"and had {pruned.bytes_before / MIB:,.1f}"
        )
