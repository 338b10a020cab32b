"""`citychain doctor`: each check by what breaks exactly it, and that nothing is changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import SECONDS_MAX, Ran, Server, environment, run_here
from free_ports import free_port
from tls_files import dev_certificates

from citychain.cli.checkup import disk
from citychain.cli.checkup.certificates import pair_results
from citychain.cli.checkup.clocks import apart, before_newest
from citychain.cli.checkup.examination import CHECKS, CONFIGURATION
from citychain.cli.checkup.process import check_limits, version_results
from citychain.cli.checkup.results import Result
from citychain.cli.checkup.storages import look_results
from citychain.clock import ahead_ms
from citychain.pem import read_pair
from citychain.upkeep import StorageLook

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
SECRET = "hunter2-of-the-doctor"


def examine(directory: Path, *options: str, env: dict[str, str] | None = None) -> Ran:
    # Whoever is there answers in time, however busy the machine is.
    patient = ("--timeout", "60")
    return run_here("doctor", "--json", *patient, *options, cwd=directory, env=env)


def ills(ran: Ran) -> set[tuple[str, str]]:
    """What is not well: the check and its grade. The exit code says whether there is a fault."""
    assert "Traceback" not in ran.err
    found = {(it["check"], it["grade"]) for it in ran.records if it["grade"] != "ok"}
    assert all(it["fix"] for it in ran.records if it["grade"] != "ok")
    assert ran.code == (1 if any(grade == "fault" for _, grade in found) else 0)
    return found


def said(ran: Ran, check: str) -> str:
    return "\n".join(it["what"] for it in ran.records if it["check"] == check)


def file_system(free_mib: int, inodes: int) -> os.statvfs_result:
    return os.statvfs_result(
        (4_096, 1 << 20, 9_999, free_mib, free_mib, 1 << 21, inodes, inodes, 0, 255)
    )


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room on the disk, however full this machine's is."""
    monkeypatch.setattr(os, "statvfs", lambda path: file_system(2_000, 1 << 20))


@pytest.fixture
def place(town: Path, tmp_path: Path) -> Path:
    """A directory of the test's own, with a configuration, keys and no city yet, at a free port."""
    directory = tmp_path / "place"
    directory.mkdir()
    for name in ("citychain.toml", "operator.key", "alice.key"):
        shutil.copy2(town / name, directory / name)
    config = (directory / "citychain.toml").read_text()
    listen = f'listen = "127.0.0.1:{free_port()}"'
    (directory / "citychain.toml").write_text(config.replace('listen = "127.0.0.1:50051"', listen))
    return directory


def add(directory: Path, table: str) -> None:
    with (directory / "citychain.toml").open("a") as file:
        file.write(f"\n{table}\n")


def pin(directory: Path, address: str, genesis: Path) -> None:
    """Make the town that a server has a peer, of a city of another name."""
    shutil.copy(genesis, directory / "peer.json")
    config = (directory / "citychain.toml").read_text()
    (directory / "citychain.toml").write_text(config.replace("[cities.hometown", "[cities.nara"))
    add(directory, f'[peers.hometown]\nendpoints = ["{address}"]\ngenesis = "peer.json"')


