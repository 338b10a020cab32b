"""Checks every link of the built site: ``python docs/check_links.py docs/_build/html``.

A link inside the site must lead to a page, and to an anchor on it. A link out of it is only
looked at, since a build asks no network, and told, so that somebody can follow it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

__all__ = ["Page", "faults"]

THEIRS: Final = (
    "https://pradyunsg.me",
    "https://github.com/pradyunsg",
    "https://www.sphinx-doc.org",
)
"""Links that the theme puts on every page."""


class Page(HTMLParser):
    """A page's links and anchors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        for name in ("href", "src"):
            if link := given.get(name):
                self.links.add(link)


def faults(site: Path) -> Iterator[str]:
    """A line for each link that leads nowhere."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in sorted(page.links):
            if reason := _fault(link, path, pages):
                yield f"{path.relative_to(site)}: {link}: {reason}"


def _fault(link: str, path: Path, pages: dict[Path, Page]) -> str:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return _foreign_fault(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "there is no such page"
    if target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "the page has no such anchor"
    return ""


def _foreign_fault(link: str) -> str:
    parts = urlsplit(link)
    if parts.scheme == "data":
        return ""
    if parts.scheme != "https":
        return "is not https"
    if not parts.hostname or "." not in parts.hostname or " " in link:
        return "is no address"
    return ""


def foreign(site: Path) -> set[str]:
    """Links that lead out of the site."""
    found = {link for path in site.rglob("*.html") for link in Page(path.read_text("utf-8")).links}
    return {it for it in found if urlsplit(it).netloc and not it.startswith(THEIRS)}


def main(site: Path) -> int:
    """Tell what was found."""
    found = list(faults(site.resolve()))
    for fault in found:
        print(fault, file=sys.stderr)
    for link in sorted(foreign(site)):
        print(f"not followed: {link}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
