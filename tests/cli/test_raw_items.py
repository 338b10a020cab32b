"""What a file of transactions has, in whichever form it is written."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.cli.raw_items import LINE_BYTES_MAX, Broken, Item, read_items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=8)


def read(text: str | bytes) -> list[Item | Broken]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_items(io.BytesIO(content)))


def objects(items: list[Item | Broken]) -> list[Any]:
    assert all(isinstance(item, Item) for item in items), items
    return [json.loads(item.text) for item in items if isinstance(item, Item)]


@given(OBJECTS, st.booleans(), st.booleans())
def test_every_form_has_the_same_objects(items: list[Any], ascii: bool, mark: bool) -> None:
    def dumped(value: Any, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii, **how)

    begin = "\ufeff" if mark else ""
    lines = "".join(f"{dumped(item)}\n" for item in items)
    assert objects(read(begin + lines)) == items
    assert objects(read(begin + lines.rstrip("\n"))) == items
    assert objects(read(begin + lines.replace("\n", "\r\n\n"))) == items
    assert objects(read(begin + dumped(items))) == items
    assert objects(read(begin + dumped(items, indent=2))) == items
    # One after the other, as jq prints them; an empty one is written on one line.
    pretty = [dumped({"a": 1, **item}, indent=1) for item in items]
    assert objects(read(begin + "\n".join(pretty))) == [{"a": 1, **item} for item in items]


@given(OBJECTS)
def test_each_names_the_line_at_which_it_begins(items: list[Any]) -> None:
    for text in (
        "\n" + "\n\n".join(map(json.dumps, items)),
        "\n" + json.dumps(items, indent=2),
    ):
        for item in read(text):
            assert isinstance(item, Item)
            rest = "\n".join(text.split("\n")[item.line - 1 :]).lstrip(" ")
            assert rest.startswith(item.text.decode().rstrip("\n"))


def test_whether_a_number_can_be_had_is_for_whoever_reads_the_object() -> None:
    text = '{"a": ' + "1" * 5_000 + "}"
    assert read(f"[\n{text}]") == [Item(2, text.encode())]


def test_a_wrong_line_is_a_line_like_any_other() -> None:
    assert read('{"data": }\nnonsense\n\n{"data": "c"}\n') == [
        Item(1, b'{"data": }\n'),
        Item(2, b"nonsense\n"),
        Item(4, b'{"data": "c"}\n'),
    ]
    assert read("nonsense\n[1]") == [Item(1, b"nonsense\n"), Item(2, b"[1]")]


@pytest.mark.parametrize(
    ("text", "count", "line", "detail"),
    [
        ('[\n{"a": 1},\n{"a": }\n]', 1, 3, "invalid JSON: expecting value"),
        ('[{"a": 1}\n{"a": 2}]', 1, 2, "a comma is missing"),
        ('[{"a": 1},\n]', 1, 2, "invalid JSON"),
        ('[{"a": 1}]\n\n{"a": 2}', 1, 3, "after the end of the list"),
        ("[]\nx", 0, 2, "after the end of the list"),
        ('[{"a": 1}', 1, 1, "a comma is missing"),
        ("[", 0, 1, "invalid JSON"),
        ('{"a":\n1', 0, 2, "invalid JSON"),
        ('[\n"\xff"]'.encode("latin-1"), 0, 2, "UTF-8"),
        ("[" * 100_000, 0, 1, "nested too deeply"),
        ('{"a": 1}\n"' + "a" * LINE_BYTES_MAX, 1, 2, "a line has more than"),
    ],
)
def test_where_it_cannot_be_read_on_is_told(
    text: str | bytes, count: int, line: int, detail: str
) -> None:
    *items, last = read(text)
    assert len(items) == count
    assert all(isinstance(item, Item) for item in items)
    assert isinstance(last, Broken)
    assert last.line == line
    assert detail in last.detail
