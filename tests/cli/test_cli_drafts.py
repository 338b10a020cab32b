"""Transactions as people write them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from citychain._native.transactions import decode_batch
from citychain.cli.drafts import Draft, from_options, parse_line
from citychain.cli.shown_actions import action_record
from citychain.client import (
    Action,
    Anchor,
    Candidacy,
    Data,
    Delivery,
    Equivocation,
    Peer,
    Presence,
    Recovery,
    Remittance,
    Settlement,
    Transfer,
    Withdrawal,
    Witness,
    WitnessSignature,
    sign_transaction,
)
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRequest
from citychain.types import Seat

ID = "ab" * 32
RAW = bytes.fromhex(ID)
PRESENCE = {
    "latitude_e7": -1,
    "longitude_e7": 2,
    "accuracy_m": 3,
    "first_round": 4,
    "last_round": 5,
    "anchor": ID,
}
VOTES = {
    "public_key": "ef" * 2592,
    "round": 7,
    "first_hash": ID,
    "first_signature": "01" * 4627,
    "second_hash": "00" * 32,
    "second_signature": "02" * 4627,
}

DELIVERY = {"city": ID, "tx_id": ID, "asset": "coin", "to": ID, "amount": 5, "proof": "01"}
SETTLEMENT = {
    "tx_id": ID,
    "payer": ID,
    "city": ID,
    "asset": "coin",
    "amount": 5,
    "proof": "01",
}
NOTHING: dict[str, Any] = {
    "data": None,
    "content_type": "",
    "transfer": None,
    "candidacy": None,
    "withdrawal": None,
    "witness": None,
    "revoke_witness": None,
    "depends_on": (),
    "reads": (),
    "writes": (),
    "valid_for": None,
}


def options(**changed: Any) -> Draft:
    return from_options(**{**NOTHING, **changed})


def test_options_and_a_line_say_the_same() -> None:
    line = {
        "transfer": {"asset": "coin", "amount": 5, "to": ID},
        "depends_on": [ID],
        "reads": {"hall@2": 1},
        "writes": {"seat/7": 0},
        "valid_for": "10m",
    }
    draft = options(
        transfer=f"coin:5:{ID}",
        depends_on=[ID],
        reads=["hall@2@1"],
        writes=["seat/7@0"],
        valid_for="10m",
    )
    assert draft == parse_line(json.dumps(line))
    assert draft.valid_for == timedelta(minutes=10)
    assert draft.transfer is not None
    assert draft.transfer.to == bytes.fromhex(ID)


def test_data_is_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "photo"
    file.write_bytes(b"\xff\x00")
    assert options(data="héllo").action == Data("héllo".encode())
    assert options(data=f"@{file}", content_type="image/png").action == (b"\xff\x00", "image/png")
    assert options(data="").action == Data(b"")


def test_a_stake_is_an_asset_and_an_amount() -> None:
    joins = options(candidacy="coin:5")
    assert joins.action == Candidacy("coin", 5)
    assert joins == parse_line('{"candidacy": {"asset": "coin", "stake": 5}}')
    assert options(withdrawal="coin:5").action == Withdrawal("coin", 5)


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ({"transfer": {"asset": "coin", "amount": 5, "to": ID}}, Transfer("coin", RAW, 5)),
        ({"presence": PRESENCE}, Presence(-1, 2, 3, 4, 5, RAW)),
        (
            {"presence": PRESENCE | {"witnesses": [{"key_id": ID, "signature": "cd" * 4627}]}},
            Presence(-1, 2, 3, 4, 5, RAW, (WitnessSignature(RAW, b"\xcd" * 4627),)),
        ),
        ({"withdrawal": {"asset": "coin", "stake": 5}}, Withdrawal("coin", 5)),
        ({"witness": {"public_key": "ef" * 2592}}, Witness(b"\xef" * 2592)),
        (
            {"witness": {"public_key": "ef" * 2592, "revoked": True}},
            Witness(b"\xef" * 2592, revoked=True),
        ),
        (
            {"equivocation": VOTES},
            Equivocation(b"\xef" * 2592, 7, RAW, b"\1" * 4627, bytes(32), b"\2" * 4627),
        ),
        (
            {
                "recovery": {
                    "from_round": 3,
                    "previous": ID,
                    "seats": [{"key_id": ID, "stake": 9}],
                }
            },
            Recovery(3, RAW, (Seat(RAW, 9),)),
        ),
        ({"peer": {"genesis_file": "7b7d"}}, Peer(b"{}")),
        (
            {"remittance": {"asset": "coin", "amount": 5, "city": ID, "to": ID}},
            Remittance("coin", RAW, RAW, 5),
        ),
        ({"delivery": DELIVERY}, Delivery(RAW, RAW, "coin", RAW, 5, b"\1")),
        (
            {"delivery": DELIVERY | {"refusal_code": "NO", "refusal_reason": "full"}},
            Delivery(RAW, RAW, "coin", RAW, 5, b"\1", "NO", "full"),
        ),
        (
            {"settlement": SETTLEMENT | {"returned": True}},
            Settlement(RAW, RAW, RAW, "coin", 5, True, b"\1"),
        ),
        (
            {"anchor": {"city": ID, "checkpoint": "00" * 42, "proof": "01"}},
            Anchor(RAW, bytes(42), b"\1"),
        ),
    ],
)
def test_a_line_has_one_action(line: dict[str, Any], action: Action) -> None:
    draft = parse_line(json.dumps(line))
    assert draft.action == action
    assert type(draft.action) is type(action)
    # As it is signed and read, so it is shown.
    signed = sign_transaction(SigningKey(bytes(32)), genesis=RAW, action=draft.action)
    [read] = decode_batch([signed.envelope])
    shown = json.dumps(action_record(read), default=bytes.hex)
    assert parse_line(shown) == draft


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        options(data=f"@{tmp_path / 'none'}")


@pytest.mark.parametrize(
    ("line", "field", "detail"),
    [
        ("not json", "line", "invalid JSON"),
        ("[]", "line", "object"),
        ('{"data": "a", "data": "b"}', "line", "member 'data' is given twice"),
        ('{"data": "a", "writes": {"x": 1, "x": 2}}', "line", "member 'x' is given twice"),
        ("{}", "line", "needs one of data, data_base64, transfer, presence, candidacy,"),
        ('{"data": "a", "candidacy": {"asset": "coin", "stake": 5}}', "line", "needs one of"),
        ('{"candidacy": {"asset": "coin", "stake": 0}}', "candidacy.stake", "is at least 1"),
        ('{"withdrawal": {"asset": "coin"}}', "withdrawal.stake", "is missing"),
        ('{"witness": {"public_key": "ef"}}', "witness.public_key", "at least 2592"),
        ('{"witness": {"public_key": "xy"}}', "witness.public_key", "valid hex"),
        ('{"recovery": {"from_round": 1, "previous": "' + ID + '", "seats": []}}',
         "recovery.seats", "at least 1"),
        ('{"data": "a", "data_base64": "YQ=="}', "line", "needs one of"),
        ('{"data": "a", "colour": 1}', "colour", "no such field"),
        ('{"data": 7}', "data", "string"),
        ('{"data_base64": "a"}', "data_base64", "not base64"),
        ('{"data": "a", "depends_on": ["abcd"]}', "depends_on.0", "at least 32"),
        ('{"data": "a", "depends_on": ["xy"]}', "depends_on.0", "not hexadecimal"),
        ('{"data": "a", "valid_for": "10 minutes"}', "valid_for", "30s, 10m, 2h or 1d"),
        ('{"data": "a", "reads": {"x": "1"}}', "reads.x", "integer"),
        ('{"data": "a", "writes": {"x": -1}}', "writes.x", "is at least 0"),
        ('{"transfer": {"asset": "coin", "amount": 0, "to": "' + ID + '"}}',
         "transfer.amount", "is at least 1"),
    ],
)  # fmt: skip
def test_a_wrong_line_names_the_field(line: str, field: str, detail: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_line(line)
    assert caught.value.field == field
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"transfer": "coin:5"}, "--transfer"),
        ({"transfer": f"coin:five:{ID}"}, "--transfer"),
        ({"candidacy": "coin"}, "--candidacy"),
        ({"withdrawal": "coin:-5"}, "--withdrawal"),
        ({"data": "a", "reads": ["hall"]}, "--read"),
        ({"data": "a", "writes": ["hall@x"]}, "--write"),
        ({"data": "a", "writes": ["hall@1", "hall@2"]}, "--write"),
        ({"data": "a", "valid_for": "soon"}, "--valid-for"),
        ({"transfer": f"coin:0:{ID}"}, "--transfer"),
        ({"transfer": f"coin:{1 << 64}:{ID}"}, "--transfer"),
        ({"data": "a", "reads": [f"hall@{1 << 64}"]}, "--read"),
        ({"data": "a", "depends_on": ["xyz"]}, "--depends-on"),
        ({}, "options"),
        ({"data": "a", "transfer": f"coin:5:{ID}"}, "options"),
    ],
)
def test_a_wrong_option_is_named(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options(**changed)
    assert caught.value.field == field


def test_an_amount_out_of_range_is_told_in_words() -> None:
    for amount, told in ((0, "amount is at least 1"), (1 << 64, f"amount is at most {2**64 - 1}")):
        with pytest.raises(InvalidRequest, match=f"--transfer: {told}"):
            options(transfer=f"coin:{amount}:{ID}")
