"""``citychain reward-distribute``: paid once, and by anybody recomputed."""

from __future__ import annotations

import asyncio
import csv
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.conftest import COMMAND, SECONDS_MAX, Ran, Server, environment

from citychain import checkpoint
from citychain.client import ChannelFactory, CityClient, create_key
from citychain.client.actions import Action, Data
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.genesis import balance_object
from citychain.rewards.paying import BATCH
from citychain.statements import Rewards
from citychain.types import CastVote, Reward, State, Vote

CHAIR = SigningKey(b"c" * 32)
"""Its vote alone is a quorum."""
MEMBERS = [SigningKey(bytes((number,)) * 32) for number in range(BATCH + 4)]
FUNDS = 1_000_000
DISTRIBUTE = ("reward-distribute", "--city", "hometown")
WISH = ("--asset", "coin", "--epoch-rounds", "2")
BUDGET = ("--budget", str(FUNDS))
EACH = 15_000
"""For both rounds; the city asks for no presence."""


def id_of(key: SigningKey) -> str:
    return key_id(key.public_key).hex()


class Town:
    """A server with a city whose committee votes when told to."""

    def __init__(
        self, directory: Path, start_server: Callable[..., Server], options: str = ""
    ) -> None:
        self.directory = directory
        self.operator = create_key(directory / "operator.key")
        seats = [(CHAIR, 1_000), *((member, 1) for member in MEMBERS)]
        table = ", ".join(
            f'{{ public_key = "{key.public_key.hex()}", stake = {stake} }}' for key, stake in seats
        )
        (directory / "citychain.toml").write_text(
            'operator_key = "operator.key"\n[pacer]\nmin_seconds = 0.01\nmax_seconds = 0.05\n'
            f'[cities.hometown]\nconsensus = "poh-pop"\nnum_hashes = 10\ncommittee = [{table}]\n'
            f"{options}[cities.hometown.balances.coin]\n{id_of(self.operator)} = {FUNDS}\n"
        )
        self.server = start_server(directory)
        self.run = self.server.run

    def close(self, *voters: SigningKey) -> None:
        """Have a round sealed, and certified by these and the chair."""
        asyncio.run(self._seal(Data(b"x")))
        self.vote(*voters, CHAIR)

    def do(self, action: Action) -> None:
        """Have something by the operator sealed and certified."""
        asyncio.run(self._seal(action))
        self.vote(CHAIR)

    async def _seal(self, action: Action) -> None:
        async with CityClient("hometown", ChannelFactory([self.server.address])) as client:
            genesis = (await client.info()).genesis
            signed = sign_transaction(self.operator, genesis=genesis, action=action)
            await client.submit([signed])
            await client.wait([signed.tx_id], State.SEALED)

    def vote(self, *voters: SigningKey) -> int:
        """Vote with these for each round that waits; how many these were."""
        return asyncio.run(self._vote(voters))

    async def _vote(self, voters: tuple[SigningKey, ...]) -> int:
        async with CityClient("hometown", ChannelFactory([self.server.address])) as client:
            info = await client.info()
            waiting = await client.rounds(info.head.certified_round + 1, 20)
            for stored in waiting:
                digest = stored.checkpoint_hash
                message = checkpoint.vote_message(info.genesis, stored.round, digest)
                votes = [
                    CastVote(
                        stored.round,
                        digest,
                        Vote(
                            key_id(key.public_key),
                            key.sign(message, checkpoint.VOTE_CONTEXT, deterministic=True),
                        ),
                    )
                    for key in voters
                ]
                await client.cast_votes(votes)
            return len(waiting)

    def waiting(self) -> int:
        """Rounds that are sealed and not certified."""

        async def ask() -> int:
            async with CityClient("hometown", ChannelFactory([self.server.address])) as client:
                head = (await client.info()).head
            return head.round - head.certified_round

        return asyncio.run(ask())

    def balances(self, *keys: SigningKey) -> list[int]:
        names = [balance_object("coin", key_id(key.public_key)) for key in keys]

        async def ask() -> list[int]:
            async with CityClient("hometown", ChannelFactory([self.server.address])) as client:
                found = await client.objects(names)
            return [int.from_bytes(found[name].value, "big") for name in names]

        return asyncio.run(ask())

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the distribution; what it says goes to the files ``out`` and ``err``."""
        command = [*COMMAND, *DISTRIBUTE, *arguments, "--key", "operator.key", "--json"]
        with (self.directory / "out").open("wb") as out, (self.directory / "err").open("wb") as err:
            return subprocess.Popen(
                [*command, "--timeout", str(SECONDS_MAX)],
                cwd=self.directory,
                env=environment(**self.server.env),
                stdout=out,
                stderr=err,
            )

    def told(self) -> list[str]:
        return (self.directory / "err").read_text().splitlines()

    def distribute(self, *arguments: str) -> Ran:
        """The same to its end, while the chair votes for what is sealed."""
        process = self.start(*arguments)
        try:
            self.until(lambda: process.poll() is not None, vote=True)
        finally:
            process.kill()
        out = (self.directory / "out").read_text()
        return Ran(process.wait(), out, "\n".join(self.told()))

    def until(self, done: Callable[[], bool], *, vote: bool = False) -> None:
        end = time.monotonic() + SECONDS_MAX
        while not done():
            assert time.monotonic() < end, self.told()
            if vote:
                self.vote(CHAIR)
            time.sleep(0.02)


@pytest.fixture
def town(tmp_path: Path, start_server: Callable[..., Server]) -> Iterator[Town]:
    return Town(tmp_path, start_server)


def states(ran: Ran) -> dict[str, str]:
    """By key."""
    return {record["key"]: record["state"] for record in ran.records[:-1]}


def test_killed_halfway_and_repeated_it_pays_each_once(town: Town) -> None:
    for _ in range(2):
        town.close(*MEMBERS)
    plan = town.run(*DISTRIBUTE, "--epoch", "0", *WISH, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    total = plan.records[-1]
    assert (total["due_keys"], total["due"]) == (len(MEMBERS) + 1, EACH * (len(MEMBERS) + 1))
    assert total["stated"] is None

    first = town.start("--epoch", "0", *WISH, *BUDGET)
    try:
        # The first batch is paid; of the second none is certified, since nobody votes.
        town.until(lambda: sum(line.startswith("paid") for line in town.told()) >= BATCH, vote=True)
        town.until(lambda: town.waiting() > 0)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    done = town.run(*DISTRIBUTE, "--epoch", "0", "--dry-run", "--json")
    assert done.code == 1, "stated, and not all of it is paid"
    assert BATCH <= done.records[-1]["paid_keys"] <= len(MEMBERS)

    second = town.distribute("--epoch", "0")
    assert second.code == 0, second.err
    assert set(states(second).values()) == {"paid"}
    keys = [CHAIR, *MEMBERS]
    assert town.balances(*keys) == [EACH] * len(keys)
    assert town.balances(town.operator) == [FUNDS - EACH * len(keys)]

    third = town.distribute("--epoch", "0")
    assert (third.code, third.err) == (0, "")
    assert town.balances(town.operator) == [FUNDS - EACH * len(keys)]
    audited = town.run(*DISTRIBUTE, "--epoch", "0", "--dry-run", "--json")
    assert (audited.code, audited.records) == (0, third.records)


def test_an_auditor_finds_what_was_not_paid_as_due(town: Town) -> None:
    town.close(MEMBERS[0])
    town.close(MEMBERS[0], MEMBERS[1])
    options = ("--epoch", "0", "--base", "100", "--full", "2.5", "--budget", "400")
    paid = town.distribute(*options, *WISH)
    assert paid.code == 0, paid.err
    # 250 for each round of two, 625 in all; by the budget 160, 160 and 80.
    assert town.balances(CHAIR, *MEMBERS[:3]) == [160, 160, 80, 0]
    assert states(paid)[id_of(MEMBERS[2])] == "nothing"
    other = town.run(*DISTRIBUTE, "--epoch", "0", "--base", "99", "--dry-run")
    assert other.code == 2
    assert "--base: was stated as 100 for epoch 0" in other.err

    other = town.distribute("--epoch", "2", "--epoch-rounds", "1", "--asset", "coin", *BUDGET)
    assert other.code == 0, other.err
    again = town.distribute("--epoch", "1", "--epoch-rounds", "1", "--asset", "coin", *BUDGET)
    assert again.code == 2
    assert "--epoch-rounds: makes rounds 2 to 2 of epoch 1, and rounds 1 to 2" in again.err

    # The operator pays somebody who did nothing.
    town.do(Reward(0, "coin", key_id(MEMBERS[2].public_key), 7))
    table = town.directory / "table.csv"
    audit = ("--epoch", "0", "--dry-run", "--csv", "table.csv", "--json")
    found = town.run(*DISTRIBUTE, *audit)
    assert found.code == 1
    wrong = [record for record in found.records[:-1] if record["state"] == "wrong"]
    assert [(it["key"], it["due"], it["paid"]) for it in wrong] == [(id_of(MEMBERS[2]), 0, 7)]
    with table.open() as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(MEMBERS) + 1
    assert (rows[id_of(CHAIR)]["due"], rows[id_of(CHAIR)]["exact"]) == ("160", "250")
    assert (rows[id_of(MEMBERS[2])]["state"], rows[id_of(MEMBERS[2])]["paid"]) == ("wrong", "7")

    explained = town.run(*DISTRIBUTE, "--epoch", "0", "--explain", id_of(MEMBERS[1]))
    assert explained.code == 0, explained.err
    for words in ("1 / 2", "2.500", "1.000", "100 coin", "125", "16/25", "80 coin"):
        assert words in explained.out
    stranger = town.run(*DISTRIBUTE, "--epoch", "0", "--explain", "ab" * 32)
    assert stranger.code == 0
    assert "no committee" in stranger.out


def test_other_votes_than_those_that_were_stated_are_told_and_nothing_is_paid(town: Town) -> None:
    for _ in range(2):
        town.close(MEMBERS[0])
    stated = Rewards(
        epoch=0, first=1, last=2, asset="coin", base=100, full=1_000, light=1_000, absent=500,
        budget=FUNDS, votes="00" * 32,
    )  # fmt: skip
    town.do(Data(stated.encode(), stated.CONTENT_TYPE))
    for audit in (("--dry-run",), ("--explain", id_of(CHAIR))):
        found = town.run(*DISTRIBUTE, "--epoch", "0", *audit)
        assert found.code == 1
        assert "have other votes than those that the operator stated" in found.err
    refused = town.distribute("--epoch", "0")
    assert refused.code == 1
    assert refused.records[-1]["same_votes"] is False
    assert town.balances(CHAIR) == [0]


def test_beside_a_wrong_payment_nothing_more_is_paid(town: Town) -> None:
    for _ in range(2):
        town.close()
    town.do(Reward(0, "coin", key_id(MEMBERS[2].public_key), 7))
    refused = town.distribute("--epoch", "0", *WISH, *BUDGET)
    assert refused.code == 1
    assert f"something else than is due was paid to {id_of(MEMBERS[2])}" in refused.err
    assert refused.records[-1]["stated"] is None
    assert "stated the parameters" not in refused.err
    assert town.balances(CHAIR, MEMBERS[2]) == [0, 7]


def test_an_operator_without_a_presence_is_told_that_it_needs_one(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    options = (
        'consensus_options.policy = "claimed"\n'
        "consensus_options.place = { disc = { "
        "latitude_e7 = 365613000, longitude_e7 = 1366562000, radius_m = 9000 } }\n"
    )
    town = Town(tmp_path, start_server, options)
    for _ in range(2):
        town.close()
    refused = town.distribute("--epoch", "0", *WISH, *BUDGET)
    assert refused.code == 1
    assert "NO_PRESENCE" in refused.err
    assert "the operator, as anybody, needs a presence that stands" in refused.err
    assert town.balances(CHAIR) == [0]


def test_what_cannot_be_paid_is_said_before_anything_is(town: Town) -> None:
    ahead = town.run(*DISTRIBUTE, "--epoch", "0", *WISH, "--key", "operator.key")
    assert ahead.code == 2
    assert "--epoch: 0 ends with round 2, and the last certified one is 0" in ahead.err
    for _ in range(2):
        town.close()
    create_key(town.directory / "mallory.key")
    for options, message in (
        (("--key", "mallory.key", *WISH), "--key: is not the key of the city's operator"),
        (("--key", "operator.key", "--epoch-rounds", "2"), "--asset: is needed"),
        (WISH, "--key: is needed to pay"),
        (("--dry-run", *WISH, "--absent", "1.5"), "--absent: is at most 1"),
        (("--key", "operator.key", *WISH), "--budget: is needed"),
        (("--key", "operator.key", "--csv", "nowhere/table.csv"), "--csv: nowhere/table.csv: can"),
    ):
        refused = town.run(*DISTRIBUTE, "--epoch", "0", *options)
        assert refused.code == 2, refused.err
        assert message in refused.err
        assert "Traceback" not in refused.err
    poor = town.distribute(
        "--epoch", "0", *WISH, "--budget", str(9 * FUNDS), "--base", str(2 * FUNDS)
    )
    assert poor.code == 2
    due = 2 * FUNDS * 3 // 2
    assert f"--key: has {FUNDS} coin, and {due} are due: nothing was paid" in poor.err
    plan = town.run(*DISTRIBUTE, "--epoch", "0", *WISH, "--dry-run", "--json")
    assert plan.records[-1]["stated"] is None
