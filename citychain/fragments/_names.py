"""Names of fragments in folders: ``<3>/<object>-<root>-<index>``, of hexadecimal digits.

A name sorts as its key does. Its folder has the name's first digits, so that none gets too many.
"""

from __future__ import annotations

import re
from typing import Final

from citychain.ports import FragmentKey

__all__ = ["SHARD", "SHARD_DIGITS", "is_name", "key_of", "name_of"]

SHARD_DIGITS: Final = 3
SHARD: Final = re.compile(r"[0-9a-f]{3}")
NAME: Final = re.compile(r"([0-9a-f]{64})-([0-9a-f]{64})-([0-9a-f]{2})")


def name_of(key: FragmentKey) -> str:
    """A fragment's name, without its folder."""
    return f"{key.object_id.hex()}-{key.root.hex()}-{key.index:02x}"


def is_name(name: str, shard: str) -> bool:
    """Whether it is that of a fragment which belongs into a folder."""
    return name.startswith(shard) and NAME.fullmatch(name) is not None


def key_of(name: str) -> FragmentKey:
    """The fragment of a name."""
    object_id, root, index = name.split("-")
    return FragmentKey(bytes.fromhex(object_id), bytes.fromhex(root), int(index, 16))
