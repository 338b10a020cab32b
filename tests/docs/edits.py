"""What the tutorial's blocks do to files: ``edits.py LANGUAGE < BLOCK``, in the working directory.

The first line of a block says the file, as a comment, and what is done:

=============== ==================================================================
``# PATH``      the rest is the whole file; of a ``diff``, a change of it
``# in PATH``   nothing, but the rest must stand in the file, indented or not
=============== ==================================================================

A change has no line numbers. Its pieces, which ``@@`` parts, must each fit in one place.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

__all__ = ["changed", "edit"]


def edit(language: str, text: str) -> None:
    """Do what a block says.

    Raises:
        ValueError: it does not fit.
    """
    comment, _, rest = text.partition("\n")
    mark, _, name = comment.partition(" ")
    path = Path(name.removeprefix("in "))
    if mark != "#" or path.suffix not in (".py", ".toml"):
        raise ValueError(f"the first line does not say a file: {comment}")
    if name.startswith("in "):
        if not any(form in path.read_text() for form in (rest, textwrap.indent(rest, "    "))):
            raise ValueError(f"this does not stand in {path}:\n{rest}")
    elif language == "diff":
        path.write_text(changed(path.read_text(), rest))
    else:
        path.write_text(rest)


def changed(text: str, change: str) -> str:
    """A text after a change.

    Raises:
        ValueError: a piece fits nowhere, or in several places.
    """
    for piece in change.split("@@\n"):
        lines = [(line[:1].strip(), line[1:]) for line in piece.splitlines(keepends=True)]
        before = "".join(line or "\n" for sign, line in lines if sign != "+")
        after = "".join(line or "\n" for sign, line in lines if sign != "-")
        if text.count(before) != 1:
            raise ValueError(f"this fits in {text.count(before)} places:\n{piece}")
        text = text.replace(before, after)
    return text


if __name__ == "__main__":
    edit(sys.argv[1], sys.stdin.read())
