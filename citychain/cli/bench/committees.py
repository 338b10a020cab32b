"""What representatives cost: a city with none, one inside the server, and several outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from citychain.cli.bench.load import channel
from citychain.cli.bench.process import Usage
from citychain.cli.bench.road import Bench, measure, open_bench
from citychain.cli.output import say
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc

__all__ = ["measure_committees"]

SHARE_MIN: Final = 4_000
"""Transactions that make a few rounds."""


async def measure_committees(
    keys: int, storage: str, transactions: int, committees: Mapping[str, int | None]
) -> dict[str, Any]:
    """Each as fast as it goes, and at half of that, in cities of their own.

    Args:
        transactions: Of each measurement; shared between representatives outside, since each
            checks them all on the same machine.
        committees: By name, as `open_bench` takes them.
    """
    figures: dict[str, Any] = {}
    for name, committee in committees.items():
        say(f"committee: {name}")
        async with open_bench(1, keys, storage, committee=committee) as city:
            count = max(min(transactions, SHARE_MIN), transactions // (committee or 1))
            figures[name] = await _measure(city, count)
    return figures


async def _measure(city: Bench, transactions: int) -> dict[str, Any]:
    before = await _approved_round(city)
    used = _representatives_cpu(city)
    run = await measure(city, city.presign(1, transactions))
    last = await _approved_round(city)
    cpu = _representatives_cpu(city) - used
    run["rounds"] = last - before
    seconds = transactions / run["approved_per_second"]
    run["rounds_per_second"] = (last - before) / seconds
    run["representative_cpu_us"] = 1e6 * cpu / transactions / max(1, len(city.representatives))
    run["certificate_bytes"] = await _certificate_bytes(city, before + 1, last)
    rate = run["approved_per_second"] / 2
    half = await measure(city, city.presign(1, transactions), rate=rate, streams=8, window=1)
    run["half_load_approved_ms_p50"] = half["approved_ms_p50"]
    run["half_load_approved_ms_p99"] = half["approved_ms_p99"]
    return run


def _representatives_cpu(city: Bench) -> float:
    """CPU seconds of all representatives' processes."""
    return sum(Usage.of(pid).cpu_seconds for pid in city.representatives)


async def _approved_round(city: Bench) -> int:
    async with channel(city.addresses[0]) as to:
        stub: Any = services_pb2_grpc.CityServiceStub(to)
        [slug] = city.genesis
        found = await stub.GetCity(services_pb2.GetCityRequest(city=slug))
        return int(found.head.approved_round)


async def _certificate_bytes(city: Bench, first: int, last: int) -> float:
    """Mean size of a round's certificate on the wire."""
    async with channel(city.addresses[0]) as to:
        stub: Any = services_pb2_grpc.DagServiceStub(to)
        [slug] = city.genesis
        sizes: list[int] = [
            (
                await stub.GetCheckpoint(services_pb2.GetCheckpointRequest(city=slug, round=number))
            ).round.certificate.ByteSize()
            for number in range(first, last + 1)
        ]
    return sum(sizes) / len(sizes)
