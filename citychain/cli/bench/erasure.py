"""What cutting objects into fragments and restoring them costs, on all cores."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from citychain.cli.bench.parts import per_second
from citychain.crypto.erasure import decode, encode, leaf_hashes, rebuild

__all__ = ["measure_erasure"]

DATA: Final = 2
PARITY: Final = 2
CHUNK: Final = 64 << 10
RUN: Final = 4 << 20
"""Bytes of data a call."""
SMALL: Final = 8 << 10
"""A small object: what is the same for any size shows."""
CALLS: Final = 16


def measure_erasure() -> dict[str, float]:
    """Megabytes of data a second with 2 + 2 fragments, calls one after the other: encoded with the
    hashes of all chunks; decoded where no, one and both fragments of data are lost; a fragment of
    parity rebuilt; chunks hashed; and small objects encoded and decoded."""
    code = DATA, PARITY, CHUNK

    def rates(size: int) -> dict[str, float]:
        data = secrets.token_bytes(size)
        rows = list(enumerate(encode(data, *code)[0]))
        assert decode(rows[2:], *code) == data

        def rate(call: Callable[[], object]) -> float:
            def calls() -> None:
                for _ in range(CALLS):
                    call()

            return per_second(CALLS * size, calls) / 1e6

        return {
            "encoded": rate(lambda: encode(data, *code)),
            "decoded_none_lost": rate(lambda: decode(rows[:2], *code)),
            "decoded_one_lost": rate(lambda: decode(rows[1:3], *code)),
            "decoded_two_lost": rate(lambda: decode(rows[2:], *code)),
            "parity_rebuilt": rate(lambda: rebuild(rows[1:3], *code, 3)),
            "hashed": rate(lambda: [leaf_hashes(row, CHUNK) for _, row in rows[:2]]),
        }

    small = rates(SMALL)
    return {
        **rates(RUN),
        "8_KB_encoded": small["encoded"],
        "8_KB_decoded_two_lost": small["decoded_two_lost"],
    }
