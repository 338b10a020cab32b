"""Erasure coding in memory, beside zfec; prints JSON.

    python bench/coding.py [--mib 256] [--shapes 2+2 4+2 10+4]

Megabytes of data a second, medians over repetitions: by the clock, and by processor time, which is
that of one core. Ours works on all cores, zfec on one. 4 MiB of data a call, chunks of 64 KiB.

``encode`` makes parity and the leaf hashes of all chunks, as storing needs them; ``zfec`` makes
parity alone, and ``zfec_hashed`` hashes the chunks by hashlib besides. ``decode`` has lost as many
fragments of data as there is parity. zfec comes by ``pip install --group bench``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import zfec

from citychain.crypto import erasure

MIB = 1 << 20
CALL = 4 * MIB
CHUNK = 64 << 10
REPETITIONS = 5


def rates(work: Callable[[bytes], object], data: Sequence[bytes]) -> dict[str, int]:
    """Megabytes a second by the clock and by processor time."""
    size = sum(map(len, data))
    clock, cpu = [], []
    for _ in range(REPETITIONS):
        began, began_cpu = time.perf_counter(), time.process_time()
        for part in data:
            work(part)
        clock.append(size / (time.perf_counter() - began) / 1e6)
        cpu.append(size / (time.process_time() - began_cpu) / 1e6)
    return {"clock": round(statistics.median(clock)), "cpu": round(statistics.median(cpu))}


def blocks(part: bytes, k: int) -> tuple[bytes, ...]:
    """As zfec has it: each fragment's data in a row."""
    size = len(part) // k
    return tuple(part[at : at + size] for at in range(0, k * size, size))


def hashed(found: Sequence[bytes]) -> None:
    for block in found:
        view = memoryview(block)
        for at in range(0, len(block), CHUNK):
            hashlib.sha256(view[at : at + CHUNK]).digest()


def measure(k: int, m: int, data: Sequence[bytes]) -> dict[str, Any]:
    """One shape."""
    encoder, decoder = zfec.Encoder(k, k + m), zfec.Decoder(k, k + m)
    lost = min(k, m)
    # As if the first fragments were gone, and parity in their place.
    kept = [*range(k, k + lost), *range(lost, k)]
    numbers = tuple(kept)
    ours = [[(i, erasure.encode(part, k, m, CHUNK)[0][i]) for i in kept] for part in data[:4]]
    theirs = [[encoder.encode(blocks(part, k))[i] for i in kept] for part in data[:4]]
    assert erasure.decode(sorted(ours[0]), k, m, CHUNK)[: len(data[0])] == data[0]
    assert b"".join(decoder.decode(tuple(theirs[0]), numbers)) == b"".join(blocks(data[0], k))
    turns = range(len(data))

    def decode(at: int) -> bytes:
        return erasure.decode(sorted(ours[at]), k, m, CHUNK)

    return {
        "encode": rates(lambda part: erasure.encode(part, k, m, CHUNK), data),
        "zfec_encode": rates(lambda part: encoder.encode(blocks(part, k)), data),
        "zfec_encode_hashed": rates(lambda part: hashed(encoder.encode(blocks(part, k))), data),
        "decode": rates(
            cycled(turns, lambda at: erasure.decode(sorted(ours[at]), k, m, CHUNK)), data
        ),
        "zfec_decode": rates(
            cycled(turns, lambda at: decoder.decode(tuple(theirs[at]), numbers)), data
        ),
        "copy": rates(lambda part: b"".join(blocks(part, k)), data),
    }


def cycled(turns: range, work: Callable[[int], object]) -> Callable[[bytes], object]:
    """Work on a few parts that were coded before, by turns."""
    numbers = [turn % 4 for turn in turns]
    state = iter(numbers * REPETITIONS)
    return lambda part: work(next(state))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--shapes", nargs="+", default=["2+2", "4+2", "10+4"])
    arguments = parser.parse_args()
    pick = random.Random(1)
    results: dict[str, Any] = {"mib": arguments.mib, "cores": os.cpu_count(), "mb_per_s": {}}
    for shape in arguments.shapes:
        k, m = map(int, shape.split("+"))
        size = CALL // (k * CHUNK) * k * CHUNK  # Whole stripes.
        data = [pick.randbytes(size) for _ in range(max(4, arguments.mib * MIB // size))]
        results["mb_per_s"][shape] = measure(k, m, data)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