@contextlib.contextmanager
def answering(
    date: str, tls: Path | None = None, before: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """The address of a service that says nothing but what time it is, once ``before`` returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            before()
            self.send_response(403)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "server.crt", tls / "server.key")
            service.socket = context.wrap_socket(service.socket, server_side=True)
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{service.server_port}"
        finally:
            service.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of `citychain certs dev`, and a chain in the wrong order."""
    directory = dev_certificates(tmp_path_factory.mktemp("doctor") / "tls")
    chain = [(directory / name).read_bytes() for name in ("server.crt", "client.crt")]
    (directory / "chain.crt").write_bytes(b"".join(chain))
    return directory


def test_all_is_well_with_a_new_place_and_each_check_says_so(place: Path) -> None:
    ran = examine(place)
    assert ills(ran) == set(), ran.out
    assert {it["check"] for it in ran.records} == {CONFIGURATION, *CHECKS}
    page = PAGE.read_text()
    assert [name for name in (CONFIGURATION, *CHECKS) if f"| `{name}` |" not in page] == []


def test_quiet_leaves_out_what_is_well(place: Path) -> None:
    (place / "operator.key").unlink()
    ran = run_here("doctor", "--quiet", cwd=place)
    [line] = ran.out.splitlines()
    assert line.startswith("fault    keys           operator_key: ")
    assert "; fix: citychain keygen" in line
    assert ran.err == "1 fault, 0 warnings\n"


def test_a_configuration_that_cannot_be_read_is_all_that_is_told(place: Path) -> None:
    add(place, "[limits]\npending_mb = 3")
    ran = examine(place)
    assert ills(ran) == {("configuration", "fault")}
    assert [it["check"] for it in ran.records] == ["configuration"]
    assert "pending_mib" in ran.out


def test_an_installation_that_was_changed_is_told(tmp_path: Path) -> None:
    native = tmp_path / "citychain" / "_native.abi3.so"
    native.parent.mkdir()
    native.write_bytes(b"another")
    info = tmp_path / "citychain-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: citychain\nVersion: 0.1.0\nRequires-Dist: pluggy>=1000\n"
    )
    (info / "RECORD").write_text("citychain/_native.abi3.so,sha256=AAAA,7\n")
    results = list(version_results(metadata.PathDistribution(info)))
    assert [it.grade for it in results] == ["fault", "fault"]
    assert "pluggy" in results[0].what
    assert results[1].subject == str(native)


def test_a_process_that_may_have_few_files_is_warned_of(place: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_000, hard))
    try:
        ran = examine(place)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ills(ran) == {("limits", "warning")}


def test_few_files_are_warned_of_where_more_could_be_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    [result] = check_limits(None)  # type: ignore[arg-type]
    assert (result.grade, "at most 256" in result.what) == ("warning", True), result


