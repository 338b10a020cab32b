"""``citychain new-plugin``: write a distribution to begin with."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from citychain.cli.new_plugin.files import Kind, distribution_name, plugin_files
from citychain.cli.new_plugin.names import check_name
from citychain.cli.output import say

__all__ = ["new_plugin"]

NEXT = """\
Next: cd {folder} && pip install --upgrade pip && pip install --editable . --group test --group lint
      pytest && mypy && ruff check    # all passes now: then change what you like
      citychain plugins --strict      # it is found; README.md says how a city uses it"""


def new_plugin(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Of the plugin, such as harbour: citychain-harbour is made."
        ),
    ],
    kind: Annotated[
        list[Kind], typer.Option("--kind", "-k", help="What it offers. Can be repeated.")
    ],
    directory: Annotated[
        Path,
        typer.Option("--directory", "-C", help="Where to make it.", exists=True, file_okay=False),
    ] = Path(),
) -> None:
    """Write a plugin to begin with: a distribution that works, with its tests.

    A city uses the other parts that are made with it. Nothing that is there is written over.

    Examples:

        citychain new-plugin harbour --kind city --kind dag
        citychain new-plugin vault --kind storage -C ~/src
        citychain new-plugin cellar --kind store
    """
    check_name(name)
    folder = directory / distribution_name(name)
    _write(folder, plugin_files(name, kind))
    print(folder)
    say(NEXT.format(folder=shlex.quote(str(folder))))


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Make a folder with these files, whole or not at all."""
    if os.path.lexists(folder):
        raise FileExistsError(
            errno.EEXIST, "is there already: take another name, or move it away", str(folder)
        )
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
        unfinished = Path(beside) / folder.name
        for path, text in files.items():
            file = unfinished / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        unfinished.rename(folder)
