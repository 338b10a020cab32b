"""What the page tells of a transaction: what it hears, what the city signed, and who may send."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from explorer.browser.conftest import Open
from explorer.browser.town import HANG_SECONDS, Town

STATE = "li[aria-current] .state"


def as_received(page: Any, site: str, tx_id: str, times: int) -> None:
    """Have so many answers about a transaction say that it is only received."""
    left = iter(range(times))
    told = page.request.get(f"{site}api/cities/hometown/transactions/{tx_id}").json()

    def answer(route: Any) -> None:
        if next(left, None) is None:
            route.continue_()
        else:
            route.fulfill(json={**told, "state": "received"})

    page.route("**/api/cities/*/transactions/*", answer)


def test_a_transactions_life_is_told_and_not_asked_for(opened: Open, town: Town, site: str) -> None:
    """Whatever is answered, it is approved as soon as that is told."""
    [tx_id] = town.submit()
    with opened(site) as page:
        as_received(page, site, tx_id.hex(), 1_000)
        page.evaluate("(id) => { location.hash = `#/city/hometown/tx/${id}`; }", tx_id.hex())
        page.locator(STATE, has_text="Approved").wait_for()


def test_a_life_is_asked_for_where_nothing_can_be_told(opened: Open, town: Town, site: str) -> None:
    [tx_id] = town.submit()
    with opened(site) as page:
        page.route_web_socket("**/live", lambda socket: socket.close())
        as_received(page, site, tx_id.hex(), 2)
        page.evaluate("(id) => { location.hash = `#/city/hometown/tx/${id}`; }", tx_id.hex())
        page.locator(STATE, has_text="Approved").wait_for()


def test_what_a_transaction_says_is_what_was_signed(opened: Open, town: Town, site: str) -> None:
    """Whatever the explorer says that it says."""
    [tx_id] = town.submit()
    lie = {"author": "00" * 32, "action": {"kind": "data", "content_type": "", "text": "a lie"}}

    def answer(route: Any) -> None:
        route.fulfill(json=route.fetch().json() | lie)

    with opened(site) as page:
        page.route("**/api/cities/*/transactions/*", answer)
        page.evaluate("(id) => { location.hash = `#/city/hometown/tx/${id}`; }", tx_id.hex())
        page.get_by_role("heading", name="What it does").wait_for()
        told = page.locator("main").inner_text()
        assert "a lie" not in told
        assert "00" * 32 not in told


def test_what_the_city_signed_is_checked_and_held_against_it(
    opened: Open, town: Town, site: str, tmp_path: Path
) -> None:
    with opened(f"{site}#/city/hometown/submit") as page:
        page.get_by_role("button", name="Make a key").click()
        page.get_by_label("Message · Anybody can read it, for good.").fill("in time")
        page.get_by_role("button", name="Sign and send").click()
        said = page.locator(".acknowledged > details > summary")
        said.filter(has_text="The city signed that it is final by").filter(
            has_text="It was."
        ).click()
        page.get_by_text("The acknowledgement holds", exact=True).wait_for()
        page.get_by_text(re.compile("hashes was computed twice and came out the same")).wait_for()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save what the city signed").click()
        file = tmp_path / "acknowledgement.json"
        saved.value.save_as(file)
        # It is checked as well without the transaction, as a receipt is; altered, it fails.
        genesis = tmp_path / "genesis.json"
        genesis.write_bytes(page.request.get(f"{site}api/cities/hometown/genesis").body())
        page.get_by_role("link", name="Check a receipt").click()
        page.get_by_label("Genesis file").set_input_files(genesis)
        page.get_by_label("Receipt file").set_input_files(file)
        page.get_by_text("The acknowledgement holds", exact=True).wait_for()
        later = json.loads(file.read_text())
        later["final_by_ms"] += 1
        altered = tmp_path / "altered.json"
        altered.write_text(json.dumps(later))
        page.get_by_label("Receipt file").set_input_files(altered)
        page.get_by_text("The receipt does not hold: Signature").wait_for()
        # The key itself is nowhere but in the page's memory.
        kept = page.evaluate("() => Object.keys({ ...localStorage, ...sessionStorage })")
        assert not [it for it in kept if "key" in it]


def test_another_transaction_than_was_sent_or_asked_for_proves_nothing(
    opened: Open, town: Town, site: str
) -> None:
    """Of whatever the server would rather speak."""
    other, asked = (town.submit()[0].hex() for _ in range(2))

    def submitted(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "tx_id": other})

    with opened(f"{site}#/city/hometown/submit") as page:
        page.route("**/api/cities/hometown/transactions", submitted)
        page.get_by_role("button", name="Make a key").click()
        page.get_by_label("Message · Anybody can read it, for good.").fill("mine")
        page.get_by_role("button", name="Sign and send").click()
        address = page.get_by_role("link", name="Show the transaction").get_attribute("href")
        assert address.startswith("#/city/hometown/tx/")
        assert other not in address
        swapped = page.request.get(f"{site}api/cities/hometown/receipts/{other}").text()
        page.route("**/receipts/*", lambda route: route.fulfill(body=swapped))
        page.evaluate("(id) => { location.hash = `#/city/hometown/receipt/${id}`; }", asked)
        page.get_by_text("another transaction than was asked for").wait_for()
        assert page.locator(".verdict.holds").count() == 0


def test_who_is_refused_is_asked_for_a_token(opened: Open, site: str) -> None:
    """Where all may send nobody is asked for one, until the server wants it."""

    def refuse(route: Any) -> None:
        error = {"code": "NOT_AUTHENTICATED", "message": "the server wants a token"}
        route.fulfill(status=401, json={"error": error})

    with opened(f"{site}#/city/hometown/submit", "401") as page:
        page.route("**/api/cities/hometown/transactions", refuse)
        page.get_by_role("button", name="Make a key").click()
        page.get_by_label("Message · Anybody can read it, for good.").fill("without")
        assert page.get_by_label("Token").count() == 0
        page.get_by_role("button", name="Sign and send").click()
        page.get_by_label("Token").fill("of somebody")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Signed in until this tab is closed.").wait_for()


@pytest.mark.parametrize(("secure", "warnings"), [("true", 0), ("false", 1)])
def test_a_page_that_came_in_the_clear_says_so(
    opened: Open, site: str, secure: str, warnings: int
) -> None:
    with opened(f"{site}#/city/hometown/submit") as page:
        said = (
            f"Object.defineProperty(window, 'isSecureContext', {{ value: {str(secure).lower()} }})"
        )
        page.add_init_script(said)
        page.reload()
        page.get_by_role("button", name="Make a key").wait_for()
        assert page.get_by_role("note").count() == warnings


def test_cities_beyond_the_first_page_are_listed(opened: Open, town: Town, site: str) -> None:
    settings = town.directory / "citychain.toml"
    more = "\n".join(f"[cities.ward-{number:03}]" for number in range(150))
    settings.write_text(f"{settings.read_text()}\n{more}\n")
    os.kill(town.pid("server"), signal.SIGHUP)
    with opened(site) as page:
        end = time.monotonic() + HANG_SECONDS
        while not page.request.get(f"{site}api/cities?query=ward-149").json()["cities"]:
            assert time.monotonic() < end
            time.sleep(0.02)
        page.reload()
        cards = page.locator("a.card")
        cards.first.wait_for()
        assert cards.count() == 100
        page.get_by_role("button", name="More").click()
        page.locator("a.card", has_text="ward-149").wait_for()
        assert cards.count() == 151
        assert page.get_by_role("button", name="More").count() == 0
