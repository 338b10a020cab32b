"""A town, and a browser that looks at it; what the page does wrong fails the test."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from explorer.browser.country import Country
from explorer.browser.looking import SCREENSHOTS
from explorer.browser.town import HANG_SECONDS, Town

import citychain

STATIC = Path(str(citychain.__file__)).parent / "explorer" / "static"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, of the machine: none is downloaded."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install playwright"
    )
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    if not (STATIC / "index.html").exists():
        pytest.skip("the explorer's page is not built: make ready")
    with playwright.sync_playwright() as running:
        # In a container as root there is no sandbox to be had; nothing but this page is opened.
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town whose server runs."""
    town = Town(tmp_path_factory.mktemp("town"))
    try:
        town.serve()
        yield town
    finally:
        town.close()


@pytest.fixture(scope="module")
def site(chromium: Any, town: Town) -> str:
    """The address of the page of the town."""
    return town.explore()


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Country]:
    """A country whose server and representatives run."""
    country = Country(tmp_path_factory.mktemp("country"))
    try:
        country.serve()
        yield country
    finally:
        country.close()


@pytest.fixture(scope="module")
def land(chromium: Any, country: Country) -> str:
    """The address of the page of the country."""
    return country.explore()


@pytest.fixture
def opened(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens pages; at the end nothing may have been said against them in their consoles, but what
    has one of the ``expected`` words, and they may have asked nobody but their own site.

    Violations of the Content Security Policy are told there, as are errors of scripts, and files
    that are not there.
    """
    told: list[str] = []
    name = re.sub(r"\W+", "-", request.node.name).strip("-")

    @contextmanager
    def page(address: str, *expected: str, **options: Any) -> Iterator[Any]:
        context = chromium.new_context(**{"locale": "en-GB", "reduced_motion": "reduce", **options})
        context.set_default_timeout(HANG_SECONDS * 1000)
        shown = context.new_page()
        heard: list[str] = []
        shown.on(
            "console",
            lambda it: heard.append(it.text) if it.type in ("error", "warning") else None,
        )
        shown.on("pageerror", lambda it: heard.append(str(it)))
        site = address.partition("#")[0]
        shown.on(
            "request",
            lambda it: None if it.url.startswith(site) else heard.append(f"asked {it.url}"),
        )
        try:
            shown.goto(address)
            yield shown
        finally:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            shown.screenshot(path=SCREENSHOTS / f"{name}.png")
            context.close()
        told.extend(it for it in heard if not any(map(it.__contains__, expected)))

    yield page
    assert told == []
