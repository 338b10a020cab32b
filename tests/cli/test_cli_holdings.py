"""``citychain hold`` and ``holdings``, in processes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citychain.statements import HoldingRules, Segment

EVERY, WITHIN = 10, 6
CONFIG = """
operator_key = "operator.key"
[pacer]
min_seconds = 0.01
max_seconds = 0.05
[cities.nara]
num_hashes = 10
[fragments]
chunk_kib = 16
"""


def config(*stores: str, archive: str = "enabled = false", **options: str) -> str:
    """A configuration with these stores; options by name are added to the table of one."""
    tables = [
        f'[fragments.stores.{name}]\nkind = "directory"\npath = "{name}"\n{options.get(name, "")}\n'
        for name in stores
    ]
    return "".join((CONFIG, *tables, f"[archive]\n{archive}\n"))


HOLD = ("hold", "--city", "nara", "--key", "holder.key", "--json")
HOLDINGS = ("holdings", "--city", "nara", "--json")


class Nara:
    """A server's city with an announced segment, and two stores that have it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        [listed] = server.run("fragments", "ls", "--json").records
        shape = {name: listed[name] for name in ("object", "root", "size", "data", "parity")}
        segment = Segment(first=1, last=9, chunk=listed["chunk"], **shape)
        rules = HoldingRules(challenge_rounds=EVERY, answer_rounds=WITHIN, receipts=1)
        for statement in (rules, segment):
            self.submit(statement.encode().decode(), statement.CONTENT_TYPE)

    def submit(self, data: str, content_type: str = "text/plain") -> int:
        """By the operator; the round in which it was approved."""
        sent = self.server.run(
            *("submit", "--city", "nara", "--key", "operator.key", "--data", data),
            *("--content-type", content_type, "--wait", "approved", "--json"),
        )
        assert sent.code == 0, sent.err
        round: int = sent.record["round"]
        return round

    def seal_until(self, modulo: int) -> int:
        """Rounds up to one that is this, modulo the rounds between challenges."""
        while (round := self.submit("something")) % EVERY != modulo:
            pass
        return round


@pytest.fixture
def place(citychain: Any, tmp_path: Path) -> Path:
    """A folder with a configuration, its keys and its stores."""
    for name in ("operator", "holder"):
        assert citychain("keygen", f"{name}.key", cwd=tmp_path).code == 0
    (tmp_path / "citychain.toml").write_text(config("attic", "cellar"))
    for name in ("attic", "barn", "cellar"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def nara(start_server: Callable[..., Any], citychain: Any, place: Path) -> Nara:
    # Ten whole stripes: three chunks never fit into one transaction.
    (place / "segment").write_bytes(random.Random(3).randbytes(20 * (16 << 10)))
    stored = citychain("store", "segment", cwd=place)
    assert stored.code == 0, stored.err
    return Nara(start_server(place))


def fragment_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 10_000]


def test_holding_from_receipt_to_recount_and_to_what_is_lost(nara: Nara) -> None:
    server = nara.server
    before = server.run(*HOLDINGS)
    assert before.code == 1
    assert [it["holders"] for it in before.records[:-1]] == [0, 0, 0, 0]

    nowhere = server.run_process(*HOLD, "--once", "--state", "nowhere/state")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert "--state: nowhere/state: cannot be written: No such file" in nowhere.err

    held = server.run_process(*HOLD, "--once")
    assert held.code == 0, held.err
    start, said = held.records
    holder = start["key_id"]
    assert (start["holding"], said["receipts"]) == ("nara", 4)

    challenge = nara.seal_until(0)
    asked = server.run_process(*HOLD, "--once", "--state", "holder.state")
    assert asked.code == 0, asked.err
    assert asked.records[1:] == [
        {"challenge": challenge, "answered": 2},
        {"challenge": challenge, "answered": 1},
    ]
    nara.seal_until(WITHIN)
    counted = server.run_process(*HOLDINGS)
    assert counted.code == 0, counted.err
    [mine, total] = counted.records
    assert mine == {
        "holder": holder,
        "receipts": 4,
        "silent": False,
        "failed": 0,
        "asked": 3,
        "answered": 3,
        "availability": "1",
    }
    assert {name: total[name] for name in ("segments", "fragments", "lacking", "holders")} == {
        "segments": 1,
        "fragments": 4,
        "lacking": 0,
        "holders": 1,
    }

    for store in ("attic", "cellar"):
        for path in fragment_files(server.directory / store):
            path.unlink()
    challenge = nara.seal_until(0)
    assert (server.directory / "holder.state").exists()
    gone = server.run_process(*HOLD, "--once", "--state", "holder.state")
    assert gone.code == 1, gone.err
    assert [it.get("lost") for it in gone.records[1:]] == [True, True, True, None]
    assert gone.records[-1] == {"taken_back": 4}
    last = nara.seal_until(WITHIN)
    rounds = ("--first-round", str(challenge), "--last-round", str(last))
    counted = server.run(*HOLDINGS, *rounds)
    assert counted.code == 1
    [mine, *lacking, total] = counted.records
    assert (mine["receipts"], mine["availability"], total["lacking"]) == (0, "0", 4)
    assert [it["index"] for it in lacking] == [0, 1, 2, 3]

    people = server.run("holdings", "--city", "nara")
    lines = people.out.splitlines()
    assert lines[0] == (
        f"HOLDER   {holder}  0 fragments, 0 of them failed  answered 3 of 6  50.0%  silent"
    )
    assert lines[1].startswith("LACKING  ")
    assert lines[1].endswith("  fragment 0: 0 of 1 holders")
    assert lines[-1].endswith("1 holder; 4 fragments of 1 segment, 4 of them lack holders")

    other = server.run(
        *("hold", "--city", "nara", "--key", "operator.key", "--once"), "--state", "holder.state"
    )
    assert other.code == 2
    assert "holder.state: is of another key or another city" in other.err.splitlines()[-1]
    for rounds, message in (
        (("--first-round", "9", "--last-round", "2"), "is 9, after --last-round 2"),
        (("--first-round", "100000"), "is 100000, and the city's last certified round is"),
    ):
        backward = server.run(*HOLDINGS, *rounds)
        assert backward.code == 2
        assert f"--first-round: {message}" in backward.err
    late = server.run(*HOLDINGS, "--last-round", "100000")
    assert late.code == 2
    assert "--last-round: is 100000, and the city's last certified round is" in late.err


