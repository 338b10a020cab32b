"""Settings of peers: what is wrong is told by its place, before anything is sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from exchange.cities import founded, plain

from citychain.city.neighbours import find_neighbours, parent_of
from citychain.config import Settings, load_settings
from citychain.errors import ConfigurationError, NotFound
from citychain.testing.server import CityServerFactory


async def directly(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


class Nobody:
    async def handler(self, name: str) -> Any:
        raise NotFound("city", name)


def plan(**fields: Any) -> Any:
    return SimpleNamespace(**{"slug": "hill", "parent": None, "peers": None, **fields})


def loaded(path: Path, text: str) -> Settings:
    path.write_text(text)
    return load_settings(path, environment={})


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path / "citychain.toml",
        '[peers.lake]\nendpoints = ["10.0.0.1:50051"]\ngenesis = "lake.json"\nassets = ["coin"]\n'
        'token_file = "lake.token"\n',
    )
    assert settings.peers["lake"].token_file == tmp_path / "lake.token"
    assert settings.peers["lake"].genesis == tmp_path / "lake.json"
    assert settings.peers["lake"].endpoints == ("10.0.0.1:50051",)
    assert settings.peers["lake"].assets == ("coin",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[peers.lake]\nendpoints = ["10.0.0.1:50051"]\n', "no genesis file"),
        ('[peers.lake]\nendpoints = ["10.0.0.1"]\ngenesis = "x"\n', "host:port"),
        ('[peers.lake]\nasets = ["coin"]\n', "assets"),
        ('[peers.lake]\nassets = ["COIN"]\n', "assets"),
        ("[exchange]\nanchor_seconds = 0\n", "anchor_seconds"),
        ("[exchange]\nanchor = 1\n", "anchor_seconds"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        loaded(tmp_path / "citychain.toml", text)
    assert "citychain.toml" in str(caught.value)


async def test_a_city_has_the_peers_that_it_names(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    file = await founded(city_server, tmp_path / "lake", "lake", plain())
    peers = {"lake": {"genesis": file}, "hill": {}}
    settings = Settings(peers=peers)
    found = await find_neighbours(plan(), settings, Nobody(), directly)
    assert [peer.slug for peer in found.peers] == ["lake"]  # Nobody is a peer of their own.
    assert found.parent is None
    none = await find_neighbours(plan(peers=()), settings, Nobody(), directly)
    assert list(none.peers) == []
    with pytest.raises(ConfigurationError, match=r"there is no \[peers.leke\]"):
        await find_neighbours(plan(peers=("leke",)), settings, Nobody(), directly)


async def test_a_genesis_file_must_be_the_peers(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    file = await founded(city_server, tmp_path / "lake", "lake", plain())
    slow = await founded(city_server, tmp_path / "slow", "slow", {"num_hashes": (1 << 18) + 1})
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    for slug, given, told in (
        ("sea", file, r"call the table \[peers.lake\]"),
        ("slow", slow, "262145 hashes a round"),
        ("lake", bad, "bad.json"),
        ("lake", tmp_path / "none.json", "none.json"),
    ):
        settings = Settings(peers={slug: {"genesis": given}})
        with pytest.raises(ConfigurationError, match=told):
            await find_neighbours(plan(), settings, Nobody(), directly)


async def test_a_parent_that_nobody_has_is_none() -> None:
    settings = Settings(peers={"earth": {"genesis": "x", "endpoints": ["10.0.0.1:1"]}})
    assert parent_of(plan(parent="hill"), settings) is None
    assert parent_of(plan(parent="earth"), settings) == ("earth", ("10.0.0.1:1",))
    found = await find_neighbours(plan(parent="isle", peers=()), settings, Nobody(), directly)
    assert found.parent is not None
    assert await found.parent() is None
