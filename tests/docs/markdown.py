"""What stands in the pages of the documentation: blocks of code, spans of it, links, headings."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parents[2]
DOCS: Final = TREE / "docs"

FENCE: Final = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(TREE)}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read, the built site apart."""
    found = [it for it in sorted(DOCS.rglob("*.md")) if "_build" not in it.parts]
    plugins = sorted(TREE.glob("plugins/*/README.md"))
    return [TREE / "README.md", TREE / "CHANGELOG.md", *plugins, *found]


def blocks(*languages: str) -> list[Block]:
    """The blocks of some languages, or of all."""
    return [
        Block(page, text.count("\n", 0, it.start()) + 1, it[2].strip(), textwrap.dedent(it[3]))
        for page in pages()
        for text in [page.read_text("utf-8")]
        for it in FENCE.finditer(text)
        if not languages or it[2].strip() in languages
    ]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text("utf-8"))


def spans(page: Path) -> list[str]:
    """What stands between backticks in a page's prose, on one line each."""
    return [" ".join(it.split()) for it in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))]


def links(page: Path) -> list[str]:
    """Where a page's links lead."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{words}-{number}" if number else words) in found:
            number += 1
        found.add(anchor)
    return found
