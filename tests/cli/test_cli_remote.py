"""The commands that ask a server: cities, submit, get, watch, receipt, verify, dag."""

import json
import secrets
import signal
from pathlib import Path
from typing import Any

import pytest

from citychain.client.keys import load_public_key

UNKNOWN = "ab" * 32


@pytest.fixture(scope="session")
def approved(server: Any) -> str:
    """The id of an approved transaction."""
    ran = submit(server, "--data", "hello", "--wait", "approved")
    assert ran.code == 0, ran.err
    return ran.record["tx_id"]


def submit(server: Any, *options: str | Path, input: str = "") -> Any:
    return server.run(
        "submit", "--city", "hometown", "--key", "alice.key", "--json", *options, input=input
    )


def name() -> str:
    """An object that no other test writes."""
    return secrets.token_hex(8)


def test_a_life_in_processes(server: Any, process: Any, tmp_path: Path) -> None:
    """Every command that asks a server, once as its users run it."""
    run = server.run_process
    city = ("--city", "hometown")
    [listed] = run("cities", "--json").records
    assert listed["city"] == "hometown"
    sent = run("submit", *city, "-k", "alice.key", "--data", "a", "--wait", "approved", "--json")
    assert (sent.code, sent.err) == (0, "")
    tx_id = sent.record["tx_id"]
    assert run("get", *city, tx_id, "--json").record["state"] == "APPROVED"
    assert run("watch", *city, tx_id, "--json").record["state"] == "APPROVED"
    assert run("dag", *city, tx_id, "--json").record["nodes"][0]["tx_id"] == tx_id
    assert run("receipt", *city, tx_id, "-o", tmp_path / "deed.json").code == 0
    assert run("cities", "hometown", "--save-genesis", tmp_path / "genesis.json").code == 0
    verified = process("verify", "deed.json", "-g", "genesis.json", "--json", cwd=tmp_path)
    assert (verified.code, verified.record["valid"]) == (0, True)
    unknown = run("get", *city, UNKNOWN)
    assert unknown.code == 1
    assert unknown.message == f"citychain: no transaction '{UNKNOWN}'"


# --- cities


def test_cities_lists_and_searches(server: Any) -> None:
    listed = server.run("cities", "--json")
    assert [record["city"] for record in listed.records] == ["hometown"]
    assert server.run("cities", "--query", "home", "--json").records == listed.records
    assert server.run("cities", "--query", "away", "--json").records == []
    assert "hometown" in server.run("cities").out


def test_cities_shows_one_with_its_parts_and_head(server: Any, approved: str) -> None:
    record = server.run("cities", "HOMETOWN", "--json").record
    assert record["state"] == "open"
    assert (record["storage"], record["dag"], record["consensus"]) == (
        "sqlite",
        "sealed-rounds",
        "solo",
    )
    assert record["approved_round"] >= 1
    assert record["genesis"] in server.run("cities", "hometown").out


def test_the_saved_genesis_is_the_one_of_the_city(server: Any, tmp_path: Path) -> None:
    file = tmp_path / "genesis.json"
    assert server.run("cities", "hometown", "--save-genesis", file).code == 0
    kept = server.directory / "data" / "genesis" / "hometown.json"
    assert file.read_bytes() == kept.read_bytes()
    again = server.run("cities", "hometown", "--save-genesis", file)
    assert again.code == 2
    assert "genesis.json" in again.message


def test_an_unknown_city_is_told_with_what_is_near(server: Any) -> None:
    ran = server.run("cities", "homtown")
    assert ran.code == 1
    assert "did you mean hometown?" in ran.message


def test_a_server_that_is_not_there_is_told(citychain: Any, tmp_path: Path) -> None:
    ran = citychain(
        "cities", "--server", "127.0.0.1:1", "--timeout", "0.5", cwd=tmp_path
    )  # fmt: skip
    assert ran.code == 3
    assert "Traceback" not in ran.message
    assert citychain("cities", "--server", "nonsense", cwd=tmp_path).code == 2


# --- submit