def test_a_check_that_fails_keeps_nobody_from_the_others(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> Iterator[Result]:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setitem(CHECKS, "limits", fails)  # type: ignore[misc]
    ran = examine(place)
    assert ills(ran) == {("limits", "fault")}
    assert "raised ZeroDivisionError" in said(ran, "limits")
    assert SECRET not in ran.out + ran.err
    assert {it["check"] for it in ran.records} == {CONFIGURATION, *CHECKS}


def test_a_plugin_that_fails_is_told_with_the_doctor_for_plugins(
    place: Path, install: Any, process: Callable[..., Ran]
) -> None:
    ran = process("doctor", "--json", cwd=place, env=install("ailing_town", "print(1)\n1 / 0\n"))
    # A process of its own sees this machine's disk.
    assert ills(ran) - {("disk", "warning")} == {("plugins", "fault")}
    assert "citychain plugins doctor ailing_town" in ran.out


def test_a_city_of_a_part_that_does_not_exist_is_told(place: Path) -> None:
    add(place, '[cities.nara]\ndag = "sealed-round"')
    ran = examine(place)
    assert ills(ran) == {("cities", "fault")}
    assert "sealed-rounds" in said(ran, "cities")


def test_a_genesis_of_another_network_is_told(place: Path, server: Server) -> None:
    shutil.copytree(server.directory / "data" / "genesis", place / "data" / "genesis")
    assert ills(examine(place)) == set()
    assert ills(examine(place, env={"CITYCHAIN_NETWORK": "other"})) == {("cities", "fault")}


def test_keys_that_cannot_be_used_are_told(place: Path) -> None:
    (place / "operator.key").chmod(0o644)
    ran = examine(place)
    assert ills(ran) == {("keys", "fault")}
    assert "chmod 600" in said(ran, "keys")
    (place / "operator.key").chmod(0o600)
    (place / "issuer.pub").write_text("nothing of use")
    add(place, '[auth]\nkeys = ["issuer.pub"]\naudience = "town"')
    assert ills(examine(place)) == {("keys", "fault")}


def test_secrets_that_others_can_read_are_warned_of_and_never_shown(place: Path, tls: Path) -> None:
    with answering("") as endpoint:
        add(
            place,
            f"""
[server.tls]
certificate = "{tls / "server.crt"}"
key = "server.key"

[fragments.stores.attic]
kind = "s3"
bucket = "attic"
endpoint = "{endpoint}"
access_key_id = "me"
secret_access_key = "{SECRET}"
""",
        )
        shutil.copy2(tls / "server.key", place / "server.key")
        for file in ("server.key", "citychain.toml"):
            (place / file).chmod(0o640)
        ran = examine(place)
        for file in ("server.key", "citychain.toml"):
            (place / file).chmod(0o600)
        mended = examine(place)
    assert ills(ran) == {("secrets", "warning")}
    assert "server.key has mode 640" in said(ran, "secrets")
    assert "citychain.toml has mode 640" in said(ran, "secrets")
    assert SECRET not in ran.out + ran.err
    assert ills(mended) == set()


@pytest.mark.parametrize(
    ("ill", "grade", "host", "left", "files"),
    [
        ("is for localhost", "warning", "town.example", 40, ("server.crt", "server.key")),
        ("expires in 29 days", "warning", "localhost", 29.5, ("server.crt", "server.key")),
        ("expired at", "fault", "localhost", 0, ("server.crt", "server.key")),
        ("is valid from", "fault", "localhost", 9_999, ("server.crt", "server.key")),
        ("is not the key", "fault", "localhost", 40, ("server.crt", "client.key")),
        ("has no certificate", "fault", "localhost", 40, ("server.key", "server.key")),
        ("no subject alternative name", "fault", "localhost", 40, ("client.crt", "client.key")),
        ("is not signed by number 2", "fault", "localhost", 40, ("chain.crt", "server.key")),
    ],
)
def test_a_certificate_is_told_by_what_is_wrong_with_it(
    tls: Path, ill: str, grade: str, host: str, left: float, files: tuple[str, str]
) -> None:
    expires = read_pair(tls / "server.crt", tls / "server.key").expires
    now = expires - timedelta(days=left)
    results = [*pair_results("server.tls", *(tls / it for it in files), now=now, host=host)]
    ills = [it for it in results if it.grade != "ok"]
    assert [it.grade for it in ills] == [grade], results
    assert ill in ills[0].what


def test_a_certificate_that_is_well_is_told_with_its_end(tls: Path) -> None:
    files = (tls / "server.crt", tls / "server.key")
    [result] = pair_results("server.tls", *files, now=datetime.now(UTC), host="127.0.0.1")
    assert result.grade == "ok", result


@pytest.mark.parametrize(
    ("free_mib", "inodes", "grade"),
    [
        (63, 1 << 20, "fault"),
        (1_000, 1 << 20, "warning"),
        (2_000, 99, "fault"),
        (2_000, 1 << 20, "ok"),
    ],
)
def test_a_disk_with_little_room_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, inodes: int, grade: str
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: file_system(free_mib, inodes))
    [result] = disk.room_results("data_dir", tmp_path)
    assert result.grade == grade, result


def test_a_disk_that_takes_nothing_is_told(place: Path) -> None:
    if "not tried" in said(examine(place), "sync"):
        pytest.skip("this disk has no files without names")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # As a quota that is used up.
    try:
        ran = examine(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ills(ran) == {("sync", "fault")}


def test_a_storage_that_cannot_be_opened_is_told(place: Path) -> None:
    folder = place / "data" / "sqlite"
    folder.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(folder / "citychain.db")) as database:
        database.execute("PRAGMA user_version = 1")
        database.execute("CREATE TABLE cities (city)")
        database.execute("CREATE TABLE rounds (city, round, time_ms)")
        database.commit()
        older = examine(place)
        database.execute("PRAGMA user_version = 99")
        database.execute("DROP TABLE cities")
        database.commit()
        newer = examine(place)
    assert ills(older) == set()
    assert "schema version 1; a server makes it" in said(older, "storage")
    assert ills(newer) == {("storage", "fault")}
    assert "schema version 99" in said(newer, "storage")
    (folder / "citychain.db").write_bytes(b"no database at all" * 100)
    assert ills(examine(place)) == {("storage", "fault")}


def test_indexes_that_are_missing_are_told() -> None:
    ok, ill = look_results("db", StorageLook(1, 1, lacks=["rounds.size"]))
    assert (ok.grade, ill.grade) == ("ok", "fault")
    assert "rounds.size" in ill.what
    assert ill.fix == "citychain db indexes --storage db"


