"""Servers that speak TLS, and what becomes of their certificates."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from rpc.fakes import FakeCity, FakeDirectory, serving, until
from tls_files import dev_certificates

from citychain.client import ChannelFactory, CityClient, read_credentials
from citychain.client.errors import translated
from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError
from citychain.rpc import certificates as subject
from citychain.rpc.certificates import Certificates
from citychain.testing.clock import FakeClock

LOOK = timedelta(milliseconds=10)
DAY = 86_400
PATIENCE = timedelta(seconds=120)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dev_certificates(tmp_path_factory.mktemp("tls") / "first")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another authority."""
    return dev_certificates(tmp_path_factory.mktemp("tls") / "second")


def files(folder: Path, client_ca: Path | None = None) -> ServerTlsSettings:
    return ServerTlsSettings(
        certificate=folder / "server.crt", key=folder / "server.key", client_ca=client_ca
    )


@asynccontextmanager
async def speaking_tls(tls: ServerTlsSettings) -> AsyncIterator[str]:
    """The address of a server."""
    async with (
        Certificates(tls, look=LOOK) as certificates,
        serving(FakeDirectory(kanazawa=FakeCity()), certificates=certificates) as server,
    ):
        yield server.address


def client(address: str, credentials: Any = None) -> CityClient:
    channels = ChannelFactory([address], credentials=credentials)
    return CityClient("kanazawa", channels, timeout=PATIENCE)


async def refusal(address: str, credentials: Any = None) -> str:
    """What is told of the first attempt to connect."""
    channels = ChannelFactory([address], credentials=credentials, connect=PATIENCE)
    async with channels.channel(repeat=False) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/any/thing")(b"", timeout=PATIENCE.total_seconds())
    return str(translated(caught.value)[0])


def copy(source: Path, target: Path, *names: str, mode: int = 0o600) -> None:
    for name in names:
        draft = target / f"{name}.new"
        draft.write_bytes((source / name).read_bytes())
        draft.chmod(mode)
        draft.replace(target / name)


async def test_who_trusts_its_authority_is_served_and_nobody_else(made: Path, others: Path) -> None:
    async with speaking_tls(files(made)) as address:
        async with client(address, read_credentials(made / "ca.crt")) as city:
            assert (await city.info()).listing.slug == "kanazawa"
        assert "is not trusted" in await refusal(address, read_credentials(others / "ca.crt"))
        assert "if it speaks TLS, give its CA" in await refusal(address)


async def test_each_of_several_servers_is_asked_by_its_own_name(made: Path) -> None:
    async with speaking_tls(files(made)) as address:
        endpoints = ["127.0.0.1:1", f"[::1]:{address.rpartition(':')[2]}", address]
        channels = ChannelFactory(endpoints, credentials=read_credentials(made / "ca.crt"))
        async with CityClient("kanazawa", channels, timeout=PATIENCE) as city:
            await city.info()


def test_a_token_goes_to_other_machines_over_tls_alone(made: Path) -> None:
    credentials = read_credentials(made / "ca.crt")
    ChannelFactory(["192.0.2.1:1"], token=lambda: "token", credentials=credentials)
    with pytest.raises(ConfigurationError, match="unencrypted"):
        ChannelFactory(["192.0.2.1:1"], token=lambda: "token")


async def test_a_client_shows_a_certificate_where_the_server_asks_for_it(
    made: Path, others: Path
) -> None:
    async with speaking_tls(files(made, client_ca=made / "ca.crt")) as address:
        known = read_credentials(made / "ca.crt", made / "client.crt", made / "client.key")
        async with client(address, known) as city:
            await city.info()
        foreign = read_credentials(made / "ca.crt", others / "client.crt", others / "client.key")
        for credentials in (foreign, read_credentials(made / "ca.crt")):
            told = await refusal(address, credentials)
            assert "and a client's certificate if it asks for one" in told


async def test_a_server_without_tls_is_told_to_who_asks_with_it(made: Path) -> None:
    async with serving(FakeDirectory(kanazawa=FakeCity())) as server:
        told = await refusal(server.address, read_credentials(made / "ca.crt"))
        assert told == f"what listens at {server.address} speaks no TLS: is the port right?"


