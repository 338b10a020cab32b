"""A city is backed up while it runs, its storage is lost, and it is restored."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import apsw
import pytest
from backup.folders import files
from cli.conftest import SECONDS_MAX, Ran, Server, run_here

from citychain import notes
from citychain.backup.opening import genesis_of, open_copy
from citychain.backup.taking import Backup, beyond
from citychain.city.state import LedgerState
from citychain.cli.exits import Exit
from citychain.client.transactions import sign_transaction
from citychain.config import load_settings
from citychain.containers import CoreContainer
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import StorageError, VerificationError
from citychain.following.composing import open_replay
from citychain.following.source import StorageSource
from citychain.storage.sqlite import SCHEMA_VERSION
from citychain.types import Handover, RawTransaction, Recovery, Seat

CONFIG = """\
data_dir = "data"
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.01
max_seconds = 0.05
[archive]
every = "1s"
[storage.other]
backend = "sqlite"
[cities.tokyo]
storage = "sqlite"
num_hashes = 10
"""
STORES = "".join(
    f'[fragments.stores.disk-{number}]\nkind = "directory"\npath = "disk-{number}"\n'
    for number in range(4)
)

BACKUP = ("backup", "--city", "tokyo", "-o", "kept")
RESTORE = ("restore-city", "--city", "tokyo", "--from", "kept")
GENESIS = "kept/genesis.json"
AUDIT = ("audit", "--city", "tokyo", "--storage", "--genesis", GENESIS, "--json")

Start = Callable[..., Server]


def made(place: Path, config: str) -> None:
    for name in ("operator", "alice"):
        assert run_here("keygen", f"{name}.key", cwd=place).code == 0
    (place / "citychain.toml").write_text(config)


def submit(server: Server, *data: str) -> list[str]:
    """Submit, wait until all are approved; their ids."""
    ids = []
    for text in data:
        ran = server.run(
            *("submit", "--city", "tokyo", "--key", "alice.key", "--data", text),
            *("--wait", "approved", "--json"),
        )
        assert ran.code == 0, ran.err
        ids.append(ran.records[-1]["tx_id"])
    return ids


def keep_receipt(server: Server, tx_id: str, name: str) -> dict[str, object]:
    ran = server.run("receipt", tx_id, "--city", "tokyo", "-o", name)
    assert ran.code == 0, ran.err
    receipt: dict[str, object] = json.loads((server.directory / name).read_text())
    return receipt


def here(place: Path, *arguments: str) -> Ran:
    return run_here(*arguments, cwd=place)


def damaged(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    try:
        connection.execute(statement)
        assert connection.changes() == 1
    finally:
        connection.close()


def of_schema(path: Path, version: int) -> None:
    connection = apsw.Connection(str(path))
    try:
        connection.execute(f"PRAGMA user_version = {version}")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of a city whose storage is gone: two backups, and receipts of three rounds."""
    place = tmp_path_factory.mktemp("lost")
    made(place, CONFIG)
    server = Server(place)
    try:
        sent = submit(server, "one", "two")
        ran = server.run(*BACKUP, "--json")
        assert ran.code == 0, ran.err
        assert (ran.record["round"], ran.record["new_rounds"]) == (2, 2)
        assert ran.record["new_transactions"] == 2
        shutil.copytree(place / "kept", place / "early")
        sent += submit(server, "three")
        ran = server.run(*BACKUP, "--json")
        assert (ran.record["round"], ran.record["new_rounds"]) == (3, 1)
        assert ran.record["new_transactions"] == 1
        assert server.run(*BACKUP, "--json").record["new_rounds"] == 0
        for number, tx_id in enumerate(sent, start=1):
            keep_receipt(server, tx_id, f"{number}.json")
    finally:
        server.end(signal.SIGKILL)
    shutil.rmtree(place / "data")
    return place


@pytest.fixture
def place(lost: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lost, tmp_path / "place"))


def test_a_city_lives_on_from_a_backup_that_was_taken_while_it_ran(place: Path) -> None:
    before = files(place / "kept")
    ran = here(place, *RESTORE, "--receipt", "3.json")
    assert ran.code == 0, ran.err
    assert files(place / "kept") == before
    assert ran.out.startswith("RESTORED  tokyo in storage sqlite: 3 rounds, 3 transactions")
    audited = here(place, *AUDIT)
    assert audited.code == 0, audited.err
    assert audited.record["certified_round"] == 3
    again = here(place, *RESTORE)
    assert again.code == Exit.UNUSABLE
    assert "the storage has this city already, up to round 3" in again.message


