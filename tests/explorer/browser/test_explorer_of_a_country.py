"""The explorer's page of a country: what it shows, who may send, and that everybody can use it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from explorer.browser.conftest import STATIC, Open
from explorer.browser.country import TOP, Country
from explorer.browser.looking import (
    DESKTOP,
    PHONE,
    SCREENSHOTS,
    drop,
    shown,
    tab_to,
    until_figure,
    views,
)

from citychain.roles import Role

ALL_APPROVED: Final = "All that is sealed is approved."
AXE: Final = STATIC.parent / "page" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS: Final = """async () => (await axe.run(document)).violations
    .filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, nodes}) => [id, nodes.map(({target}) => target)])"""
MESSAGE: Final = "Message · Anybody can read it, for good."


def test_representatives_are_seen_to_vote_and_to_object(
    opened: Open, country: Country, land: str
) -> None:
    """One that is away holds up a round; it objects, comes back, and votes after all."""
    country.submit()
    here = f"{land}#/city/kanazawa"
    with opened(f"{here}/committee") as page, opened(here) as live:
        page.get_by_text(ALL_APPROVED).wait_for()
        assert page.locator("main tbody tr").count() == 2
        until_figure(live, "Approved round", 1)
        country.absent(1)
        try:
            [tx_id] = country.submit(approved=False)
            round = country.sealed(tx_id)
            page.get_by_text(f"Stake behind round {round}").wait_for()
            page.get_by_text("1 signed, 2 needed").wait_for()
            link = live.get_by_role("link", name=str(round), exact=True)
            row = live.locator("table.rounds tbody tr", has=link)
            row.get_by_text("Sealed").wait_for()
            country.object(1, round, "the clock of the hall stands still")
            page.get_by_text("the clock of the hall stands still").wait_for()
        finally:
            country.represent(1)
        row.get_by_text("Approved").wait_for()
        row.locator("td:nth-child(5)", has_text="2").wait_for()
        page.get_by_text(ALL_APPROVED).wait_for()
        page.get_by_text("the clock of the hall stands still").wait_for(state="detached")
        last = [it.inner_text() for it in page.locator("main tbody td:last-child").all()]
        assert last == [str(round)] * 2
        link.click()
        live.get_by_text("Representatives who signed").wait_for()
        assert live.locator("dd ul li").count() == 2


def test_anchors_lead_up_to_the_earth(opened: Open, country: Country, land: str) -> None:
    """Each is a transaction of the city above, with a receipt of its own there."""
    country.anchored(country.submit()[0])
    with opened(f"{land}#/city/kanazawa/anchors") as page:
        page.locator("ol.chain li").nth(2).wait_for()
        names = [it.inner_text().lower() for it in page.locator("ol.chain strong").all()]
        assert names == ["kanazawa", "ishikawa", "earth"]
        page.locator("ol.chain li").nth(1).locator("a.id").click()
        page.wait_for_url("**/city/ishikawa/tx/*")
        page.get_by_text("anchor", exact=True).wait_for()
        page.get_by_role("link", name="Check the receipt").click()
        page.get_by_text("The receipt holds", exact=True).wait_for()


def test_a_receipt_through_all_levels_is_checked_from_the_top(
    opened: Open, country: Country, land: str
) -> None:
    """Files that are dropped onto the page: with another city's genesis, true, and altered."""
    [tx_id] = country.submit()
    country.anchored(tx_id)
    with opened(f"{land}#/receipt") as page:
        cities = f"{land}api/cities"
        true = page.request.get(f"{cities}/kanazawa/receipts/{tx_id.hex()}?levels=true").text()
        genesis = {
            it: page.request.get(f"{cities}/{it}/genesis").text() for it in (TOP, "ishikawa")
        }
        altered = json.loads(true)
        assert len(altered["levels"]) == 2
        altered["levels"][1]["round"] = str(int(altered["levels"][1]["round"]) + 1)
        for top, receipt, said in (
            ("ishikawa", true, "The receipt does not hold"),
            (TOP, true, "The receipt holds"),
            (TOP, json.dumps(altered), "The receipt does not hold"),
        ):
            drop(page, {"genesis.json": genesis[top], "receipt.json": receipt})
            page.get_by_role("status").filter(has_text=said).wait_for()
        page.locator(".proof li.fails").first.wait_for()


