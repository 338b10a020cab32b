"""The bounds of requests, each raising `InvalidRequest` that names the field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from citychain.errors import InvalidRequest, VerificationError
from citychain.rpc.messages import ID_BYTES

__all__ = ["at_most", "decoded", "id_bytes", "ids", "offset", "page_size", "round_number", "text"]

M = TypeVar("M")
T = TypeVar("T")


def text(value: str, field: str, maximum: int = 256) -> str:
    """A text of 1 to ``maximum`` characters."""
    if not value:
        raise InvalidRequest(field, "must be given")
    return at_most(value, field, maximum, "characters")


def at_most(value: T, field: str, maximum: int, unit: str) -> T:
    """Something of bounded length."""
    if (length := len(value)) > maximum:  # type: ignore[arg-type]
        raise InvalidRequest(field, f"has {length} {unit}; at most {maximum} are allowed")
    return value


def id_bytes(value: bytes, field: str) -> bytes:
    """An id of 32 bytes."""
    if len(value) != ID_BYTES:
        raise InvalidRequest(field, f"has {len(value)} bytes; an id has {ID_BYTES}")
    return value


def ids(values: Sequence[bytes], field: str, maximum: int) -> list[bytes]:
    """1 to ``maximum`` ids of 32 bytes."""
    if not values:
        raise InvalidRequest(field, "must not be empty")
    at_most(values, field, maximum, "ids")
    return [id_bytes(value, f"{field}[{index}]") for index, value in enumerate(values)]


def page_size(value: int, default: int, maximum: int) -> int:
    """A page's size; 0 means the default."""
    if value > maximum:
        raise InvalidRequest("page_size", f"is {value}; at most {maximum} is allowed")
    return value or default


def offset(page_token: str) -> int:
    """How many items the pages before had, which such a token says."""
    if not page_token:
        return 0
    if not (page_token.isascii() and page_token.isdigit() and len(page_token) <= 9):
        raise InvalidRequest("page_token", "is not one that this server gave")
    return int(page_token)


def round_number(value: int, field: str) -> int:
    """A round's number, from 1, within what storage can keep."""
    if not 1 <= value < 1 << 63:
        raise InvalidRequest(field, f"is {value}; rounds are numbered from 1")
    return value


def decoded(decode: Callable[[M, str], T], message: M, field: str) -> T:
    """A message in its form, read by one of `citychain.rpc.messages`."""
    try:
        return decode(message, field)
    except VerificationError as error:
        where, _, detail = str(error).partition(": ")
        raise InvalidRequest(where, detail) from None