def test_submit_tells_each_state(server: Any) -> None:
    assert submit(server, "--data", "a").record["state"] == "RECEIVED"
    assert submit(server, "--data", "a", "--wait", "sealed").record["state"] in (
        "SEALED",
        "APPROVED",
    )
    record = submit(server, "--data", "a", "--wait", "approved").record
    assert record["state"] == "APPROVED"
    assert record["round"] >= 1


def test_submit_every_field(server: Any, approved: str, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"\xff\x00")
    seat = name()
    written = submit(
        server, "--data", f"@{tmp_path / 'photo'}", "--content-type", "image/png",
        "--depends-on", approved, "--write", f"{seat}@0", "--valid-for", "10m",
        "--wait", "approved",
    )  # fmt: skip
    assert written.code == 0
    read = submit(server, "--data", "b", "--read", f"{seat}@1", "--wait", "approved")
    assert read.record["state"] == "APPROVED"
    shown = server.run("get", "--city", "hometown", written.record["tx_id"], "--json").record
    assert shown["depends_on"] == [approved]
    assert shown["writes"] == {seat: 0}
    assert shown["content_type"] == "image/png"
    assert shown["data_base64"] == "/wA="
    assert shown["valid_until_ms"] == shown["created_at_ms"] + 600_000


def test_a_rejected_transaction_makes_it_fail(server: Any) -> None:
    overdraft = submit(server, "--transfer", f"coin:999999:{UNKNOWN}", "--wait", "approved")
    assert overdraft.code == 1
    assert overdraft.record["state"] == "REJECTED"
    assert overdraft.record["code"] == "OVERDRAFT"
    shown = server.run("get", "--city", "hometown", overdraft.record["tx_id"], "--json").record
    assert overdraft.record["detail"] == shown["reason"] != ""
    fine = submit(server, "--transfer", f"coin:1:{UNKNOWN}", "--wait", "approved")
    assert fine.code == 0


