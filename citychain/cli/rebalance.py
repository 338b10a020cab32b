"""``citychain rebalance``: bring fragments where they belong, and make those anew that are lost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import DEFAULT_TIMEOUT, Config, Timeout, parse_id
from citychain.cli.output import Json, counted, print_json, say
from citychain.cli.reaching import Servers, asks_servers

if TYPE_CHECKING:
    from citychain.fragments.pacing import Pace
    from citychain.fragments.relocating import Outcome
    from citychain.fragments.summing import OutcomeSum
    from citychain.keeping.stores import StorePlan
    from citychain.ports import FragmentKey

__all__ = ["rebalance"]


@asks_servers
def rebalance(
    context: typer.Context,
    object_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Only these objects.", show_default="all"),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Read every fragment first, and make wrong ones anew too."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and change nothing.")
    ] = False,
    limit_mib_s: Annotated[
        float | None,
        typer.Option(
            "--limit-mib-s",
            metavar="MIB",
            min=0.001,
            help="Read and write at most so many MiB a second together.",
            show_default="no limit",
        ),
    ] = None,
    city: Annotated[
        str | None,
        typer.Option(
            help="Take what the holder of a store is not proven to have any more, of the archive "
            "of this city, as missing in that store.",
            show_default=False,
        ),
    ] = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Bring fragments where they belong, after a store was added, lost, emptied or reweighted.

    What no store has is made anew of the others, and only that is written. What is in another store
    than it should be moves: its copy is removed once the new one is durable. No more is moved than
    must be. It may be broken off at any time, and be repeated.

    What a store that does not answer may have is left to it. Take its table out of the
    configuration if it is gone for good, and what it had is made anew.

    With --city it is counted first who proved what, as by `citychain holdings`: a fragment in a
    store with a `holder`, of which that key has no live receipt any more, or failed when it was
    asked, is made anew in another store. It stays where it is, too. A store that does not answer
    counts as without it.

    Exit codes: 0 all is where it belongs; 1 something is lost, or a store did not take what it
    should have; 2 an id or a setting cannot be used; 3 a store does not answer. With --dry-run the
    same, of what would be: limits of stores are foreseen, a disk that will be full is not.

    Examples:

        citychain rebalance --dry-run
        citychain rebalance --limit-mib-s 20 --json
        citychain rebalance --check
        citychain rebalance --city kanazawa
    """
    import asyncio
    import time

    from citychain.cli.keeping import open_keeping
    from citychain.clock import SystemClock
    from citychain.errors import InvalidRequest
    from citychain.fragments.pacing import Pace
    from citychain.fragments.summing import OutcomeSum

    # It may also stand in the environment, for other commands.
    given = context.get_parameter_source("server")
    if city is None and given is not None and given.name == "COMMANDLINE":
        raise InvalidRequest("--server", "is asked for a city: say which with --city")
    wanted = [parse_id(text, "ID") for text in object_ids or ()]
    total, failed = OutcomeSum(), dict[str, str]()
    pace = Pace(SystemClock(), None if limit_mib_s is None else limit_mib_s * (1 << 20))
    begun = time.monotonic()

    async def run() -> list[str]:
        async with open_keeping(config, shown=not json) as keeping:
            unproven: Collection[tuple[str, FragmentKey]] = ()
            if city is not None:
                unproven = await _unproven(
                    city, servers, timeout, config, keeping.opened.plans, json
                )
            async for outcome in keeping.rebalance(
                wanted, pace, failed, check=check, dry_run=dry_run, unproven=unproven
            ):
                total.add(outcome)
                if outcome.is_changed or not outcome.is_settled:
                    _tell(outcome, dry_run=dry_run, json=json)
            return sorted(keeping.away)

    away = asyncio.run(run())
    for name, why in sorted(failed.items()):
        say(f"store {name} was given nothing more: {why}")
    seconds = time.monotonic() - begun
    _tell_sum(total, pace, [*away, *sorted(failed)], seconds, dry_run=dry_run, json=json)
    if away or failed:
        raise typer.Exit(Exit.UNAVAILABLE)
    if total.lost or total.missing or total.troubles:
        raise typer.Exit(Exit.NO)


