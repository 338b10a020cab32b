"""Another reader of the layouts of proofs, written from docs/protocol.md alone.

It goes through the bytes once, with no regard to bounds, and says what stands where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Spans = list[tuple[str, bytes]]


class Read(NamedTuple):
    value: Any
    rest: bytes


def number(size: int) -> Callable[[bytes], Read]:
    return lambda data: Read(int.from_bytes(data[:size], "big"), data[size:])


def fixed(size: int) -> Callable[[bytes], Read]:
    return lambda data: Read(data[:size], data[size:])


def counted(size: int) -> Callable[[bytes], Read]:
    def read(data: bytes) -> Read:
        length, rest = number(size)(data)
        return Read(rest[:length], rest[length:])

    return read


def times(size: int, item: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    def read(data: bytes) -> Read:
        count, rest = number(size)(data)
        items = []
        for _ in range(count):
            value, rest = item(rest)
            items.append(value)
        return Read(items, rest)

    return read


def row(**fields: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    def read(data: bytes) -> Read:
        values = {}
        for name, field in fields.items():
            values[name], data = field(data)
        return Read(values, data)

    return read


def either(*choices: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    return lambda data: choices[data[0]](data[1:])


NOTHING = row()
CERTIFICATE = row(
    round=number(8),
    checkpoint_hash=fixed(32),
    votes=times(2, row(key_id=fixed(32), signature=fixed(4_627))),
)
KEYS = times(2, fixed(2_592))
HANDOVERS = times(
    2,
    either(
        row(checkpoint=counted(4), certificate=CERTIFICATE, keys=KEYS),
        row(recovery=counted(4), keys=KEYS),
    ),
)
CERTIFIED = row(head=fixed(3), start=fixed(32), certificate=CERTIFICATE, handovers=HANDOVERS)
RECEIPT = row(
    head=fixed(3),
    start=fixed(32),
    genesis=fixed(32),
    tx_id=fixed(32),
    envelope=counted(4),
    public_key=fixed(2_592),
    round=number(8),
    seq=number(4),
    outcome=either(
        row(node_id=fixed(32), parents=times(1, fixed(32)), pop=either(NOTHING, fixed(32))),
        row(code=counted(1), reason=counted(1)),
    ),
    leaf_index=number(8),
    inclusion=times(1, fixed(32)),
    checkpoint=counted(4),
    certificate=CERTIFICATE,
    handovers=HANDOVERS,
)
