"""The code of ``docs/design/erasure-code.md`` in plain Python: its definition, term by term."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

POLYNOMIAL: Final = 0x1002D
# fmt: off
BASIS: Final = (
    0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
    0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E,
)
# fmt: on
ORDER: Final = 65_535
"""Of the group that multiplication makes of the elements but 0."""


def tables() -> tuple[list[int], list[int]]:
    """Logarithms by number, and numbers by logarithm."""
    logarithms = [0] * (ORDER + 1)
    power = 1
    for logarithm in range(ORDER):
        logarithms[power] = logarithm
        power <<= 1
        if power > ORDER:
            power ^= POLYNOMIAL
    log, exp = [0] * (ORDER + 1), [0] * ORDER
    for number in range(1, ORDER + 1):
        element = 0
        for bit, base in enumerate(BASIS):
            if number >> bit & 1:
                element ^= base
        log[number] = logarithms[element]
        exp[log[number]] = number
    return log, exp


LOG, EXP = tables()


def product(a: int, b: int) -> int:
    return EXP[(LOG[a] + LOG[b]) % ORDER] if a and b else 0


def lagrange(width: int, a: int, x: int) -> int:
    """L(a, x) over the points below ``width``; ``x`` is none of them."""
    others = [point for point in range(width) if point != a]
    return EXP[sum(LOG[x ^ point] - LOG[a ^ point] for point in others) % ORDER]


def coefficients(k: int, m: int) -> list[list[int]]:
    """For each fragment of parity, what each of data is multiplied with."""
    wide_k, wide_m = (1 << (count - 1).bit_length() for count in (k, m))
    if wide_k > wide_m or (wide_k == wide_m and k <= m):
        return [[lagrange(wide_m, j, wide_m + i) for i in range(k)] for j in range(m)]
    return [[lagrange(wide_k, i, wide_k + j) for i in range(k)] for j in range(m)]


def halves(size: int) -> Iterator[tuple[int, int]]:
    """Where the low and the high byte of each element of a chunk are."""
    for begin in range(0, size, 64):
        half = min(64, size - begin) // 2
        yield from ((begin + at, begin + half + at) for at in range(half))


def parity(data: Sequence[bytes], m: int) -> list[bytes]:
    """The ``m`` chunks of parity over chunks of data of one size."""
    size = len(data[0])
    places = list(halves(size))
    columns = [[chunk[low] | chunk[high] << 8 for low, high in places] for chunk in data]
    chunks = []
    for row in coefficients(len(data), m):
        sums = [0] * len(places)
        for factor, column in zip(row, columns, strict=True):
            for at, element in enumerate(column):
                sums[at] ^= product(factor, element)
        chunk = bytearray(size)
        for (low, high), element in zip(places, sums, strict=True):
            chunk[low], chunk[high] = element & 0xFF, element >> 8
        chunks.append(bytes(chunk))
    return chunks