@pytest.mark.parametrize(
    ("told", "grade", "what"),
    [
        (1_000, "ok", "says the same"),
        (1_900, "ok", "says the same"),
        (12_000, "warning", "10.0 s ahead of it"),
        (-40_000, "fault", "41.0 s behind it"),
    ],
)
def test_a_clock_is_held_against_another(told: int, grade: str, what: str) -> None:
    result = apart("storage db", ahead_ms(told, before_ms=1_000, after_ms=2_000))
    assert (result.grade, what in result.what) == (grade, True), result


def test_a_peer_that_names_a_time_that_no_calendar_has_is_told() -> None:
    result = before_newest("peer nara", (1 << 63) - 1, 1_000)
    assert result is not None
    assert result.grade == "fault"
    assert "9223372036854775807 ms" in result.what


def test_a_clock_before_the_newest_round_of_a_peer_or_of_a_storage_is_told(
    place: Path, tmp_path: Path
) -> None:
    """The same as a server whose clock is an hour ahead."""
    ahead = tmp_path / "ahead"
    shutil.copytree(place, ahead)
    address = f"127.0.0.1:{free_port()}"
    (ahead / "address.known").write_text(address)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "cluster.skewed", "3600"],
        cwd=ahead,
        env=environment(PYTHONPATH=path),
        stderr=subprocess.DEVNULL,
    ) as skewed:
        try:
            end = time.monotonic() + SECONDS_MAX
            while not (ahead / "address").exists():
                assert skewed.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            asked = {"CITYCHAIN_ADDRESS": address}
            send = ("submit", "--city", "hometown", "--key", "alice.key", "--data", "x")
            sent = run_here(*send, "--wait", "approved", cwd=ahead, env=asked)
            assert sent.code == 0, sent.err
            pin(place, address, ahead / "data" / "genesis" / "hometown.json")
            peer = examine(place)
        finally:
            skewed.kill()
    assert ills(peer) == {("peers", "fault")}
    assert "the newest round in peer hometown is of" in said(peer, "peers")
    storage = examine(ahead)
    assert ills(storage) == {("clocks", "fault")}
    assert "the newest round in storage sqlite is of" in said(storage, "clocks")


def test_an_address_of_another_machine_is_told(place: Path) -> None:
    env = {"CITYCHAIN_SERVER__LISTEN": "192.0.2.1:50051", "CITYCHAIN_SERVER__PLAINTEXT": "true"}
    assert ills(examine(place, env=env)) == {("listening", "fault"), ("certificates", "warning")}


