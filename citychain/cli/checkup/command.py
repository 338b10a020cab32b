"""``citychain doctor``: all that is wrong with a server's configuration and machine."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import Config, finite
from citychain.cli.output import Json, counted, print_json, printable, say

__all__ = ["doctor"]

DEFAULT_SECONDS = 5.0


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out what is well.")] = False,
    timeout: Annotated[
        float,
        typer.Option(min=0.1, callback=finite, help="Seconds for each of those that are asked."),
    ] = DEFAULT_SECONDS,
    config: Config = None,
    json: Json = False,
) -> None:
    """Tell what is wrong with a server's configuration, files, machine and neighbours, and the fix.

    Nothing is changed, and a server may run meanwhile. Exits with 1 if there is a fault; warnings
    are none. Whoever runs it should be the server's user: it looks at what that one may read.

    Examples:

        citychain doctor
        citychain doctor --config town/citychain.toml --quiet --json
    """
    import sys
    from contextlib import redirect_stdout
    from datetime import timedelta

    with redirect_stdout(sys.stderr):  # What a plugin prints is no answer.
        from citychain.cli.checkup.examination import examine_server

        results = list(examine_server(config, timedelta(seconds=timeout)))
    for check, result in results:
        if quiet and result.grade == "ok":
            continue
        if json:
            print_json({"check": check, **result._asdict()})
        else:
            line = f"{result.grade:<7}  {check:<13}  {result.subject}: {result.what}"
            print(printable(f"{line}; fix: {result.fix}" if result.fix else line))
    found = Counter(result.grade for _, result in results)
    if not json:
        say(f"{counted(found['fault'], 'fault')}, {counted(found['warning'], 'warning')}")
    if found["fault"]:
        raise typer.Exit(Exit.NO)
