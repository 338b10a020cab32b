"""``citychain store`` and ``citychain restore``: files into fragments, and back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import Config, parse_id
from citychain.cli.output import Json, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from citychain.fragments.restoring import Restored
    from citychain.fragments.storing import Stored
    from citychain.keeping.stores import StorePlan

__all__ = ["restore", "store"]

FAULTS_TOLD = 8


def store(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to store.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Store a file as fragments over the stores of the configuration, and tell its id.

    The id is the SHA-256 of the content. `data` of `[fragments]` fragments restore it, `parity`
    more are made besides. What a store does not take, since it is full or does not answer, goes to
    the next one. What is there already is read; if it is right it is not written again, and if it
    is wrong it is replaced. A command that was broken off is repeated as it was.

    Exit codes: 0 all fragments are stored; 1 fewer, which restore the file, but less may be lost;
    2 the file or a setting cannot be used; 3 too few to restore it, or the file was written to
    meanwhile: repeat it.

    Examples:

        citychain store deeds.tar
        citychain store deeds.tar --json
    """
    import asyncio

    from citychain.cli.keeping import open_keeping

    async def run() -> tuple[Stored, Mapping[str, StorePlan], list[str]]:
        async with open_keeping(config, shown=not json) as keeping:
            return await keeping.store(file), keeping.opened.plans, sorted(keeping.away)

    stored, plans, away = asyncio.run(run())
    for index, name, error in stored.refusals:
        elsewhere = stored.stores.get(index)
        went = "no other took it" if elsewhere is None else f"it is in {elsewhere}"
        say(f"store {name} did not take fragment {index}, {went}: {error}")
    if json:
        print_json({**_fields(stored), "away": away})
    else:
        _tell(stored)
    _warn(stored, plans)
    if not stored.is_restorable:
        raise typer.Exit(Exit.UNAVAILABLE)
    if stored.missing:
        raise typer.Exit(Exit.NO)


def _fields(stored: Stored) -> dict[str, Any]:
    manifest, shape = stored.manifest, stored.manifest.layout.shape
    return {
        "object": manifest.object_id,
        "root": manifest.root,
        "size": manifest.layout.size,
        "data": shape.data,
        "parity": shape.parity,
        "chunk": shape.chunk,
        "fragments": [
            {"index": index, "store": stored.stores.get(index), "state": _state(stored, index)}
            for index in range(shape.fragments)
        ],
        "refusals": [
            {"index": index, "store": name, "detail": str(error)}
            for index, name, error in stored.refusals
        ],
    }


def _state(stored: Stored, index: int) -> str:
    if index in stored.written:
        return "replaced" if index in stored.replaced else "written"
    return "present" if index in stored.present else "missing"


def _tell(stored: Stored) -> None:
    manifest, shape = stored.manifest, stored.manifest.layout.shape
    word = "STORED" if not stored.missing else "IN PART" if stored.is_restorable else "NOT STORED"
    print(f"{word}  {manifest.object_id.hex()}  {manifest.layout.size:,} bytes")
    for index in range(shape.fragments):
        kind = "data" if index < shape.data else "parity"
        where = stored.stores.get(index, "-")
        print(f"  {index:>3}  {kind:<6}  {where}  {_state(stored, index)}")


def _warn(stored: Stored, plans: Mapping[str, StorePlan]) -> None:
    """Say what may not be lost."""
    shape = stored.manifest.layout.shape
    if not stored.is_restorable:
        say(f"{len(stored.stores)} of {shape.fragments} fragments are stored, and {shape.data} "
            "are needed: add a store or make room, then repeat the command")  # fmt: skip
        return
    if stored.missing:
        say(f"{len(stored.missing)} of {shape.fragments} fragments are in no store: add a store "
            "or make room, then repeat the command")  # fmt: skip
    domains = Counter(plans[name].domain for name in stored.stores.values())
    for domain, count in sorted(domains.items()):
        if count > 1 and len(stored.stores) - count < shape.data:
            say(f"{count} fragments are in {domain}: who loses that loses the file; add stores of "
                "other domains")  # fmt: skip
        elif count > 1:
            say(f"{count} fragments are in {domain}: with more domains, more of them may be lost")


def restore(
    object_id: Annotated[
        str, typer.Argument(metavar="ID", help="The object's id: 64 hexadecimal digits.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The file to write.", dir_okay=False),
    ],
    config: Config = None,
    json: Json = False,
) -> None:
    """Restore a file from its fragments, byte for byte or not at all.

    Until all of it is there and has the id, it is in `FILE.ROOT.part`, named by the fragments'
    manifest. A command that was broken off goes on from there when it is repeated. A file of this
    name is replaced.

    Exit codes: 0 it is restored; 1 all stores answered, and have no fragment of it, or too many are
    lost or wrong; 2 the id, FILE or a setting cannot be used; 3 too many stores do not answer now.

    Examples:

        citychain restore <id> -o deeds.tar
        citychain restore <id> -o deeds.tar --json
    """
    import asyncio

    from citychain.cli.keeping import open_keeping

    wanted = parse_id(object_id, "ID")

    async def run() -> tuple[Restored, list[str]]:
        async with open_keeping(config, shown=not json) as keeping:
            return await keeping.restore(wanted, output), sorted(keeping.away)

    restored, away = asyncio.run(run())
    if json:
        print_json(
            {
                "object": wanted,
                "root": restored.root,
                "file": output,
                "size": restored.size,
                "resumed": restored.resumed,
                "faults": [
                    {"store": store, "index": key and key.index, "detail": detail}
                    for store, key, detail in restored.faults
                ],
                "away": away,
            }
        )
        return
    print(f"RESTORED  {output}  {restored.size:,} bytes")
    if restored.resumed:
        say(f"{restored.resumed:,} bytes were there already")
    _tell_faults(
        f"store {store}{'' if key is None else f', fragment {key.index}'}: {detail}"
        for store, key, detail in restored.faults
    )


def _tell_faults(faults: Iterable[str]) -> None:
    told = list(faults)
    for fault in told[:FAULTS_TOLD]:
        say(fault)
    if len(told) > FAULTS_TOLD:
        say(f"and {len(told) - FAULTS_TOLD} more faults")
    if told:
        say("citychain scrub tells all that is lost or wrong")
