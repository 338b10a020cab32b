"""How many seeds a sequencer can try before it shows a round; prints JSON.

    python bench/grinding.py [--num-hashes 10000] [--seed-hashes 10000000] [--seconds 2]

Whoever seals the last round before an election can seal it in many ways (leave a transaction out,
wait a millisecond) and hash each to its seed before showing one. A try costs the round's hashes
and the seed's. One chain at a time is what an honest server does; who tries many hashes several
chains on a core at once, as `citychain.crypto.poh.verify` does, and that rate counts here.

If an outcome has chance p, with n tries it has 1 - (1 - p)^n.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

from citychain.crypto import poh

REPETITIONS = 5
CHAIN = 200_000
CHAINS = 64
CHANCES = (0.5, 0.1, 0.01, 0.001)
CORES = (1, 16, 256)


def rate(work: Callable[[], object], hashes: int) -> float:
    """Hashes a second of processor time, the median of some repetitions."""
    seconds = []
    for _ in range(REPETITIONS):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return hashes / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-hashes", type=int, default=10_000, help="of a round's entry")
    parser.add_argument("--seed-hashes", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a round may be late")
    options = parser.parse_args()

    entries = []
    for number in range(CHAINS):
        start = number.to_bytes(32, "big")
        entries.append((start, CHAIN, start, poh.extend(start, CHAIN, start)))
    one = rate(lambda: poh.extend(bytes(32), 10 * CHAIN, bytes(32)), 10 * CHAIN)
    many = rate(lambda: poh.verify(entries, max_num_hashes=CHAIN), CHAIN * CHAINS)
    tries = many / (options.num_hashes + options.seed_hashes)

    def chances(cores: int) -> dict[str, float]:
        times = max(1, int(tries * cores * options.seconds))
        return {str(chance): 1 - (1 - chance) ** times for chance in CHANCES}

    print(
        json.dumps(
            {
                "cores": os.cpu_count(),
                "hashes_per_second_one_chain": round(one),
                "hashes_per_second_a_core_many_chains": round(many),
                "seconds_of_an_honest_seed": options.seed_hashes / one,
                "tries_per_second_a_core": tries,
                "chance_without_and_with_tries": {
                    f"{cores} cores, {options.seconds:g} s": chances(cores) for cores in CORES
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