def test_a_copy_that_is_behind_a_certified_round_never_lives_as_the_same_city(
    place: Path,
) -> None:
    early = ("restore-city", "--city", "tokyo", "--from", "early")
    ran = here(place, *early, "--receipt", "3.json")
    assert ran.code == Exit.NO
    assert "round 3 is certified, and is not there: tokyo cannot go on as the sam" in ran.message
    # It is known to whoever comes next, and no server opens what is unfinished.
    assert here(place, *early).message == ran.message
    refused = here(place, *AUDIT)
    assert refused.code == Exit.UNUSABLE
    assert "has an unfinished rebuild of it" in refused.message
    ran = here(place, *RESTORE)
    assert ran.code == 0, ran.err
    assert here(place, *AUDIT).code == 0


def test_what_came_after_the_backup_comes_from_the_fragments(
    tmp_path: Path, start_server: Start
) -> None:
    place = tmp_path
    made(place, CONFIG + STORES)
    for number in range(4):
        (place / f"disk-{number}").mkdir()
    server = start_server(place)
    submit(server, "one")
    assert server.run(*BACKUP).code == 0
    [later] = submit(server, "two")
    receipt = keep_receipt(server, later, "later.json")
    end = time.monotonic() + SECONDS_MAX
    while True:
        [shown] = server.run("cities", "tokyo", "--json").records
        if shown["archived_round"] >= int(str(receipt["round"])):
            break
        assert time.monotonic() < end, shown
        time.sleep(0.1)
    server.end(signal.SIGKILL)
    shutil.rmtree(place / "data")
    shutil.rmtree(place / "disk-1")
    ran = here(place, *RESTORE, "--receipt", "later.json", "--json")
    assert ran.code == Exit.NO
    assert "may be in stores that do not answer: disk-1" in ran.record["lost"]
    (place / "disk-1").mkdir()
    ran = here(place, *RESTORE, "--json")
    assert ran.code == 0, ran.err
    assert ran.record["round"] >= int(str(receipt["round"]))
    assert ran.record["complete"]
    assert f"rounds after {ran.record['round']}, such as" in ran.record["beyond"]
    assert here(place, *AUDIT).code == 0


def test_a_damaged_backup_is_found_out_before_anything_is_written(place: Path) -> None:
    database = place / "kept" / "ledger" / "citychain.db"
    whole = database.read_bytes()
    for statement, check in (
        (
            "UPDATE certificates SET votes = CAST(substr(votes, 1, 40)"
            " || zeroblob(length(votes) - 40) AS BLOB) WHERE round = 2",
            "round 2: certificate",
        ),
        ("DELETE FROM certificates WHERE round = 1", "round 1: certificate"),
        (
            "UPDATE segments SET envelopes = zeroblob(length(envelopes)) WHERE id & 3 = 1",
            "round 1: transactions",
        ),
    ):
        damaged(database, statement)
        ran = here(place, *RESTORE)
        assert ran.code == Exit.NO
        assert check in ran.message
        assert not (place / "data" / "sqlite").exists()
        database.write_bytes(whole)
    (place / "kept" / "genesis.json").unlink()
    assert here(place, *RESTORE).message.endswith(
        "there is no copy of a city: it has no genesis.json"
    )


def test_what_the_last_rounds_hold_is_restored(tmp_path: Path, start_server: Start) -> None:
    made(tmp_path, CONFIG + "hold_rounds = 1000\n")
    server = start_server(tmp_path)
    waiting = ("submit", "--city", "tokyo", "--key", "alice.key", "--data", "waits")
    ran = server.run(*waiting, "--depends-on", "ab" * 32, "--json")
    assert ran.code == 0, ran.err
    held = ran.records[-1]["tx_id"]
    submit(server, "one")
    before = server.run("get", held, "--city", "tokyo", "--json").record
    assert server.run(*BACKUP).code == 0
    server.end(signal.SIGKILL)
    shutil.rmtree(tmp_path / "data" / "sqlite")

    assert here(tmp_path, *RESTORE).code == 0
    ran = here(tmp_path, *AUDIT)
    assert ran.code == 0, ran.err
    server = start_server(tmp_path)
    assert server.run("get", held, "--city", "tokyo", "--json").record == before
    submit(server, "two")


