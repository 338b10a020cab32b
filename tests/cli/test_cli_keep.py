"""``citychain keep`` and ``citychain holding-rules``: statements, as their readers read them."""

from __future__ import annotations

from typing import Any

import pytest

from citychain.statements import HoldingRules, Retention, Statement, decode

CITY = ("--city", "hometown")
UNTIL = ("--until", "2093-05-01")
UNTIL_MS = 3_891_974_400_000
UNKNOWN = "ab" * 32


@pytest.fixture(scope="module")
def deed(server: Any) -> str:
    """The id of a transaction of alice's."""
    ran = server.run("submit", *CITY, "--key", "alice.key", "--data", "a deed", "--json")
    assert ran.code == 0, ran.err
    tx_id: str = ran.record["tx_id"]
    return tx_id


def stated(server: Any, ran: Any) -> Statement | None:
    """What the ledger has of a command that made one statement."""
    assert ran.code == 0, ran.err
    assert ran.record["state"] == "APPROVED"
    found = server.run("get", *CITY, ran.record["tx_id"], "--json").record
    return decode(found["content_type"], found["data"].encode())


def test_an_author_keeps_its_own(server: Any, deed: str) -> None:
    """Twice the same one is one; the process is a real one."""
    keep = ("keep", deed, deed.upper(), *CITY, *UNTIL, "--key", "alice.key", "--json")
    ran = server.run_process(*keep)
    assert stated(server, ran) == Retention(until=UNTIL_MS, tx_ids=(deed,))


def test_the_operator_keeps_anybodys_and_everything(server: Any, deed: str) -> None:
    by = ("--key", "operator.key", "--json")
    ran = server.run("keep", deed, *CITY, "--until", "2093-05-01T09:00+09:00", *by)
    assert stated(server, ran) == Retention(until=UNTIL_MS, tx_ids=(deed,))
    ran = server.run("keep", "--all", *CITY, *UNTIL, *by)
    assert stated(server, ran) == Retention(until=UNTIL_MS)


def test_what_would_count_for_nothing_is_not_stated(server: Any, deed: str) -> None:
    assert server.run("keygen", "stranger.key").code == 0
    for arguments, key, code, message in (
        ((deed, *UNTIL), "stranger", 2, f"--key: {deed} is by another author, "),
        ((deed, UNKNOWN, *UNTIL), "alice", 1, UNKNOWN),
        ((deed, "--all", *UNTIL), "alice", 2, "TX_ID: give the ids of transactions, or --all"),
        (UNTIL, "alice", 2, "TX_ID: give the ids of transactions, or --all"),
        ((deed, "--until", "2001-01-01"), "alice", 2, "--until: is over"),
        ((deed, "--until", "soon"), "alice", 2, "'soon': write it as 2035-12-31"),
        ((deed, "--until", "0001-01-01T00:00+10:00"), "alice", 2, "--until"),
    ):
        ran = server.run("keep", *arguments, *CITY, "--key", f"{key}.key")
        assert (ran.code, ran.out) == (code, ""), ran.err
        assert message in ran.message


def test_the_operator_says_how_holders_are_asked(server: Any) -> None:
    rules = ("--challenge-rounds", "1200", "--answer-rounds", "300", "--receipts", "2")
    command = ("holding-rules", *CITY, *rules, "--json", "--key")
    ran = server.run(*command, "alice.key")
    assert (ran.code, ran.out) == (2, "")
    assert "--key: is not the key of the operator that the genesis of hometown" in ran.message
    ran = server.run_process(*command, "operator.key")
    assert stated(server, ran) == HoldingRules(challenge_rounds=1200, answer_rounds=300, receipts=2)
