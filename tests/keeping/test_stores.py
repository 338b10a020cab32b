"""Fragment stores as the configuration names them: planned, told where wrong, opened."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from citychain.config import Settings, load_settings
from citychain.containers import CoreContainer, open_fragment_stores
from citychain.errors import ConfigurationError, StoreFull, StoreUnavailable
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.fragments.placement import Place
from citychain.keeping.stores import plan_stores
from citychain.ports import FragmentKey

KEY = FragmentKey(bytes(32), bytes(32), 0)

Write = Callable[[str], Settings]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Settings of a configuration file, with nothing of the environment."""

    def written(text: str) -> Settings:
        file = tmp_path / "citychain.toml"
        file.write_text(text)
        return load_settings(file, environment={})

    return written


def core(settings: Settings) -> CoreContainer:
    return CoreContainer(settings=settings.model_copy(update={"plugins": NO_PLUGINS}))


NO_PLUGINS = Settings(plugins={"allow": ()}).plugins
REGISTRY = CoreContainer(settings=Settings(plugins={"allow": ()})).registry()

TWO = """
[fragments]
data = 3
parity = 1
chunk_kib = 128

[fragments.stores.near]
kind = "directory"

[fragments.stores.far]
kind = "directory"
path = "disk"
limit_mib = 5
weight = 2.5
holder = "abababababababababababababababababababababababababababababababab"
domain = "cellar"
"""


def test_stores_are_read_in_order_with_their_options(write: Write, tmp_path: Path) -> None:
    settings = write(TWO)
    fragments = settings.fragments
    assert (fragments.data, fragments.parity, fragments.chunk_bytes) == (3, 1, 128 << 10)
    near, far = plan_stores(settings, REGISTRY)
    assert (near.name, near.weight, near.domain) == ("near", 1.0, "near")
    assert (near.holder, far.holder) == (None, b"\xab" * 32)
    assert near.options == DirectoryOptions()
    assert (far.name, far.weight, far.domain) == ("far", 2.5, "cellar")
    assert far.options == DirectoryOptions(path=tmp_path / "disk", limit_mib=5)
    assert "disk" not in repr(settings.fragments), "options may hold passwords"
    assert "disk" not in repr(far)


def test_without_a_table_there_are_the_defaults(write: Write) -> None:
    fragments = write("").fragments
    assert (fragments.data, fragments.parity, fragments.chunk_bytes) == (2, 2, 64 << 10)
    assert plan_stores(write(""), REGISTRY) == ()


