"""``citychain bench``: how fast, measured here, in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from citychain.cli.output import Json, answers, print_json, say

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["bench"]

KEYS: Final = 64
STORED: Final = (10_000, 100_000, 1_000_000)
CITIES: Final = (1, 10, 100)
SHARED_CITIES: Final = (1, 4)
COMMITTEES: Final = {"solo": None, "1 inside": 0, "1 outside": 1}
"""Representatives in processes of their own; with 0 one votes inside the server."""
COMMITTEES_FULL: Final = {**COMMITTEES, "5 outside": 5, "21 outside": 21}
AUDITED_FULL: Final = 100_000


def bench(
    transactions: Annotated[
        int, typer.Option(min=1_000, help="Transactions of each measurement of the whole road.")
    ] = 20_000,
    storage: Annotated[str, typer.Option(help="The storage backend of the cities.")] = "sqlite",
    servers: Annotated[
        int,
        typer.Option(
            min=1,
            max=16,
            help="Also the whole road with 2, 3, ... up to so many servers that "
            "share the storage, over 1 and over 4 cities; and without the parts that it does not "
            "touch: committees and the audit.",
        ),
    ] = 1,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Also 10 and 100 cities; 10 k, 100 k and 1 M stored; 5 and 21 representatives "
            "outside the server; and the audit of 100 k (minutes).",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Measure the parts of a transaction's road, and the whole of it, on this machine.

    Bare parts first: signatures, durable appends, gRPC. Then a server process and a client
    process, over the same bytes: bodies of 300 bytes, signed beforehand. Compare ratios within
    one run; the machine's mood is in every absolute figure.

    Examples:

        citychain bench
        citychain bench --full --json > figures.json
        citychain bench --storage mongodb --servers 3
    """
    import asyncio

    if servers > 1:
        figures = asyncio.run(_bench_servers(transactions, storage, servers))
        tables = [_road_table(figures["road"], f"Up to {servers} servers over {storage}")]
    else:
        figures = asyncio.run(_bench(transactions, storage, full=full))
        tables = _tables(figures)
    if json:
        print_json(figures)
    else:
        for table in tables:
            answers().print(table)


async def _bench_servers(transactions: int, storage: str, servers: int) -> dict[str, Any]:
    from citychain.cli.bench.road import measure, open_bench

    road: dict[str, Any] = {}
    for count in range(1, servers + 1):
        for cities in SHARED_CITIES:
            name = f"{count} servers, {cities} cities"
            say(name)
            async with open_bench(cities, KEYS, storage, servers=count) as shared:
                load = shared.presign(cities, transactions)
                road[name] = await measure(shared, load, streams=4 * count)
    return {"storage": storage, "road": road}