def test_a_transactions_receipt_leads_up_to_the_top_at_a_click(
    opened: Open, country: Country, land: str
) -> None:
    [tx_id] = country.submit()
    country.anchored(tx_id)
    with opened(f"{land}#/city/kanazawa/tx/{tx_id.hex()}") as page:
        page.get_by_role("link", name=f"Check it up to {TOP}").click()
        page.get_by_text("The receipt holds", exact=True).wait_for()
        page.locator(".proof summary", has_text="Level 2").first.wait_for()
        page.get_by_role("link", name="Check it in its own city").click()
        page.get_by_text("The receipt holds", exact=True).wait_for()
        page.get_by_role("link", name=f"Check it up to {TOP}").wait_for()
        assert page.locator(".proof summary", has_text="Level").count() == 0


def test_cities_lie_where_they_are_on_the_map(opened: Open, land: str) -> None:
    with opened(land) as page:
        places = page.get_by_role("navigation", name="Map of the cities")
        pins = {}
        for name in ("Hakusan", "Nanao"):
            region = places.get_by_role("link", name=name)
            region.wait_for()
            assert region.locator("path.region").get_attribute("d")
            pins[name] = region.locator("circle").bounding_box()
        # Nanao is to the north-east, on the peninsula.
        assert pins["Nanao"]["x"] > pins["Hakusan"]["x"]
        assert pins["Nanao"]["y"] < pins["Hakusan"]["y"]
        page.wait_for_function("() => document.querySelector('.map path.land')?.getAttribute('d')")
        places.get_by_role("link", name="Hakusan").click()
        page.wait_for_url(f"{land}#/city/hakusan")
        own = page.get_by_role("navigation", name="Map of Hakusan")
        own.get_by_role("link", name="Hakusan").wait_for()
        assert own.locator("path.neighbour").get_attribute("d")


def test_who_signs_in_with_a_token_may_send(opened: Open, country: Country, land: str) -> None:
    """A wrong token is told by the server's words, and nobody's is kept beyond the tab."""
    with opened(f"{land}#/city/kanazawa/submit", "401", "403") as page:
        page.get_by_role("button", name="Make a key").click()
        page.get_by_label(MESSAGE).fill("from the citizens of Kanazawa")
        send = page.get_by_role("button", name="Sign and send")
        assert send.is_disabled()
        for token, said in (
            ("not-a-token", "token"),
            (country.issue(Role.READ), "submit"),
        ):
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            send.click()
            page.get_by_role("alert").filter(has_text=said).wait_for()
            page.get_by_role("button", name="Sign out").click()
            assert send.is_disabled()
        page.get_by_label("Token").fill(country.issue(Role.SUBMIT))
        page.get_by_role("button", name="Sign in").click()
        send.click()
        page.get_by_role("link", name="Show the transaction").click()
        page.get_by_role("status").locator("[aria-current=step]", has_text="Approved").wait_for()
        page.get_by_text("from the citizens of Kanazawa").wait_for()
        kept = page.evaluate("() => JSON.stringify(localStorage) + document.cookie")
        assert "token" not in kept


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
def test_each_view_has_an_address_and_can_be_used_by_everybody(
    opened: Open, country: Country, land: str, locale: str
) -> None:
    """On a desk and a phone, light and dark: axe-core knows no serious fault, nothing is wider than
    the screen, and one heading says what is shown."""
    if not AXE.exists():
        pytest.skip("needs axe-core, which is there where the page was built: make ready")
    tx_id = country.submit(3)[-1]
    country.anchored(tx_id)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    faults: dict[str, Any] = {}
    with opened(land, locale=locale) as page:

        def judge(view: str) -> None:
            page.evaluate("document.querySelectorAll('details').forEach((it) => it.open = true)")
            for screen in (DESKTOP, PHONE):
                for colours in ("light", "dark"):
                    page.set_viewport_size(screen)
                    page.emulate_media(color_scheme=colours)
                    found = page.evaluate(SERIOUS)
                    wide = page.evaluate("() => document.scrollingElement.scrollWidth")
                    name = f"{view}-{locale[:2]}-{colours}-{screen['width']}"
                    if found or wide > screen["width"]:
                        faults[name] = [*found, wide]
                    if (screen, colours) in ((DESKTOP, "light"), (PHONE, "dark")):
                        page.screenshot(path=SCREENSHOTS / f"{name}.png")

        page.add_init_script(AXE.read_text())
        for view, (address, heading) in views(page, land, "kanazawa", TOP, tx_id.hex()).items():
            page.goto("about:blank")
            page.goto(f"{land}#/{address}")
            shown(page)
            headings = [it.inner_text() for it in page.locator("h1").all()]
            assert len(headings) == 1
            assert (heading in headings[0]) == (locale == "en-GB" or heading == "nowhere"), view
            judge(view)
        page.locator("main .key-panel button.main").click()
        page.locator("main .key-panel .whole-id").wait_for()
        judge("tour-with-a-key")
    assert faults == {}


