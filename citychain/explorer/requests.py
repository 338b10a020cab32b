"""What a request over HTTP brings, each raising `InvalidRequest` that names the field."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import HTTPConnection, Request

from citychain.callers import network_of
from citychain.errors import InvalidRequest

__all__ = [
    "boolean",
    "caller_of",
    "hex_id",
    "integer",
    "path_id",
    "path_integer",
    "place",
    "words",
]

TEXT_MAX: Final = 256
INTEGER_MAX: Final = (1 << 63) - 1
_ID: Final = re.compile(r"[0-9a-f]{64}")


def caller_of(connection: HTTPConnection) -> str:
    """Who asks, as far as their address tells."""
    return network_of(connection.client.host) if connection.client else ""


def words(request: Request, name: str) -> str:
    """A text of the query; empty where it has none."""
    value = request.query_params.get(name, "")
    if len(value) > TEXT_MAX:
        raise InvalidRequest(name, f"has {len(value)} characters; at most {TEXT_MAX} are allowed")
    return value


def integer(
    request: Request, name: str, default: int, *, least: int = 0, most: int = INTEGER_MAX
) -> int:
    """A whole number of the query."""
    value = request.query_params.get(name)
    return default if value is None else _integer(value, name, least, most)


def path_integer(request: Request, name: str, *, least: int = 0) -> int:
    """A whole number of the path."""
    return _integer(request.path_params[name], name, least, INTEGER_MAX)


def _integer(value: str, name: str, least: int, most: int) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise InvalidRequest(name, f"must be a whole number from {least} to {most}")
    if not least <= (number := int(value)) <= most:
        raise InvalidRequest(name, f"is {number}; {least} to {most} is allowed")
    return number


def place(request: Request, name: str) -> tuple[int, int] | None:
    """A round and a seq of the query; ``None`` where it has none."""
    value = request.query_params.get(name)
    if value is None:
        return None
    round, dot, seq = value.partition(".")
    if not dot:
        raise InvalidRequest(name, "is not of a page before")
    return _integer(round, name, 1, INTEGER_MAX), _integer(seq, name, 0, INTEGER_MAX)


def boolean(request: Request, name: str) -> bool:
    """A yes or no of the query; no where it has none."""
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidRequest(name, "must be true or false")
    return value == "true"


def path_id(request: Request, name: str) -> bytes:
    """An id of the path."""
    return hex_id(request.path_params[name], name)


def hex_id(value: object, name: str) -> bytes:
    """An id of 64 hexadecimal digits."""
    if not isinstance(value, str) or not _ID.fullmatch(value.lower()):
        raise InvalidRequest(name, "is no id of 64 hexadecimal digits")
    return bytes.fromhex(value)