def test_each_line_of_a_file_has_an_answer(server: Any) -> None:
    seat = name()
    lines = [
        {"data": "one", "writes": {seat: 0}},
        {"data": 2},
        {"transfer": {"asset": "coin", "amount": 1, "to": UNKNOWN}},
        {"data": "taken", "writes": {seat: 0}},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "no json\n"
    ran = submit(server, "--jsonl", "-", "--wait", "approved", input=text)
    assert ran.code == 1
    told = {record["line"]: record for record in ran.records}
    assert [told[line]["state"] for line in range(1, 6)] == [
        "APPROVED",
        "REFUSED",
        "APPROVED",
        "REJECTED",
        "REFUSED",
    ]
    assert told[2]["field"] == "data"
    assert told[4]["code"] == "CONFLICT"
    assert seat in told[4]["detail"]


def test_more_lines_than_a_batch_has(server: Any, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("".join(f'{{"data": "{n}"}}\n' for n in range(1_200)))
    ran = submit(server, "--jsonl", file)
    assert ran.code == 0, ran.err
    assert [record["line"] for record in ran.records] == list(range(1, 1_201))
    assert len({record["tx_id"] for record in ran.records}) == 1_200


def test_a_refused_transaction_names_the_field(server: Any) -> None:
    ran = submit(server, "--data", "a", "--write", f"{'x' * 200}@0")
    assert ran.code == 1
    assert ran.record["state"] == "REFUSED"
    assert "writes" in ran.record["field"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --data, --transfer"),
        (["--data", "a", "--transfer", f"coin:1:{UNKNOWN}"], "give one of --data, --transfer"),
        (["--data", "a", "--depends-on", "xyz"], "--depends-on"),
        (["--data", "@nowhere"], "nowhere"),
        (["--data", "a", "--jsonl", "-"], "--jsonl"),
        (["--jsonl", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_told(server: Any, options: list[str], message: str) -> None:
    ran = submit(server, *options)
    assert ran.code == 2
    assert message in ran.message


def test_submit_for_people_is_a_line(server: Any) -> None:
    ran = server.run("submit", "--city", "hometown", "--key", "alice.key", "--data", "a")
    state, tx_id = ran.out.split()
    assert state == "RECEIVED"
    assert len(tx_id) == 64


def test_submit_keeps_what_the_city_signed(server: Any, approved: str, tmp_path: Path) -> None:
    kept = tmp_path / "deed.json"
    record = submit(server, "--data", "a", "--acknowledgement", kept).record
    assert record["acknowledgement"] == str(kept)
    [ids] = [json.loads(kept.read_text())]
    assert ids["tx_id"] == record["tx_id"]
    assert ids["final_by_ms"] - ids["received_ms"] == 3_600_000

    folder = tmp_path / "deeds"
    lines = '{"data": "1"}\nnonsense\n{"data": "2"}\n'
    under = submit(server, "--jsonl", "-", "--acknowledgement", kept / "deeds", input=lines)
    assert (under.code, under.out) == (2, "")
    assert "is no folder" in under.message
    ran = submit(server, "--jsonl", "-", "--acknowledgement", folder, input=lines)
    received = [record for record in ran.records if record["state"] == "RECEIVED"]
    assert len(received) == 2
    names = {f"{record['tx_id']}.json" for record in received}
    assert {path.name for path in folder.iterdir()} == names
    wrong = submit(server, "--data", "a", "--acknowledgement", folder)
    assert (wrong.code, wrong.out) == (2, "")
    missing = submit(server, "--data", "a", "--acknowledgement", tmp_path / "none" / "a.json")
    assert (missing.code, missing.out) == (2, "")
    assert "make it first" in missing.message
    options = ("submit", "--city", "hometown", "-k", "alice.key", "--data", "b")
    promise = kept.read_bytes()
    again = server.run(*options, "--acknowledgement", kept)
    assert (again.code, again.out) == (2, "")
    assert "never written over" in again.message
    assert kept.read_bytes() == promise
    told = server.run(*options, "--acknowledgement", tmp_path / "other.json")
    assert f"acknowledgement {tmp_path / 'other.json'}" in told.out


def test_a_witness_is_registered_and_revoked(server: Any, tmp_path: Path) -> None:
    public = tmp_path / "bob.pub"
    assert server.run("keygen", tmp_path / "bob.key", "--public", public).code == 0
    base = ("submit", "--city", "hometown", "--key", "operator.key")
    for option, revoked in (("--witness", False), ("--revoke-witness", True)):
        sent = server.run(*base, option, public, "--json")
        assert sent.code == 0, sent.err
        shown = server.run("get", "--city", "hometown", sent.record["tx_id"], "--json").record
        assert shown["witness"]["revoked"] is revoked
        assert load_public_key(public).hex() in json.dumps(shown)
    both = server.run(*base, "--witness", public, "--revoke-witness", public)
    assert (both.code, "of its own" in both.message) == (2, True)
    secret = server.run(*base, "--witness", tmp_path / "bob.key")
    assert (secret.code, "is no public key" in secret.message) == (2, True)
    swapped = server.run("submit", "--city", "hometown", "--key", public, "--data", "a")
    assert swapped.code == 2
    assert swapped.message.endswith(f"{public}: is a public key; give the key file")


# --- audit


def audit(server: Any, *options: str | Path) -> Any:
    return server.run("audit", "--city", "hometown", "--json", *options)


def test_an_audit_names_the_file_that_it_cannot_use(
    server: Any, approved: str, tmp_path: Path
) -> None:
    kept, other = tmp_path / "deed.json", tmp_path / "other.json"
    assert submit(server, "--data", "a", "--acknowledgement", kept, "--wait", "approved").code == 0
    ran = audit(server, "--acknowledgement", kept)
    assert (ran.code, ran.record["promise"]["state"]) == (0, "kept")
    promise = json.loads(kept.read_text())
    last = "0" if promise["genesis"][-1] != "0" else "1"
    wrong = promise["genesis"][:-1] + last
    other.write_text(json.dumps(promise | {"genesis": wrong}))
    ran = audit(server, "--acknowledgement", other)
    assert (ran.code, ran.out) == (2, "")
    assert f"{other}: genesis: of city {wrong}, not {promise['genesis']}" in ran.message
    other.write_text("{}")
    ran = audit(server, "--acknowledgement", other)
    assert (ran.code, ran.out) == (2, "")
    assert f"{other}: " in ran.message
    genesis = tmp_path / "genesis.json"
    assert server.run("cities", "hometown", "--save-genesis", genesis).code == 0
    genesis.write_bytes(genesis.read_bytes() + b" ")
    ran = audit(server, "--genesis", genesis)
    assert ran.code == 1
    assert f"the city's {promise['genesis']}" in ran.message


def test_an_audit_from_a_round_that_is_not_there_is_refused(server: Any, approved: str) -> None:
    ran = audit(server, "--from-round", "1000000")
    assert (ran.code, ran.out) == (2, "")
    assert "--from-round: is 1000000, and the city's last round is " in ran.message


# --- get, watch


def test_get_shows_where_a_transaction_stands(server: Any, approved: str) -> None:
    record = server.run("get", "--city", "hometown", approved, "--json").record
    assert (record["state"], record["data"]) == ("APPROVED", "hello")
    assert "hello" in server.run("get", "--city", "hometown", approved).out


def test_what_is_not_there_is_told(server: Any) -> None:
    for command in ("get", "receipt", "dag", "watch"):
        ran = server.run(command, "--city", "hometown", UNKNOWN)
        assert ran.code == 1
        assert UNKNOWN in ran.message
        ran = server.run(command, "--city", "hometown", "xyz")
        assert ran.code == 2
        assert "TX_ID" in ran.message


def test_watch_ends_when_all_are_final(server: Any, approved: str) -> None:
    received = submit(server, "--data", "a").record["tx_id"]
    ran = server.run("watch", "--city", "hometown", approved, received, "--json")
    assert ran.code == 0
    last = {record["tx_id"]: record["state"] for record in ran.records}
    assert last == {approved: "APPROVED", received: "APPROVED"}


def test_watching_a_rejected_one_fails(server: Any) -> None:
    tx_id = submit(server, "--transfer", f"coin:999999:{UNKNOWN}").record["tx_id"]
    ran = server.run("watch", "--city", "hometown", tx_id)
    assert ran.code == 1
    reason = server.run("get", "--city", "hometown", tx_id, "--json").record["reason"]
    assert ran.out.endswith(f"  OVERDRAFT  {reason}\n")
    again = server.run("watch", "--city", "hometown", tx_id, "--json")
    assert again.records[-1]["reason"] == reason


def test_watch_all_goes_on_from_a_round(server: Any, approved: str) -> None:
    """It never ends by itself, so it is read line by line and stopped."""
    for options in (["--all"], ["--author", server.run("keygen", "--show", "alice.key").out[:64]]):
        process = server.start("watch", "--city", "hometown", "--from", "0", "--json", *options)
        try:
            first = json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=300)
        assert first["round"] == 1
        assert process.returncode == 130
        assert "Traceback" not in err


@pytest.mark.parametrize("options", [[], ["--all", UNKNOWN], [UNKNOWN, "--from", "0"]])
def test_watch_needs_to_know_what(server: Any, options: list[str]) -> None:
    assert server.run("watch", "--city", "hometown", *options).code == 2


# --- receipt, verify


@pytest.fixture
def receipt(server: Any, approved: str, tmp_path: Path) -> Path:
    file = tmp_path / "deed.json"
    ran = server.run("receipt", "--city", "hometown", approved, "-o", file, "--json")
    assert ran.code == 0, ran.err
    assert ran.record["state"] == "APPROVED"
    return file


@pytest.fixture
def genesis(server: Any) -> Path:
    return server.directory / "data" / "genesis" / "hometown.json"


def test_a_receipt_is_verified_without_a_server(
    citychain: Any, receipt: Path, genesis: Path, approved: str, tmp_path: Path
) -> None:
    ran = citychain("verify", receipt, "--genesis", genesis, "--json", cwd=tmp_path)
    assert ran.code == 0
    assert ran.record["valid"] is True
    assert ran.record["tx_id"] == approved
    assert citychain("verify", receipt, "-g", genesis, cwd=tmp_path).out.startswith("valid")


def test_a_rejection_has_a_receipt_too(
    server: Any, citychain: Any, genesis: Path, tmp_path: Path
) -> None:
    tx_id = submit(server, "--transfer", f"coin:999999:{UNKNOWN}").record["tx_id"]
    file = tmp_path / "refused.json"
    assert server.run("receipt", "--city", "hometown", tx_id, "-o", file).out == f"{file}\n"
    record = citychain("verify", file, "-g", genesis, "--json", cwd=tmp_path).record
    assert (record["valid"], record["state"], record["code"]) == (True, "REJECTED", "OVERDRAFT")


def test_a_receipt_has_a_name_of_its_own(server: Any, approved: str) -> None:
    assert server.run("receipt", "--city", "hometown", approved).out == f"{approved}.receipt.json\n"
    assert (server.directory / f"{approved}.receipt.json").exists()


def test_a_changed_receipt_names_the_check_that_failed(
    citychain: Any, receipt: Path, genesis: Path, tmp_path: Path
) -> None:
    content = json.loads(receipt.read_text())
    content["seq"] = content.get("seq", 0) + 1
    content["node"]["seq"] = content["seq"]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    ran = citychain("verify", changed, receipt, "-g", genesis, "--json", cwd=tmp_path)
    assert ran.code == 1
    assert [record["valid"] for record in ran.records] == [False, True]
    assert ran.records[0]["check"] == "node"
    assert "INVALID" in citychain("verify", changed, "-g", genesis, cwd=tmp_path).out


def test_a_receipt_of_another_city_is_invalid(
    citychain: Any, receipt: Path, tmp_path: Path
) -> None:
    assert citychain("init", "elsewhere", cwd=tmp_path).code == 0
    other = tmp_path / "elsewhere" / "data" / "genesis" / "hometown.json"
    ran = citychain("verify", receipt, "-g", other, "--json", cwd=tmp_path)
    assert ran.code == 1
    assert ran.record["check"] == "genesis"


def test_what_cannot_be_read_is_no_verdict(
    citychain: Any, receipt: Path, genesis: Path, tmp_path: Path
) -> None:
    (tmp_path / "junk").write_text("junk")
    for file, detail in (("junk", "form"), ("nowhere", "file")):
        ran = citychain("verify", file, "-g", genesis, "--json", cwd=tmp_path)
        assert ran.code == 2
        assert ran.record["check"] == detail
    for file in ("junk", "nowhere"):
        ran = citychain("verify", receipt, "-g", file, cwd=tmp_path)
        assert ran.code == 2
        assert ran.message


# --- dag


def test_dag_draws_parents_and_children(server: Any, approved: str) -> None:
    child = submit(server, "--data", "c", "--depends-on", approved, "--wait", "approved").record
    record = server.run("dag", "--city", "hometown", child["tx_id"], "--json").record
    nodes = {node["tx_id"]: node for node in record["nodes"]}
    assert nodes[approved]["node_id"] in nodes[child["tx_id"]]["parents"]
    below = server.run("dag", "--city", "hometown", approved, "--depth", "2", "--json").record
    assert child["tx_id"] in {node["tx_id"] for node in below["nodes"]}
    tree = server.run("dag", "--city", "hometown", child["tx_id"]).out
    assert approved in tree
    assert child["tx_id"] in tree
    dot = server.run("dag", "--city", "hometown", child["tx_id"], "--dot").out
    assert dot.startswith("digraph")
    assert f'"{record["node_id"]}" -> "{nodes[approved]["node_id"]}";' in dot


def test_a_rejected_transaction_has_no_node(server: Any) -> None:
    tx_id = submit(
        server, "--transfer", f"coin:999999:{UNKNOWN}", "--wait", "approved"
    ).record["tx_id"]  # fmt: skip
    ran = server.run("dag", "--city", "hometown", tx_id)
    assert ran.code == 1
    assert "REJECTED" in ran.message
