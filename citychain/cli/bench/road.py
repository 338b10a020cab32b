"""The whole road: client, server process, disk, to acknowledged and to approved."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
network = "{network}"
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
    """Running servers and who sends to them."""

    directory: Path
    """The first server's."""
    network: str
    """Of its own: the cities of an earlier one may be in the storage still."""
    servers: Sequence[ServerProcess]
    keys: Sequence[SigningKey]
    genesis: dict[str, bytes]
    """By city."""
    representatives: Sequence[int] = ()
    """Process ids of those outside the server."""

    @property
    def addresses(self) -> list[str]:
        """Of the servers."""
        return [server.address for server in self.servers]

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
    cities: int, keys: int, storage: str, *, committee: int | None = None, servers: int = 1
) -> AsyncIterator[Bench]:
    """Servers with so many cities, each of which knows so many keys.

    Args:
        servers: More than one need a storage that is shared.
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
        network = f"bench-{secrets.token_hex(8)}"
        config = CONFIG.format(network=network) + tables
        (directory / "citychain.toml").write_text(config)
        async with AsyncExitStack() as stack:
            running = []
            for number in range(servers):
                place = directory if not number else directory / f"server-{number + 1}"
                if number:
                    _copy_settings(directory, place)
                running.append(ServerProcess(place))
                stack.push_async_callback(running[-1].stop)
                await running[-1].start()
            ids = await _genesis_ids(running[0].address, slugs)
            pids = await stack.enter_async_context(
                run_representatives(directory, running[0].address, slugs[0], committee or 0)
            )
            bench = Bench(directory, network, running, signers, ids, pids)
            await run_load(bench.addresses, bench.presign(cities, cities * keys, by_value=True))
            yield bench


def _copy_settings(directory: Path, place: Path) -> None:
    """What makes another server of the same cities: their table and the operator's key."""
    place.mkdir()
    for name in ("operator.key", "citychain.toml"):
        shutil.copy(directory / name, place)


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
    """Send a load; rates, latencies, and what the servers used for it: memory of the largest."""
    before = _usage(bench)
    own = Usage.of_self()
    sent = await run_load(bench.addresses, load, **options)
    after = _usage(bench)
    own_after = Usage.of_self()
    return {
        "transactions": sent.count,
        "acknowledged_per_second": sent.count / sent.seconds_acknowledged,
        "approved_per_second": sent.count / sent.seconds_approved,
        **_latencies(sent),
        "server_cpu_us": 1e6 * _growth(before, after, "cpu_seconds") / sent.count,
        "client_cpu_us": 1e6 * (own_after.cpu_seconds - own.cpu_seconds) / sent.count,
        "server_bytes_written": _growth(before, after, "bytes_written") / sent.count,
        "server_resident_mib": max(usage.resident_bytes for usage in after) / 2**20,
        "server_resident_mib_max": max(usage.resident_bytes_max for usage in after) / 2**20,
        "pushed_back": sent.pushed_back,
    }


def _usage(bench: Bench) -> list[Usage]:
    """Of each server."""
    return [Usage.of(server.pid) for server in bench.servers if server.pid is not None]


def _growth(before: Sequence[Usage], after: Sequence[Usage], name: str) -> float:
    """Of all servers together."""
    pairs = zip(before, after, strict=True)
    return float(sum(getattr(late, name) - getattr(early, name) for early, late in pairs))


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