def test_a_backup_of_another_release_or_half_of_one_is_told_apart(place: Path) -> None:
    database = place / "kept" / "ledger" / "citychain.db"
    log = database.with_name("citychain.db-wal")
    log.write_bytes(b"what was written last")
    ran = here(place, *RESTORE)
    assert ran.code == Exit.UNAVAILABLE
    assert "citychain.db-wal is there without citychain.db-shm: bring all files" in ran.message
    log.unlink()
    whole = database.read_bytes()
    of_schema(database, SCHEMA_VERSION + 1)
    ran = here(place, *RESTORE)
    assert ran.code == Exit.UNAVAILABLE
    assert f"has schema version {SCHEMA_VERSION + 1} and this release knows" in ran.message
    database.write_bytes(whole)
    of_schema(database, SCHEMA_VERSION - 1)
    assert here(place, *RESTORE).code == 0


def test_a_city_that_lives_elsewhere_is_not_put_back(place: Path) -> None:
    elsewhere = ("restore-city", "--city", "tokyo", "--from", "early", "--to", "other")
    assert here(place, *RESTORE).code == 0
    server = Server(place)
    try:
        submit(server, "four")
        ran = here(place, *elsewhere)
        assert ran.code == Exit.UNAVAILABLE
        assert f"in use by process {server.process.pid}" in ran.message
    finally:
        server.end()
    ran = here(place, *elsewhere)
    assert ran.code == Exit.NO
    assert "round 4 is certified, and is not there" in ran.message


def test_a_city_whose_storage_cannot_be_opened_lives_on_in_another_one(place: Path) -> None:
    (place / "data" / "sqlite").mkdir(parents=True)
    (place / "data" / "sqlite" / "citychain.db").write_bytes(b"damaged" * 4096)
    ran = here(place, *RESTORE, "--to", "other")
    assert ran.code == 0, ran.err
    assert "what storage sqlite has of tokyo is not known" in ran.err


def test_a_copy_as_of_an_earlier_round_is_read_and_never_lives(place: Path) -> None:
    as_of = ("backup", "--city", "tokyo", "--from", "kept", "-o", "as-of")
    ran = here(place, *as_of, "--up-to", "2", "--json")
    assert ran.code == 0, ran.err
    assert (ran.record["round"], ran.record["new_transactions"]) == (2, 2)
    ran = here(place, "audit", "--city", "tokyo", "--from", "as-of", "--json")
    assert (ran.code, ran.record["certified_round"]) == (0, 2)
    assert "ends with round 2, and round 3 was certified when it was taken" in ran.err
    # No server or command that is given its files as a storage takes it for the city.
    (place / "data" / "genesis").mkdir(parents=True)
    shutil.copy(place / "as-of" / "genesis.json", place / "data" / "genesis" / "tokyo.json")
    shutil.copytree(place / "as-of" / "ledger", place / "data" / "sqlite")
    refused = here(place, *AUDIT)
    assert refused.code == Exit.UNUSABLE
    assert "has an unfinished rebuild of it" in refused.message
    shutil.rmtree(place / "data")
    # Nobody shows a receipt of round 3: the copy says itself that it is behind.
    restore = ("restore-city", "--city", "tokyo", "--from", "as-of")
    ran = here(place, *restore)
    assert ran.code == Exit.NO
    assert "round 3 is certified, and is not there: tokyo cannot go on as the sam" in ran.message
    ran = here(place, *AUDIT, "--from", "kept")
    assert ran.code == Exit.UNUSABLE
    assert "--from: reads a backup: leave out --storage" in ran.message
    for up_to, fault in (
        ("1", "--up-to: is 1, and the backup has round 2 already"),
        ("4", "--up-to: is 4, and the last certified round is 3"),
    ):
        ran = here(place, *as_of, "--up-to", up_to)
        assert ran.code == Exit.UNUSABLE
        assert fault in ran.message
    # What is taken up to its end is as good as any.
    assert here(place, *as_of).code == 0
    ran = here(place, *restore)
    assert ran.code == 0, ran.err


