"""``citychain new-plugin``: what it refuses, and that all it writes works at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from generated import Generated
from hypothesis import given
from hypothesis import strategies as st

from citychain.cli.exits import Exit
from citychain.cli.new_plugin.files import Kind
from citychain.cli.new_plugin.names import NAME_LENGTH_MAX, check_name
from citychain.errors import InvalidRequest

KINDS = [kind.value for kind in Kind]
OF_CITIES = [kind for kind in KINDS if kind != Kind.STORE]
LONGEST = ("quay-" * NAME_LENGTH_MAX)[: NAME_LENGTH_MAX - 1] + "s"

Generate = Callable[..., Generated]


@pytest.fixture
def generate(citychain: Any, tmp_path: Path) -> Generate:
    """Writes a plugin and installs it."""

    def generate(name: str, *kinds: str) -> Generated:
        options = [word for kind in kinds for word in ("--kind", kind)]
        made = citychain("new-plugin", name, *options, cwd=tmp_path)
        assert made.code == Exit.OK, made.err
        return Generated(tmp_path / f"citychain-{name}", tmp_path / "site")

    return generate


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it finds of citychain itself is the same for all."""
    return tmp_path_factory.mktemp("mypy")


# --- names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Harbour", "harbour"),
        ("east harbour", "east-harbour"),
        ("east_harbour", "east-harbour"),
        ("east--harbour", "east-harbour"),
        ("-harbour-", "harbour"),
        ("harbour\n", "harbour"),
        ("2nd-harbour", "nd-harbour"),
        ("citychain-harbour", "harbour"),
        ("citychain_citychain-harbour", "harbour"),
        ("Hafen Köln", "hafen-koln"),
        ("../harbour", "harbour"),
        ("港", "my-city"),
        ("citychain", "my-city"),
        ("", "my-city"),
        ("h" * (NAME_LENGTH_MAX + 1), "h" * NAME_LENGTH_MAX),
        ("h" * (NAME_LENGTH_MAX - 1) + "-h", "h" * (NAME_LENGTH_MAX - 1)),
    ],
)
def test_a_bad_name_is_refused_with_the_nearest_good_one(
    citychain: Any, tmp_path: Path, name: str, nearest: str
) -> None:
    refused = citychain("new-plugin", "--kind", "city", "--", name, cwd=tmp_path)
    assert refused.code == Exit.UNUSABLE
    assert refused.message.endswith(f"; take {nearest}")
    assert list(tmp_path.iterdir()) == []
    check_name(nearest)


@given(st.text(max_size=60) | st.text("abAB19-_ é", max_size=60))
def test_what_is_suggested_is_good_and_near(name: str) -> None:
    try:
        check_name(name)
    except InvalidRequest as refused:
        check_name(refused.detail.rpartition("take ")[2])
    else:
        assert 0 < len(name) <= NAME_LENGTH_MAX
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize("name", ["h", "harbour", "east-harbour", "a1", "citychains", LONGEST])
def test_a_good_name_passes(name: str) -> None:
    check_name(name)


# --- what is there already, and what fails half-way


@pytest.mark.parametrize("there", ["folder", "file", "broken link"])
def test_nothing_is_written_over(citychain: Any, tmp_path: Path, there: str) -> None:
    place = tmp_path / "citychain-harbour"
    match there:
        case "folder":
            place.mkdir()
        case "file":
            place.write_text("mine")
        case _:
            place.symlink_to("nowhere")
    before = place.lstat()
    refused = citychain("new-plugin", "harbour", "--kind", "city", cwd=tmp_path)
    assert refused.code == Exit.UNUSABLE
    assert refused.message.startswith("citychain: citychain-harbour: is there already")
    assert list(tmp_path.iterdir()) == [place]
    assert place.lstat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("files", [0, 1, 5])
