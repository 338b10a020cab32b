"""A city's last rounds, which no backup has, come back from those that voted for them."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from backup.folders import files
from cli.conftest import Ran, Server, run_here

from citychain.cli.exits import Exit
from citychain.cli.output import counted

CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.05
max_seconds = 0.2
[cities.nara]
consensus = "poh-pop"
num_hashes = 10
hold_rounds = 1000
committee = [{ key = "rep.pub" }]
"""
SUBMIT = ("submit", "--city", "nara", "--key", "rep.key", "--data")
BACKUP = ("backup", "--city", "nara", "-o", "kept")
RESTORE = ("restore-city", "--city", "nara", "--from", "kept")
AUDIT = ("audit", "--city", "nara", "--storage", "--json")
FOLLOW = ("representative", "--city", "nara", "--key", "rep.key", "--state-dir", "rep")


def made(place: Path) -> None:
    for name in ("operator", "rep"):
        assert run_here("keygen", f"{name}.key", "--public", f"{name}.pub", cwd=place).code == 0
    (place / "citychain.toml").write_text(CONFIG)


def well(ran: Ran) -> Ran:
    assert ran.code == 0, ran.err
    return ran


def final(server: Server, data: str) -> str:
    ran = well(server.run(*SUBMIT, data, "--wait", "approved", "--timeout", "240", "--json"))
    tx_id: str = ran.records[-1]["tx_id"]
    return tx_id


def test_a_city_goes_on_with_the_rounds_that_its_representative_has_beyond_the_backup(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    made(tmp_path)
    server = start_server(tmp_path)
    voting = server.start(*FOLLOW)
    try:
        final(server, "one")
        # The backup ends with a round that holds one: the representative knows it, too.
        well(server.run(*SUBMIT, "waits", "--depends-on", "ab" * 32))
        final(server, "two")
        taken = well(server.run(*BACKUP, "--json")).record["round"]
        three = final(server, "three")
        well(server.run("receipt", three, "--city", "nara", "-o", "three.json"))
        server.end(signal.SIGKILL)
    finally:
        voting.kill()
        voting.communicate()
    shutil.rmtree(tmp_path / "data")

    lost = run_here(*RESTORE, "--receipt", "three.json", cwd=tmp_path)
    assert lost.code == Exit.NO
    assert "is certified, and is not there" in lost.message
    before = files(tmp_path / "rep")
    ran = well(run_here(*RESTORE, "--representative", "rep", "--json", cwd=tmp_path))
    assert files(tmp_path / "rep") == before
    added = ran.record["round"] - taken
    assert added > 0
    assert f"rep: {counted(added, 'round')} more" in ran.err
    audited = well(run_here(*AUDIT, cwd=tmp_path)).record
    assert (audited["rounds"], audited["certified_round"]) == (taken + added, taken)

    server = start_server(tmp_path)
    voting = server.start(*FOLLOW)
    try:
        final(server, "four")
        well(server.run("receipt", three, "--city", "nara", "-o", "again.json"))
    finally:
        voting.kill()
        voting.communicate()
    before, after = (json.loads((tmp_path / it).read_text()) for it in ("three.json", "again.json"))
    assert before == after


def test_a_representative_of_another_history_or_city_is_refused(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    made(tmp_path)
    config = tmp_path / "citychain.toml"
    config.write_text(CONFIG.replace('consensus = "poh-pop"', 'consensus = "solo"').replace(
        'committee = [{ key = "rep.pub" }]', ""
    ))  # fmt: skip
    for folder in ("kept", "forked"):
        server = start_server(tmp_path)
        well(server.run(*SUBMIT, "waits", "--depends-on", "ab" * 32))
        final(server, folder)
        well(server.run("backup", "--city", "nara", "-o", folder))
        server.end(signal.SIGKILL)
        shutil.rmtree(tmp_path / "data" / "sqlite")
    shutil.copytree(tmp_path / "forked", tmp_path / "other")
    shutil.copytree(tmp_path / "kept", tmp_path / "voted")
    genesis = tmp_path / "other" / "genesis.json"
    genesis.write_text(genesis.read_text().replace("nara", "otherwise"))
    for folder, fault in (
        ("forked", "checkpoint: the representative has another version of it"),
        ("other", "other: has otherwise with genesis"),
        (".", "there is no copy of a city: it has no genesis.json"),
    ):
        ran = run_here(*RESTORE, "--representative", folder, cwd=tmp_path)
        assert ran.code != 0
        assert fault in ran.message
    ran = run_here(
        *RESTORE, "--representative", "voted", "--representative", "forked", cwd=tmp_path
    )
    assert ran.code != 0
    assert "voted and forked have different versions of round " in ran.message
    # What was refused leaves nothing behind that keeps the city from living, and what the last
    # rounds hold is there.
    well(run_here(*RESTORE, cwd=tmp_path))
    well(run_here(*AUDIT, cwd=tmp_path))
