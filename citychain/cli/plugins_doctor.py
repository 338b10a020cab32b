"""``citychain plugins doctor``: all that is wrong with one distribution."""

from __future__ import annotations

from typing import Annotated

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import Config
from citychain.cli.output import Json, print_json, say

__all__ = ["plugins_doctor"]


def plugins_doctor(
    distribution: Annotated[
        str, typer.Argument(metavar="DISTRIBUTION", help="Its name, as pip knows it.")
    ],
    config: Config = None,
    json: Json = False,
) -> None:
    """Tell all that is wrong with one distribution, each with its fix.

    It is loaded by itself, and a city is opened with each of its parts. Names that other plugins
    have as well are told too. Exits with 1 if there is an error; warnings are no errors.

    Examples:

        citychain plugins doctor citychain-kanazawa
        citychain plugins doctor citychain-kanazawa --json
    """
    import sys
    from contextlib import redirect_stdout

    from citychain.cli.doctor import examine
    from citychain.config import load_settings

    with redirect_stdout(sys.stderr):  # What a plugin prints is no finding.
        findings = examine(distribution, load_settings(config).plugins)
    for finding in findings:
        if json:
            print_json({"level": finding.level, **finding._asdict()})
        else:
            print(f"{finding.level:<7}  {finding.where}  {finding.what}  {finding.fix}")
    errors = sum(finding.level == "ERROR" for finding in findings)
    if not json:
        warnings = len(findings) - errors
        say(f"{distribution}: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}")
    if errors:
        raise typer.Exit(Exit.NO)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
