"""``citychain fragments``: which objects there are, and where their fragments are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import Config, parse_id
from citychain.cli.output import Json, answers, counted, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from citychain.fragments.sources import Group, Source
    from citychain.keeping.stores import StorePlan

__all__ = ["fragments"]

fragments = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@fragments.callback()
def _group() -> None:
    """Show what is kept as fragments, and where.

    Nothing is changed. What is in the fragments is for `citychain scrub` to say.

    Examples:

        citychain fragments ls
        citychain fragments show <id>
    """


@fragments.command()
def ls(config: Config = None, json: Json = False) -> None:
    """List all objects, by id: size, data + parity, how many fragments there are, in which stores.

    An object that was stored in several shapes has a line of each. The fragments are counted; what
    is in them is for `citychain scrub` to say.

    Exit codes: 0 that is all; 3 a store does not answer, and may have more.

    Examples:

        citychain fragments ls
        citychain fragments ls --json
    """
    import asyncio

    from citychain.cli.keeping import open_keeping

    async def run() -> bool:
        count = 0
        async with open_keeping(config, shown=False) as keeping:
            async for groups, unknown in keeping.groups(None):
                count += 1
                for group in groups:
                    _list(group.sources, group, json)
                for same in unknown:
                    _list(same, None, json)
            is_all = not keeping.away
        if not json:
            say(counted(count, "object"))
        return is_all

    if not asyncio.run(run()):
        raise typer.Exit(Exit.UNAVAILABLE)


def _list(sources: Sequence[Source], group: Group | None, json: bool) -> None:
    key = sources[0].key
    stores = sorted({source.name for source in sources})
    found = len({source.key.index for source in sources})
    if json:
        print_json({**_shape(key.object_id, key.root, group), "fragments": found, "stores": stores})
        return
    parts = [key.object_id.hex()]
    if group is None:
        parts.append(f"no manifest, {counted(found, 'fragment')}")
    else:
        shape = group.manifest.layout.shape
        parts.append(f"{group.manifest.layout.size:>15,} bytes")
        parts.append(f"{shape.data} + {shape.parity}")
        parts.append(f"{found} of {shape.fragments}")
    print("  ".join([*parts, " ".join(stores)]), flush=True)


def _shape(object_id: bytes, root: bytes, group: Group | None) -> dict[str, Any]:
    layout = None if group is None else group.manifest.layout
    return {
        "object": object_id,
        "root": root,
        "size": layout and layout.size,
        "data": layout and layout.shape.data,
        "parity": layout and layout.shape.parity,
        "chunk": layout and layout.shape.chunk,
    }


@fragments.command()
def show(
    object_id: Annotated[
        str, typer.Argument(metavar="ID", help="The object's id: 64 hexadecimal digits.")
    ],
    config: Config = None,
    json: Json = False,
) -> None:
    """Show where each fragment of an object is.

    Of each fragment its end is looked at, not its chunks: `citychain scrub ID` reads them all.

    Exit codes: 0 that is all; 1 no store has a fragment of it; 3 a store does not answer, and may
    have more.

    Examples:

        citychain fragments show <id>
        citychain fragments show <id> --json
    """
    import asyncio

    from citychain.cli.keeping import open_keeping

    wanted = parse_id(object_id, "ID")

    async def run() -> bool:
        async with open_keeping(config, shown=False) as keeping:
            async for groups, unknown in keeping.groups(wanted):
                for same, group in [
                    *((group.sources, group) for group in groups),
                    *((same, None) for same in unknown),
                ]:
                    for source in same:
                        await source.manifest()
                    _show(same, group, keeping.opened.plans, json)
            return not keeping.away

    if not asyncio.run(run()):
        raise typer.Exit(Exit.UNAVAILABLE)


def _show(
    sources: Sequence[Source],
    group: Group | None,
    plans: Mapping[str, StorePlan],
    json: bool,
) -> None:
    key = sources[0].key
    count = 0 if group is None else len(group.manifest.roots)
    by_index: dict[int, list[Source]] = {index: [] for index in range(count)}
    for source in sources:
        by_index.setdefault(source.key.index, []).append(source)
    rows = [
        (index, source.name, "; ".join(fault.detail for fault in source.faults))
        for index, some in sorted(by_index.items())
        for source in some
    ]
    missing = [index for index, some in by_index.items() if not some]
    if json:
        told = [
            {"index": index, "store": name, "domain": plans[name].domain, "fault": fault or None}
            for index, name, fault in rows
        ]
        fields = _shape(key.object_id, key.root, group)
        print_json({**fields, "fragments": told, "missing": missing})
        return
    from rich.table import Table

    if group is not None:
        layout, shape = group.manifest.layout, group.manifest.layout.shape
        print(f"object    {key.object_id.hex()}")
        print(f"manifest  {key.root.hex()}")
        print(f"{layout.size:,} bytes; any {shape.data} of {shape.fragments} fragments restore "
              f"it; chunks of {shape.chunk >> 10} KiB")  # fmt: skip
    else:
        print(f"object    {key.object_id.hex()}")
        print(f"manifest  {key.root.hex()}, which no fragment has")
    table = Table("fragment", "", "store", "domain", "", box=None)
    for index, name, fault in rows:
        table.add_row(str(index), _kind(index, group), name, plans[name].domain, fault or "there")
    for index in missing:
        table.add_row(str(index), _kind(index, group), "-", "-", "in no store")
    answers().print(table)


def _kind(index: int, group: Group | None) -> str:
    if group is None:
        return ""
    return "data" if index < group.manifest.layout.shape.data else "parity"