def test_a_store_is_named_by_variables_too() -> None:
    environment = {
        "CITYCHAIN_FRAGMENTS__DATA": "4",
        "CITYCHAIN_FRAGMENTS__STORES__FAR__KIND": "directory",
        "CITYCHAIN_FRAGMENTS__STORES__FAR__LIMIT_MIB": "7",
        "CITYCHAIN_FRAGMENTS__STORES__FAR__WEIGHT": "0",
    }
    settings = load_settings(environment=environment)
    [far] = plan_stores(settings, REGISTRY)
    assert settings.fragments.data == 4
    assert (far.name, far.weight, far.options) == ("far", 0.0, DirectoryOptions(limit_mib=7))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[fragments]\ndata = 0", "citychain.toml:2: fragments.data: must be at least 1"),
        ("[fragments]\nparity = -1", "citychain.toml:2: fragments.parity: must be at least 0"),
        ("[fragments]\ndata = 200\nparity = 56", "not be more than 255 together"),
        (
            "[fragments]\ndata = 60\nparity = 5\nchunk_kib = 1024",
            "chunk_kib must not be more than 65536 for all of data and parity together",
        ),
        ("[fragments]\nchunk_kib = 96", ":2: fragments.chunk_kib: must be a power of two"),
        ("[fragments]\nchunk_kib = 2", ":2: fragments.chunk_kib: must be at least 4"),
        ("[fragments]\nchunk_kib = 2048", ":2: fragments.chunk_kib: must be at most 1024"),
        ("[fragments]\ndate = 2", "unknown key; did you mean data?"),
        ("[fragments.stores.a]\nweight = 1", "fragments.stores.a.kind: is missing"),
        ("[fragments.stores.a]\nkind = 'x'\nholder = 'me'", ":3: fragments.stores.a.holder: "),
        ("[fragments.stores.a]\nkind = 'x'\nweight = -1", ":3: fragments.stores.a.weight: "),
        ("[fragments.stores.a]\nkind = 'x'\nweight = inf", ":3: fragments.stores.a.weight: "),
        ("[fragments.stores.A]\nkind = 'x'", "is no part's name"),
    ],
)
def test_a_wrong_setting_is_told(write: Write, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        write(text)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[fragments.stores.a]\n\nkind = 'directry'",
            ":3: fragments.stores.a.kind: no fragment store 'directry'; "
            "known: directory, ipfs, remote, s3; did",
        ),
        (
            "[fragments.stores.a]\nkind = 'directory'\nlimit_mb = 5",
            ":3: fragments.stores.a.limit_mb: unknown key; did you mean limit_mib?",
        ),
        (
            "[fragments.stores.a]\nkind = 'directory'\nlimit_mib = 0",
            ":3: fragments.stores.a.limit_mib: must be at least 1",
        ),
    ],
)
def test_a_wrong_kind_or_option_is_told(write: Write, text: str, told: str) -> None:
    settings = write(text)
    with pytest.raises(ConfigurationError) as error:
        plan_stores(settings, REGISTRY)
    assert told in str(error.value)


async def test_a_store_that_cannot_be_opened_keeps_nobody_from_the_others(
    write: Write, tmp_path: Path
) -> None:
    container = core(write(f"data_dir = 'data'\n{TWO}"))

    async def one() -> AsyncIterator[bytes]:
        yield b"abc"

    async with container.compute():
        async with open_fragment_stores(container) as there:
            assert there.plans.keys() == {"near", "far"}
            assert there.stores.keys() == {"near"}
            assert there.places == [Place("near", 1.0, "near")]
            assert isinstance(there.failed["far"], StoreUnavailable)
            assert str(tmp_path / "disk") in str(there.failed["far"])
            await there.stores["near"].put(KEY, 3, one())
        assert (tmp_path / "data/fragments/near/000").is_dir()
        (tmp_path / "disk").mkdir()
        async with open_fragment_stores(container) as there:
            assert there.stores.keys() == {"near", "far"}
            assert there.failed == {}
            assert Place("far", 2.5, "cellar") in there.places
            assert await there.stores["near"].read(KEY, 0, 3) == b"abc"
            assert await there.stores["far"].size(KEY) is None


async def test_a_store_that_raises_anything_keeps_nobody_from_the_others(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = core(write(f"data_dir = 'data'\n{TWO}"))
    enter = DirectoryStore.__aenter__

    async def broken(store: DirectoryStore) -> DirectoryStore:
        if store._folder.path == tmp_path / "disk":
            raise ValueError("no number")
        return await enter(store)

    monkeypatch.setattr(DirectoryStore, "__aenter__", broken)
    async with container.compute(), open_fragment_stores(container) as there:
        assert there.stores.keys() == {"near"}
        assert isinstance(there.failed["far"], StoreUnavailable)
        assert str(there.failed["far"]) == "ValueError: no number"


async def test_a_full_disk_keeps_nobody_from_the_others(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = core(write(f"data_dir = 'data'\n{TWO}"))
    (tmp_path / "disk").mkdir()
    mkdir = Path.mkdir

    def full(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.is_relative_to(tmp_path / "disk"):
            raise OSError(errno.ENOSPC, "No space left on device")
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", full)
    async with container.compute(), open_fragment_stores(container) as there:
        assert there.stores.keys() == {"near"}
        assert isinstance(there.failed["far"], StoreFull)
