"""``citychain scrub``: read all fragments, and tell what is lost or wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import Config, parse_id
from citychain.cli.output import Json, counted, print_json, say

if TYPE_CHECKING:
    from citychain.fragments.checking import Checked, State

__all__ = ["scrub"]


@dataclass
class _Sum:
    """What there was in all."""

    states: Counter[State] = field(default_factory=Counter)
    fragments: int = 0
    """Whole ones."""
    wrong: int = 0
    """Faults of fragments that are there."""
    missing: int = 0
    last: bytes | None = None
    """Id of the object that was checked last."""

    def add(self, checked: Checked) -> None:
        self.states[checked.state] += 1
        self.last = checked.object_id
        self.fragments += len(checked.good)
        self.wrong += len(checked.faults)
        self.missing += len(checked.missing)


def scrub(
    object_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Only these objects.", show_default="all"),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="ID", help="Only objects that come after this one, by their ids."
        ),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Read all fragments in all stores, and tell what is lost or wrong, and where.

    Every byte is checked, and that the fragments restore the object. Nothing is changed. Of an
    object of which nothing is lost or wrong, nothing is told. Objects are checked in the order of
    their ids; a command that is interrupted says after which one to go on.

    DAMAGED is what is restored all the same; LOST is what is not.

    Exit codes: 0 all is whole; 1 something is lost or wrong; 2 an id or a setting cannot be used; 3
    a store does not answer, and nothing that was read is wrong.

    Examples:

        citychain scrub
        citychain scrub <id>
        citychain scrub --after <id>
        citychain scrub --json
    """
    import asyncio
    import time

    from citychain.cli.keeping import open_keeping
    from citychain.errors import InvalidRequest

    wanted = [parse_id(text, "ID") for text in object_ids or ()]
    if wanted and after is not None:
        raise InvalidRequest("--after", "it is for all objects: leave out the ID")
    last = None if after is None else parse_id(after, "--after")
    total = _Sum()
    begun = time.monotonic()

    async def run() -> list[str]:
        from citychain.fragments.checking import State

        async with open_keeping(config, shown=not json) as keeping:
            async for some in keeping.check(wanted, last):
                for checked in some:
                    total.add(checked)
                    if checked.state is not State.WHOLE:
                        _tell(checked, json)
            return sorted(keeping.away)

    try:
        away = asyncio.run(run())
    except KeyboardInterrupt:
        if total.last and not wanted:
            say(f"to go on from here: citychain scrub --after {total.last.hex()}")
        raise
    _tell_sum(total, away, time.monotonic() - begun, json)
    if total.wrong or (total.missing and not away):
        raise typer.Exit(Exit.NO)
    if away:
        raise typer.Exit(Exit.UNAVAILABLE)


def _tell(checked: Checked, json: bool) -> None:
    manifest = checked.manifest
    if json:
        print_json(
            {
                "object": checked.object_id,
                "root": checked.root,
                "state": checked.state,
                "size": manifest and manifest.layout.size,
                "data": manifest and manifest.layout.shape.data,
                "parity": manifest and manifest.layout.shape.parity,
                "whole": sorted(checked.good),
                "missing": checked.missing,
                "faults": [
                    {"store": store, "index": key and key.index, "detail": detail}
                    for store, key, detail in checked.faults
                ],
                "loss": checked.loss or None,
            }
        )
        return
    parts = [f"{checked.state.upper():<7}", checked.object_id.hex()]
    if manifest is not None:
        parts.append(f"{len(checked.good)} of {len(manifest.roots)} fragments are whole")
    if checked.loss:
        parts.append(checked.loss)
    print("  ".join(parts), flush=True)
    for store, key, detail in checked.faults:
        place = "" if key is None else f", fragment {key.index}"
        print(f"  store {store}{place}: {detail}", flush=True)
    for index in checked.missing:
        print(f"  fragment {index} is in no store that answers", flush=True)


def _tell_sum(total: _Sum, away: list[str], seconds: float, json: bool) -> None:
    from citychain.fragments.checking import State

    counts = {state.value: total.states[state] for state in State}
    if json:
        print_json(
            {
                "checked": sum(counts.values()),
                **counts,
                "fragments": total.fragments,
                "missing": total.missing,
                "faults": total.wrong,
                "seconds": round(seconds, 3),
                "away": away,
            }
        )
        return
    of = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    print(f"CHECKED  {counted(sum(counts.values()), 'object')} in {seconds:.1f} s: {of}")
