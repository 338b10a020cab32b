"""Transactions as people write them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from citychain.cli.drafts import Draft, from_options, parse_line
from citychain.errors import InvalidRequest

ID = "ab" * 32

NOTHING: dict[str, Any] = {
    "data": None,
    "content_type": "",
    "transfer": None,
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
    assert options(data="héllo").content == "héllo".encode()
    assert options(data=f"@{file}").content == b"\xff\x00"
    assert options(data="").content == b""


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        options(data=f"@{tmp_path / 'none'}")


@pytest.mark.parametrize(
    ("line", "field", "detail"),
    [
        ("not json", "line", "invalid JSON"),
        ("[]", "line", "object"),
        ("{}", "line", "needs one of data, data_base64 and transfer"),
        ('{"data": "a", "data_base64": "YQ=="}', "line", "needs one of"),
        ('{"data": "a", "colour": 1}', "colour", "not permitted"),
        ('{"data": 7}', "data", "string"),
        ('{"data_base64": "a"}', "data_base64", "not base64"),
        ('{"data": "a", "depends_on": ["abcd"]}', "depends_on.0", "at least 32"),
        ('{"data": "a", "depends_on": ["xy"]}', "depends_on.0", "not hexadecimal"),
        ('{"data": "a", "valid_for": "10 minutes"}', "valid_for", "30s, 10m, 2h or 1d"),
        ('{"data": "a", "reads": {"x": "1"}}', "reads.x", "integer"),
        ('{"data": "a", "writes": {"x": -1}}', "writes.x", "greater"),
        ('{"transfer": {"asset": "coin", "amount": 0, "to": "' + ID + '"}}',
         "transfer.amount", "greater"),
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
        ({"data": "a", "reads": ["hall"]}, "--read"),
        ({"data": "a", "writes": ["hall@x"]}, "--write"),
        ({"data": "a", "writes": ["hall@1", "hall@2"]}, "--write"),
        ({"data": "a", "valid_for": "soon"}, "valid_for"),
    ],
)
def test_a_wrong_option_is_named(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options(**changed)
    assert caught.value.field == field
