"""The explorer's page in a browser: what people see of a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from explorer.browser.conftest import Open
from explorer.browser.looking import figure, until_figure
from explorer.browser.town import HANG_SECONDS, Town
from free_ports import free_address

from citychain.client import CityClient, verify_receipt

AWAY = ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "502", "503", "504")
"""What a browser says where a server or the explorer is away."""


def test_what_is_sealed_is_seen_without_asking(opened: Open, town: Town, site: str) -> None:
    town.submit()
    with opened(f"{site}#/city/hometown") as page:
        until_figure(page, "Approved round", 1)
        before = figure(page, "Approved round")
        town.submit()
        until_figure(page, "Approved round", before + 1)
        newest = page.locator("table.rounds tbody tr").first
        assert "Approved" in newest.inner_text()


def test_whatever_has_a_name_is_found(opened: Open, town: Town, site: str) -> None:
    [tx_id] = town.submit()
    with opened(site) as page:
        told = page.request.get(f"{site}api/cities/hometown/transactions/{tx_id.hex()}").json()
        box = page.get_by_role("searchbox", name="Search")
        for wanted, leads_to in (
            ("ふるさと", "#/city/hometown"),
            (tx_id.hex(), f"#/city/hometown/tx/{tx_id.hex()}"),
            (tx_id.hex()[:12], f"#/city/hometown/tx/{tx_id.hex()}"),
            (told["node_id"], f"#/city/hometown/node/{told['node_id']}"),
            (told["author"], f"#/city/hometown/author/{told['author']}"),
            ("1", "#/city/hometown/round/1"),
        ):
            # Anew: a view that comes takes the keyboard from where one types.
            page.goto(site)
            box.fill(wanted)
            box.press("Enter")
            page.wait_for_url(f"{site}{leads_to}")


def test_who_types_while_a_view_arrives_goes_on_typing(opened: Open, site: str) -> None:
    from playwright.sync_api import expect

    with opened(f"{site}#/") as page:
        page.get_by_role("heading", level=1).wait_for()
        page.route("**/*.js", lambda route: None)  # It waits.
        with page.expect_request("**/*.js"):
            page.evaluate("location.hash = '#/tour'")
        wanted = page.get_by_role("searchbox", name="Search")
        wanted.focus()
        page.unroute("**/*.js")
        # The window has its name once the keyboard was led.
        expect(page).to_have_title(re.compile("^From a key"), timeout=HANG_SECONDS * 1000)
        assert wanted.evaluate("field => field === document.activeElement")


def test_both_languages_and_colours_can_be_chosen_and_are_kept(opened: Open, site: str) -> None:
    with opened(site, color_scheme="light") as page:
        page.locator("h1", has_text="Cities").wait_for()
        page.get_by_text("日本語").click()
        page.locator("h1", has_text="都市").wait_for()
        light = page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
        page.locator(".choices button.icon").click()
        page.wait_for_function(
            "(light) => getComputedStyle(document.documentElement).backgroundColor !== light",
            arg=light,
        )
        page.reload()
        page.locator("h1", has_text="都市").wait_for()
        assert page.locator("html").get_attribute("lang") == "ja"
        assert (
            page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
            != light
        )


def test_a_server_or_an_explorer_that_was_killed_is_told_and_seen_again(
    opened: Open, town: Town, site: str
) -> None:
    town.submit()
    with opened(f"{site}#/city/hometown", *AWAY) as page:
        until_figure(page, "Approved round", 1)
        before = figure(page, "Approved round")
        town.end("server", kill=True)
        page.locator(".trouble").first.wait_for()
        town.serve()
        town.submit()
        until_figure(page, "Approved round", before + 1)
        page.locator(".trouble").first.wait_for(state="detached")

        before = figure(page, "Approved round")
        town.end("explorer", kill=True)
        page.get_by_text("Connection lost. Trying again …").wait_for()
        town.submit()
        assert town.explore() == site
        until_figure(page, "Approved round", before + 1)


def test_ten_thousand_nodes_leave_the_page_quick_and_small(
    opened: Open, town: Town, site: str
) -> None:
    with opened(f"{site}#/city/hometown") as page:
        until_figure(page, "Approved round", 0)
        town.submit(10_000)
        until_figure(page, "Transactions", 10_000)
        # It draws, and answers to a person.
        page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Go on").wait_for()
        assert page.evaluate("() => performance.memory.usedJSHeapSize") < 300e6


def test_what_is_signed_in_the_browser_is_approved_and_proven(
    opened: Open, town: Town, site: str
) -> None:
    """What the browser's own cryptography made holds for ours."""
    with opened(f"{site}#/city/hometown/submit") as page:
        page.get_by_role("button", name="Make a key").click()
        page.get_by_label("Message · Anybody can read it, for good.").fill("from a browser: 故郷")
        page.get_by_role("button", name="Sign and send").click()
        page.get_by_role("link", name="Show the transaction").click()
        page.get_by_role("link", name="Check the receipt").click()
        page.get_by_text("The receipt holds", exact=True).wait_for()
        tx_id = bytes.fromhex(page.url.rpartition("/")[2])

    async def proven(city: CityClient) -> Any:
        info = await city.info()
        [receipt] = (await city.receipts([tx_id])).values()
        verify_receipt(receipt, info.genesis_file)
        return receipt.tx_id

    assert town.ask(proven) == tx_id


