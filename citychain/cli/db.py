"""``citychain db``: what a storage holds, and its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from citychain.cli.options import Config
from citychain.cli.output import Json, answers, print_json, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from citychain.upkeep import SupportsUpkeep

__all__ = ["db"]

T = TypeVar("T")

db = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        metavar="STORAGE",
        help="Name of a [storage.NAME] table of the configuration, or of a backend.",
    ),
]
DEFAULT_STORAGE = "sqlite"


@db.callback()
def _group() -> None:
    """Look after a storage: how much it holds, its indexes, its schema.

    A storage that one process alone can open must not be open in a server meanwhile.

    Examples:

        citychain db stats --storage mongodb
        citychain db migrate --storage mongodb
    """


@db.command()
def stats(storage: Storage = DEFAULT_STORAGE, config: Config = None, json: Json = False) -> None:
    """Tell how much a storage holds, and the version of its schema.

    Examples:

        citychain db stats
        citychain db stats --storage mongodb --json
    """
    found = _ask(storage, config, lambda upkeep: upkeep.stats())
    if json:
        print_json(
            {
                "storage": storage,
                "schema_version": found.schema_version,
                "schema_version_known": found.schema_version_known,
                "bytes": found.bytes,
                "counts": dict(found.counts),
            }
        )
        return
    from rich.table import Table

    table = Table("table", "rows", box=None)
    for name, count in found.counts.items():
        table.add_row(name, f"{count:,}")
    answers().print(table)
    say(
        f"schema version {found.schema_version} of {found.schema_version_known}, "
        f"{found.bytes / (1 << 20):,.1f} MiB"
    )


@db.command()
def indexes(storage: Storage = DEFAULT_STORAGE, config: Config = None, json: Json = False) -> None:
    """Make the indexes that a storage lacks, and list those that it has.

    Examples:

        citychain db indexes --storage mongodb
    """
    found = _ask(storage, config, lambda upkeep: upkeep.indexes())
    if json:
        print_json({"storage": storage, "indexes": {k: list(v) for k, v in found.items()}})
        return
    for table, names in found.items():
        for name in names:
            print(f"{table}  {name}")


@db.command()
def migrate(storage: Storage = DEFAULT_STORAGE, config: Config = None, json: Json = False) -> None:
    """Bring a storage's schema to the version that this release knows.

    A server does the same when it opens the storage. Repeating it changes nothing.

    Examples:

        citychain db migrate --storage mongodb
    """
    done = _ask(storage, config, lambda upkeep: upkeep.migrate())
    if json:
        print_json({"storage": storage, "done": list(done)})
        return
    for line in done:
        print(line)
    if not done:
        say(f"storage {storage} has the newest schema")


def _ask(
    storage: str, config: Path | None, question: Callable[[SupportsUpkeep], Awaitable[T]]
) -> T:
    import asyncio

    return asyncio.run(_asked(storage, config, question))


async def _asked(storage: str, config: Path | None, question: Callable[[Any], Awaitable[T]]) -> T:
    from citychain.city.plan import plan_engine
    from citychain.config import load_settings
    from citychain.containers import CoreContainer
    from citychain.errors import NotSupported
    from citychain.upkeep import has_upkeep

    settings = load_settings(config)
    core = CoreContainer(settings=settings)
    part = plan_engine(storage, settings, core.registry())
    async with core.compute(), core.engines():
        upkeep = has_upkeep(await core.engines().backend(part))
        if upkeep is None:
            raise NotSupported(f"backend {part.definition.name} has nothing to look after")
        return await question(upkeep)