def test_it_answers_until_it_is_told_to_stop_and_goes_on_after_a_kill(nara: Nara) -> None:
    first = nara.server.start(*HOLD)
    assert "holding" in said(first)
    assert said(first)["receipts"] == 4
    first.kill()
    first.communicate()
    nara.submit("what came before this is approved as well")
    second = nara.server.start(*HOLD)
    assert "holding" in said(second)
    challenge = nara.seal_until(0)
    # Nothing was claimed anew: what comes next are the answers.
    assert [said(second), said(second)] == [
        {"challenge": challenge, "answered": 2},
        {"challenge": challenge, "answered": 1},
    ]
    second.send_signal(signal.SIGTERM)
    out, err = second.communicate(timeout=300)
    assert (second.returncode, out) == (0, ""), err
    assert "Traceback" not in err


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next thing that it says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    record: dict[str, Any] = json.loads(line)
    return record


def test_what_the_archive_announces_is_held(start_server: Callable[..., Any], place: Path) -> None:
    """As soon as it is announced, by a holder that was there before."""
    archived = config("attic", "cellar", archive='every = "1s"')
    (place / "citychain.toml").write_text(archived)
    server = start_server(place)
    holder = server.start(*HOLD)
    assert "holding" in said(holder)
    sent = server.run("submit", "--city", "nara", "--key", "operator.key", "--data", "deed")
    assert sent.code == 0, sent.err
    assert said(holder)["receipts"] == 4
    holder.send_signal(signal.SIGTERM)
    _, err = holder.communicate(timeout=300)
    assert holder.returncode == 0, err
    wait = ("--wait", "approved", "--timeout", "60")  # What came before it is approved as well.
    sent = server.run("submit", "--city", "nara", "--key", "operator.key", "--data", "x", *wait)
    assert sent.code == 0, sent.err
    counted = server.run(*HOLDINGS)
    [mine, *_] = counted.records
    assert mine["receipts"] >= 4
    assert (mine["asked"], mine["availability"]) == (0, None)


def test_what_is_not_proven_any_more_is_made_anew_elsewhere(nara: Nara) -> None:
    """The holder of the attic signs for what is there, and is silent when it is asked."""
    server, folder = nara.server, nara.server.directory
    three, rebalance = ("attic", "barn", "cellar"), ("rebalance", "--city", "nara", "--json")
    (folder / "citychain.toml").write_text(config(*three))
    assert server.run("rebalance").code == 0, "the barn gets its share"
    nobody = server.run(*rebalance)
    assert nobody.code == 2
    assert "--city: no store has a holder: give" in nobody.err.splitlines()[-1]

    (folder / "attic.toml").write_text(config("attic"))
    held = server.run(*HOLD, "--once", "--config", "attic.toml")
    assert held.code == 0, held.err
    start, claimed = held.records
    assert claimed["receipts"] == len(fragment_files(folder / "attic")) > 0
    owned = f'holder = "{start["key_id"]}"'
    (folder / "citychain.toml").write_text(config(*three, attic=owned))
    assert server.run(*rebalance).record["made"] == 0

    nara.seal_until(0)
    nara.seal_until(WITHIN)
    told, done = server.run(*rebalance, "--dry-run"), server.run(*rebalance)
    assert (told.code, done.code) == (0, 0), done.err
    [foretold, _], [object, total] = told.records, done.records
    assert foretold["made"] == object["made"]
    assert len(object["made"]) == total["made"] == claimed["receipts"]
    assert {it["store"] for it in object["made"]} <= {"cellar", "barn"}
    assert len(fragment_files(folder / "attic")) == claimed["receipts"], "it may be back some day"
    assert server.run(*rebalance).record["made"] == 0


def test_without_stores_or_city_it_says_what_is_wrong(nara: Nara) -> None:
    (nara.server.directory / "bare.toml").write_text("")
    bare = nara.server.run(*HOLD, "--config", "bare.toml")
    assert bare.code == 2
    assert bare.err.splitlines()[-1].startswith("citychain: fragments.stores: there are none")
    other = nara.server.run("hold", "--city", "uji", "--key", "holder.key")
    assert other.code == 1
    assert other.err.splitlines()[-1].startswith("citychain: no city 'uji'")
