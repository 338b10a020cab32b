"""``citychain plugins``: which plugins are installed, and what became of each."""

from __future__ import annotations

from typing import Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import Config
from citychain.cli.output import Json, answers, print_json

__all__ = ["plugins"]

STYLES = {"active": "green", "disabled": "dim", "failed": "red", "conflict": "red"}


def plugins(
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a plugin failed or is in conflict.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """List the installed plugins as a server with this configuration would load them.

    A plugin is active, disabled (by the configuration), failed, or in conflict with another.

    Examples:

        citychain plugins
        citychain plugins --strict --json
    """
    import sys
    from contextlib import redirect_stdout

    from citychain.config import load_settings
    from citychain.containers import BUILTIN
    from citychain.hooks.registry import load_plugins

    settings = load_settings(config).plugins
    with redirect_stdout(sys.stderr):  # What a plugin prints is no answer.
        records = load_plugins(builtin=BUILTIN, **settings.model_dump()).records
    if json:
        for record in records:
            print_json(
                {
                    "name": record.name,
                    "distribution": record.distribution,
                    "version": record.version,
                    "status": record.status,
                    "reason": record.reason,
                    "hooks": list(record.hooks),
                }
            )
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table("plugin", "distribution", "version", "status", "offers")
        for record in records:
            hooks = ", ".join(hook.removeprefix("citychain_") for hook in record.hooks)
            status = Text(record.status, STYLES[record.status])
            table.add_row(
                Text(record.name),
                Text(record.distribution),
                Text(record.version),
                status,
                Text(record.reason or hooks),
            )
        answers().print(table)
    if strict and any(record.status in ("failed", "conflict") for record in records):
        raise typer.Exit(Exit.NO)
