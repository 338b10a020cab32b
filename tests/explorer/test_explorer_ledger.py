"""What the page is told of single things in a ledger, and what it may submit."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from explorer.asking import Explorer
from explorer.conftest import OpenExplorer

from citychain._native.transactions import decode_batch
from citychain.access.tokens import issue_token
from citychain.acknowledgement import from_json, verify
from citychain.client.actions import Transfer
from citychain.client.city import CityClient
from citychain.client.receipts import load_receipt, receipt_json, verify_receipt
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.errors import InvalidRequest
from citychain.explorer import regions
from citychain.explorer.submitting import BODY_BYTES_MAX, MEDIA_TYPE, _submitted
from citychain.genesis import Genesis
from citychain.handler import Received
from citychain.roles import Grants
from citychain.testing.server import CityServer, CityServerFactory, TransactionFactory
from citychain.types import State

CITY = "api/cities/hometown"
PROTOBUF = {"Content-Type": MEDIA_TYPE}


async def test_a_transaction_leads_to_its_node_its_author_and_its_receipt(
    explorer: Explorer,
    server: CityServer,
    signed_transactions: TransactionFactory,
    tmp_path: Path,
) -> None:
    async with server.client("hometown") as city:
        [first, second] = await signed_transactions(city, 2)
        for transaction in (first, second):
            await city.submit([transaction])
            await city.wait([transaction.tx_id])
        [poor] = await signed_transactions(
            city, data=None, transfer=Transfer("coin", b"\1" * 32, 5)
        )
        await city.submit([poor])
        await city.wait([poor.tx_id])
        genesis_file = (await city.info()).genesis_file
    tx_id = first.tx_id.hex()
    found = await explorer.get(f"{CITY}/transactions/{tx_id}")
    assert (found["state"], found["round"], found["seq"]) == ("approved", 1, 0)
    [said] = decode_batch([base64.b64decode(found["envelope"])])
    assert (said.tx_id, said.author.hex()) == (first.tx_id, found["author"])
    assert (said.action, said.content_type, said.content) == ("data", "", b"test 0")
    rejected = await explorer.get(f"{CITY}/transactions/{poor.tx_id.hex()}")
    assert (rejected["state"], rejected["code"]) == ("rejected", "OVERDRAFT")
    [said] = decode_batch([base64.b64decode(rejected["envelope"])])
    assert (said.action, said.transfer) == ("transfer", ("coin", b"\1" * 32, 5))

    node = await explorer.get(f"{CITY}/nodes/1/0")
    assert node == await explorer.get(f"{CITY}/nodes/{found['node_id']}")
    assert (node["tx_id"], node["parents"][0]["round"]) == (tx_id, 0)
    [child] = node["children"]
    assert (child["round"], child["seq"]) == (2, 0)
    await explorer.get(f"{CITY}/nodes/3/0", 404)  # It was rejected.

    author = await explorer.get(f"{CITY}/authors/{found['author']}")
    assert [(it["tx_id"], it["state"]) for it in author["transactions"]] == [
        (poor.tx_id.hex(), "rejected"),
        (second.tx_id.hex(), "approved"),
        (tx_id, "approved"),
    ]
    assert "next" not in author
    assert key_id(bytes.fromhex(author["public_key"])).hex() == found["author"]

    receipt = tmp_path / "receipt.json"
    answer = await explorer.http.get(f"{CITY}/receipts/{tx_id}")
    assert answer.headers["cache-control"] == "no-store"
    receipt.write_bytes(answer.content)
    verify_receipt(loaded := load_receipt(receipt), genesis_file)
    assert answer.text == receipt_json(loaded)
    levels = await explorer.get(f"{CITY}/receipts/{tx_id}", levels="true")
    assert levels["top"] == json.loads(receipt.read_text())

    committee = await explorer.get(f"{CITY}/committee")
    assert [member["stake"] for member in committee["members"]] == [1]
    assert await explorer.get(f"{CITY}/anchors") == {"chain": []}

    for wanted, kind in (
        (tx_id, "transaction"),
        (tx_id[:10], "transaction"),
        (found["node_id"], "node"),
        (found["author"], "author"),
        ("2", "round"),
        ("hometo", "city"),
    ):
        hits = (await explorer.get("api/search", q=wanted))["found"]
        assert [(hit["kind"], hit["city"]) for hit in hits] == [(kind, "hometown")], wanted


async def test_what_a_key_signed_comes_in_pages_however_much_stands_in_a_round(
    explorer: Explorer,
    server: CityServer,
    signed_transactions: TransactionFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("citychain.explorer.ledger.AUTHOR_PAGE", 2)
    async with server.client("hometown") as city:
        transactions = await signed_transactions(city, 9)
        for part in (transactions[:1], transactions[1:6], transactions[6:]):
            await city.submit(part)
            reached = await city.wait([it.tx_id for it in part])
        author = (await city.status([transactions[0].tx_id]))[transactions[0].tx_id].node
        assert author is not None
    assert len({event.round for event in reached.values()}) == 1
    path, token = f"{CITY}/authors/{author.author.hex()}", {}
    found: list[dict[str, Any]] = []
    for _ in range(5):
        page = await explorer.get(path, **token)
        assert len(page["transactions"]) <= 2
        found += page["transactions"]
        token = {"next": page.get("next", "1.0")}
    assert "next" not in page
    assert {it["tx_id"] for it in found} == {it.tx_id.hex() for it in transactions}
    places = [(it["round"], it["seq"]) for it in found]
    assert (len(places), places) == (9, sorted(places, reverse=True))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{CITY}/transactions/{'0' * 64}", 404),
        (f"{CITY}/transactions/x", 400),
        (f"{CITY}/receipts/{'0' * 64}", 404),
        (f"{CITY}/receipts/{'0' * 64}?levels=1", 400),
        (f"{CITY}/nodes/{'0' * 64}", 404),
        (f"{CITY}/nodes/1/4294967296", 400),
        (f"{CITY}/authors/x", 400),
        (f"{CITY}/authors/{'0' * 64}?next=1", 400),
        (f"{CITY}/authors/{'0' * 64}?next=1.x", 400),
        ("api/search?q=", 400),
    ],
)
async def test_what_is_not_there_and_what_is_no_id_are_told_apart(
    explorer: Explorer, path: str, status: int
) -> None:
    assert (await explorer.get(path, status))["error"]["message"]


async def submitted(explorer: Explorer, body: bytes, **headers: str) -> tuple[int, Any]:
    url = f"{CITY}/transactions"
    answer = await explorer.http.post(url, content=body, headers=PROTOBUF | headers)
    return answer.status_code, answer.json()


async def test_nothing_is_submitted_unless_somebody_signs_in_or_the_explorer_lets_all(
    explorer: Explorer,
    server: CityServer,
    explorer_of: OpenExplorer,
    signed_transactions: TransactionFactory,
) -> None:
    async with server.client("hometown") as city:
        [transaction] = await signed_transactions(city)
        genesis = Genesis.from_bytes((await city.info()).genesis_file)
    status, told = await submitted(explorer, transaction.envelope)
    assert (status, told["error"]["code"]) == (403, "NOT_ALLOWED")
    async with explorer_of(server.address, submits=True) as open_to_all:
        status, told = await submitted(open_to_all, transaction.envelope)
        assert (status, told["tx_id"], told["duplicate"]) == (200, transaction.tx_id.hex(), False)
        verify(genesis, from_json(json.dumps(told["acknowledgement"]).encode()))
        assert told["acknowledgement"]["tx_id"] == told["tx_id"]
        assert (await submitted(open_to_all, transaction.envelope))[1]["duplicate"]
        status, told = await submitted(open_to_all, b"\xff")
        assert (status, bool(told["error"]["code"])) == (422, True)
        status, told = await submitted(open_to_all, bytes(BODY_BYTES_MAX + 1))
        assert (status, told["error"]["field"]) == (400, "body")
        status, told = await submitted(open_to_all, b"x", Origin="https://evil.example")
        assert (status, told["error"]["code"]) == (403, "NOT_ALLOWED")
        form = {"Content-Type": "text/plain"}
        answer = await open_to_all.http.post(f"{CITY}/transactions", content=b"x", headers=form)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "content-type")


async def test_a_server_without_the_operators_key_is_not_asked_to_sign() -> None:
    asked: list[bool] = []

    class City:
        async def submit(
            self, envelopes: list[bytes], *, acknowledge: bool | Genesis = False
        ) -> list[Received]:
            asked.append(bool(acknowledge))
            if acknowledge:
                raise InvalidRequest("acknowledge", "this server has not the operator's key")
            return [Received(b"\1" * 32, State.RECEIVED, duplicate=False)]

    result = await _submitted(cast(CityClient, City()), b"", cast(Genesis, object()))
    assert isinstance(result, Received)
    assert asked == [True, False]


async def test_a_token_says_who_submits_and_the_explorers_own_only_reads(
    city_server: CityServerFactory,
    explorer_of: OpenExplorer,
    signed_transactions: TransactionFactory,
    tmp_path: Path,
) -> None:
    secret = Ed25519PrivateKey.generate()
    keys = tmp_path / "keys.pem"
    keys.write_bytes(
        secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )

    def token(role: str) -> str:
        grants = Grants.from_claim({role: ["*"]})
        hour = timedelta(hours=1)
        return issue_token(secret, subject="ana", audience="town", grants=grants, lifetime=hour)

    auth = {"keys": [str(keys)], "audience": "town"}
    own, hers = token("read"), token("submit")
    async with (
        city_server(["hometown"], auth=auth) as server,
        explorer_of(server.address, own=lambda: own, submits=True) as explorer,
    ):
        genesis = bytes.fromhex((await explorer.get(CITY))["genesis"])
        signed = sign_transaction(
            signed_transactions.key(), genesis=genesis, data=b"x", with_public_key=True
        )
        status, _ = await submitted(explorer, signed.envelope)
        assert status == 401
        status, _ = await submitted(explorer, signed.envelope, Authorization=f"Bearer {own}")
        assert status == 403
        for wrong in ("Basic eA==", "Bearer", "Bearer a b"):
            assert (await submitted(explorer, signed.envelope, Authorization=wrong))[0] == 401
        status, told = await submitted(explorer, signed.envelope, Authorization=f"Bearer {hers}")
        assert (status, told.get("tx_id")) == (200, signed.tx_id.hex())


async def test_viewers_are_counted(explorer: Explorer) -> None:
    async with explorer.live() as viewer:
        await viewer.ask(watch="hometown")
        await viewer.until("head")
        told = await explorer.metrics()
    assert "\ncitychain_explorer_viewers 1.0\n" in told
    assert "\ncitychain_explorer_cities_followed 1.0\n" in told
    assert (await explorer.http.get("metrics")).status_code == 404


def test_a_region_is_wound_as_geojson_has_it() -> None:
    clockwise = [0, 0, 10_000_000, 0, 10_000_000, 10_000_000, 0, 10_000_000, 0, 0]
    geometry = regions._geometry({"polygons": [[clockwise]]})
    assert geometry is not None
    ring = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    assert geometry["coordinates"] == [[ring]]
    disc = {"latitude_e7": 365_000_000, "longitude_e7": 1_366_000_000, "radius_m": 11_119}
    drawn = regions._geometry({"disc": disc})
    assert drawn is not None
    north = max(latitude for _, latitude in drawn["coordinates"][0])
    assert north == pytest.approx(36.6, abs=0.001)
    assert regions.regions_shown(b"{}") is None
