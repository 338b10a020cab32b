"""How tests look at a page, by what a reader sees of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = [
    "DESKTOP",
    "PHONE",
    "SCREENSHOTS",
    "drop",
    "figure",
    "shown",
    "tab_to",
    "until_figure",
    "views",
]

SCREENSHOTS: Final = Path(__file__).resolve().parents[3] / "build" / "screenshots"
"""What a page looked like: of each view, and at the end of each test."""
TABS_MAX: Final = 120
"""More than any view of these tests has to go through."""
DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 360, "height": 740}

FOCUSED: Final = """() => {
    const it = document.activeElement;
    const label = it.labels?.[0];
    const called = it.getAttribute("aria-label") ?? label?.innerText ?? it.innerText;
    // What is hidden has its label show it; what leaves the page shows nothing.
    const seen = [it, it.nextElementSibling, it.closest("label, .search")].some((each) => {
        const style = each && getComputedStyle(each);
        return style && (style.outlineStyle !== "none" || style.boxShadow !== "none");
    });
    return [called.trim(), it === document.body || seen];
}"""


def figure(page: Any, name: str) -> int:
    """One of the figures of the live view; none there yet counts as nothing."""
    found = page.locator("dl.figures div", has=page.get_by_text(name, exact=True)).locator("dd")
    return int(re.sub(r"\D", "", found.inner_text()) or 0)


def until_figure(page: Any, name: str, least: int) -> None:
    """Wait until a figure has come so far."""
    page.wait_for_function(
        """([name, least]) => [...document.querySelectorAll("dl.figures div")].some((it) =>
            it.querySelector("dt").textContent === name
            && Number(it.querySelector("dd").textContent.replaceAll(/\\D/g, "")) >= least)""",
        arg=[name, least],
    )


def shown(page: Any) -> None:
    """Wait until a view has all it asked for, and a receipt is checked."""
    page.locator("main h1").first.wait_for(state="attached")
    page.wait_for_function(
        """() => !document.querySelector("main .verdict.unknown")
            && ![...document.querySelectorAll("main .empty")]
                .some((it) => it.innerText.endsWith("…"))"""
    )


def tab_to(page: Any, name: str, *, back: bool = False) -> None:
    """Go with the Tab key to what a screen reader calls so; on the way all is seen to have it."""
    for _ in range(TABS_MAX):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        called, seen = page.evaluate(FOCUSED)
        assert seen, f"nothing shows that the keyboard is at {called!r}"
        if called == name:
            return
    pytest.fail(f"the Tab key does not lead to {name!r}")


def drop(page: Any, files: Mapping[str, str]) -> None:
    """Drop files, by their names, onto the page where it takes them."""
    carried = page.evaluate_handle(
        """(files) => {
            const carried = new DataTransfer();
            for (const [name, text] of Object.entries(files))
                carried.items.add(new File([text], name));
            return carried;
        }""",
        dict(files),
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": carried})


def views(page: Any, site: str, city: str, top: str, tx_id: str) -> dict[str, tuple[str, str]]:
    """One view of each kind: its address, and what its heading says in English."""
    told = page.request.get(f"{site}api/cities/{city}/transactions/{tx_id}").json()
    round, seq = told["round"], told["seq"]
    here = f"city/{city}"
    return {
        "cities": ("", "Cities"),
        "live": (here, "Live"),
        "rounds": (f"{here}/rounds", "Rounds"),
        "round": (f"{here}/round/{round}", f"Round {round}"),
        "place": (f"{here}/node/{round}/{seq}", f"Node {round} / {seq}"),
        "node": (f"{here}/node/{told['node_id']}", f"Node {round} / {seq}"),
        "author": (f"{here}/author/{told['author']}", "Author"),
        "committee": (f"{here}/committee", "Representatives"),
        "anchors": (f"{here}/anchors", "Anchors"),
        "search": ("search/nowhere", "nowhere"),
        "transaction": (f"{here}/tx/{tx_id}", "Transaction"),
        "receipt": (f"{here}/receipt/{tx_id}", "Receipt"),
        "levels": (f"{here}/receipt/{tx_id}/{top}", "Receipt"),
        "file": ("receipt", "Receipt"),
        "submit": (f"{here}/submit", "Send a transaction"),
        "tour": ("tour", "From a key to a proof, in two minutes"),
    }