async def test_a_certificate_for_another_host_is_refused(made: Path) -> None:
    async with speaking_tls(files(made)) as address:
        # The same address, by a name that the certificate does not have.
        host = f"[::ffff:127.0.0.1]:{address.rpartition(':')[2]}"
        told = await refusal(host, read_credentials(made / "ca.crt"))
        assert "for another host than was asked for" in told


async def test_new_files_are_used_without_a_restart(
    made: Path, others: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING)
    threads = set()

    def noting(*paths: Path) -> Any:
        threads.add(threading.current_thread())
        return read_pair(*paths)

    read_pair = subject.read_pair
    monkeypatch.setattr(subject, "read_pair", noting)
    copy(made, tmp_path, "server.crt", "server.key")
    old, new = (read_credentials(folder / "ca.crt") for folder in (made, others))
    async with speaking_tls(files(tmp_path)) as address, client(address, old) as connected:
        await connected.info()
        # One file has come, and the other is on its way: what there was goes on.
        copy(others, tmp_path, "server.crt")
        await until(lambda: "the certificate stays as it was" in caplog.text)
        assert "server.key: is not the key of" in caplog.text
        async with client(address, old) as city:
            await city.info()
        copy(others, tmp_path, "server.key")
        async with client(address, new) as city:  # Tried again until it is in use.
            await city.info()
        assert "is not trusted" in await refusal(address, old)
        await connected.info()
    assert threading.main_thread() not in threads


async def test_files_that_may_be_read_only_later_are_used_then(
    made: Path, others: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    key = tmp_path / "server.key"

    def as_modes_say(certificate: Path, key: Path) -> Any:
        """For root, too, who may read everything."""
        if key.stat().st_mode & 0o400:
            return read_pair(certificate, key)
        raise ConfigurationError(f"{key}: cannot be read: Permission denied")

    def permitted() -> bool:
        key.chmod(0o600)
        return key.stat().st_ctime_ns > denied  # The clock of a file system is coarse.

    read_pair = subject.read_pair
    monkeypatch.setattr(subject, "read_pair", as_modes_say)
    copy(made, tmp_path, "server.crt", "server.key")
    async with Certificates(files(tmp_path), look=LOOK):
        copy(others, tmp_path, "server.key", mode=0o000)
        copy(others, tmp_path, "server.crt")
        await until(lambda: "server.key: cannot be read: Permission denied" in caplog.text)
        denied = key.stat().st_ctime_ns
        await until(permitted)
        await until(lambda: "a new certificate is in use" in caplog.text)


async def test_a_certificate_is_warned_of_before_it_expires(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expires = subject.read_pair(made / "server.crt", made / "server.key").expires
    clock = FakeClock(round(expires.timestamp() * 1_000) - 31 * DAY * 1_000)
    caplog.set_level(logging.WARNING)
    look = timedelta(hours=6)
    async with Certificates(files(made), clock=clock, look=look) as certificates:
        assert certificates.expires() == expires.timestamp()
        assert caplog.messages == []
        for days, warnings in ((0.75, 0), (0.25, 1), (0.75, 1), (0.25, 2), (29, 31)):
            await until(lambda: clock.sleepers == 1)
            for _ in range(round(days * 4)):
                await clock.advance(look.total_seconds())
                await until(lambda: clock.sleepers == 1)
            assert len(caplog.messages) == warnings
    assert "server.crt: expires in 30 days" in caplog.messages[0]
    assert "put the next one in its place" in caplog.messages[0]
    assert "server.crt: expired at" in caplog.messages[-1]


async def test_files_that_cannot_be_used_keep_a_server_from_starting(made: Path) -> None:
    wrong = files(made).model_copy(update={"key": made / "nothing"})
    with pytest.raises(ConfigurationError, match=r"TLS of the server: .*nothing: No such file"):
        async with Certificates(wrong):
            pass
    assert not [it for it in asyncio.all_tasks() if "_keep_looking" in repr(it)]
