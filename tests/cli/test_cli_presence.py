"""Claims from hand to hand, and actions as they are shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from citychain.cli.presence import parse_place
from citychain.client.claims import load_claim, save_claim
from citychain.client.keys import load_key
from citychain.crypto.keys import key_id
from citychain.errors import InvalidRequest
from citychain.types import Presence

ID = "ab" * 32


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("36.5614,136.6562", (365_614_000, 1_366_562_000)),
        ("-33.9, +18.4", (-339_000_000, 184_000_000)),
        ("0,-0.0000001", (0, -1)),
        ("90,-180", (900_000_000, -1_800_000_000)),
        ("1.00000014,1.00000016", (10_000_001, 10_000_002)),
    ],
)
def test_a_place_is_read_exactly(text: str, place: tuple[int, int]) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "36.5", "a,b", "1,2,3", "1e1,2", "90.0000001,0", "0,181"])
def test_what_is_no_place_is_told(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_place(text)
    assert caught.value.field == "--at"


def make(server: Any, path: Path, *options: str) -> Any:
    return server.run(
        "presence", "make", "--city", "hometown", "--key", "alice.key", "--at", "-33.9,18.4",
        "--accuracy", "20", "-o", path, "--json", *options,
    )  # fmt: skip


def test_a_claim_goes_from_hand_to_hand(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    # So that there is an approved round to name.
    done = server.run(
        "submit", "--city", "hometown", "--key", "alice.key", "--data", "a", "--wait", "approved"
    )
    assert done.code == 0, done.err
    made = make(server, path, "--window", "7")
    assert made.code == 0, made.err
    claim = load_claim(path)
    alice = key_id(load_key(server.directory / "alice.key").public_key)
    assert claim.subject == alice
    first = made.record["first_round"]
    assert first >= 1
    anchor = bytes.fromhex(made.record["anchor"])
    assert claim.presence == Presence(-339_000_000, 184_000_000, 20, first, first + 7, anchor)

    assert server.run("keygen", tmp_path / "bob.key").code == 0
    signed = server.run("presence", "witness", path, "--key", tmp_path / "bob.key")
    assert signed.code == 0
    assert (
        f"signed: {alice.hex()} was within 20 m of -33.9000000, 18.4000000 after round {first}, "
        f"up to round {first + 7}, for the city hometown with the genesis {claim.genesis.hex()}\n"
    ) == signed.err
    assert [w.key_id.hex() for w in load_claim(path).presence.witnesses] == [signed.out.strip()]
    again = server.run("presence", "witness", path, "--key", tmp_path / "bob.key")
    assert again.code == 0
    assert "this key had signed it already" in again.err
    assert len(load_claim(path).presence.witnesses) == 1
    content = path.read_bytes()
    own = server.run("presence", "witness", path, "--key", "alice.key")
    assert (own.code, "is the claimant's own" in own.message) == (2, True)
    over = make(server, path)
    assert (over.code, "--output" in over.message, "exists" in over.message) == (2, True, True)
    assert path.read_bytes() == content

    other = server.run("presence", "submit", path, "--key", tmp_path / "bob.key")
    assert other.code == 2
    assert "--key" in other.message
    elsewhere = tmp_path / "elsewhere.json"
    save_claim(elsewhere, claim._replace(genesis=bytes(32)))
    wrong = server.run("presence", "submit", elsewhere, "--key", "alice.key")
    assert wrong.code == 2
    assert "hometown is" in wrong.message
    sent = server.run("presence", "submit", path, "--key", "alice.key", "--json")
    assert sent.code == 0, sent.err
    shown = server.run("get", "--city", "hometown", sent.record["tx_id"], "--json")
    assert shown.record["presence"]["anchor"] == made.record["anchor"]
    assert shown.record["presence"]["witnesses"][0]["key_id"] == signed.out.strip()
    words = server.run("get", "--city", "hometown", sent.record["tx_id"]).out
    assert "-33.9000000, 18.4000000 within 20 m" in words
    assert f"after round {first}, up to round {first + 7}" in words
    assert f"witnesses       {signed.out.strip()}" in words
    assert "signature" not in words


def test_a_stake_is_locked_and_shown(server: Any) -> None:
    sent = server.run(
        "submit", "--city", "hometown", "--key", "alice.key", "--candidacy", "coin:3", "--json"
    )
    assert sent.code == 0, sent.err
    words = server.run("get", "--city", "hometown", sent.record["tx_id"]).out
    assert "candidacy       3 coin into the author's stake" in words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            {"withdrawal": {"asset": "coin", "stake": 2}},
            ["withdrawal      2 coin out of the author's stake"],
        ),
        ({"witness": {"public_key": "00" * 2592}}, [f"{key_id(bytes(2592)).hex()} is registered"]),
        (
            {"witness": {"public_key": "00" * 2592, "revoked": True}},
            [f"{key_id(bytes(2592)).hex()} is revoked"],
        ),
        (
            {
                "equivocation": {
                    "public_key": "00" * 2592,
                    "round": 7,
                    "first_hash": ID,
                    "first_signature": "01" * 4627,
                    "second_hash": "cd" * 32,
                    "second_signature": "02" * 4627,
                }
            },
            [f"{key_id(bytes(2592)).hex()} voted twice in round 7", f"{ID} {'cd' * 32}"],
        ),
        (
            {
                "recovery": {
                    "from_round": 3,
                    "previous": "cd" * 32,
                    "seats": [{"key_id": ID, "stake": 9}],
                }
            },
            ["another committee from round 3 on", "cd" * 32, f"seats           {ID}:9"],
        ),
    ],
    ids=["withdrawal", "witness", "revoked", "equivocation", "recovery"],
)
def test_each_action_is_shown_in_words(server: Any, line: dict[str, Any], words: list[str]) -> None:
    sent = server.run(
        "submit", "--city", "hometown", "--key", "alice.key", "--jsonl", "-", "--json",
        input=json.dumps(line) + "\n",
    )  # fmt: skip
    assert sent.code == 0, sent.err
    shown = server.run("get", "--city", "hometown", sent.record["tx_id"])
    assert all(each in shown.out for each in words), shown.out
    again = server.run("get", "--city", "hometown", sent.record["tx_id"], "--json").record
    assert {name: again[name] for name in line}.keys() == line.keys()
