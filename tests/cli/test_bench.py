"""The measurement runs, and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys


def test_bench_measures_the_parts_and_the_road() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "citychain", "bench", "--transactions", "1000", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures["parts"]) == {"verify", "append", "echo"}
    assert all(value > 0 for part in figures["parts"].values() for value in part.values())
    assert set(figures["road"]) == {
        "streams, keys by id",
        "batches, keys by id",
        "streams, keys by value",
        "streams, half load",
    }
    for run in figures["road"].values():
        assert run["transactions"] == 1000
        assert 0 < run["acknowledged_ms_p50"] <= run["acknowledged_ms_p99"]
        assert 0 < run["approved_ms_p50"] <= run["approved_ms_p99"]
        # A signature alone is 4.6 KB, and each is on the disk when it is acknowledged.
        assert run["server_bytes_written"] > 4_000
    assert 0 < figures["ratio_to_slowest_part"] < 1
