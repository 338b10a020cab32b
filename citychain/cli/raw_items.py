"""The JSON objects of a file, each with the line at which it begins.

A JSON object a line; or a JSON document: a list of objects, or objects one after the other, over
as many lines as they like. Of lines one is read at a time; a document is read whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from citychain.errors import InvalidRequest

__all__ = ["Item", "read_items"]

LINE_BYTES_MAX: Final = 2 << 20
DOCUMENT_BYTES_MAX: Final = 64 << 20

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
SPACE: Final = re.compile(r"[ \t\r\n]*")


class Item(NamedTuple):
    """An object of a file, as it stands there; it need not be right."""

    line: int
    """Where it begins, from 1."""
    text: bytes


def read_items(file: BinaryIO, name: str) -> Iterator[Item]:
    """What a file has, in order; empty lines have nothing.

    Args:
        name: The file's, for people.

    Raises:
        InvalidRequest: it cannot be read on; names the file, and the line where that is known.
    """
    line, first = 0, b""
    while not first.strip():
        line += 1
        if not (first := _line(file, name, line)):
            return
        if line == 1:
            first = first.removeprefix(BYTE_ORDER_MARK)
    if _is_document(first):
        yield from _document(file, name, line, first)
        return
    while first:
        if first.strip():
            yield Item(line, first)
        line += 1
        first = _line(file, name, line)


def _line(file: BinaryIO, name: str, line: int) -> bytes:
    text = file.readline(LINE_BYTES_MAX + 1)
    if len(text) > LINE_BYTES_MAX:
        raise InvalidRequest(f"{name}:{line}", f"a line has more than {LINE_BYTES_MAX} bytes")
    return text


def _is_document(first: bytes) -> bool:
    """Whether the first line is but the beginning of something; a wrong line is a line."""
    first = first.strip()
    return first.startswith(b"[") or (first.startswith(b"{") and not first.endswith(b"}"))


def _document(file: BinaryIO, name: str, line: int, first: bytes) -> Iterator[Item]:
    content = first + file.read(DOCUMENT_BYTES_MAX + 1)
    if len(content) > DOCUMENT_BYTES_MAX:
        detail = f"a document has at most {DOCUMENT_BYTES_MAX} bytes: write an object a line"
        raise InvalidRequest(name, detail)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(name, "is not UTF-8") from None
    yield from _Document(text, name, line).items()


class _Document:
    """A document, read from its beginning to its end.

    Args:
        line: The line of the file at which it begins.
    """

    def __init__(self, text: str, name: str, line: int) -> None:
        self._text = text
        self._name = name
        self._line = line
        self._at = 0
        self._decoder = json.JSONDecoder()

    def items(self) -> Iterator[Item]:
        """Its objects, and whatever else stands in their place."""
        self._skip_space()
        listed = self._takes("[")
        if listed and self._takes("]"):
            self._end()
            return
        while True:
            yield self._item()
            if listed and self._takes("]"):
                self._end()
                return
            if not listed and self._at == len(self._text):
                return
            if listed and not self._takes(","):
                raise self._fault("a comma, or ] at the end of the list, is missing before this")

    def _item(self) -> Item:
        begin, line = self._at, self._line
        try:
            _, end = self._decoder.raw_decode(self._text, begin)
        except json.JSONDecodeError as error:
            self._go_to(error.pos)
            raise self._fault(f"is no JSON: {error.msg[:1].lower()}{error.msg[1:]}") from None
        except RecursionError:
            raise self._fault("is nested too deeply") from None
        self._go_to(end)
        self._skip_space()
        return Item(line, self._text[begin:end].encode())

    def _takes(self, mark: str) -> bool:
        """Whether this stands next; then it is passed."""
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        self._skip_space()
        return True

    def _end(self) -> None:
        if self._at < len(self._text):
            raise self._fault("stands after the end of the list")

    def _skip_space(self) -> None:
        found = SPACE.match(self._text, self._at)
        assert found is not None  # It may be empty.
        self._go_to(found.end())

    def _go_to(self, place: int) -> None:
        self._line += self._text.count("\n", self._at, place)
        self._at = place

    def _fault(self, detail: str) -> InvalidRequest:
        return InvalidRequest(f"{self._name}:{self._line}", detail)
