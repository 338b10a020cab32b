"""The measurement runs, and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys

from citychain.cli.bench.committees import measure_committees

VOTE_BYTES = 32 + 4627


def test_bench_measures_the_parts_the_road_and_what_others_check() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "citychain", "bench", "--transactions", "1000", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures["parts"]) == {
        "verify",
        "append",
        "echo",
        "places, per core",
        "erasure, MB of data",
    }
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
    committees = figures["committees"]
    assert set(committees) == {"solo", "1 inside", "1 outside"}
    for run in committees.values():
        assert run["transactions"] == 1000
        assert run["rounds"] >= 1
        assert 0 < run["half_load_approved_ms_p50"] <= run["half_load_approved_ms_p99"]
        assert VOTE_BYTES < run["certificate_bytes"] < VOTE_BYTES + 100
    assert figures["ratio_inside_to_solo"] > 0
    assert committees["1 inside"]["representative_cpu_us"] == 0
    assert committees["1 outside"]["representative_cpu_us"] > 0
    assert figures["audit"]["transactions"] == 1000
    assert figures["audit"]["per_core_second"] > 0


async def test_bench_measures_committees_of_several() -> None:
    figures = await measure_committees(4, "sqlite", 1_000, {"3 outside": 3})
    # With equal stakes two of three make the quorum of two thirds; a third may still come in time.
    assert 2 * VOTE_BYTES < figures["3 outside"]["certificate_bytes"] < 3 * VOTE_BYTES + 300