def test_what_is_not_there_is_told(opened: Open, land: str) -> None:
    nobody = "0" * 64
    with opened(land, "400", "404") as page:
        for address, said in (
            ("nothing/of/the/kind", "There is nothing at this address."),
            ("city/atlantis/rounds", "atlantis"),
            (f"city/kanazawa/tx/{nobody}", nobody),
            ("city/kanazawa/node/1000000/0", "1000000"),
            ("city/kanazawa/round/none", "round"),
        ):
            page.goto("about:blank")
            page.goto(f"{land}#/{address}")
            page.locator("main", has_text=said).wait_for()
            page.locator("main h1").wait_for()


def test_a_keyboard_is_enough(opened: Open, country: Country, land: str) -> None:
    """From the first view to a transaction, its receipt, and back; the graph; and then sending. All
    the way it is seen where the keyboard is."""
    [tx_id] = country.submit()

    def at_the_view(heading: str) -> None:
        """Once the window is named after a view, the keyboard is there."""
        page.wait_for_function("(heading) => document.title.includes(heading)", arg=heading)
        assert page.evaluate("() => document.activeElement.id") == "content"
        page.locator("main h1", has_text=heading).wait_for()

    with opened(land) as page:
        keys = page.keyboard
        page.locator("a.card").first.wait_for()
        tab_to(page, "Skip to content")
        keys.press("Enter")
        assert page.evaluate("() => document.activeElement.id") == "content"
        tab_to(page, "Search", back=True)
        keys.type(tx_id.hex())
        keys.press("Enter")
        at_the_view("Transaction")
        tab_to(page, "Check the receipt")
        keys.press("Enter")
        at_the_view("Receipt")
        page.get_by_text("The receipt holds", exact=True).wait_for()
        first = page.locator(".proof summary").first
        tab_to(page, first.inner_text().strip())
        keys.press("Enter")
        page.locator(".proof details[open] li").first.wait_for()
        page.go_back()
        at_the_view("Transaction")

        tab_to(page, "Live", back=True)
        keys.press("Enter")
        page.wait_for_function("() => document.title.includes('live')")
        page.locator("table.rounds tbody tr").first.wait_for()
        tab_to(page, page.locator("[role=application]").get_attribute("aria-label"))
        keys.press("ArrowLeft")
        told = page.locator("figcaption output", has_text="place")
        told.wait_for()
        round, seq = re.findall(r"\d+", told.inner_text())[:2]
        keys.press("Enter")
        at_the_view(f"Node {round} / {seq}")

        tab_to(page, "Send", back=True)
        keys.press("Enter")
        at_the_view("Send a transaction")
        tab_to(page, "Make a key")
        keys.press("Enter")
        page.get_by_role("button", name="Forget the key").wait_for()
        tab_to(page, "Token")
        keys.type(country.issue(Role.SUBMIT))
        keys.press("Enter")
        tab_to(page, MESSAGE)
        keys.type("by keyboard alone")
        tab_to(page, "Sign and send")
        keys.press("Enter")
        page.get_by_role("link", name="Show the transaction").wait_for()
        tab_to(page, "Show the transaction")
        keys.press("Enter")
        at_the_view("Transaction")
        page.locator("[aria-current=step]", has_text="Approved").wait_for()
        page.get_by_text("by keyboard alone").wait_for()
