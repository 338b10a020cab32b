"""``citychain save``: what is stored without a server, sealed by one later."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import COMMAND, environment

from citychain.genesis import Genesis, escrow_account

SAVE = ("save", "--city", "hometown", "--key", "alice.key")
CITY = ("--city", "hometown")
UNKNOWN = "ab" * 32


@pytest.fixture
def fresh(citychain: Any, tmp_path: Path) -> Path:
    """A directory of its own with a server's configuration, a founded city and a key."""
    for command in (["init"], ["keygen", "alice.key"]):
        assert citychain(*command, cwd=tmp_path).code == 0
    return tmp_path


@pytest.fixture
def save(citychain: Any, fresh: Path) -> Callable[..., Any]:
    """Runs it in that directory, in this process."""

    def save(*options: str | Path, lines: Sequence[Any] | None = None, input: str = "") -> Any:
        if lines is not None:
            write(fresh / "deeds.jsonl", lines)
            options = ("deeds.jsonl", *options)
        return citychain(*SAVE, *options, "--json", cwd=fresh, input=input)

    return save


def write(file: Path, lines: Sequence[Any]) -> None:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def ids(ran: Any) -> list[str]:
    """Of all that were stored."""
    assert ran.code == 0, (ran.out, ran.err)
    return [record["tx_id"] for record in ran.records[:-1]]


def counts(ran: Any) -> tuple[int, int, int, int]:
    """New, there before, refused, not stored."""
    last = ran.records[-1]
    return last["new"], last["there"], last["refused"], last["unsaved"]


def append(fresh: Path, text: str) -> None:
    with (fresh / "citychain.toml").open("a") as file:
        file.write(text)


def choose_storage(fresh: Path, name: str) -> None:
    file = fresh / "citychain.toml"
    file.write_text(file.read_text().replace('# storage = "sqlite"', f'storage = "{name}"'))


# --- the road


def test_saved_without_a_server_sealed_by_one(
    process: Any, start_server: Callable[..., Any], fresh: Path
) -> None:
    """In processes, as its users do."""
    write(fresh / "deeds.jsonl", [{"data": "a"}, {"data": "b", "content_type": "text/plain"}])
    first = process(*SAVE, "deeds.jsonl", "--json", cwd=fresh)
    tx_ids = ids(first)
    assert first.err == ""
    assert [record["line"] for record in first.records[:-1]] == [1, 2]
    assert first.records[-1] == {
        "city": "hometown", "storage": "sqlite", "new": 2, "there": 0, "refused": 0, "unsaved": 0,
    }  # fmt: skip
    again = process(*SAVE, "deeds.jsonl", cwd=fresh)
    assert again.code == 0
    assert "0 stored for hometown, 2 were there already, 0 refused" in again.err
    assert [line.split() for line in again.out.splitlines()] == [
        ["RECEIVED", "line", "1", tx_ids[0], "duplicate"],
        ["RECEIVED", "line", "2", tx_ids[1], "duplicate"],
    ]

    server = start_server(fresh)
    assert server.run_process("watch", *CITY, *tx_ids).code == 0
    shown = server.run("get", *CITY, tx_ids[1], "--json").record
    assert (shown["state"], shown["content_type"]) == ("APPROVED", "text/plain")
    beside = process(*SAVE, "deeds.jsonl", cwd=fresh)
    assert beside.code == 3
    assert "citychain submit" in beside.err.splitlines()[-1]
    assert "Traceback" not in beside.err
    assert server.end().code == 0

    sealed = process(*SAVE, "deeds.jsonl", "--json", cwd=fresh)
    assert counts(sealed) == (0, 2, 0, 0)
    assert {record["state"] for record in sealed.records[:-1]} == {"APPROVED"}
    assert process("audit", *CITY, "--storage", cwd=fresh).code == 0


