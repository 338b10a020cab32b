"""Links of the documentation lead somewhere, also for who reads it as plain files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from check_links import faults
from docs.markdown import DOCS, TREE, anchors, blocks, links, pages, spans


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(TREE).as_posix())
def test_a_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: the page has no such heading"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(TREE).as_posix())
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(r"(docs|tests|bench|citychain|plugins|proto|native)/[\w./-]+\.\w+", span):
            assert (TREE / span).exists(), span
            if page.parent == DOCS and span.startswith("docs/") and span.endswith(".md"):
                pytest.fail(f"{span}: make it a link, which the site has too")


def test_every_page_is_listed() -> None:
    """In the index, for who reads plain files, and in its trees, for the site."""
    index = DOCS / "index.md"
    listed = {(DOCS / link).resolve() for link in links(index)}
    in_trees = {
        DOCS / f"{line}.md"
        for block in blocks("{toctree}")
        if block.page == index
        for line in block.text.splitlines()
        if line and not line.startswith(":")
    }
    folders_with_an_index = {DOCS / "design", DOCS / "reference", DOCS / "verifier"}
    there = {
        page
        for page in pages()
        if page.is_relative_to(DOCS) and page.parent not in folders_with_an_index
    } - {index}
    assert there - listed == set(), "docs/index.md: link it"
    assert there - in_trees == set(), "docs/index.md: put it into a toctree"


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("other.html", ""),
        ("other.html#there", ""),
        ("#here", ""),
        ("https://example.org/a", ""),
        ("gone.html", "there is no such page"),
        ("other.html#here", "the page has no such anchor"),
        ("#there", "the page has no such anchor"),
        ("http://example.org", "is not https"),
        ("https://nowhere", "is no address"),
    ],
)
def test_links_of_the_site_are_checked(tmp_path: Path, link: str, reason: str) -> None:
    (tmp_path / "index.html").write_text(f'<h1 id="here"></h1><a href="{link}">x</a>')
    (tmp_path / "other.html").write_text('<h1 id="there"></h1>')
    told = [f"index.html: {link}: {reason}"] if reason else []
    assert list(faults(tmp_path)) == told