def test_a_full_disk_leaves_nothing_half_written(
    citychain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    write, written = Path.write_text, []

    def fails_later(path: Path, text: str, **options: Any) -> int:
        if len(written) == files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fails_later)
    failed = citychain("new-plugin", "harbour", "--kind", "dag", cwd=tmp_path)
    assert failed.code == Exit.UNUSABLE
    assert "No space left" in failed.message
    assert len(written) == files
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["harbour"], "--kind"),
        (["--kind", "city"], "NAME"),
        (["harbour", "--kind", "cities"], "'city', 'storage', 'store', 'dag', 'consensus'"),
        (["harbour", "--kind", "city", "-C", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_says_what_is_wrong(
    citychain: Any, tmp_path: Path, arguments: list[str], said: str
) -> None:
    refused = citychain("new-plugin", *arguments, cwd=tmp_path)
    assert refused.code == Exit.UNUSABLE
    assert said in refused.message
    assert list(tmp_path.iterdir()) == []


def test_it_prints_the_folder_and_says_in_three_lines_what_is_next(
    citychain: Any, tmp_path: Path
) -> None:
    (tmp_path / "my src").mkdir()
    made = citychain("new-plugin", "harbour", "-k", "dag", "-C", "my src", cwd=tmp_path)
    assert (made.code, made.out) == (Exit.OK, "my src/citychain-harbour\n")
    assert len(made.err.splitlines()) == 3
    assert "cd 'my src/citychain-harbour' && pip install" in made.err
    assert [path.name for path in (tmp_path / "my src").iterdir()] == ["citychain-harbour"]


def test_who_may_read_it_is_for_the_umask_to_say(citychain: Any, tmp_path: Path) -> None:
    assert citychain("new-plugin", "harbour", "-k", "dag", cwd=tmp_path).code == Exit.OK
    (tmp_path / "other").mkdir()
    made = tmp_path / "citychain-harbour"
    assert made.stat().st_mode == (tmp_path / "other").stat().st_mode


# --- what is written


@pytest.mark.parametrize("kinds", [*([kind] for kind in KINDS), KINDS], ids="+".join)
def test_what_is_written_is_linted_typed_and_loaded(
    generate: Generate, process: Any, mypy_cache: Path, kinds: list[str]
) -> None:
    """Under the longest name: no line of code is longer than a linter takes."""
    plugin = generate(LONGEST, *kinds)
    written = [path for path in plugin.folder.rglob("*") if path.is_file()]
    assert [path for path in written if "$" in path.read_text()] == []
    plugin.run("ruff", "check", "--no-cache")
    plugin.run("ruff", "format", "--check", "--no-cache")
    plugin.run("mypy", "--cache-dir", str(mypy_cache))
    listed = process("plugins", "--strict", "--json", cwd=plugin.folder, env=plugin.environment)
    assert listed.code == Exit.OK
    found = {record["distribution"]: record for record in listed.records}
    assert found[f"citychain-{LONGEST}"]["status"] == "active"
    assert len(found[f"citychain-{LONGEST}"]["hooks"]) == len(kinds)
    doctor = ("plugins", "doctor", f"citychain-{LONGEST}")
    examined = process(*doctor, cwd=plugin.folder, env=plugin.environment)
    assert (examined.code, examined.out) == (Exit.OK, ""), examined.out


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass(generate: Generate, kind: str) -> None:
    generate("harbour", kind).pytest()


def test_the_tests_of_a_city_with_all_the_other_parts_pass(generate: Generate) -> None:
    generate("harbour", *KINDS).pytest("tests/test_city.py")


@pytest.mark.parametrize("kinds", [*([kind] for kind in OF_CITIES), KINDS], ids="+".join)
def test_a_server_serves_a_city_that_uses_it(
    generate: Generate, citychain: Any, start_server: Any, tmp_path: Path, kinds: list[str]
) -> None:
    plugin = generate("harbour", *kinds)
    town = tmp_path / "town"
    town.mkdir()
    readme = (plugin.folder / "README.md").read_text()
    city, table = "city of harbour", ""
    if "city" not in kinds:
        city, table = "somewhere", readme.partition("```toml\n")[2].partition("```")[0]
        assert table
    (town / "citychain.toml").write_text(table)
    for key in ("operator.key", "resident.key"):
        assert citychain("keygen", key, cwd=town).code == Exit.OK
    server = start_server(town, env=plugin.environment)
    sending = ("--city", city, "--key", "resident.key", "--data", "hello", "--wait", "approved")
    sent = server.run("submit", *sending, "--json")
    assert sent.code == Exit.OK, sent.err
    assert sent.record["state"] == "APPROVED"
    shown = server.run("cities", city, "--json", "--save-genesis", "genesis.json").record
    assert ("harbour-rule/1" in str(shown)) == ("dag" in kinds)
    assert ("harbour-step/1" in str(shown)) == ("consensus" in kinds)
    journals = list(town.glob("data/**/journal"))
    assert len(journals) == ("storage" in kinds)
    got = server.run("receipt", "--city", city, sent.record["tx_id"], "-o", "receipt.json")
    assert got.code == Exit.OK, got.err
    verified = citychain("verify", "receipt.json", "--genesis", "genesis.json", cwd=town)
    assert verified.code == Exit.OK, verified.err
    assert server.end().code == Exit.OK


def test_a_file_is_stored_there_and_restored(
    generate: Generate, process: Any, tmp_path: Path
) -> None:
    plugin = generate("harbour", "store")
    table = (plugin.folder / "README.md").read_text().partition("```toml\n")[2].partition("```")[0]
    town = tmp_path / "town"
    town.mkdir()
    (town / "citychain.toml").write_text(table)
    (town / "deeds").write_bytes(bytes(range(256)) * 1_000)
    stored = process("store", "deeds", "--json", cwd=town, env=plugin.environment)
    assert stored.code == Exit.OK, stored.err
    assert len(list(town.glob("data/fragments/somewhere/*"))) == 4
    object_id = stored.records[-1]["object"]
    command = ("restore", object_id, "-o", "restored")
    restored = process(*command, cwd=town, env=plugin.environment)
    assert restored.code == Exit.OK, restored.err
    assert (town / "restored").read_bytes() == (town / "deeds").read_bytes()
