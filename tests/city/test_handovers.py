"""A city that changes its committee hands out receipts that show how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from history import History, Members, keys_of, seats_of

from citychain import notes
from citychain.city.approver import Approver
from citychain.city.directory import CityDirectory
from citychain.city.handovers import Handovers
from citychain.city.metering import UNMETERED
from citychain.client.actions import Action, Candidacy, Data
from citychain.client.keys import load_key
from citychain.client.transactions import sign_transaction
from citychain.clock import SystemClock
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidReceipt, StorageError
from citychain.handler import CityHandler
from citychain.notes import RecoveryNote
from citychain.ports import StoredRound
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.types import Certificate, Head, Recovery, Seat, State

OpenCities = Callable[..., AbstractAsyncContextManager[CityDirectory]]
EPOCH = 3


@pytest.fixture
def operator(open_cities: OpenCities, tmp_path: Path) -> SigningKey:
    return load_key(tmp_path / "operator.key")


@pytest.fixture
def electing(operator: SigningKey) -> dict[str, Any]:
    """A city that elects every third round, and in which the operator can stand."""
    return {
        "tokyo": {
            "consensus": "poh-pop",
            "consensus_options": {
                "epoch_rounds": EPOCH,
                "seed_rounds": 1,
                "seed_hashes": 10,
                "seats": 1,
            },
            "num_hashes": 10,
            "balances": {"stake": {key_id(operator.public_key).hex(): 100}},
        }
    }


async def receipt(
    city: CityHandler, key: SigningKey, action: Action | None = None, known_round: int = 0
) -> Receipt:
    """Submit something, wait until it is final, and get its receipt."""
    signed = sign_transaction(
        key, genesis=city.genesis.id, action=action or Data(b"x"), with_public_key=True
    )
    await city.submit([signed.envelope])
    async with asyncio.timeout(120):
        async for _ in city.watch_transactions([signed.tx_id], State.APPROVED):
            pass
    return (await city.receipts([signed.tx_id], known_round))[signed.tx_id]


async def test_receipts_lead_from_the_genesis_to_whoever_is_in_office(
    open_cities: OpenCities, electing: dict[str, Any], operator: SigningKey
) -> None:
    async with open_cities(cities=electing) as directory:
        city = await directory.handler("tokyo")
        # The same key is elected each time, with the stake that it then has.
        receipts = [await receipt(city, operator, Candidacy("stake", 10))]
        for _ in range(2):
            receipts.append(await receipt(city, operator))
        assert [len(one.handovers) for one in receipts] == [0, 0, 0]
        receipts.append(await receipt(city, operator, Candidacy("stake", 5)))
        for _ in range(3):
            receipts.append(await receipt(city, operator))
        assert [one.round for one in receipts] == [1, 2, 3, 4, 5, 6, 7]
        assert [len(one.handovers) for one in receipts[3:]] == [1, 1, 1, 2]
        assert len(await city.handovers()) == 2
        fresh = ReceiptVerifier(city.genesis)
        for one in receipts:
            ReceiptVerifier(city.genesis).verify(one)
            fresh.verify(one)
        assert fresh.known_round == 7
        with pytest.raises(InvalidReceipt, match="handover"):
            ReceiptVerifier(city.genesis).verify(replace(receipts[3], handovers=()))
    # The rest is opened anew: what it needs was kept.
    async with open_cities(cities=electing) as directory:
        city = await directory.handler("tokyo")
        for one in receipts:
            again = (await city.receipts([one.tx_id]))[one.tx_id]
            assert again == one
        known = (await city.receipts([receipts[6].tx_id], 4))[receipts[6].tx_id]
        assert known.handovers == receipts[6].handovers[1:]
        fresh.verify(known)
        assert (await city.receipts([receipts[6].tx_id], 7))[receipts[6].tx_id].handovers == ()


async def test_receipts_show_what_the_operator_recovered(
    open_cities: OpenCities, electing: dict[str, Any], operator: SigningKey
) -> None:
    async with open_cities(cities=electing) as directory:
        city = await directory.handler("tokyo")
        first = await receipt(city, operator)
        seats = (Seat(key_id(operator.public_key), 7),)
        head = await city.head()
        signed = sign_transaction(
            operator, genesis=city.genesis.id, action=Recovery(2, head.checkpoint_hash, seats)
        )
        note = notes.recovery_bytes(RecoveryNote(signed.envelope, (operator.public_key,)))
        await city.storage.keep({notes.recovery_name(2, 0): note})
        second = await receipt(city, operator)
        assert (len(first.handovers), len(second.handovers)) == (0, 1)
        assert second.handovers[0].recovery == signed.envelope
        verifier = ReceiptVerifier(city.genesis)
        verifier.verify(first)
        verifier.verify(second)
        assert verifier.recovered_rounds(second.round) == [2]
        assert (await city.handovers()) == second.handovers


# --- order of writes, and what is made of them

FIRST: Members = {1: 1}
SECOND: Members = {2: 1, 3: 1}


class Recorder:
    """Storage that writes down what is written to it, and fails as often as is said."""

    def __init__(self, failures: int = 0) -> None:
        self.written: list[object] = []
        self.failures = failures
        self.changed = asyncio.Event()

    async def keep(self, kept: dict[str, bytes]) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageError("not now")
        self.written.append(kept)

    async def certify(self, certificates: Sequence[Certificate]) -> None:
        self.written += [certificate.round for certificate in certificates]
        self.changed.set()


class Approves:
    async def approve(self, round: StoredRound) -> Certificate:
        return Certificate(round.round, round.checkpoint_hash, ())


def stored_rounds(history: History) -> list[StoredRound]:
    return [
        StoredRound(number, 0, 0, 0, b"", whole, digest, b"") for number, whole, digest in
        history.rounds
    ]  # fmt: skip


@pytest.mark.parametrize("failures", [0, 1])
async def test_an_election_is_noted_before_its_round_is_certified(failures: int) -> None:
    history = History(FIRST)
    history.seal(FIRST)
    history.seal(FIRST, SECOND)
    history.seal(SECOND)
    storage = Recorder(failures)
    finished = asyncio.Event()

    async def approved(round: StoredRound) -> None:
        if round.round == 3:
            finished.set()

    clock = SystemClock()
    approver = Approver(
        slug="tokyo",
        storage=storage,  # type: ignore[arg-type]
        consensus=Approves(),  # type: ignore[arg-type]
        clock=clock,
        meter=UNMETERED,
        approved=approved,
    )
    running = asyncio.create_task(approver.run(stored_rounds(history)))
    async with asyncio.timeout(120):
        await finished.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert storage.written == [1, {"handover/0000000000000002": b""}, 2, 3]


class Kept:
    """A storage's notes, rounds and keys."""

    def __init__(self, history: History, certified: int) -> None:
        self.certified = certified
        self.rounds_read = 0
        self.kept: dict[str, bytes] = {}
        self.stored = [
            replace(stored, certificate=history.certify(sealed, [1]))
            for stored, sealed in zip(stored_rounds(history), history.rounds, strict=True)
        ]
        self.public_keys = dict(
            zip([seat.key_id for seat in seats_of(SECOND)], keys_of(SECOND), strict=True)
        )

    async def head(self) -> Head:
        return Head(round=len(self.stored), certified_round=self.certified)

    async def notes(self, prefix: str, known: object = None) -> dict[str, bytes]:
        return {n: self.kept[n] for n in sorted(self.kept) if n.startswith(prefix)}

    async def rounds(self, first: int, limit: int) -> list[StoredRound]:
        self.rounds_read += 1
        return self.stored[first - 1 : first - 1 + limit]

    async def keys(self, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        return {one: self.public_keys[one] for one in key_ids if one in self.public_keys}


@pytest.fixture
def kept() -> Kept:
    history = History(FIRST)
    history.seal(FIRST, SECOND)
    history.seal(SECOND)
    storage = Kept(history, certified=0)
    storage.kept["handover/0000000000000001"] = b""
    envelope = history.recovery(2, FIRST).recovery
    storage.kept["recovery/0000000000000002/0000"] = notes.recovery_bytes(
        RecoveryNote(envelope, keys_of(FIRST))
    )
    return storage


async def test_an_election_counts_once_its_round_is_certified(kept: Kept) -> None:
    handovers = Handovers(kept)  # type: ignore[arg-type]
    assert [one.checkpoint for one in await handovers.after(0)] == [b""]
    kept.certified = 1
    election, recovery = await handovers.after(0)
    # What replaced it from the same round on comes after it.
    assert election.checkpoint
    assert election.public_keys == keys_of(SECOND)
    assert recovery.recovery
    assert kept.rounds_read == 1


async def test_handovers_are_looked_up_when_there_can_be_new_ones(kept: Kept) -> None:
    kept.certified = 1
    handovers = Handovers(kept)  # type: ignore[arg-type]
    assert await handovers.between(0, 1) == ()
    later = {"recovery/0000000000000002/0000": kept.kept.pop("recovery/0000000000000002/0000")}
    kept.certified = 2
    [election] = await handovers.between(0, 2)
    assert election.certificate is not None
    assert await handovers.between(2, 2) == ()
    kept.kept |= later
    assert await handovers.between(0, 2) == (election,)
    kept.certified = 3
    assert len(await handovers.between(0, 3)) == 2
    assert kept.rounds_read == 1


async def test_an_elected_one_without_a_key_is_a_fault_of_the_storage(kept: Kept) -> None:
    kept.certified = 1
    kept.public_keys.clear()
    with pytest.raises(StorageError, match="elected in round 1"):
        await Handovers(kept).after(0)  # type: ignore[arg-type]
