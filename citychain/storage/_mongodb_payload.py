"""What people can query of a transaction: its body, as a document.

The signed bytes stand in ``transactions_raw`` and are what counts; this is for looking. Content
that says it is JSON becomes a document of its own where BSON can hold it, else it stays bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import bson
from bson.errors import BSONError

from citychain._native.transactions import Transaction, decode_batch

__all__ = ["payloads", "payloads_of_envelopes"]

JSON_BYTES_MAX: Final = 16 << 10
"""Larger content stays bytes."""
DEPTH_MAX: Final = 20
"""Levels of JSON; BSON ends at 100."""
_INT64_MAX: Final = (1 << 63) - 1
_UNFIT: Final = (BSONError, OverflowError, RecursionError, TypeError, ValueError)
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)
_LATEST_MS: Final = int(_LATEST.timestamp() * 1000)


def payloads(transactions: Iterable[object]) -> list[bytes | None]:
    """The payload of each transaction, encoded; ``None`` for what is not opened."""
    return [_payload(t) if isinstance(t, Transaction) else None for t in transactions]


def payloads_of_envelopes(envelopes: Sequence[bytes | None]) -> list[bytes | None]:
    """The same from stored envelopes; ``None`` for those that are gone or cannot be opened."""
    found: list[bytes | None] = []
    for envelope in envelopes:
        try:
            found += payloads(decode_batch([envelope])) if envelope is not None else [None]
        except Exception:
            found.append(None)
    return found


def _payload(transaction: Transaction) -> bytes | None:
    action = transaction.action
    fields: dict[str, Any] = {"action": action, "created_at": _date(transaction.created_at_ms)}
    if (until := transaction.valid_until_ms) is not None:
        fields["valid_until"] = _date(until)
    if depends_on := transaction.depends_on:
        fields["depends_on"] = list(depends_on)
    for name, accesses in (("reads", transaction.reads), ("writes", transaction.writes)):
        if accesses:
            fields[name] = [{"object": o, "version": _plain(v)} for o, v in accesses]
    if action == "data":
        content_type, content = transaction.content_type or "", transaction.content or b""
        fields["content_type"] = content_type
        if (document := _json(content_type, content)) is not None:
            try:
                return bson.encode({**fields, "content": document})
            except _UNFIT:
                pass  # JSON has names and numbers that BSON has not.
        fields["content"] = content
    elif action == "transfer" and (transfer := transaction.transfer) is not None:
        asset, to, amount = transfer
        fields["transfer"] = {"asset": asset, "to": to, "amount": _plain(amount)}
    else:
        fields[action] = _plain(getattr(transaction, action, None))
    try:
        return bson.encode(fields)
    except _UNFIT:
        return None


def _json(content_type: str, content: bytes) -> object | None:
    kind = content_type.partition(";")[0].strip().lower()
    if not (kind == "application/json" or kind.endswith("+json")) or len(content) > JSON_BYTES_MAX:
        return None
    try:
        document = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return document if _fits(document, DEPTH_MAX) else None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _fits(value: object, depth: int) -> bool:
    """Whether the value is not too deep, and none of its names means something to MongoDB."""
    if isinstance(value, dict):
        return depth > 0 and all(
            name and name[0] != "$" and "." not in name and _fits(inner, depth - 1)
            for name, inner in value.items()
        )
    if isinstance(value, list):
        return depth > 0 and all(_fits(inner, depth - 1) for inner in value)
    return True


def _plain(value: object) -> object:
    """The value of an action in types that BSON has."""
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: _plain(inner) for name, inner in value._asdict().items()}
        return [_plain(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and value > _INT64_MAX:
        return str(value)
    return value


def _date(milliseconds: int) -> datetime | int | str:
    """A time as a date; one after the year 9999 as a number."""
    if milliseconds <= _LATEST_MS:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    value = _plain(milliseconds)
    assert isinstance(value, int | str)
    return value
