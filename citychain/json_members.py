"""JSON that says one thing.

Of a member that is given twice some readers take the first and others the last, so that
one file, with one hash, would say different things to different people.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read_json"]


def read_json(content: bytes) -> Any:
    """Read JSON in UTF-8 whose objects have each member once.

    Raises:
        ValueError: it is none, or nested too deep.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"member {name!r} is given twice")
        members[name] = value
    return members
