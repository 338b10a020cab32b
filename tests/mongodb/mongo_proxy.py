"""A proxy before a MongoDB server that counts the writes of whoever is behind it, and fails at one.

It reads messages as far as it must (opcode OP_MSG, little-endian)::

    length 4 ‖ request id 4 ‖ response to 4 ‖ 2013 4 ‖ flags 4 ‖ 0 1 ‖ a document of BSON:
    length 4 ‖ type 1 ‖ command's name ‖ 0 ‖ its value, for a write the collection: length 4 ‖ …

A driver that compresses says so in its URI; those of tests do not.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from enum import Enum
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import bson
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from citychain.testing.proxy import FaultProxy, Link

WRITES: Final = frozenset({"insert", "update", "delete", "findAndModify", "bulkWrite"})
"""Commands that change documents."""

_HEADER: Final = struct.Struct("<iiii")
_BODY_AT: Final = 20
_NAME_AT: Final = 26
_OP_MSG: Final = 2013
_NEVER: Final = 1 << 60


class Loss(Enum):
    """What is lost at a write."""

    REQUEST = "request"
    """The server never hears of it."""
    REPLY = "reply"
    """It is done, and its client is not told."""


class MongoProxy(FaultProxy):
    """In front of the server at ``host:port``.

    Attributes:
        writes: ``command collection`` of all writes that came so far, in order.
        keep: Whether commands are kept.
        commands: Those that came while they were.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.writes: list[str] = []
        self.keep = False
        self.commands: list[dict[str, Any]] = []
        self._at = _NEVER
        self._loss = Loss.REQUEST
        self._dies = False
        self._unanswered: set[tuple[Link, int]] = set()
        self._reached = asyncio.Event()

    def lose(self, nth: int, loss: Loss) -> None:
        """Break the connection of the ``nth`` write from now on, the first being 1."""
        self._at, self._loss, self._dies = len(self.writes) + nth, loss, False
        self._reached.clear()

    def crash(self, nth: int, loss: Loss) -> None:
        """As `lose`, but nobody is heard or told anything from there on, until `heal`."""
        self.lose(nth, loss)
        self._dies = True

    async def reached(self) -> None:
        """Wait until a write was lost."""
        await self._reached.wait()

    @property
    def is_reached(self) -> bool:
        """Whether a write was lost."""
        return self._reached.is_set()

    async def split(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """Whole messages."""
        while head := await reader.read(1):
            head += await self._exactly(reader, _HEADER.size - 1)
            yield head + await self._exactly(reader, _HEADER.unpack(head)[0] - _HEADER.size)

    async def requested(self, link: Link, piece: bytes) -> None:
        """Count a write."""
        if self.keep and command(piece):
            self.commands.append(decoded(piece))
        if (name := command(piece)) not in WRITES:
            return
        self.writes.append(f"{name} {collection(piece)}")
        if len(self.writes) == self._at:
            if self._loss is Loss.REQUEST:
                self._fail(link)
            else:
                self._unanswered.add((link, _HEADER.unpack_from(piece)[1]))

    async def replied(self, link: Link, piece: bytes) -> None:
        """Lose the reply of the chosen write."""
        if (link, _HEADER.unpack_from(piece)[2]) in self._unanswered:
            self._unanswered.clear()
            self._fail(link)

    def _fail(self, link: Link) -> None:
        self._at = _NEVER
        if self._dies:
            self.refuse()
        else:
            link.cut()
        self._reached.set()

    @staticmethod
    async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
        try:
            return await reader.readexactly(count)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None


def command(message: bytes) -> str:
    """Name of the command in a message; empty for what is none."""
    if _HEADER.unpack_from(message)[3] != _OP_MSG or message[_BODY_AT] != 0:
        return ""
    return message[_NAME_AT : message.index(0, _NAME_AT)].decode()


def collection(message: bytes) -> str:
    """What a command names first: for a write its collection."""
    begin = message.index(0, _NAME_AT) + 1
    [size] = struct.unpack_from("<i", message, begin)
    return message[begin + 4 : begin + 3 + size].decode()


def decoded(message: bytes) -> dict[str, Any]:
    """A command whole, with the documents that stand in sections of their own::

    1 1 ‖ length 4 ‖ name ‖ 0 ‖ documents
    """
    [size] = struct.unpack_from("<i", message, _BODY_AT + 1)
    at = _BODY_AT + 1 + size
    found: dict[str, Any] = bson.decode(message[_BODY_AT + 1 : at])
    while at < len(message) and message[at] == 1:
        [size] = struct.unpack_from("<i", message, at + 1)
        name_end = message.index(0, at + 5)
        documents = message[name_end + 1 : at + 1 + size]
        found[message[at + 5 : name_end].decode()] = bson.decode_all(documents)
        at += 1 + size
    return found


def primary(client: MongoClient[dict[str, Any]]) -> str:
    """``host:port`` of the server that takes writes."""
    client.admin.command("ping")
    assert client.address is not None
    return "{}:{}".format(*client.address)


def through(uri: str, address: str, **options: str) -> str:
    """A URI with the same credentials and options that leads to one address alone.

    Args:
        options: Set beside those that it has, or in their place.
    """
    parsed: Mapping[str, Any] = parse_uri(uri, warn=False)
    kept = {"directConnection": "true", "heartbeatFrequencyMS": "500"}
    given = dict(pair.split("=", 1) for pair in uri.partition("?")[2].split("&") if pair)
    given.pop("replicaSet", None)
    user = ""
    if parsed["username"]:
        user = f"{quote_plus(parsed['username'])}:{quote_plus(parsed['password'] or '')}@"
    return f"mongodb://{user}{address}/?{urlencode({**given, **kept, **options}, safe='/')}"
