"""What the page is told of cities and rounds, over HTTP, of a real server."""

from __future__ import annotations

import hashlib

import pytest
from explorer.asking import Explorer

from citychain.testing.server import CityServer, TransactionFactory


async def test_the_page_is_served_below_any_path_with_headers_that_let_nothing_else_in(
    explorer: Explorer,
) -> None:
    answer = await explorer.http.get("")
    assert answer.text.startswith("<!doctype html>")
    assert (await explorer.http.get("page.js")).text == "'the page'"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    assert (await explorer.http.get("healthz")).text == "ok\n"
    assert (await explorer.http.get("../../etc/passwd")).status_code == 404


async def test_cities_are_found_by_any_name(explorer: Explorer) -> None:
    about = await explorer.get("api/about")
    assert (about["submit"], about["sign_in"]) == (False, True)
    found = (await explorer.get("api/cities", query="故"))["cities"]
    assert [city["slug"] for city in found] == ["hometown"]
    city = await explorer.get("api/cities/故郷")
    assert (city["slug"], city["titles"]["ja"], city["state"]) == ("hometown", "故郷", "open")
    assert city["head"] == {"sealed_round": 0, "approved_round": 0, "size": 0}
    genesis = (await explorer.http.get("api/cities/hometown/genesis")).content
    assert hashlib.sha256(b"citychain/genesis/v1\0" + genesis).hexdigest() == city["genesis"]


async def test_rounds_come_from_one_on_or_the_newest_first(
    explorer: Explorer, server: CityServer, signed_transactions: TransactionFactory
) -> None:
    async with server.client("hometown") as city:
        for transaction in await signed_transactions(city, 3):
            await city.submit([transaction])
            await city.wait([transaction.tx_id])
    newest = (await explorer.get("api/cities/hometown/rounds", limit=2))["rounds"]
    assert [round["round"] for round in newest] == [3, 2]
    [first] = (await explorer.get("api/cities/hometown/rounds", **{"from": 1, "limit": 1}))[
        "rounds"
    ]
    assert (first["approved"], first["rejected"], len(first["votes"])) == (1, 0, 1)
    whole = await explorer.get("api/cities/hometown/rounds/3")
    assert whole["leaves"] == [{"seq": 0, "tx_id": transaction.tx_id.hex()}]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("api/cities/nowhere", 404, None),
        ("api/cities/hometown/rounds/1", 404, None),
        ("api/cities/hometown/rounds/x", 400, "round"),
        ("api/cities/hometown/rounds?limit=101", 400, "limit"),
        ("api/cities/hometown/rounds?from=-1", 400, "from"),
        (f"api/cities?query={'x' * 257}", 400, "query"),
        ("api/nothing", 404, None),
    ],
)
async def test_what_cannot_be_answered_names_the_field(
    explorer: Explorer, path: str, status: int, field: str | None
) -> None:
    error = (await explorer.get(path, status))["error"]
    assert error.get("field") == field
    assert error["code"] == ("INVALID_REQUEST" if field else "NOT_FOUND")


async def test_a_name_of_somebody_else_is_refused(explorer: Explorer) -> None:
    answer = await explorer.http.get("api/about", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "NOT_ALLOWED")
