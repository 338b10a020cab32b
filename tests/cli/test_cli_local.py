"""The commands that need no server: init, keygen, plugins, batch."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citychain.genesis import Genesis


def test_keygen_makes_a_key_that_only_its_owner_can_read(process: Any, tmp_path: Path) -> None:
    made = process("keygen", "alice.key", "--json", cwd=tmp_path)
    assert made.code == 0
    assert stat.S_IMODE(os.stat(tmp_path / "alice.key").st_mode) == 0o600
    shown = process("keygen", "alice.key", "--show", "--json", cwd=tmp_path)
    assert shown.record["key_id"] == made.record["key_id"]
    assert len(bytes.fromhex(shown.record["public_key"])) == 2592
    plain = process("keygen", "alice.key", "--show", cwd=tmp_path)
    assert plain.out.splitlines() == [shown.record["key_id"], shown.record["public_key"]]


def test_keygen_never_writes_over_a_file(citychain: Any, tmp_path: Path) -> None:
    (tmp_path / "alice.key").write_text("precious")
    ran = citychain("keygen", "alice.key", cwd=tmp_path)
    assert ran.code == 2
    assert "alice.key" in ran.message
    assert (tmp_path / "alice.key").read_text() == "precious"


@pytest.mark.parametrize("content", [None, b"", b"no key at all", bytes(5000)])
def test_what_is_no_key_file_is_told_in_a_line(
    citychain: Any, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "x.key").write_bytes(content)
        (tmp_path / "x.key").chmod(0o600)
    ran = citychain("keygen", "x.key", "--show", cwd=tmp_path)
    assert ran.code == 2
    assert "x.key" in ran.message


def test_init_makes_what_a_server_needs(process: Any, tmp_path: Path) -> None:
    alice = process("keygen", "alice.key", "--json", cwd=tmp_path).record["key_id"]
    bob = process("keygen", "bob.key", "--public", "bob.pub", "--json", cwd=tmp_path)
    made = process(
        "init", "town", "--city", "springfield", "--network", "test-net",
        "--balance", "coin=alice.key:1000", "--balance", f"coin={'ab' * 32}:5",
        "--balance", "coin=bob.pub:7", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert made.code == 0, made.err
    town = tmp_path / "town"
    assert stat.S_IMODE(os.stat(town / "operator.key").st_mode) == 0o600
    genesis = Genesis.from_bytes((town / "data/genesis/springfield.json").read_bytes())
    assert genesis.id.hex() == made.record["genesis"]
    assert (genesis.network, genesis.city) == ("test-net", "springfield")
    assert genesis.balances == {"coin": {alice: 1000, "ab" * 32: 5, bob.record["key_id"]: 7}}
    assert process("plugins", cwd=town).code == 0


def test_init_gives_the_operator_something_to_pay_with(process: Any, tmp_path: Path) -> None:
    balances = ("coin=operator:1000", f"coin={'ab' * 32}:5", "coin=operator:1", "gold=operator:3")
    options = [word for balance in balances for word in ("--balance", balance)]
    made = process("init", "--city", "springfield", *options, "--json", cwd=tmp_path)
    assert made.code == 0, made.err
    shown = process("keygen", "operator.key", "--show", "--json", cwd=tmp_path)
    operator = shown.record["key_id"]
    genesis = Genesis.read(tmp_path / made.record["genesis_file"])
    assert genesis.operator_id.hex() == operator
    assert genesis.balances == {"coin": {operator: 1001, "ab" * 32: 5}, "gold": {operator: 3}}


def test_init_says_what_to_do_next(citychain: Any, tmp_path: Path) -> None:
    assert "citychain serve\n" in citychain("init", cwd=tmp_path).err
    assert (
        "citychain serve --config town/citychain.toml"
        in citychain("init", "town", cwd=tmp_path).err
    )


@pytest.mark.parametrize("name", ["citychain.toml", "operator.key"])
def test_init_writes_over_nothing(citychain: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    ran = citychain("init", cwd=tmp_path)
    assert ran.code == 2
    assert name in ran.message
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--city", "Not A Slug"], "cities"),
        (["--network", "Not A Name"], "network"),
        (["--balance", "coin"], "ASSET=KEY:AMOUNT"),
        (["--balance", "coin=none.key:5"], "none.key"),
        (["--balance", f"coin={'ab' * 32}:9999999999999999999"], "coin"),
        (["--balance", "coin=operator:9999999999999999999"], "coin"),
    ],
)
def test_init_with_a_wrong_option_leaves_nothing(
    citychain: Any, tmp_path: Path, options: list[str], message: str
) -> None:
    ran = citychain("init", *options, cwd=tmp_path)
    assert ran.code == 2
    assert message in ran.message
    assert list(tmp_path.iterdir()) == []


def test_plugins_tells_what_became_of_each(
    process: Any, install: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    install(
        "good_plugin",
        "from citychain import CityDefinition, hookimpl\n\nprint('hello')\n\n"
        "@hookimpl\ndef citychain_cities():\n    yield CityDefinition(slug='goodville')\n",
    )
    env = install("bad_plugin", "raise RuntimeError('[broken] on purpose')")  # fmt: skip
    ran = process("plugins", "--json", cwd=tmp_path, env=env)
    assert ran.code == 0
    assert "hello" in ran.err
    found = {record["name"]: record for record in ran.records}
    assert found["good_plugin"]["status"] == "active"
    assert found["good_plugin"]["hooks"] == ["citychain_cities"]
    assert found["bad_plugin"]["status"] == "failed"
    assert "[broken] on purpose" in found["bad_plugin"]["reason"]
    assert any(record["distribution"] == "citychain" for record in ran.records)
    table = process("plugins", cwd=tmp_path, env=env)
    assert "[broken] on purpose" in table.out
    assert process("plugins", "--strict", cwd=tmp_path, env=env).code == 1


def test_plugins_strict_is_content_where_all_is_well(citychain: Any, tmp_path: Path) -> None:
    assert citychain("plugins", "--strict", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("arguments", "interval"),
    [
        (["0", "--current", "1"], 1.5),
        (["0", "--current", "9"], 4.0),
        (["7", "--current", "1"], 0.9),
        (["8", "--current", "1"], 0.25),
        (["5"], 0.25),
    ],
)
def test_batch_follows_the_pacer_settings(
    citychain: Any, tmp_path: Path, arguments: list[str], interval: float
) -> None:
    pacer = "[pacer]\nmin_seconds = 0.25\nmax_seconds = 4.0\nmax_tx = 7\n"
    (tmp_path / "citychain.toml").write_text(pacer)
    assert float(citychain("batch", *arguments, cwd=tmp_path).out) == pytest.approx(interval)
    record = citychain("batch", *arguments, "--json", cwd=tmp_path).record
    assert record["interval"] == pytest.approx(interval)


def test_a_wrong_configuration_names_the_place(process: Any, tmp_path: Path) -> None:
    (tmp_path / "citychain.toml").write_text("[pacer]\nmin_second = 1\n")
    ran = process("batch", "0", cwd=tmp_path)
    assert ran.code == 2
    assert "citychain.toml:2" in ran.message
    assert "min_seconds" in ran.message
