"""What residents may write, and that no part fails over it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import pytest

from citychain._native.transactions import Transaction
from citychain.client.actions import Data

__all__ = ["each_is_survived", "hostile_data"]

HOSTILE: Final = (
    b"",
    b"\0",
    b"\xff\xfe\x00",
    "雪 \U0001f3d9 \u202e".encode(),
    b"{",
    b"[]",
    b"null",
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b"9" * 20_000,
    b"-1e999999",
    b"NaN",
    b'{"district": 5, "amount": "NaN", "at": null}',
    json.dumps({"\ud800": ["\ud800"] * 3}).encode(),
    b"<?xml version='1.0'?><a>&b;</a>",
    b"2001-02-30T25:61:61Z",
    b"x" * 60_000,
)
"""What residents may write: any bytes that fit into a body."""
TYPES: Final = ("", "application/json", "text/plain; charset=utf-16", "\u202e")


def hostile_data() -> list[Data]:
    """Each content with each type."""
    return [Data(content, kind) for content in HOSTILE for kind in TYPES]


async def each_is_survived(
    transactions: Sequence[Transaction],
    ask: Callable[[Transaction], Awaitable[object]],
    part: str,
    remedy: str,
) -> None:
    """Ask a part about each transaction by itself; fail with its content where that raises.

    Args:
        part: Who is asked, as the message calls it.
        remedy: What it is to do instead, a verb.
    """
    for transaction in transactions:
        try:
            await ask(transaction)
        except AssertionError:
            raise
        except Exception as error:
            shown = repr((transaction.content or b"")[:40])
            pytest.fail(
                f"{part} fails over a transaction with content {shown}: {error!r}. One resident "
                f"would stop the whole city: {remedy} what cannot be read",
                pytrace=False,
            )
