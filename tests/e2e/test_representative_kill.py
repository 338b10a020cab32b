"""Representatives killed at any moment, and their server too: one version of a round, ever."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from e2e.test_kill import serving
from free_ports import free_address

from citychain import checkpoint, notes
from citychain.client import ChannelFactory, CityClient, create_key, sign_transaction
from citychain.client.keys import save_public_key
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import load_settings
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey, verify
from citychain.errors import CitychainError
from citychain.genesis import Genesis
from citychain.ports import CityStorage, StorageContext, StoredRound
from citychain.storage.sqlite import SqliteBackend, SqliteOptions
from citychain.types import Vote

KILLS = 6
VICTIMS = ("rep0", "rep1")
"""Two of three seats; the third votes inside the server, so that one of these must always live
again for the city to go on."""
CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.01
max_seconds = 0.05
max_tx = 50
[cities.tokyo]
consensus = "poh-pop"
num_hashes = 1000
committee = [{ key = "rep0.pub" }, { key = "rep1.pub" }, { key = "inside.pub" }]
representatives = ["inside.key"]
"""


class Victim:
    """A representative's process, started again with the same state directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def state(self) -> Path:
        return self._directory / f"{self.name}-state"

    @property
    def log(self) -> str:
        return (self._directory / f"{self.name}.log").read_text()

    async def start(self, address: str) -> None:
        with (self._directory / f"{self.name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "citychain", "representative", "--city", "tokyo"),
                *("--config", "citychain.toml", "--server", address),
                *("--key", f"{self.name}.key", "--state-dir", f"{self.name}-state"),
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        assert self._process.returncode is None, self.log
        self._process.send_signal(number)
        return await self._process.wait()


@asynccontextmanager
async def copy_of(genesis: Genesis, directory: Path) -> AsyncIterator[CityStorage]:
    """A representative's copy of the ledger, once its process is over."""
    async with Executor(1) as compute:
        context = StorageContext(directory=directory, compute=compute, clock=SystemClock())
        async with SqliteBackend(SqliteOptions(), context) as backend:
            yield await backend.city(genesis.id, genesis.file, genesis.initial_objects())


Votes = Mapping[bytes, list[tuple[int, Vote]]]


async def votes_kept(server: CityStorage, rounds: list[StoredRound]) -> Votes:
    """All votes that the server keeps, by key: in certificates, and the latest late ones."""
    votes: dict[bytes, list[tuple[int, Vote]]] = defaultdict(list)
    for stored in rounds:
        if stored.certificate is not None:
            assert stored.certificate.checkpoint_hash == stored.checkpoint_hash
            for vote in stored.certificate.votes:
                votes[vote.key_id].append((stored.round, vote))
    for note in (await server.notes(notes.LATE_VOTES)).values():
        round, late = notes.decode_late_votes(note)
        for signer, signature in late.items():
            votes[signer].append((round, Vote(signer, signature)))
    return votes


async def check_everything(place: Path, genesis: Genesis, keys: Mapping[str, SigningKey]) -> None:
    """From what the processes left on the disk: one version of each round, and votes for it."""
    core = CoreContainer(settings=load_settings(place / "citychain.toml", environment={}))
    async with open_directory(core):
        plan = core.catalogue().plan("tokyo")
        backend = await core.engines().backend(plan.storage)
        server = await backend.city(genesis.id, genesis.file, genesis.initial_objects())
        rounds = list(await server.rounds(1, 100_000))
        kept = await votes_kept(server, rounds)
        assert not await server.notes(notes.CONFLICT)
        for name in VICTIMS:
            key = keys[name]
            async with copy_of(genesis, place / f"{name}-state" / "ledger") as copy:
                own = await copy.rounds(1, 100_000)
            versions = {stored.round: stored.checkpoint_hash for stored in own}
            assert list(versions) == list(range(1, len(versions) + 1))
            for stored in rounds[: len(versions)]:
                assert versions[stored.round] == stored.checkpoint_hash
            mine = kept[key_id(key.public_key)]
            assert mine, "it never voted"
            for round, vote in mine:
                # Nothing was voted for that is not durable here, and it was for this version.
                message = checkpoint.vote_message(genesis.id, round, versions[round])
                verify(key.public_key, message, checkpoint.VOTE_CONTEXT, vote.signature)
            print(name, len(mine), "votes,", len(versions), "rounds in its copy")


