"""Keys of fragments."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from citychain.errors import VerificationError
from citychain.ports import FragmentKey
from citychain.rpc._generated.citychain.v1 import storage_pb2
from citychain.rpc.messages.fields import ID_BYTES, exact

__all__ = [
    "JUDGEMENT_KEY",
    "PART_BYTES_MAX",
    "PRESENT",
    "WANTED",
    "decode_fragment_key",
    "decode_fragment_keys",
    "encode_fragment_key",
]

PART_BYTES_MAX: Final = 1 << 20
"""Of a fragment, in one message."""
JUDGEMENT_KEY: Final = "citychain-judgement"
"""Initial metadata of a call that stores."""
WANTED: Final = "wanted"
PRESENT: Final = "present"
INDEX_MAX: Final = 254


def encode_fragment_key(key: FragmentKey) -> storage_pb2.FragmentKey:
    """A key of our own."""
    return storage_pb2.FragmentKey(object_id=key.object_id, root=key.root, index=key.index)


def decode_fragment_key(message: storage_pb2.FragmentKey, field: str) -> FragmentKey:
    """A key that somebody else wrote."""
    if message.index > INDEX_MAX:
        raise VerificationError(f"{field}.index: {message.index}; at most {INDEX_MAX} is allowed")
    return FragmentKey(
        exact(message.object_id, ID_BYTES, f"{field}.object_id"),
        exact(message.root, ID_BYTES, f"{field}.root"),
        message.index,
    )


def decode_fragment_keys(
    messages: Iterable[storage_pb2.FragmentKey], field: str
) -> list[FragmentKey]:
    """Keys in order, each once."""
    keys = [decode_fragment_key(message, f"{field}[{at}]") for at, message in enumerate(messages)]
    if any(a >= b for a, b in pairwise(keys)):
        raise VerificationError(f"{field}: not in order")
    return keys