async def _bench(transactions: int, storage: str, *, full: bool) -> dict[str, Any]:
    import asyncio
    import secrets

    from citychain.cli.bench.audits import measure_audit
    from citychain.cli.bench.committees import measure_committees
    from citychain.cli.bench.erasure import measure_erasure
    from citychain.cli.bench.parts import measure_append, measure_echo, measure_verify
    from citychain.cli.bench.places import measure_places
    from citychain.cli.bench.road import measure, open_bench
    from citychain.crypto.signatures import SigningKey

    keys = [SigningKey(secrets.token_bytes(32)) for _ in range(KEYS)]
    say("bare parts")
    parts = {
        "verify": measure_verify(keys),
        "append": await measure_append(keys),
        "echo": await measure_echo(keys, transactions),
        "places, per core": await measure_places(),
        "erasure, MB of data": await asyncio.to_thread(measure_erasure),
    }
    road: dict[str, Any] = {}
    async with open_bench(1, KEYS, storage) as one:
        say("whole road")
        road["streams, keys by id"] = fastest = await measure(one, one.presign(1, transactions))
        road["batches, keys by id"] = await measure(one, one.presign(1, transactions), unary=True)
        road["streams, keys by value"] = await measure(
            one, one.presign(1, transactions, by_value=True)
        )
        rate = fastest["approved_per_second"] / 2
        say(f"whole road at half that load, {rate:.0f} tx/s")
        half = one.presign(1, transactions)
        road["streams, half load"] = await measure(one, half, rate=rate, streams=8, window=1)
    if full:
        for cities in CITIES:
            say(f"{cities} cities")
            async with open_bench(cities, KEYS, storage) as many:
                road[f"{cities} cities"] = await measure(many, many.presign(cities, transactions))
        async with open_bench(1, KEYS, storage) as one:
            stored = KEYS
            for size in STORED:
                while stored < size:
                    step = min(50_000, size - stored)
                    await measure(one, one.presign(1, step))
                    stored += step
                say(f"{size} stored")
                road[f"{size} stored"] = await measure(one, one.presign(1, transactions))
                stored += transactions
    committees = await measure_committees(
        KEYS, storage, transactions, COMMITTEES_FULL if full else COMMITTEES
    )
    inside, solo = (committees[name]["approved_per_second"] for name in ("1 inside", "solo"))
    say("audit")
    audit = await measure_audit(KEYS, storage, AUDITED_FULL if full else transactions)
    slowest = min(
        parts["verify"]["batch_all_cores"],
        max(parts["append"].values()),
        max(parts["echo"].values()),
    )
    return {
        "parts": parts,
        "road": road,
        "committees": committees,
        "audit": audit,
        "ratio_inside_to_solo": inside / solo,
        "ratio_to_slowest_part": fastest["approved_per_second"] / slowest,
    }


def _tables(figures: dict[str, Any]) -> list[Table]:
    from rich.table import Table

    parts = Table("part", "measured", "per second", title="Bare parts")
    for part, values in figures["parts"].items():
        for name, value in values.items():
            parts.add_row(part, name.replace("_", " "), f"{value:,.0f}")
    title = f"Whole road: {figures['ratio_to_slowest_part']:.2f} of the slowest part"
    road = _road_table(figures["road"], title)
    committees = Table(
        "committee",
        "rounds/s",
        "approved/s",
        "appr. ms p50/p99",
        "the same, half load",
        "CPU µs server/representative",
        "certificate bytes",
        title="Representatives: one inside the server "
        f"{figures['ratio_inside_to_solo']:.2f} of solo",
    )
    for name, run in figures["committees"].items():
        committees.add_row(
            name,
            f"{run['rounds_per_second']:.1f}",
            f"{run['approved_per_second']:,.0f}",
            f"{run['approved_ms_p50']:.0f}/{run['approved_ms_p99']:.0f}",
            f"{run['half_load_approved_ms_p50']:.0f}/{run['half_load_approved_ms_p99']:.0f}",
            f"{run['server_cpu_us']:.0f}/{run['representative_cpu_us']:.0f}",
            f"{run['certificate_bytes']:,.0f}",
        )
    audit = Table("audited", "rounds", "a second", "a second of one core", title="Audit")
    audit.add_row(*(f"{value:,.0f}" for value in figures["audit"].values()))
    return [parts, road, committees, audit]


def _road_table(runs: dict[str, Any], title: str) -> Table:
    from rich.table import Table

    road = Table(
        "whole road",
        "acknowledged/s",
        "approved/s",
        "ack. ms p50/p99",
        "appr. ms p50/p99",
        "CPU µs server/client",
        "bytes written",
        "MiB",
        title=title,
    )
    for name, run in runs.items():
        road.add_row(
            name,
            f"{run['acknowledged_per_second']:,.0f}",
            f"{run['approved_per_second']:,.0f}",
            f"{run['acknowledged_ms_p50']:.0f}/{run['acknowledged_ms_p99']:.0f}",
            f"{run['approved_ms_p50']:.0f}/{run['approved_ms_p99']:.0f}",
            f"{run['server_cpu_us']:.0f}/{run['client_cpu_us']:.0f}",
            f"{run['server_bytes_written']:,.0f}",
            f"{run['server_resident_mib']:.0f}",
        )
    return road
