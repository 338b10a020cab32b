"""The audit of a city's storage: everything recomputed, keys prepared once."""

from __future__ import annotations

import time
from typing import Any, Final

from citychain.cli.auditing import run_audit
from citychain.cli.bench.load import run_load
from citychain.cli.bench.road import Bench, open_bench
from citychain.config import CitySettings, PluginsSettings, Settings

__all__ = ["measure_audit"]

STEP: Final = 50_000


async def measure_audit(keys: int, storage: str, transactions: int) -> dict[str, Any]:
    """Transactions a second, and a second of one core, of the audit of so many in storage."""
    async with open_bench(1, keys, storage) as city:
        left = transactions - keys
        while left > 0:
            await run_load(city.addresses, city.presign(1, min(left, STEP)))
            left -= STEP
        await city.servers[0].stop()
        [slug] = city.genesis
        return await _audit(city, slug, storage)


async def _audit(bench: Bench, slug: str, storage: str) -> dict[str, Any]:
    settings = Settings(
        network=bench.network,
        data_dir=bench.directory / "data",
        operator_key=bench.directory / "operator.key",
        plugins=PluginsSettings(allow=()),
        cities={slug: CitySettings(storage=storage)},
    )
    cpu = time.process_time()
    result, _ = await run_audit(
        city=slug,
        given=None,
        first=1,
        promise=None,
        servers=None,
        timeout=10.0,
        settings=settings,
        progress=False,
    )
    cpu = time.process_time() - cpu
    return {
        "transactions": result.transactions,
        "rounds": result.rounds,
        "per_second": result.transactions / result.seconds,
        "per_core_second": result.transactions / cpu,
    }
