"""A committee elsewhere: how the command sets it up, shows it, and replaces it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from citychain import checkpoint
from citychain.client import ChannelFactory, CityClient, load_key
from citychain.crypto.keys import key_id
from citychain.types import CastVote, Vote

CONFIG = """
[cities.hometown]
consensus = "poh-pop"
committee = [{ key = "rep0.pub" }, { key = "rep1.pub", stake = 2 }]
"""


class Town:
    """A server with a city whose committee votes elsewhere."""

    def __init__(self, directory: Path, citychain: Any, start_server: Any) -> None:
        self.directory = directory
        for number in range(4):
            made = citychain(
                "keygen", f"rep{number}.key", "--public", f"rep{number}.pub", cwd=directory
            )
            assert made.code == 0, made.err
        assert citychain("keygen", "operator.key", cwd=directory).code == 0
        (directory / "citychain.toml").write_text(CONFIG)
        self.server = start_server(directory)
        self.run = self.server.run

    def id(self, number: int) -> str:
        return key_id(load_key(self.directory / f"rep{number}.key").public_key).hex()

    def seal(self) -> str:
        """Submit a transaction, which waits for votes; returns its id."""
        sent = self.run(
            "submit", "--city", "hometown", "-k", "operator.key", "--data", "x", "--wait",
            "sealed", "--json",
        )  # fmt: skip
        assert sent.code == 0, sent.err
        tx_id: str = sent.record["tx_id"]
        return tx_id

    def vote(self, *numbers: int) -> None:
        """Vote with these keys for each round that waits."""
        asyncio.run(self._vote(numbers))

    def handovers(self) -> int:
        """How often the committee has changed."""
        return asyncio.run(self._handovers())

    async def _handovers(self) -> int:
        async with CityClient("hometown", ChannelFactory([self.server.address])) as client:
            return len(await client.handovers())

    async def _vote(self, numbers: tuple[int, ...]) -> None:
        channels = ChannelFactory([self.server.address])
        async with CityClient("hometown", channels, timeout=timedelta(seconds=120)) as client:
            info = await client.info()
            for stored in await client.rounds(info.head.certified_round + 1, 20):
                digest = stored.checkpoint_hash
                message = checkpoint.vote_message(info.genesis, stored.round, digest)
                for number in numbers:
                    key = load_key(self.directory / f"rep{number}.key")
                    vote = Vote(key_id(key.public_key), key.sign(message, checkpoint.VOTE_CONTEXT))
                    await client.cast_votes([CastVote(stored.round, digest, vote)])


@pytest.fixture
def voters(tmp_path: Path, citychain: Any, start_server: Any) -> Town:
    return Town(tmp_path, citychain, start_server)


def test_a_city_is_shown_with_its_committee_and_what_it_waits_for(voters: Town) -> None:
    tx_id = voters.seal()
    shown = voters.run("cities", "hometown").out
    assert f"committee       {voters.id(0)}  stake 1, has not voted\n" in shown
    assert f"                {voters.id(1)}  stake 2, has not voted\n" in shown
    assert (
        "waits           round 1 waits for its certificate: stake 0 of 3 signed, 2 needed; "
        f"silent: {voters.id(0)[:12]}…, {voters.id(1)[:12]}…\n" in shown
    )
    voters.vote(1)
    watched = voters.run("watch", "--city", "hometown", tx_id, "--json")
    assert watched.record["state"] == "APPROVED"
    record = voters.run("cities", "hometown", "--json").record
    assert record["committee"] == [
        {"key_id": voters.id(0), "stake": 1, "last_round": 0, "objection": None},
        {"key_id": voters.id(1), "stake": 2, "last_round": 1, "objection": None},
    ]
    assert (record["stake_needed"], record["waits"], record["conflicts"]) == (2, "", [])
    shown = voters.run("cities", "hometown").out
    assert "waits" not in shown
    assert f"{voters.id(1)}  stake 2, voted for round 1\n" in shown


def test_what_waits_for_the_committee_is_told_with_its_id(voters: Town) -> None:
    submit = (
        "submit", "--city", "hometown", "-k", "operator.key", "--wait", "approved", "--timeout", "3"
    )  # fmt: skip
    ran = voters.run(*submit, "--data", "x")
    assert ran.code == 3
    state, tx_id = ran.out.split()
    assert state == "RECEIVED"
    first, second = ran.err.splitlines()
    assert first.startswith("received, not final yet: citychain watch --city hometown " + tx_id)
    assert second.startswith("round 1 waits for its certificate: stake 0 of 3 signed, 2 needed; ")
    assert voters.run("get", "--city", "hometown", tx_id).code == 0
    lines = '{"data": "1"}\nnonsense\n{"data": "2"}\n'
    many = voters.run(*submit, "--jsonl", "-", "--json", input=lines)
    assert many.code == 3
    assert [record["state"] for record in many.records] == ["REFUSED", "RECEIVED", "RECEIVED"]
    assert many.err.startswith("received, 2 not all final yet: citychain watch --city hometown ")


def test_an_operator_replaces_a_lost_committee(voters: Town) -> None:
    tx_id = voters.seal()
    seats = (
        "--seat",
        "rep2.pub",
        "--seat",
        f"{(voters.directory / 'rep3.pub').read_text().strip()}:3",
    )
    recover = ("recover", "--city", "hometown", "--operator-key", "operator.key", *seats)
    refused = voters.run(*recover, input="n\n")
    assert refused.code == 1
    assert refused.err.endswith("nothing changed\n")
    assert "round 1 waits for its certificate: stake 0 of 3 signed" in refused.err
    assert f"from round 1 on, in its place: {voters.id(2)[:12]}… with stake 1, " in refused.err
    assert voters.id(0) in voters.run("cities", "hometown").out
    done = voters.run(*recover, "--yes", "--json")
    assert done.code == 0, done.err
    assert "from round 1 on, rounds are certified by the new committee of 2\n" in done.err
    assert (done.record["from_round"], done.record["state"]) == (1, "RECEIVED")
    assert done.record["seats"] == [
        {"key_id": voters.id(2), "stake": 1},
        {"key_id": voters.id(3), "stake": 3},
    ]
    again = voters.run(*recover, "--json")
    assert (again.code, again.record["tx_id"]) == (0, done.record["tx_id"])
    assert "are in office already, by a recovery from round 1 on" in again.err
    assert voters.handovers() == 1
    voters.vote(3)
    watched = voters.run("watch", "--city", "hometown", tx_id, "--json")
    assert watched.records[-1]["state"] == "APPROVED"
    while voters.run("get", "--city", "hometown", done.record["tx_id"], "--json").record[
        "state"
    ] not in ("APPROVED", "REJECTED"):
        voters.vote(3)
    shown = voters.run("get", "--city", "hometown", done.record["tx_id"], "--json").record
    assert shown["state"] == "APPROVED"
    later = voters.run(*recover, "--json")
    assert (later.code, later.record["tx_id"]) == (0, done.record["tx_id"])
    assert voters.handovers() == 1


def test_a_recovery_that_was_broken_off_is_completed(
    voters: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    voters.seal()
    recover = (
        "recover", "--city", "hometown", "--operator-key", "operator.key", "--seat", "rep2.pub",
    )  # fmt: skip

    async def broken_off(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CityClient, "submit", broken_off)
        assert voters.run(*recover, "--yes").code == 130
    assert voters.id(2) in voters.run("cities", "hometown").out
    done = voters.run(*recover, "--json")
    assert (done.code, done.record["state"]) == (0, "RECEIVED"), done.err
    assert voters.handovers() == 1
    get = ("get", "--city", "hometown", done.record["tx_id"], "--json")
    while voters.run(*get).record["state"] != "APPROVED":
        voters.vote(2)


def test_a_committee_that_keeps_nothing_waiting_is_replaced_by_force_alone(voters: Town) -> None:
    voters.seal()
    voters.vote(1)
    recover = (
        "recover", "--city", "hometown", "--operator-key", "operator.key", "--seat", "rep2.pub",
        "--yes",
    )  # fmt: skip
    while (ran := voters.run("cities", "hometown", "--json")).record["approved_round"] < 1:
        pass
    refused = voters.run(*recover)
    assert (refused.code, refused.out) == (1, "")
    assert "no round waits" in refused.message
    assert "--force replaces it all the same" in refused.message
    assert (ran.code, voters.handovers()) == (0, 0)
    assert voters.run(*recover, "--force").code == 0
    assert voters.handovers() == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--operator-key", "rep0.key", "--seat", "rep2.pub"], 2, "is not the key of the operator"),
        (["--operator-key", "operator.key", "--seat", "rep2.key"], 2, "is no public key of 5184"),
        (["--operator-key", "operator.key", "--seat", "rep2.pub:0"], 2, "a stake is at least 1"),
        (["--operator-key", "operator.key", "--seat", "none.pub"], 2, "none.pub: cannot be read"),
        (
            ["--operator-key", "operator.key", "--seat", "rep2.pub", "--seat", "rep2.pub"],
            2,
            "seats",
        ),
    ],
)  # fmt: skip
def test_a_recovery_that_cannot_be_changes_nothing(
    voters: Town, options: list[str], code: int, message: str
) -> None:
    voters.seal()
    ran = voters.run("recover", "--city", "hometown", "--yes", *options)
    assert ran.code == code
    assert message in ran.err.splitlines()[-1]
    assert voters.id(0) in voters.run("cities", "hometown").out


def test_a_city_of_one_key_has_nothing_to_recover(server: Any, voters: Town) -> None:
    public = voters.directory / "rep0.pub"
    ran = server.run(
        "recover", "--city", "hometown", "--operator-key", "operator.key", "--seat", public, "--yes"
    )
    assert ran.code == 1
    assert "takes no votes from elsewhere" in ran.err
    assert "committee" not in server.run("cities", "hometown").out


def test_a_committee_file_that_is_none_is_named_with_its_place(
    citychain: Any, tmp_path: Path
) -> None:
    for member, message in (
        ('{ key = "none.pub" }', "none.pub: cannot be read"),
        ('{ key = "citychain.toml" }', "is no public key of 5184 hex digits"),
        ('{ key = "a", public_key = "b" }', "has both key and public_key"),
        ("{ key = 5 }", "must be the path of a public key file"),
    ):
        (tmp_path / "citychain.toml").write_text(f"[cities.x]\ncommittee = [{member}]\n")
        ran = citychain("serve", cwd=tmp_path)
        assert ran.code == 2
        assert "citychain.toml" in ran.message
        assert "committee" in ran.message
        assert message in ran.message
