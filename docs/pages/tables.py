"""Markdown tables, and texts inside their cells."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["cell", "code", "number", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def code(text: str) -> str:
    """Text as code within a cell."""
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


def cell(docstring: str) -> str:
    """A docstring's text within a cell."""
    text = " ".join(docstring.replace("``", "`").split())
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def number(value: float) -> str:
    """A number as people write it."""
    return f"{value:,}"