def test_a_port_that_something_else_holds_is_told(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        env = {"CITYCHAIN_SERVER__LISTEN": f"127.0.0.1:{other.getsockname()[1]}"}
        # So short a time may be too short for others, too.
        assert ("listening", "fault") in ills(examine(place, "--timeout", "0.3", env=env))


def test_a_port_that_its_server_holds_is_well(server: Server, town: Path) -> None:
    ran = examine(town, env={"CITYCHAIN_SERVER__LISTEN": server.address})
    assert ills(ran) == set(), ran.out
    assert f"a server answers on {server.address}" in said(ran, "listening")


def test_stores_that_cannot_be_reached_are_told(place: Path) -> None:
    add(
        place,
        f"""
[fragments.stores.attic]
kind = "directory"
path = "gone"

[fragments.stores.barn]
kind = "remote"
endpoint = "127.0.0.1:{free_port()}"

[fragments.stores.cloud]
kind = "ipfs"
endpoint = "http://127.0.0.1:{free_port()}"

[fragments.stores.far]
kind = "s3"
bucket = "far"
endpoint = "http://127.0.0.1:99999"
""",
    )
    ran = examine(place, "--timeout", "0.3")
    assert ("stores", "fault") in ills(ran)
    assert [(it["subject"], it["grade"]) for it in ran.records if it["check"] == "stores"] == [
        ("fragments.stores.attic", "fault"),
        ("fragments.stores.barn", "fault"),
        ("fragments.stores.cloud", "fault"),
        ("fragments.stores.far", "fault"),
    ]


@pytest.mark.parametrize(("ahead", "ill"), [(0, False), (3_600, True)])
def test_a_store_that_tells_the_time_is_held_against_it(place: Path, ahead: int, ill: bool) -> None:
    with answering(formatdate(time.time() + ahead, usegmt=True)) as endpoint:
        add(place, f'[fragments.stores.cloud]\nkind = "ipfs"\nendpoint = "{endpoint}"')
        ran = examine(place)
    if ill:
        assert ills(ran) == {("stores", "fault")}
        assert "ahead of it" in said(ran, "stores")
    else:
        # It told the time when it began.
        assert ("stores", "fault") not in ills(ran)


def test_a_store_is_trusted_as_its_table_says(place: Path, tls: Path) -> None:
    with answering("", tls) as endpoint:
        table = f'kind = "s3"\nbucket = "attic"\nendpoint = "{endpoint}"'
        add(place, f'[fragments.stores.attic]\n{table}\ncertificates = "{tls}/ca.crt"')
        add(place, f"[fragments.stores.barn]\n{table}")
        ran = examine(place)
    # The system knows no such authority.
    assert [(it["subject"], it["grade"]) for it in ran.records if it["check"] == "stores"] == [
        ("fragments.stores.attic", "ok"),
        ("fragments.stores.barn", "fault"),
    ]


def test_stores_are_asked_at_once(place: Path) -> None:
    both = threading.Barrier(2, timeout=SECONDS_MAX)
    with answering("", before=both.wait) as endpoint:
        for name in ("attic", "barn"):
            add(place, f'[fragments.stores.{name}]\nkind = "ipfs"\nendpoint = "{endpoint}"')
        ran = examine(place)
    assert said(ran, "stores") == f"{endpoint} answers\n{endpoint} answers"


def test_a_peer_is_the_city_that_was_pinned_or_a_fault(place: Path, server: Server) -> None:
    here = server.directory / "data" / "genesis" / "hometown.json"
    if not here.exists():
        assert server.run("cities", "hometown").code == 0
    pin(place, server.address, here)
    well = examine(place)
    assert ills(well) == set(), well.out
    (place / "peer.json").write_text(here.read_text().replace('"local"', '"other"'))
    other = examine(place)
    assert ills(other) == {("peers", "fault")}
    assert "another city of this name" in said(other, "peers")
    away = (
        (place / "citychain.toml").read_text().replace(server.address, f"localhost:{free_port()}")
    )
    (place / "citychain.toml").write_text(away)
    assert ("peers", "fault") in ills(examine(place, "--timeout", "0.3"))


def state(directory: Path) -> Iterator[tuple[object, ...]]:
    """All that there is: names, modes, owners, times of change, and content."""
    for path in sorted([directory, *directory.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(content).hexdigest()
        # As root, SQLite makes the owner of the log's index what it was.
        yield str(path), status.st_mode, status.st_uid, status.st_mtime_ns, digest


def test_nothing_is_changed_beside_a_server_nor_of_what_was_killed(
    place: Path, tls: Path, start_server: Callable[..., Server]
) -> None:
    add(
        place,
        f"""
[server.tls]
certificate = "{tls / "server.crt"}"
key = "{tls / "server.key"}"

[metrics]
listen = "127.0.0.1:{free_port()}"

[fragments.stores.attic]
kind = "directory"
""",
    )
    running = start_server(place)
    ca = ("--ca", tls / "ca.crt")
    sent = running.run(
        "submit",
        *ca,
        "--city",
        "hometown",
        "--key",
        "alice.key",
        "--data",
        "x",
        "--wait",
        "approved",
    )
    assert sent.code == 0, sent.err
    env = {"CITYCHAIN_SERVER__LISTEN": running.address}
    beside = examine(place, env=env)
    assert ills(beside) == set(), beside.out
    assert "shows this server's certificate" in said(beside, "listening")
    assert "the server is ready" in said(beside, "listening")
    # The same port, and another certificate than it shows.
    other = {
        "CITYCHAIN_SERVER__TLS__CERTIFICATE": str(tls / "client.crt"),
        "CITYCHAIN_SERVER__TLS__KEY": str(tls / "client.key"),
    }
    assert ("listening", "fault") in ills(examine(place, env=env | other))
    running.end(signal.SIGKILL)
    before = list(state(place))
    assert any(str(name).endswith("citychain.db-wal") for name, *_ in before)
    killed = examine(place)
    assert ills(killed) == set(), killed.out
    assert "1 city, schema version" in said(killed, "storage")
    assert list(state(place)) == before