async def _unproven(
    city: str,
    servers: Servers,
    timeout: float,
    config: Path | None,
    plans: Mapping[str, StorePlan],
    json: bool,
) -> Collection[tuple[str, FragmentKey]]:
    """What the holders of stores are not proven to have any more.

    Raises:
        ConfigurationError: no store has a holder.
    """
    from citychain.cli.recounts import recount_city
    from citychain.clock import SystemClock
    from citychain.config import load_settings
    from citychain.errors import ConfigurationError
    from citychain.holding.reading import unproven

    holders = {name: plan.holder for name, plan in plans.items() if plan.holder is not None}
    if not holders:
        raise ConfigurationError(
            "--city: no store has a holder: give [fragments.stores.NAME] the id of the key that "
            "proves what is in it"
        )
    recount = await recount_city(
        city=city,
        given=None,
        servers=servers,
        timeout=timeout,
        settings=load_settings(config),
        progress=not json,
    )
    return unproven(recount, holders, SystemClock().time_ms())


def _tell(outcome: Outcome, *, dry_run: bool, json: bool) -> None:
    if not json:
        for word, detail in _lines(outcome, "TO " if dry_run else ""):
            print(f"{word:<9}  {outcome.object_id.hex()}  {detail}", flush=True)
        return
    print_json(
        {
            "object": outcome.object_id,
            "root": outcome.root,
            "made": [{"index": i, "store": name} for i, name in sorted(outcome.made.items())],
            "moved": [
                {"index": i, "from": origin, "to": target}
                for i, (origin, target) in sorted(outcome.moved.items())
            ],
            "removed": [{"index": i, "store": name} for i, name in outcome.removed],
            "missing": outcome.missing,
            "troubles": [
                {"index": i, "store": name, "detail": detail}
                for i, name, detail in outcome.troubles
            ],
            "loss": outcome.loss or None,
        }
    )


def _lines(outcome: Outcome, to: str) -> Iterator[tuple[str, str]]:
    make, move, remove = ("MAKE", "MOVE", "REMOVE") if to else ("MADE", "MOVED", "REMOVED")
    for index, name in sorted(outcome.made.items()):
        yield f"{to}{make}", f"{index}  in {name}"
    for index, (origin, target) in sorted(outcome.moved.items()):
        yield f"{to}{move}", f"{index}  from {origin} to {target}"
    for index, name in outcome.removed:
        yield f"{to}{remove}", f"{index}  from {name}"
    for index, name, detail in outcome.troubles:
        yield "TROUBLE", f"{index}  store {name}: {detail}"
    if outcome.loss:
        yield "LOST", outcome.loss
    elif outcome.missing:
        missing = ", ".join(map(str, outcome.missing))
        yield "MISSING", f"{missing}  no store has room"


def _tell_sum(
    total: OutcomeSum, pace: Pace, away: list[str], seconds: float, *, dry_run: bool, json: bool
) -> None:
    if json:
        print_json(
            {
                "objects": total.objects,
                "made": total.made,
                "moved": total.moved,
                "removed": total.removed,
                "missing": total.missing,
                "lost": total.lost,
                "troubles": total.troubles,
                "read": pace.read,
                "written": total.written,
                "seconds": round(seconds, 3),
                "dry_run": dry_run,
                "away": away,
            }
        )
        return
    objects, made = counted(total.objects, "object"), counted(total.made, "fragment")
    moved, removed = f"{total.moved:,}", f"{total.removed:,}"
    if dry_run:
        done = f"{made} to make, {moved} to move, {removed} to remove"
        print(f"FORETOLD  {objects}: {done}; {total.written:,} bytes to write")
        return
    done = f"{made} made, {moved} moved, {removed} removed"
    print(
        f"REBALANCED  {objects} in {seconds:.1f} s: {done}; "
        f"{pace.read:,} bytes read, {total.written:,} written"
    )
