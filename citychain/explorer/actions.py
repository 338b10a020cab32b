"""A transaction as the page shows it."""

from __future__ import annotations

import base64
from typing import Any

from citychain._native.transactions import Transaction, decode_batch
from citychain.explorer.shown import exact
from citychain.handler import TransactionStatus

__all__ = ["transaction_shown"]


def transaction_shown(status: TransactionStatus) -> dict[str, Any]:
    """What a transaction says, and where it stands."""
    shown: dict[str, Any] = {"tx_id": status.tx_id, "state": status.state.name.lower()}
    if (node := status.node) is not None:
        shown |= {
            "author": node.author,
            "round": node.round,
            "seq": node.seq,
            "time_ms": status.time_ms,
        }
        if node.rejection is not None:
            shown |= {"code": node.rejection.code, "reason": node.rejection.reason}
        else:
            shown["node_id"] = node.node_id
    if status.envelope is None:
        # Retention removed what it said.
        return shown | {"action": {"kind": "pruned"}, "envelope": ""}
    [transaction] = decode_batch([status.envelope])
    return shown | {
        "author": transaction.author,
        "created_at_ms": exact(transaction.created_at_ms),
        "valid_until_ms": _plain(transaction.valid_until_ms),
        "depends_on": list(transaction.depends_on),
        "reads": _plain(dict(transaction.reads)),
        "writes": _plain(dict(transaction.writes)),
        "action": {"kind": transaction.action} | _fields(transaction),
        "envelope": base64.b64encode(status.envelope).decode(),
    }


def _fields(transaction: Transaction) -> dict[str, Any]:
    match transaction.action:
        case "data":
            return {"content_type": transaction.content_type} | _content(transaction.content or b"")
        case "transfer":
            assert transaction.transfer is not None
            names: tuple[str, ...] = ("asset", "to", "amount")
            said: Any = dict(zip(names, transaction.transfer, strict=True))
        case "witness":
            assert transaction.witness is not None
            said = dict(zip(("public_key", "revoked"), transaction.witness, strict=True))
        case "candidacy" | "withdrawal":
            said = transaction.stake
        case kind:
            said = getattr(transaction, kind)
    fields: dict[str, Any] = _plain(said)
    return fields


def _content(content: bytes) -> dict[str, str]:
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def _plain(value: Any) -> Any:
    """The same of what JSON has."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [*map(_plain, value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return exact(value)
    return value
