"""What a real server tells of itself, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.x509 import load_pem_x509_certificate
from exchange.cities import ALICE, BOB_ID, founded, funded, pinned, plain
from free_ports import free_address
from metrics.asking import Samples, answer, asked, samples, value
from tls_files import dev_certificates

from citychain.city.pipeline import City
from citychain.client.actions import Transfer
from citychain.config import Settings
from citychain.containers import CoreContainer, open_server
from citychain.errors import ConfigurationError
from citychain.rpc.server import CoreServer
from citychain.testing.server import (
    CityServer,
    CityServerFactory,
    Plan,
    TransactionFactory,
    make_plan,
)
from citychain.types import State


def plan(
    tmp_path: Path,
    tables: Mapping[str, Mapping[str, Any]],
    other: Mapping[str, Any] = MappingProxyType({}),
    **metrics: Any,
) -> Plan:
    """A server that is metered.

    Args:
        other: Further settings.
    """
    metrics = {"listen": "127.0.0.1:0", **metrics}
    settings = {"plugins": {"allow": ()}, "metrics": metrics, **other}
    return make_plan(
        tmp_path,
        tables,
        {},
        storage="sqlite",
        clock=None,
        operator=None,
        settings=settings,
    )


async def submit(server: CityServer, city: str, transactions: TransactionFactory) -> None:
    """Two good transactions, one without cover, one twice, and one that is none."""
    async with server.client(city) as client:
        signed = await transactions(client, 2)
        uncovered = Transfer("nothing", b"\x07" * 32, 1)
        signed += await transactions(client, 1, data=None, transfer=uncovered)
        await client.submit([*signed, signed[0], b"no envelope"])
        await client.wait([item.tx_id for item in signed], State.APPROVED)


def about(told: Samples, name: str, **labels: str) -> float:
    return told[name, frozenset(labels.items())]


async def test_what_happens_to_transactions_is_counted_by_city(
    tmp_path: Path, signed_transactions: TransactionFactory
) -> None:
    many = plan(tmp_path, {"nara": {}, "uji": {}, "ise": {}}, cities=1)
    async with many.open() as running:
        for city in ("nara", "uji", "ise"):
            await submit(many.server(running.address), city, signed_transactions)
        told = await samples(running.metrics_address)
    for city, times in (("nara", 1), ("_others", 2)):
        received = "citychain_transactions_received_total"
        assert about(told, received, city=city, result="new") == 3 * times
        assert about(told, received, city=city, result="repeat") == 1 * times
        refused = "citychain_transactions_refused_total"
        assert about(told, refused, city=city, code="MALFORMED") == 1 * times
        assert about(told, "citychain_transactions_sealed_total", city=city) == 3 * times
        assert about(told, "citychain_transactions_approved_total", city=city) == 2 * times
        rejected = "citychain_transactions_rejected_total"
        assert about(told, rejected, city=city, code="OVERDRAFT") == 1 * times
        assert about(told, "citychain_cities_open", city=city) == times
        assert about(told, "citychain_cities_leading", city=city) == times
        assert about(told, "citychain_transactions_pending", city=city) == 0
        assert about(told, "citychain_rounds_unapproved", city=city) == 0
        # Rejected ones are final too; repeats and what was refused wait for nothing.
        assert about(told, "citychain_final_seconds_count", city=city) == 3 * times
        rounds = about(told, "citychain_round_approved_seconds_count", city=city)
        assert rounds >= times
        assert about(told, "citychain_round_sealed_seconds_count", city=city) == rounds
        assert about(told, "citychain_poh_hashes_total", city=city) == rounds * 10_000
        for step in ("check", "append", "decide", "seal", "commit", "approve", "certify"):
            steps = about(told, "citychain_step_seconds_count", city=city, step=step)
            assert steps >= times
            assert about(told, "citychain_step_failures_total", city=city, step=step) == 0
    assert about(told, "citychain_round", city="nara") >= 1
    assert ("citychain_round", frozenset({("city", "_others")})) not in told
    labels = {dict(labels).get("city") for _, labels in told}
    assert labels == {None, "nara", "_others"}


async def test_a_city_that_is_opened_at_start_has_a_label_whoever_is_asked_for_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = plan(tmp_path, {"nara": {}, "uji": {"open": "eager"}}, cities=1)
    enter = CoreServer.__aenter__

    async def served(server: CoreServer) -> CoreServer:
        await enter(server)
        async with two.server(server.address).client("nara") as client:
            await client.info()
        return server

    monkeypatch.setattr(CoreServer, "__aenter__", served)
    async with two.open() as running:
        told = await samples(running.metrics_address)
    assert about(told, "citychain_cities_open", city="uji") == 1
    assert about(told, "citychain_cities_open", city="_others") == 1


async def test_the_process_and_its_calls_are_told_of(
    tmp_path: Path, signed_transactions: TransactionFactory
) -> None:
    one = plan(tmp_path, {"nara": {}})
    async with one.open() as running:
        await submit(one.server(running.address), "nara", signed_transactions)
        told = await samples(running.metrics_address)
    call = {
        "grpc_type": "unary",
        "grpc_service": "citychain.v1.TransactionService",
        "grpc_method": "SubmitBatch",
    }
    assert about(told, "grpc_server_handled_total", grpc_code="OK", **call) == 1
    assert about(told, "process_resident_memory_bytes") > 0


async def test_how_late_the_event_loop_is_is_told(tmp_path: Path) -> None:
    lag = "citychain_event_loop_lag_seconds"

    async with plan(tmp_path, {"nara": {}}).open() as running:
        await until(running.metrics_address, lambda told: about(told, f"{lag}_count") > 0)
        # It would have looked meanwhile, and is late by what is left of this.
        time.sleep(0.8)  # noqa: ASYNC251
        await until(running.metrics_address, lambda told: about(told, f"{lag}_sum") > 0.5)


async def test_when_the_certificate_expires_is_told(tmp_path: Path) -> None:
    made = dev_certificates(tmp_path / "tls")
    file = made / "server.crt"
    tls = {"certificate": file, "key": made / "server.key"}
    one = plan(tmp_path, {"nara": {}}, {"server": {"listen": "127.0.0.1:0", "tls": tls}})
    async with one.open() as running:
        told = await samples(running.metrics_address)
    expires = load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
    name = "citychain_certificate_expires_timestamp_seconds"
    assert about(told, name, file=str(file)) == expires


async def until(address: str, condition: Callable[[Samples], bool]) -> None:
    """Ask again and again until it is so."""
    async with asyncio.timeout(120):
        while not condition(await samples(address)):
            await asyncio.sleep(0.02)


async def test_how_far_the_archive_is_behind_is_told(
    tmp_path: Path, signed_transactions: TransactionFactory
) -> None:
    names = ("attic", "barn", "cellar", "loft")
    fragments = {"stores": {name: {"kind": "directory"} for name in names}}
    kept = plan(tmp_path, {"nara": {}}, {"fragments": fragments, "archive": {"every": "1s"}})
    nara = frozenset({("city", "nara")})

    def caught_up(told: Samples) -> bool:
        # Only the announcement of the segment itself is not in one.
        if told.get(("citychain_round", nara), 0) < 2 or told["citychain_rounds_unapproved", nara]:
            return False
        return told["citychain_rounds_unarchived", nara] == 1

    async with kept.open() as running:
        await submit(kept.server(running.address), "nara", signed_transactions)
        await until(running.metrics_address, caught_up)
        told = await samples(running.metrics_address)
    assert about(told, "citychain_repair_segments_lost", city="nara") == 0


async def test_remittances_that_wait_for_a_city_that_is_away_are_told(
    tmp_path: Path, city_server: CityServerFactory
) -> None:
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    away = {"farm": {"genesis": farm, "endpoints": [free_address()]}}
    hill = frozenset({("city", "hill")})
    one = plan(tmp_path / "hill", {"hill": funded()}, {"peers": away})
    async with one.open() as running, one.server(running.address).client("hill") as home:
        await pinned(home)
        await home.remit(ALICE, asset="coin", amount=7, to=BOB_ID, city="farm")
        await until(
            running.metrics_address,
            lambda told: told["citychain_remittances_waiting", hill] == 1,
        )


async def test_commands_and_connections_of_a_database_are_counted(
    tmp_path: Path,
    mongodb_uri: str,
    mongodb_database: str,
    signed_transactions: TransactionFactory,
) -> None:
    shared = {"backend": "mongodb", "uri": mongodb_uri, "database": mongodb_database}
    one = plan(tmp_path, {"nara": {"storage": "shared"}}, {"storage": {"shared": shared}})
    async with one.open() as running:
        await submit(one.server(running.address), "nara", signed_transactions)
        told = await samples(running.metrics_address)
        metrics = running.core.metrics()
    seconds = "citychain_storage_command_seconds_count"
    assert about(told, seconds, storage="shared", command="insert") > 0
    left = about(told, "citychain_lease_left_seconds", city="nara")
    assert 0 <= left <= one.settings.cluster.lease_seconds
    connections = "citychain_storage_connections"
    assert about(told, connections, storage="shared", state="open") > 0
    assert metrics is not None
    for state in ("open", "used"):
        assert value(metrics.registry, connections, storage="shared", state=state) == 0, state


async def test_a_server_is_ready_from_its_start_to_its_end_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = free_address()
    told: dict[str, tuple[int, str]] = {}
    enter, drain = City.__aenter__, City.drain

    async def opened(city: City) -> City:
        told["starting"] = await asked(address, "/readyz")
        return await enter(city)

    async def drained(city: City) -> None:
        told["stopping"] = await asked(address, "/readyz")
        told["alive"] = await asked(address, "/healthz")
        await drain(city)

    monkeypatch.setattr("citychain.metrics.server.LOOP_SECONDS", 120)
    monkeypatch.setattr(City, "__aenter__", opened)
    monkeypatch.setattr(City, "drain", drained)
    async with plan(tmp_path, {"nara": {"open": "eager"}}, listen=address).open() as running:
        assert running.metrics_address == address
        told["running"] = await asked(address, "/readyz")
    assert told == {
        "starting": (503, "starting or stopping\n"),
        "running": (200, "ok\n"),
        "stopping": (503, "starting or stopping\n"),
        "alive": (200, "ok\n"),
    }
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(answer, address, "/healthz")


async def test_an_address_in_use_is_named_with_its_setting(tmp_path: Path) -> None:
    async with plan(tmp_path / "one", {"nara": {}}).open() as running:
        other = plan(tmp_path / "other", {"nara": {}}, listen=running.metrics_address)
        with pytest.raises(ConfigurationError, match=r"metrics\.listen: cannot listen on 127"):
            async with other.open():
                pass


async def test_nothing_is_counted_unless_it_is_asked_for(tmp_path: Path) -> None:
    quiet = make_plan(
        tmp_path, ["nara"], {}, storage="memory", clock=None, operator=None, settings={}
    )
    async with open_server(quiet.settings) as running:
        assert running.metrics_address == ""
        assert running.core.metrics() is None


def test_two_servers_of_a_process_count_for_themselves(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, metrics={"listen": "127.0.0.1:0"})
    one, other = (CoreContainer(settings=settings).metrics() for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.registry is not other.registry