def test_what_was_shown_once_counts_though_nothing_was_copied_then(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> int:
        raise StorageError("the disk is full")

    early = ("restore-city", "--city", "tokyo", "--from", "early")
    with monkeypatch.context() as patched:
        patched.setattr("citychain.cli.backing_up.CityCopy.rounds", full)
        assert here(place, *early, "--receipt", "3.json").code == Exit.UNAVAILABLE
        assert here(place, *early).code == Exit.UNAVAILABLE
    ran = here(place, *early)
    assert ran.code == Exit.NO
    assert "round 3 is certified, and is not there" in ran.message


def test_what_a_backup_makes_up_of_later_rounds_keeps_no_other_one_out(place: Path) -> None:
    asyncio.run(planted(place, {notes.round_name(notes.KNOWN, 9): b"9" * 32}))
    (place / "kept").rename(place / "hostile")
    ran = here(place, "restore-city", "--city", "tokyo", "--from", "hostile")
    assert ran.code == Exit.NO
    assert "round 9 is certified, and is not there" in ran.message
    ran = here(place, "restore-city", "--city", "tokyo", "--from", "early", "--receipt", "3.json")
    assert ran.code == 0, ran.err


async def planted(place: Path, kept: Mapping[str, bytes]) -> None:
    """Put into a backup what no taking of it does."""
    core = CoreContainer(settings=load_settings(place / "citychain.toml", environment={}))
    genesis = genesis_of(place / "kept")
    async with core.compute(), open_copy(core, genesis, place / "kept") as copy:
        await copy.append([RawTransaction(b"t" * 32, b"a" * 32, b"nobody signed it")], {})
        await copy.keep(kept)


async def left_over(place: Path) -> tuple[Sequence[bytes], Mapping[str, bytes]]:
    """What waits in the restored city, and notes that no round says."""
    core = CoreContainer(settings=load_settings(place / "citychain.toml", environment={}))
    genesis = genesis_of(place / "kept")
    (place / "restored").mkdir()
    (place / "data" / "sqlite").rename(place / "restored" / "ledger")
    async with core.compute(), open_copy(core, genesis, place / "restored") as there:
        return await there.pending_ids(), await there.notes(notes.RETENTION_PRUNED)


def test_what_no_round_has_is_not_restored(place: Path) -> None:
    asyncio.run(planted(place, {notes.RETENTION_PRUNED: notes.number_bytes(2)}))
    assert here(place, *RESTORE).code == 0
    assert asyncio.run(left_over(place)) == ([], {})


async def take(
    core: CoreContainer,
    source: Path,
    target: Path,
    fails_at: int = 0,
    opened: type[StorageSource] = StorageSource,
) -> int:
    """Take a backup of a backup, so that it can be broken off where it is worst: between two
    writes."""
    genesis = genesis_of(source)
    async with AsyncExitStack() as stack:
        given = opened(await stack.enter_async_context(open_copy(core, genesis, source)))
        copy = await stack.enter_async_context(open_copy(core, genesis, target))
        state = LedgerState(copy)
        replay = await stack.enter_async_context(
            open_replay(core, genesis, state, given.public_keys)
        )
        await replay.resume(copy)
        backup = Backup(
            genesis=genesis,
            source=given,
            copy=Failing(copy, fails_at) if fails_at else copy,
            state=state,
            replay=replay,
            compute=core.compute(),
        )
        await backup.run()
        head = await copy.head()
        return head.certified_round


async def test_what_was_broken_off_goes_on_and_no_older_copy_is_taken(place: Path) -> None:
    core = CoreContainer(settings=load_settings(place / "citychain.toml", environment={}))
    async with core.compute():
        with pytest.raises(StorageError, match="full"):
            await take(core, place / "kept", place / "new", fails_at=2)
        async with open_copy(core, genesis_of(place / "kept"), place / "new") as broken_off:
            assert list(await beyond(broken_off)) == [3]
        assert await take(core, place / "kept", place / "new") == 3
        with pytest.raises(VerificationError, match=r"last certified round is 2, and .* round 3"):
            await take(core, place / "early", place / "new")


async def test_what_a_source_makes_up_of_committees_does_not_stay_in_the_backup(
    place: Path,
) -> None:
    stranger = SigningKey(b"s" * 32)
    genesis = genesis_of(place / "kept")
    seats = (Seat(key_id(stranger.public_key), 1),)
    signed = sign_transaction(stranger, genesis=genesis.id, action=Recovery(1, genesis.id, seats))

    class Lying(StorageSource):
        async def recoveries(self) -> list[tuple[int, Handover]]:
            return [(1, Handover((stranger.public_key,), recovery=signed.envelope))]

    core = CoreContainer(settings=load_settings(place / "citychain.toml", environment={}))
    async with core.compute():
        with pytest.raises(VerificationError, match="the recovery is not the operator's"):
            await take(core, place / "kept", place / "new", opened=Lying)
        assert await take(core, place / "kept", place / "new") == 3


class Failing:
    """A storage whose disk is full when it is to keep one certificate."""

    def __init__(self, storage: Any, round: int) -> None:
        self._storage = storage
        self._round = round

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def certify(self, certificates: Sequence[Any]) -> None:
        if any(certificate.round == self._round for certificate in certificates):
            raise StorageError("the disk is full")
        await self._storage.certify(certificates)
