"""A server in this process goes on with other settings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NoReturn

import pytest

from citychain.city.engines import StorageEngines
from citychain.config import Settings
from citychain.config_reload import refuse_restarts
from citychain.containers import open_server
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError

OPERATOR = SigningKey(bytes(32))


class Hanging(StorageEngines):
    """Storages that nobody ever gets."""

    async def backend(self, part: Any) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError


def settings(folder: Path, *cities: str) -> Settings:
    """A server whose cities are opened when it learns of them."""
    return Settings(
        data_dir=folder,
        server={"listen": "127.0.0.1:0", "drain_seconds": 0, "open": "eager"},
        plugins={"allow": ()},
        cities={slug: {"storage": "memory"} for slug in cities},
    )


async def test_a_city_that_does_not_open_keeps_no_reload_waiting(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(120),
        open_server(settings(tmp_path), operator=OPERATOR, engines=Hanging) as running,
    ):
        await running.reload(settings(tmp_path, "b"))
        await running.reload(settings(tmp_path, "b", "c"))
        assert [it.slug for it in running.directory.listings("", "", 9)] == ["b", "c"]


async def test_which_cities_are_its_own_is_found_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Settings] = []

    def own_cities(settings: Settings) -> tuple[str, ...]:
        looks.append(settings)
        return tuple(settings.cities)

    async with open_server(settings(tmp_path), operator=OPERATOR) as running:
        monkeypatch.setattr(Settings, "own_cities", property(own_cities))
        # Of a map that has 30,000 cities each look takes the event loop for milliseconds.
        await running.reload(settings(tmp_path, "b", "c", "d"))
    assert len(looks) == 1


def test_of_many_that_take_a_restart_the_first_are_named(tmp_path: Path) -> None:
    many = [f"city-{number:02}" for number in range(25)]
    with pytest.raises(ConfigurationError, match=r"^cities\.city-00, .* and 5 more: takes a"):
        refuse_restarts(settings(tmp_path, *many), settings(tmp_path))