def test_what_a_kill_breaks_off_is_completed_by_repeating(
    process: Any,
    start: Callable[..., subprocess.Popen[str]],
    start_server: Callable[..., Any],
    fresh: Path,
) -> None:
    count = 3_000
    write(fresh / "deeds.jsonl", [{"data": f"{number}"} for number in range(count)])
    running = start(*SAVE, "deeds.jsonl", "--json", cwd=fresh)
    assert running.stdout is not None
    told = [json.loads(running.stdout.readline())["tx_id"]]
    running.send_signal(signal.SIGKILL)
    rest = running.communicate()[0].splitlines()
    told += [json.loads(line)["tx_id"] for line in rest if line.endswith("}") and "tx_id" in line]

    again = process(*SAVE, "deeds.jsonl", "--json", cwd=fresh)
    new, there, _, _ = counts(again)
    assert new + there == count
    assert there >= len(told)
    there_before = {it["tx_id"] for it in again.records[:-1] if it["duplicate"]}
    assert set(told) <= there_before
    tx_ids = ids(again)
    server = start_server(fresh)
    assert server.run("watch", *CITY, *tx_ids[:: count // 20]).code == 0
    assert server.end().code == 0
    audited = process("audit", *CITY, "--storage", "--json", cwd=fresh)
    assert (audited.record["holds"], audited.record["transactions"]) == (True, count)


# --- what is the same transaction


def test_the_same_file_is_the_same_transactions(save: Callable[..., Any], fresh: Path) -> None:
    first = save(lines=[{"data": "a"}, {"data": "a"}, {"data": "b"}])
    assert len(set(ids(first))) == 3
    assert counts(first) == (3, 0, 0, 0)
    again = save("deeds.jsonl")
    assert (ids(again), counts(again)) == (ids(first), (0, 3, 0, 0))
    # Changed later, it says something else.
    os.utime(fresh / "deeds.jsonl", ns=(0, 1_700_000_000_000_000_000))
    changed = save("deeds.jsonl")
    assert counts(changed) == (3, 0, 0, 0)
    assert not set(ids(changed)) & set(ids(first))


def test_what_says_when_it_was_made_is_the_same_wherever_it_stands(
    save: Callable[..., Any],
) -> None:
    a, b = ({"data": data, "created_at_ms": 1_700_000_000_000} for data in "ab")
    first = save(lines=[a, b])
    document = json.dumps([b, {"data": "c", "created_at_ms": 5}, a], indent=1)
    second = save("-", input=document)
    assert counts(second) == (1, 2, 0, 0)
    assert ids(second)[0] == ids(first)[1]
    assert ids(second)[2] == ids(first)[0]


def test_what_comes_through_a_pipe_must_say_when_it_was_made(
    save: Callable[..., Any], process: Any, fresh: Path
) -> None:
    """Repeated it would be another transaction, and be paid twice."""
    some = '{"data": "a", "created_at_ms": 5}\n{"data": "b"}\n'
    for ran in (save("-", input=some), process(*SAVE, "-", "--json", cwd=fresh, input=some)):
        assert (ran.code, counts(ran)) == (2, (0, 0, 1, 1))
        assert (ran.records[0]["line"], ran.records[0]["field"]) == (2, "created_at_ms")
        assert "save a file" in ran.records[0]["detail"]
    every = some.replace('"b"', '"b", "created_at_ms": 5')
    assert counts(save("-", input=every)) == (2, 0, 0, 0)
    # A file that is redirected is a file, and has a time.
    write(fresh / "deeds.jsonl", [{"data": "c"}])
    for expected in ((1, 0, 0, 0), (0, 1, 0, 0)):
        with (fresh / "deeds.jsonl").open() as file:
            done = subprocess.run(
                [*COMMAND, *SAVE, "-", "--json"], cwd=fresh, env=environment(), stdin=file,
                capture_output=True, text=True,
            )  # fmt: skip
        last = json.loads(done.stdout.splitlines()[-1])
        assert (last["new"], last["there"], last["refused"], last["unsaved"]) == expected


def test_created_and_valid_count_from_the_time_that_is_given(
    save: Callable[..., Any], start_server: Callable[..., Any], fresh: Path
) -> None:
    line = {"data": "a", "created_at_ms": 1_700_000_000_000, "valid_for": "10000d"}
    [tx_id] = ids(save(lines=[line]))
    shown = start_server(fresh).run("get", *CITY, tx_id, "--json").record
    assert shown["created_at_ms"] == 1_700_000_000_000
    assert shown["valid_until_ms"] == 1_700_000_000_000 + 10_000 * 86_400_000


# --- what is wrong


def test_nothing_is_stored_of_a_file_with_a_fault(
    save: Callable[..., Any], process: Any, fresh: Path
) -> None:
    lines = [
        {"data": "a"},
        {"data": 2},
        {"data": "b", "depend_on": []},
        {"transfer": {"asset": "coin", "amount": 0, "to": UNKNOWN}},
        {"data": "x" * 300_000},
        {"data": "c"},
    ]
    ran = save(lines=lines)
    assert ran.code == 2
    told = [(it["file"], it["line"], it["code"], it["field"]) for it in ran.records[:-1]]
    assert told == [
        ("deeds.jsonl", 2, "MALFORMED", "data"),
        ("deeds.jsonl", 3, "MALFORMED", "depend_on"),
        ("deeds.jsonl", 4, "MALFORMED", "transfer.amount"),
        ("deeds.jsonl", 5, "TOO_LARGE", "line"),
    ]
    assert "did you mean depends_on?" in ran.records[1]["detail"]
    assert counts(ran) == (0, 0, 4, 2)
    assert ran.err.splitlines() == ["nothing is stored: mend 4 places, and save again"]
    # Also in words, and truly nothing.
    plain = process(*SAVE, "deeds.jsonl", cwd=fresh)
    assert plain.code == 2
    assert "REFUSED   deeds.jsonl:4  MALFORMED  transfer.amount: is at least 1" in plain.out
    good = [line for number, line in enumerate(lines) if number in (0, 5)]
    times = os.stat(fresh / "deeds.jsonl")
    write(fresh / "good.jsonl", good)
    os.utime(fresh / "good.jsonl", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert counts(save("good.jsonl")) == (2, 0, 0, 0)


def test_a_document_that_breaks_off_is_told(save: Callable[..., Any]) -> None:
    ran = save("-", input='[\n {"data": "a", "created_at_ms": 1},\n {"data": 3},\n {"data":')
    assert ran.code == 2
    [wrong, broken, _] = ran.records
    assert (wrong["line"], wrong["field"]) == (3, "data")
    assert (broken["file"], broken["line"], broken["field"]) == ("standard input", 4, "line")
    assert "invalid JSON" in broken["detail"]


def test_a_number_without_end_is_told(save: Callable[..., Any]) -> None:
    digits = "1" * 5_000
    for text in (f'[\n{{"created_at_ms": {digits}}}]', f'\n{{"created_at_ms": {digits}}}\n'):
        ran = save("-", input=text)
        assert ran.code == 2
        assert (ran.records[0]["line"], ran.records[0]["code"]) == (2, "MALFORMED")


def test_an_empty_file_is_well(save: Callable[..., Any]) -> None:
    for nothing in ("", "\n\n", "[]"):
        ran = save("-", input=nothing)
        assert (ran.code, counts(ran)) == (0, (0, 0, 0, 0))


def test_what_the_city_refuses_is_told_and_the_rest_is_stored(
    save: Callable[..., Any], fresh: Path
) -> None:
    seats = [{"key_id": UNKNOWN, "stake": 1}]
    recovery = {"from_round": 1, "previous": UNKNOWN, "seats": seats}
    late = {"data": "late", "created_at_ms": 1_000, "valid_for": "1s"}
    ran = save(lines=[{"data": "a"}, {"recovery": recovery}, late, {"data": "b"}])
    assert (ran.code, counts(ran)) == (1, (2, 0, 2, 0))
    refused, expired = ran.records[1:3]
    assert (refused["line"], refused["code"]) == (2, "RECOVERY_UNKNOWN")
    assert "citychain recover" in refused["detail"]
    assert (expired["line"], expired["field"]) == (3, "body.valid_until_ms")
    assert "a file of its own" in ran.err


def test_nobody_pays_to_an_account_of_escrow(
    save: Callable[..., Any], citychain: Any, fresh: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As at a server that has the peer, whether that is served here or elsewhere."""
    there = tmp_path_factory.mktemp("there")
    assert citychain("init", "--city", "otsu", cwd=there).code == 0
    file = there / "data" / "genesis" / "otsu.json"
    append(fresh, f'[peers.otsu]\nendpoints = ["127.0.0.1:1"]\ngenesis = "{file}"\n')
    account = escrow_account(Genesis.from_bytes(file.read_bytes()).id).hex()
    ran = save(lines=[{"transfer": {"asset": "coin", "amount": 1, "to": account}}])
    assert (ran.code, ran.records[0]["code"]) == (1, "ESCROW_PAYEE")


def test_without_a_peer_nothing_is_stored(save: Callable[..., Any], fresh: Path) -> None:
    """Else what is paid to its account of escrow would be let in."""
    append(fresh, "[cities.otsu]\n[peers.otsu]\n")
    ran = save(lines=[{"data": "a"}])
    assert (ran.code, ran.out) == (2, "")
    assert "city otsu: there is no genesis file" in ran.message
    assert "--save-genesis" in ran.message


@pytest.mark.parametrize("full", [True, False], ids=["full disk", "nobody reads"])
def test_answers_that_cannot_be_told_do_not_hide_what_is_stored(
    save: Callable[..., Any], fresh: Path, full: bool
) -> None:
    write(fresh / "deeds.jsonl", [{"data": "a"}, {"data": "b"}])
    if full:
        out = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, out = os.pipe()
        os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, *SAVE, "deeds.jsonl", "--json"], cwd=fresh, env=environment(), stdout=out,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        os.close(out)
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "2 stored for hometown, 0 were there already" in line
    assert "repeat the command" in line
    assert counts(save("deeds.jsonl")) == (0, 2, 0, 0)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["nowhere.jsonl", *CITY, "-k", "alice.key"], 2, "nowhere.jsonl"),
        (["-", *CITY, "-k", "nobody.key"], 2, "nobody.key"),
        (["-", "--city", "hometwon", "-k", "alice.key"], 1, "did you mean hometown?"),
        (["-", "--city", "other", "-k", "alice.key"], 2, "there is no genesis file"),
        (["-", *CITY, "-k", "alice.key", "--timeout", "0"], 2, "--timeout"),
        (["-", *CITY, "-k", "alice.key", "--timeout", "nan"], 2, "--timeout"),
        ([*CITY, "-k", "alice.key"], 2, "FILE"),
    ],
)
def test_wrong_usage_is_a_line(
    citychain: Any, fresh: Path, options: list[str], code: int, message: str
) -> None:
    append(fresh, "[cities.other]\n")
    ran = citychain("save", *options, cwd=fresh, input='{"data": "a"}\n')
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.message


def test_a_storage_that_forgets_is_refused(save: Callable[..., Any], fresh: Path) -> None:
    choose_storage(fresh, "memory")
    ran = save(lines=[{"data": "a"}])
    assert (ran.code, ran.out) == (2, "")
    assert "keeps nothing" in ran.message


# --- how much


def test_no_more_is_stored_than_may_be_pending(
    save: Callable[..., Any], start_server: Callable[..., Any], fresh: Path
) -> None:
    append(fresh, "[cities.hometown.limits]\npending_transactions = 5\n")
    lines = [{"data": f"{number}"} for number in range(12)]
    first = save(lines=lines)
    assert (first.code, counts(first)) == (3, (5, 0, 0, 7))
    assert "no room for the other 7: 5 transactions wait to be sealed" in first.err
    # What is there takes no room.
    again = save("deeds.jsonl")
    assert (again.code, counts(again)) == (3, (0, 5, 0, 7))
    for there, new, left in ((5, 5, 2), (10, 2, 0)):
        tx_ids = [record["tx_id"] for record in again.records[:-1]]
        server = start_server(fresh)
        assert server.run("watch", *CITY, *tx_ids).code == 0
        assert server.end().code == 0
        again = save("deeds.jsonl")
        assert counts(again) == (new, there, 0, left)
    assert again.code == 0


# --- beside servers


@pytest.fixture
def shared(fresh: Path, mongodb_uri: str, mongodb_database: str) -> dict[str, str]:
    """An environment in which the city is in MongoDB."""
    choose_storage(fresh, "mongodb")
    append(
        fresh,
        "num_hashes = 10\n[cities.hometown.limits]\npending_transactions = 20\n"
        f'[storage.mongodb]\nbackend = "mongodb"\ndatabase = "{mongodb_database}"\n'
        "[cluster]\nlease_seconds = 1\n",
    )
    (fresh / "data" / "genesis" / "hometown.json").unlink()
    return {"MONGODB_URI": mongodb_uri}


def test_in_mongodb_beside_a_server_and_without_one(
    process: Any, start_server: Callable[..., Any], fresh: Path, shared: dict[str, str]
) -> None:
    server = start_server(fresh, env=shared)
    assert server.run("cities", "hometown").code == 0  # It opens the city, which founds it.
    # More than may wait at a time: the server seals what came, and makes room.
    write(fresh / "deeds.jsonl", [{"data": f"{number}"} for number in range(60)])
    beside = process(*SAVE, "deeds.jsonl", "--timeout", "30", "--json", cwd=fresh, env=shared)
    assert counts(beside) == (60, 0, 0, 0), beside.err
    assert server.run("watch", *CITY, *ids(beside)).code == 0
    assert server.end().code == 0

    write(fresh / "more.jsonl", [{"data": f"more {number}"} for number in range(30)])
    alone = process(*SAVE, "more.jsonl", "--timeout", "0.6", "--json", cwd=fresh, env=shared)
    assert (alone.code, counts(alone)) == (3, (20, 0, 0, 10))
    server = start_server(fresh, env=shared)
    assert server.run("cities", "hometown").code == 0
    rest = process(*SAVE, "more.jsonl", "--timeout", "30", "--json", cwd=fresh, env=shared)
    assert counts(rest) == (10, 20, 0, 0), rest.err
    assert server.run("watch", *CITY, *ids(rest)).code == 0
    assert server.run("audit", *CITY, "--json").record["transactions"] == 90
    assert server.end().code == 0
