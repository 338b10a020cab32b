"""In what two genesis files differ, for people: keys by the beginning of their ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from citychain.crypto.keys import key_id
from citychain.genesis import Genesis

__all__ = ["differences"]

TOLD_MAX: Final = 4
"""Fields that are named; there may be thousands of balances."""
KEY_CHARS: Final = 12
VALUE_CHARS: Final = 40

_CONFIGURED: Final = {"rule": "dag", "rule_options": "dag_options"}
"""Fields that settings call otherwise."""
_ABSENT: Final = object()


def differences(here: Genesis, there: Genesis) -> str:
    """Each field in which two genesis files differ, with its value in both."""
    ours, theirs = _fields(here), _fields(there)
    if _operator_alone(here) and _operator_alone(there):
        del ours["committee"], theirs["committee"]  # It follows from the operator.
    found = [
        f"{path} is {_told(one)} here and {_told(other)} there"
        for path, one, other in _unlike("", ours, theirs)
    ]
    if not found:
        return "it says the same, and its file is written otherwise: all need it byte for byte"
    # What everything else may follow from comes first.
    found.sort(key=lambda text: not text.startswith("operator "))
    more = f"; and {len(found) - TOLD_MAX} more" if len(found) > TOLD_MAX else ""
    return "; ".join(found[:TOLD_MAX]) + more


def _fields(genesis: Genesis) -> dict[str, Any]:
    fields = genesis.model_dump(mode="json")
    fields["operator"] = _Key(fields["operator"])
    for member in fields["committee"]:
        member["public_key"] = _Key(member["public_key"])
    return {_CONFIGURED.get(name, name): value for name, value in fields.items()}


class _Key(str):
    """A public key in hexadecimal."""


def _operator_alone(genesis: Genesis) -> bool:
    return [(it.public_key, it.stake) for it in genesis.committee] == [(genesis.operator, 1)]


def _unlike(path: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Paths at which two values differ, each as deep as it goes."""
    if one == other:
        return
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            short = key if len(key) <= VALUE_CHARS else f"{key[:KEY_CHARS]}..."
            inner = f"{path}.{short}" if path else short
            yield from _unlike(inner, one.get(key, _ABSENT), other.get(key, _ABSENT))
    elif _is_list(one) and _is_list(other) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _unlike(f"{path}.{index}", *pair)
    else:
        yield path, one, other


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _told(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, _Key):
        return f"key {key_id(bytes.fromhex(value)).hex()[:KEY_CHARS]}..."
    if _is_list(value):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}..."