def test_a_receipt_of_which_a_digit_was_changed_does_not_hold(
    opened: Open, town: Town, site: str, tmp_path: Path
) -> None:
    tx_id = town.submit(3)[0]
    with opened(f"{site}#/receipt") as page:
        api = f"{site}api/cities/hometown"
        genesis = tmp_path / "genesis.json"
        genesis.write_bytes(page.request.get(f"{api}/genesis").body())
        true = page.request.get(f"{api}/receipts/{tx_id.hex()}").text()
        page.get_by_label(re.compile("^Genesis file")).set_input_files(genesis)
        for text, name, said in (
            (true, "true", "The receipt holds"),
            (other(true), "altered", "The receipt does not hold: Place in the log"),
        ):
            receipt = tmp_path / f"{name}.json"
            receipt.write_text(text)
            page.get_by_label("Receipt file").set_input_files(receipt)
            page.get_by_role("status").filter(has_text=said).wait_for()
        assert page.get_by_text("The receipt holds").count() == 0


def other(receipt: str) -> str:
    """The receipt with another byte in its path to the root."""
    told = json.loads(receipt)
    first = told["inclusion"][0]
    told["inclusion"][0] = ("B" if first[0] == "A" else "A") + first[1:]
    return json.dumps(told)


PROXY = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {listen};
    location /ledgers/of/town/ {{
      proxy_pass {site};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
    }}
  }}
}}
"""


def test_it_works_under_any_path_behind_a_proxy(
    opened: Open, town: Town, site: str, tmp_path: Path
) -> None:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("needs nginx: apt-get install nginx-light")
    listen = free_address()
    settings = tmp_path / "nginx.conf"
    settings.write_text(PROXY.format(folder=tmp_path, listen=listen, site=site))
    proxy = subprocess.Popen(
        [program, "-c", str(settings), "-p", str(tmp_path), "-e", "stderr"],
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + HANG_SECONDS
        while not (tmp_path / "nginx.pid").exists():
            assert proxy.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        with opened(f"http://{listen}/ledgers/of/town/") as page:
            page.locator("a.card").first.click()
            until_figure(page, "Approved round", 0)
            before = figure(page, "Approved round")
            town.submit()
            until_figure(page, "Approved round", before + 1)
            page.get_by_role("link", name="Rounds").click()
            page.locator("table.rounds tbody tr").first.wait_for()
    finally:
        proxy.terminate()
        proxy.wait(HANG_SECONDS)
