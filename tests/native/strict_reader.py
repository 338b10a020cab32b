"""A second strict parser, written from the format alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from transaction_wire import (
    Action,
    Anchor,
    Body,
    Candidacy,
    Data,
    Delivery,
    Equivocation,
    Peer,
    Presence,
    Recovery,
    Remittance,
    Reward,
    Settlement,
    Transfer,
    Withdrawal,
    Witness,
)


class Refused(Exception):
    pass


def demand(condition: bool) -> None:
    if not condition:
        raise Refused


def strict_fields(data: bytes, kinds: dict[int, type], many: Sequence[int]) -> dict[int, list[Any]]:
    """Fields by number, after the rules that hold for every message."""
    at = 0

    def take_varint() -> int:
        nonlocal at
        value = 0
        for count in range(10):
            demand(at < len(data))
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                demand(byte != 0 or count == 0)
                demand(value < 2**64)
                return value
        raise Refused

    fields: dict[int, list[Any]] = {number: [] for number in kinds}
    while at < len(data):
        tag = take_varint()
        number, wire_type = tag >> 3, tag & 7
        demand(number in kinds)
        demand(wire_type == (0 if kinds[number] is int else 2))
        demand(number in many or not fields[number])
        value = take_varint()
        if kinds[number] is int:
            fields[number].append(value)
            continue
        demand(at + value <= len(data))
        fields[number].append(data[at : at + value])
        at += value
    return fields


def one(values: list[Any], default: Any) -> Any:
    return values[0] if values else default


def strict_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused from None


def strict_objects(entries: list[bytes]) -> tuple[tuple[str, int], ...]:
    demand(len(entries) <= 16)
    named = {}
    for entry in entries:
        fields = strict_fields(entry, {1: bytes, 2: int}, ())
        name = one(fields[1], b"")
        demand(1 <= len(name) <= 128)
        text = strict_text(name)
        demand(not text.startswith("$") and text not in named)
        named[text] = one(fields[2], 0)
    return tuple(named.items())


def data(message: bytes) -> Data:
    fields = strict_fields(message, {1: bytes, 2: bytes}, ())
    demand(len(one(fields[1], b"")) <= 64)
    return Data(strict_text(one(fields[1], b"")), one(fields[2], b""))


def asset(values: list[bytes]) -> str:
    name = one(values, b"")
    demand(re.fullmatch(rb"[a-z0-9-]{1,32}", name) is not None)
    return str(name.decode())


def sized(values: list[bytes], size: int) -> bytes:
    value: bytes = one(values, b"")
    demand(len(value) == size)
    return value


def bounded(values: list[int], low: int, high: int) -> int:
    value: int = one(values, 0)
    demand(low <= value <= high)
    return value


def transfer(message: bytes) -> Transfer:
    fields = strict_fields(message, {1: bytes, 2: bytes, 3: int}, ())
    amount = bounded(fields[3], 1, 2**64 - 1)
    return Transfer(asset(fields[1]), sized(fields[2], 32), amount)


def degrees(values: list[int], most: int) -> int:
    written = bounded(values, 0, 2**32 - 1)
    value = written // 2 if written % 2 == 0 else -(written + 1) // 2
    demand(abs(value) <= most)
    return value


def by_key(
    entries: list[bytes], kind: type, value: Callable[[list[Any]], Any], most: int
) -> tuple[tuple[bytes, Any], ...]:
    demand(len(entries) <= most)
    found = {}
    for entry in entries:
        fields = strict_fields(entry, {1: bytes, 2: kind}, ())
        key_id = sized(fields[1], 32)
        demand(key_id not in found)
        found[key_id] = value(fields[2])
    return tuple(found.items())


def presence(message: bytes) -> Presence:
    numbers: dict[int, type] = dict.fromkeys((1, 2, 3, 4, 5), int)
    fields = strict_fields(message, numbers | {6: bytes, 7: bytes}, (7,))
    first, last = one(fields[4], 0), one(fields[5], 0)
    demand(first <= last)
    return Presence(
        degrees(fields[1], 900_000_000),
        degrees(fields[2], 1_800_000_000),
        bounded(fields[3], 0, 2**32 - 1),
        first,
        last,
        sized(fields[6], 32),
        by_key(fields[7], bytes, lambda values: sized(values, 4627), 16),
    )


def stake(message: bytes) -> tuple[str, int]:
    fields = strict_fields(message, {1: bytes, 2: int}, ())
    return asset(fields[1]), bounded(fields[2], 1, 2**63 - 1)


def witness(message: bytes) -> Witness:
    fields = strict_fields(message, {1: bytes, 2: int}, ())
    return Witness(sized(fields[1], 2592), bounded(fields[2], 0, 1) == 1)


def equivocation(message: bytes) -> Equivocation:
    chunks: dict[int, type] = dict.fromkeys((1, 3, 4, 5, 6), bytes)
    fields = strict_fields(message, chunks | {2: int}, ())
    sizes = {1: 2592, 3: 32, 4: 4627, 5: 32, 6: 4627}
    read = {number: sized(fields[number], size) for number, size in sizes.items()}
    demand(read[3] != read[5])
    return Equivocation(read[1], one(fields[2], 0), read[3], read[4], read[5], read[6])


def recovery(message: bytes) -> Recovery:
    fields = strict_fields(message, {1: int, 2: bytes, 3: bytes}, (3,))
    demand(len(fields[3]) >= 1)
    seats = by_key(fields[3], int, lambda values: bounded(values, 1, 2**63 - 1), 256)
    return Recovery(bounded(fields[1], 1, 2**64 - 1), sized(fields[2], 32), seats)


def given(values: list[bytes], least: int = 1, most: int = 1 << 30) -> bytes:
    value: bytes = one(values, b"")
    demand(least <= len(value) <= most)
    return value


def peer(message: bytes) -> Peer:
    return Peer(given(strict_fields(message, {1: bytes}, ())[1], 1, 262_144))


def remittance(message: bytes) -> Remittance:
    fields = strict_fields(message, {1: bytes, 2: bytes, 3: bytes, 4: int}, ())
    city, to = sized(fields[2], 32), sized(fields[3], 32)
    return Remittance(asset(fields[1]), city, to, bounded(fields[4], 1, 2**64 - 1))


def delivery(message: bytes) -> Delivery:
    chunks: dict[int, type] = dict.fromkeys((1, 2, 3, 4, 6, 7, 8), bytes)
    fields = strict_fields(message, chunks | {5: int}, ())
    code, reason = one(fields[7], b""), one(fields[8], b"")
    demand(re.fullmatch(rb"[A-Z0-9_]{0,32}", code) is not None)
    demand(len(reason) <= (255 if code else 0))
    return Delivery(
        sized(fields[1], 32),
        sized(fields[2], 32),
        asset(fields[3]),
        sized(fields[4], 32),
        bounded(fields[5], 1, 2**64 - 1),
        given(fields[6]),
        code.decode(),
        strict_text(reason),
    )


def settlement(message: bytes) -> Settlement:
    chunks: dict[int, type] = dict.fromkeys((1, 2, 3, 4, 7), bytes)
    fields = strict_fields(message, chunks | {5: int, 6: int}, ())
    return Settlement(
        *(sized(fields[number], 32) for number in (1, 2, 3)),
        asset(fields[4]),
        bounded(fields[5], 1, 2**64 - 1),
        bounded(fields[6], 0, 1) == 1,
        given(fields[7]),
    )


def anchor(message: bytes) -> Anchor:
    fields = strict_fields(message, {1: bytes, 2: bytes, 3: bytes}, ())
    return Anchor(sized(fields[1], 32), given(fields[2], 42, 131_072), given(fields[3]))


def reward(message: bytes) -> Reward:
    fields = strict_fields(message, {1: int, 2: bytes, 3: bytes, 4: int}, ())
    epoch, to = one(fields[1], 0), sized(fields[3], 32)
    return Reward(epoch, asset(fields[2]), to, bounded(fields[4], 1, 2**64 - 1))


ACTIONS: Final[dict[int, Callable[[bytes], Action]]] = {
    16: data,
    17: transfer,
    18: presence,
    19: lambda message: Candidacy(*stake(message)),
    20: lambda message: Withdrawal(*stake(message)),
    21: witness,
    22: equivocation,
    23: recovery,
    24: peer,
    25: remittance,
    26: delivery,
    27: settlement,
    28: anchor,
    29: reward,
}


def strict_body(message: bytes) -> Body:
    """The body, or `Refused`."""
    chunks: dict[int, type] = dict.fromkeys((1, 2, 3, 6, 7, 8, *ACTIONS), bytes)
    fields = strict_fields(message, chunks | {4: int, 5: int}, (6, 7, 8))
    created_at_ms, valid_until_ms = one(fields[4], 0), one(fields[5], None)
    demand(created_at_ms >= 1)
    demand(valid_until_ms is None or valid_until_ms > created_at_ms)
    demand(len(fields[6]) <= 4 and len(set(fields[6])) == len(fields[6]))
    demand(all(len(tx_id) == 32 for tx_id in fields[6]))
    given = [number for number in ACTIONS if fields[number]]
    demand(len(given) == 1)
    return Body(
        sized(fields[1], 32),
        sized(fields[2], 32),
        sized(fields[3], 8),
        created_at_ms,
        valid_until_ms,
        tuple(fields[6]),
        strict_objects(fields[7]),
        strict_objects(fields[8]),
        ACTIONS[given[0]](fields[given[0]][0]),
    )
