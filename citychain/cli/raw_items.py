"""The JSON objects of a file, each with the line at which it begins.

A JSON object a line; or a JSON document: a list of objects, or objects one after the other, over
as many lines as they like. Of lines one is read at a time; a document is read whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

__all__ = ["Broken", "Item", "read_items"]

LINE_BYTES_MAX: Final = 2 << 20
DOCUMENT_BYTES_MAX: Final = 64 << 20

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
SPACE: Final = re.compile(r"[ \t\r\n]*")


class Item(NamedTuple):
    """An object of a file, as it stands there; it need not be right."""

    line: int
    """Where it begins, from 1."""
    text: bytes


class Broken(NamedTuple):
    """From here on the file cannot be read."""

    line: int
    detail: str


class _Fault(Exception):
    """Ends the reading of a document at a line."""


def read_items(file: BinaryIO) -> Iterator[Item | Broken]:
    """What a file has, in order; empty lines have nothing. Nothing follows on `Broken`."""
    line, first = 0, b""
    while not first.strip():
        line += 1
        if not (first := file.readline(LINE_BYTES_MAX + 1)):
            return
        if line == 1:
            first = first.removeprefix(BYTE_ORDER_MARK)
    if _is_document(first):
        yield from _document(line, first + file.read(DOCUMENT_BYTES_MAX + 1))
        return
    while first:
        if len(first) > LINE_BYTES_MAX:
            yield Broken(line, f"a line has more than {LINE_BYTES_MAX} bytes")
            return
        if first.strip():
            yield Item(line, first)
        line += 1
        first = file.readline(LINE_BYTES_MAX + 1)


def _is_document(first: bytes) -> bool:
    """Whether the first line is but the beginning of something; a wrong line is a line."""
    first = first.strip()
    return first.startswith(b"[") or (first.startswith(b"{") and not first.endswith(b"}"))


def _document(line: int, content: bytes) -> Iterator[Item | Broken]:
    if len(content) > DOCUMENT_BYTES_MAX:
        yield Broken(line, f"has more than {DOCUMENT_BYTES_MAX} bytes: write an object a line")
        return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        yield Broken(line + content.count(b"\n", 0, error.start), "is not UTF-8")
        return
    document = _Document(text, line)
    try:
        yield from document.items()
    except _Fault as fault:
        yield Broken(document.line, str(fault))


class _Document:
    """A document, read from its beginning to its end.

    Args:
        line: The line of the file at which it begins.
    """

    def __init__(self, text: str, line: int) -> None:
        self.line = line
        """Where it is read now."""
        self._text = text
        self._at = 0
        # It is only to find where they end: Python reads no integer of more than 4,300 digits.
        self._decoder = json.JSONDecoder(parse_int=str)

    def items(self) -> Iterator[Item]:
        """Its objects, and whatever else stands in their place.

        Raises:
            _Fault: it goes on otherwise, at `line`.
        """
        self._skip_space()
        listed = self._takes("[")
        if listed and self._takes("]"):
            self._check_end()
            return
        while True:
            yield self._item()
            if listed and self._takes("]"):
                self._check_end()
                return
            if not listed and self._at == len(self._text):
                return
            if listed and not self._takes(","):
                raise _Fault("a comma is missing before this, or ] at the end of the list")

    def _item(self) -> Item:
        begin, line = self._at, self.line
        try:
            _, end = self._decoder.raw_decode(self._text, begin)
        except json.JSONDecodeError as error:
            self._go_to(error.pos)
            raise _Fault(f"invalid JSON: {error.msg[:1].lower()}{error.msg[1:]}") from None
        except RecursionError:
            raise _Fault("is nested too deeply") from None
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

    def _check_end(self) -> None:
        if self._at < len(self._text):
            raise _Fault("something stands after the end of the list")

    def _skip_space(self) -> None:
        found = SPACE.match(self._text, self._at)
        assert found is not None  # It may be empty.
        self._go_to(found.end())

    def _go_to(self, place: int) -> None:
        self.line += self._text.count("\n", self._at, place)
        self._at = place