async def test_a_representative_never_votes_for_two_versions(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    choose = random.Random(seed)
    create_key(tmp_path / "operator.key")
    keys = {name: create_key(tmp_path / f"{name}.key") for name in (*VICTIMS, "inside")}
    for name, key in keys.items():
        save_public_key(tmp_path / f"{name}.pub", key.public_key)
    (tmp_path / "citychain.toml").write_text(CONFIG)
    victims = [Victim(tmp_path, name) for name in VICTIMS]
    author = SigningKey(b"a" * 32)
    genesis: Genesis | None = None
    address = free_address()
    certified = 0

    async def load(client: CityClient, genesis: bytes, stop: asyncio.Event) -> None:
        while not stop.is_set():
            batch = [
                sign_transaction(author, genesis=genesis, data=b"x" * 200, with_public_key=True)
                for _ in range(choose.randint(1, 10))
            ]
            try:
                await client.submit(batch)
            except (CitychainError, TimeoutError):
                continue
            await asyncio.sleep(0.02)

    async def nothing_ahead(client: CityClient, genesis: Genesis, victim: Victim) -> None:
        """A dead representative has in its copy whatever it voted for."""
        signer = key_id(keys[victim.name].public_key)
        members = (await client.committee()).members
        [last] = [member.last_round for member in members if member.key_id == signer]
        async with copy_of(genesis, victim.state / "ledger") as copy:
            assert last <= (await copy.head()).round

    async def more(client: CityClient) -> int:
        """Wait until rounds are certified that were not before."""
        async with asyncio.timeout(120):
            while (head := (await client.info()).head).certified_round <= certified:
                await asyncio.sleep(0.05)
        return head.certified_round

    for number in range(KILLS):
        stop = asyncio.Event()
        async with serving(tmp_path, address):
            address = (tmp_path / "ready").read_text().strip()
            if number == 0:
                for victim in victims:
                    await victim.start(address)
            channels = ChannelFactory([address])
            async with CityClient("tokyo", channels, timeout=timedelta(seconds=300)) as client:
                genesis = Genesis.from_bytes((await client.info()).genesis_file)
                loading = asyncio.create_task(load(client, genesis.id, stop))
                certified = await more(client)
                victim = choose.choice(victims)
                await asyncio.sleep(choose.uniform(0.0, 0.5))
                assert await victim.end(signal.SIGKILL) == -signal.SIGKILL
                await nothing_ahead(client, genesis, victim)
                await victim.start(address)
                if choose.random() < 0.5:
                    certified = await more(client)
                stop.set()
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
        # Leaving killed the server; both representatives wait for it.

    assert genesis is not None
    async with (
        serving(tmp_path, address) as process,
        CityClient("tokyo", ChannelFactory([address])) as client,
    ):
        last = sign_transaction(author, genesis=genesis.id, data=b"last", with_public_key=True)
        await client.submit([last])
        await client.wait([last.tx_id], timeout=timedelta(seconds=120))
        names = {key_id(keys[name].public_key) for name in VICTIMS}
        # One of the two may have been too slow to vote for anything so far.
        while not all(
            it.last_round for it in (await client.committee()).members if it.key_id in names
        ):
            one = sign_transaction(author, genesis=genesis.id, data=b"more", with_public_key=True)
            await client.submit([one])
            await client.wait([one.tx_id], timeout=timedelta(seconds=120))
        status = await client.committee()
        assert not status.conflicting
        assert not any(member.objection for member in status.members)
        for victim in victims:
            assert await victim.end(signal.SIGTERM) == 0, victim.log
            assert "Traceback" not in victim.log
            assert "no vote" not in victim.log
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    await check_everything(tmp_path, genesis, keys)
