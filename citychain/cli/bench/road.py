"""The whole road: client, server process, disk, to acknowledged and to approved."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from citychain.cli.bench.followers import create_committee, run_representatives
from citychain.cli.bench.load import Sent, channel, presign, run_load
from citychain.cli.bench.process import Usage
from citychain.cli.server_process import ServerProcess
from citychain.client.keys import create_key
from citychain.crypto.signatures import SigningKey
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc

__all__ = ["Bench", "measure", "open_bench"]

CONFIG: Final = """\
operator_key = "operator.key"

[server]
listen = "127.0.0.1:0"

[plugins]
allow = []

[limits]
author_pending = 20000
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """A running server and who sends to it."""

    directory: Path
    """The server's."""
    server: ServerProcess
    keys: Sequence[SigningKey]
    genesis: dict[str, bytes]
    """By city."""
    representatives: Sequence[int] = ()
    """Process ids of those outside the server."""

    def presign(
        self, cities: int, count: int, *, by_value: bool = False
    ) -> list[tuple[str, list[tuple[bytes, bytes]]]]:
        """A load of ``count`` transactions spread evenly over the first cities."""
        return [
            (city, presign(genesis, self.keys, count // cities, by_value=by_value))
            for city, genesis in list(self.genesis.items())[:cities]
        ]


@asynccontextmanager
async def open_bench(
    cities: int, keys: int, storage: str, *, committee: int | None = None
) -> AsyncIterator[Bench]:
    """A server with so many cities, each of which knows so many keys.

    Args:
        committee: Representatives in processes of their own, of the first city; with 0 one votes
            inside the server. If ``None`` the consensus is ``solo``.
    """
    signers = [SigningKey(secrets.token_bytes(32)) for _ in range(keys)]
    with tempfile.TemporaryDirectory(prefix="citychain-bench-") as name:
        directory = Path(name)
        create_key(directory / "operator.key")
        table = "" if committee is None else create_committee(directory, committee)
        slugs = [f"bench-{number}" for number in range(cities)]
        tables = "".join(f'\n[cities.{slug}]\nstorage = "{storage}"\n{table}' for slug in slugs)
        (directory / "citychain.toml").write_text(CONFIG + tables)
        server = ServerProcess(directory)
        await server.start()
        try:
            ids = await _genesis_ids(server.address, slugs)
            async with run_representatives(
                directory, server.address, slugs[0], committee or 0
            ) as pids:
                bench = Bench(directory, server, signers, ids, pids)
                await run_load(server.address, bench.presign(cities, cities * keys, by_value=True))
                yield bench
        finally:
            await server.stop()


async def _genesis_ids(address: str, slugs: Sequence[str]) -> dict[str, bytes]:
    async with channel(address) as to:
        stub: Any = services_pb2_grpc.CityServiceStub(to)
        return {
            slug: (await stub.GetCity(services_pb2.GetCityRequest(city=slug))).genesis
            for slug in slugs
        }


async def measure(
    bench: Bench, load: list[tuple[str, list[tuple[bytes, bytes]]]], **options: Any
) -> dict[str, Any]:
    """Send a load; rates, latencies, and what the server used for it."""
    assert bench.server.pid is not None
    before = Usage.of(bench.server.pid)
    own = Usage.of_self()
    sent = await run_load(bench.server.address, load, **options)
    after = Usage.of(bench.server.pid)
    own_after = Usage.of_self()
    return {
        "transactions": sent.count,
        "acknowledged_per_second": sent.count / sent.seconds_acknowledged,
        "approved_per_second": sent.count / sent.seconds_approved,
        **_latencies(sent),
        "server_cpu_us": 1e6 * (after.cpu_seconds - before.cpu_seconds) / sent.count,
        "client_cpu_us": 1e6 * (own_after.cpu_seconds - own.cpu_seconds) / sent.count,
        "server_bytes_written": (after.bytes_written - before.bytes_written) / sent.count,
        "server_resident_mib": after.resident_bytes / 2**20,
        "server_resident_mib_max": after.resident_bytes_max / 2**20,
        "pushed_back": sent.pushed_back,
    }


def _latencies(sent: Sent) -> dict[str, float]:
    result = {}
    for name, values in (
        ("acknowledged", sent.acknowledged_ms),
        ("approved", sent.approved_ms),
    ):
        cuts = quantiles(values, n=100)
        result[f"{name}_ms_p50"] = cuts[49]
        result[f"{name}_ms_p99"] = cuts[98]
    return result
