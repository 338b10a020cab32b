"""A city from submitted bytes to verified receipts, with the real parts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest
from city.sharing import PATIENCE_SECONDS

from citychain import record
from citychain.city.directory import CityDirectory
from citychain.client.actions import Transfer
from citychain.client.keys import load_key
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.clock import SystemClock
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import CityUnavailable, NotFound, Overloaded
from citychain.genesis import balance_object
from citychain.handler import CityHandler, Received, Refusal
from citychain.promise import PromiseCheck, PromiseState
from citychain.receipt import ReceiptVerifier
from citychain.testing.faults import (
    FailingConsensus,
    FailingDag,
    FailingStorage,
    StallingConsensus,
    StallingStorage,
)
from citychain.types import State

OpenCities = Callable[..., AbstractAsyncContextManager[CityDirectory]]

ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
ALICE_ID = key_id(ALICE.public_key)
BOB_ID = key_id(BOB.public_key)


def sign(city: CityHandler, key: SigningKey = ALICE, **fields: object) -> SignedTransaction:
    if "transfer" not in fields:
        fields.setdefault("data", b"hello")
    return sign_transaction(key, genesis=city.genesis.id, with_public_key=True, **fields)  # type: ignore[arg-type]


async def submit(city: CityHandler, *transactions: SignedTransaction) -> None:
    results = await city.submit([transaction.envelope for transaction in transactions])
    assert all(isinstance(result, Received) for result in results), results


async def final(city: CityHandler, *transactions: SignedTransaction) -> dict[bytes, str]:
    """Wait until all are final; code of each, empty for an approved one."""
    codes: dict[bytes, str] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        ids = [transaction.tx_id for transaction in transactions]
        async for batch in city.watch_transactions(ids, State.APPROVED):
            codes |= {event.tx_id: event.code for event in batch.events}
    return codes


async def verify_all(city: CityHandler, *transactions: SignedTransaction) -> None:
    receipts = await city.receipts([transaction.tx_id for transaction in transactions])
    assert len(receipts) == len({transaction.tx_id for transaction in transactions})
    verifier = ReceiptVerifier(city.genesis)
    for receipt in receipts.values():
        verifier.verify(receipt)


async def test_a_transaction_passes_every_state_and_its_receipt_verifies(
    open_cities: OpenCities,
) -> None:
    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        await submit(city, transaction)
        states = []
        async for batch in city.watch_transactions([transaction.tx_id], State.RECEIVED):
            states += [event.state for event in batch.events]
        assert states[-1] is State.APPROVED
        assert states == sorted(set(states))
        await verify_all(city, transaction)


async def test_the_same_body_is_one_transaction_however_often_it_comes(
    open_cities: OpenCities,
) -> None:
    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        rounds_of_results = await asyncio.gather(
            *(city.submit([transaction.envelope] * 3) for _ in range(20))
        )
        results = [result for results in rounds_of_results for result in results]
        assert Counter(result.duplicate for result in results) == {False: 1, True: 59}
        assert {result.tx_id for result in results} == {transaction.tx_id}
        await final(city, transaction)
        [again] = await city.submit([transaction.envelope])
        assert again == Received(transaction.tx_id, State.APPROVED, True)
        assert (await city.head()).size == 1


async def test_another_signature_of_the_same_body_is_the_same_transaction(
    open_cities: OpenCities,
) -> None:
    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        first = sign(city)
        from citychain.rpc._generated.citychain.v1 import transaction_pb2

        other = transaction_pb2.SignedTransaction.FromString(first.envelope)
        other.signature = ALICE.sign(other.body, b"citychain/tx/v1")
        assert other.SerializeToString() != first.envelope
        [_, second] = await city.submit([first.envelope, other.SerializeToString()])
        assert isinstance(second, Received)
        assert second.duplicate
        assert second.tx_id == first.tx_id


async def test_bad_items_are_refused_and_the_others_of_the_batch_go_on(
    open_cities: OpenCities,
) -> None:
    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        good = sign(city)
        altered = bytearray(sign(city).envelope)
        altered[-1] ^= 1
        foreign = sign_transaction(ALICE, genesis=bytes(32), data=b"x", with_public_key=True)
        results = await city.submit([b"junk", bytes(altered), foreign.envelope, good.envelope])
        assert [result.code for result in results if isinstance(result, Refusal)] == [
            "MALFORMED",
            "BAD_SIGNATURE",
            "WRONG_GENESIS",
        ]
        assert results[3] == Received(good.tx_id, State.RECEIVED, False)


async def test_a_key_is_given_once_and_named_after_that(open_cities: OpenCities) -> None:
    storage = {"tokyo": {"storage": "sqlite", "num_hashes": 10}}
    by_id = []
    async with open_cities(cities=storage) as directory:
        city = await directory.handler("tokyo")
        by_id = [sign_transaction(ALICE, genesis=city.genesis.id, data=b"x") for _ in range(3)]
        [unknown] = await city.submit([by_id[0].envelope])
        assert isinstance(unknown, Refusal)
        assert (unknown.code, unknown.key_id) == ("UNKNOWN_KEY", ALICE_ID)
        await submit(city, sign(city))
        await submit(city, by_id[1])
    async with open_cities(cities=storage) as directory:
        city = await directory.handler("tokyo")
        await submit(city, by_id[2])
        await final(city, *by_id[1:])
        await verify_all(city, *by_id[1:])


async def test_a_key_that_another_city_taught_the_cache_is_stored_with_this_one(
    open_cities: OpenCities,
) -> None:
    cities = {"tokyo": {"storage": "memory"}, "osaka": {"storage": "memory"}}
    async with open_cities(cities=cities) as directory:
        tokyo, osaka = await directory.handler("tokyo"), await directory.handler("osaka")
        await submit(tokyo, sign(tokyo))
        by_id = sign_transaction(ALICE, genesis=osaka.genesis.id, data=b"x")
        await submit(osaka, by_id)
        await final(osaka, by_id)
        assert await osaka.storage.keys([ALICE_ID]) == {ALICE_ID: ALICE.public_key}
        await verify_all(osaka, by_id)


async def test_transfers_move_what_is_there_and_nothing_else(open_cities: OpenCities) -> None:
    balances = {"yen": {ALICE_ID.hex(): 100}}
    cities = {"tokyo": {"storage": "memory", "balances": balances}}
    async with open_cities(cities=cities) as directory:
        city = await directory.handler("tokyo")
        pays = sign(city, transfer=Transfer("yen", BOB_ID, 60))
        overdraws = sign(city, transfer=Transfer("yen", BOB_ID, 60))
        pays_back = sign(city, BOB, transfer=Transfer("yen", ALICE_ID, 10))
        await submit(city, pays, overdraws, pays_back)
        codes = await final(city, pays, overdraws, pays_back)
        assert [codes[t.tx_id] for t in (pays, overdraws, pays_back)] == ["", "OVERDRAFT", ""]
        objects = await city.storage.objects(
            [balance_object("yen", ALICE_ID), balance_object("yen", BOB_ID)]
        )
        assert [int.from_bytes(state.value) for state in objects.values()] == [50, 50]
        await verify_all(city, pays, overdraws, pays_back)


async def test_of_two_writes_of_one_version_the_first_wins(open_cities: OpenCities) -> None:
    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        wins = sign(city, writes={"parcel/1": 0})
        loses = sign(city, BOB, writes={"parcel/1": 0})
        follows = sign(city, BOB, writes={"parcel/1": 1})
        await submit(city, wins, loses, follows)
        codes = await final(city, wins, loses, follows)
        assert [codes[t.tx_id] for t in (wins, loses, follows)] == ["", "CONFLICT", ""]
        status = await city.status([loses.tx_id])
        node = status[loses.tx_id].node
        assert node is not None
        assert node.rejection is not None
        assert wins.tx_id.hex() in node.rejection.reason
        assert (await city.storage.objects(["parcel/1"]))["parcel/1"] == (2, follows.tx_id)


async def test_a_transaction_waits_for_its_dependency(open_cities: OpenCities) -> None:
    # For as long as the test takes.
    cities = {"tokyo": {"storage": "memory", "num_hashes": 10, "hold_rounds": 1_000}}
    async with open_cities(cities=cities) as directory:
        city = await directory.handler("tokyo")
        parent = sign(city)
        child = sign(city, BOB, depends_on=[parent.tx_id])
        await submit(city, child)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await city.head()).round:
                await asyncio.sleep(0.01)
        assert city.pending == 1
        await submit(city, parent)
        codes = await final(city, parent, child)
        assert set(codes.values()) == {""}
        nodes = await city.storage.find([parent.tx_id, child.tx_id])
        assert nodes[child.tx_id].parents[0] == nodes[parent.tx_id].ref
        await verify_all(city, parent, child)


async def test_a_dependency_that_never_comes_rejects(open_cities: OpenCities) -> None:
    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        orphan = sign(city, depends_on=[bytes(32)])
        grandchild = sign(city, BOB, depends_on=[orphan.tx_id])
        await submit(city, orphan, grandchild)
        codes = await final(city, orphan, grandchild)
        assert codes[orphan.tx_id] == "DEPENDENCY_MISSING"
        assert codes[grandchild.tx_id] == "DEPENDENCY_REJECTED"
        await verify_all(city, orphan, grandchild)


class Shifted(SystemClock):
    """A clock that can be set."""

    shift_ms = 0

    def time_ms(self) -> int:
        return super().time_ms() + self.shift_ms


async def test_a_late_transaction_is_rejected_as_expired(open_cities: OpenCities) -> None:
    stalling, clock = StallingStorage("append"), Shifted()
    async with open_cities({"tokyo": {"storage": stalling}}, clock) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city, valid_for=timedelta(minutes=1))
        submitted = asyncio.create_task(submit(city, transaction))
        await stalling.reached()
        clock.shift_ms = 120_000
        stalling.release()
        await submitted
        assert await final(city, transaction) == {transaction.tx_id: "EXPIRED"}


async def test_a_repeat_that_comes_too_late_gets_the_answer_of_the_first(
    open_cities: OpenCities,
) -> None:
    clock = Shifted()
    async with open_cities(clock=clock) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city, valid_for=timedelta(minutes=1))
        never_sent = sign(city, valid_for=timedelta(minutes=1))
        await submit(city, transaction)
        assert await final(city, transaction) == {transaction.tx_id: ""}
        clock.shift_ms = 120_000
        [again, late] = await city.submit([transaction.envelope, never_sent.envelope])
        assert again == Received(transaction.tx_id, State.APPROVED, True)
        assert isinstance(late, Refusal)
        assert late.code == "EXPIRED"


async def test_a_promise_holds_where_the_clock_was_set_back(open_cities: OpenCities) -> None:
    clock = Shifted()
    async with open_cities(clock=clock, limits={"final_within_seconds": 60}) as directory:
        city = await directory.handler("tokyo")
        await submit(city, before := sign(city))
        await final(city, before)
        clock.shift_ms = -3_600_000
        after = sign(city, data=b"after")
        [result] = await city.submit([after.envelope], acknowledge=True)
        assert isinstance(result, Received)
        assert result.promise is not None
        await final(city, after)
        check = PromiseCheck(result.promise)
        for stored in await city.storage.rounds(1, 10):
            check.see(stored, record.decode(stored.record), True)
        assert check.verdict(clock.time_ms()).state is PromiseState.KEPT


async def test_nothing_is_acknowledged_before_it_is_stored(open_cities: OpenCities) -> None:
    stalling = StallingStorage("append")
    async with open_cities({"tokyo": {"storage": stalling}}) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        first = asyncio.create_task(city.submit([transaction.envelope]))
        await stalling.reached()
        repeat = asyncio.create_task(city.submit([transaction.envelope]))
        await asyncio.sleep(0.05)
        assert not first.done()
        assert not repeat.done()
        stalling.release()
        [[one], [two]] = await asyncio.gather(first, repeat)
        assert (one.duplicate, two.duplicate) == (False, True)


async def test_a_failed_append_is_told_to_each_caller_and_takes_nothing(
    open_cities: OpenCities,
) -> None:
    failing = FailingStorage("append", times=1)
    limits = {"author_pending": 1}
    async with open_cities({"tokyo": {"storage": failing}}, limits=limits) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        with pytest.raises(CityUnavailable):
            await city.submit([transaction.envelope])
        with pytest.raises(NotFound):
            await final(city, transaction)
        await submit(city, transaction)
        assert await final(city, transaction) == {transaction.tx_id: ""}


async def test_a_cancelled_caller_gives_its_room_back(open_cities: OpenCities) -> None:
    stalling = StallingStorage("append")
    limits = {"pending_transactions": 1}
    async with open_cities({"tokyo": {"storage": stalling}}, limits=limits) as directory:
        city = await directory.handler("tokyo")
        first = sign(city)
        waiting = asyncio.create_task(city.submit([first.envelope]))
        await stalling.reached()
        with pytest.raises(Overloaded) as overloaded:
            await city.submit([sign(city).envelope])
        assert overloaded.value.retry_after > timedelta()
        waiting.cancel()
        stalling.release()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await city.receipts([first.tx_id]):
                await asyncio.sleep(0.01)
        await submit(city, sign(city))


async def test_an_author_past_its_quota_is_refused_and_others_are_not(
    open_cities: OpenCities,
) -> None:
    stalling = StallingConsensus("seal")
    limits = {"author_pending": 2}
    async with open_cities({"tokyo": {"consensus": stalling}}, limits=limits) as directory:
        city = await directory.handler("tokyo")
        results = await city.submit(
            [sign(city).envelope for _ in range(3)] + [sign(city, BOB).envelope]
        )
        assert [getattr(result, "code", "") for result in results] == ["", "", "AUTHOR_QUOTA", ""]
        stalling.release()


async def test_an_author_who_sends_too_fast_waits_and_nobody_else_does(
    open_cities: OpenCities, tmp_path: Path
) -> None:
    limits = {"author_per_second": 0.0001}
    async with open_cities({"tokyo": {}}, limits=limits) as directory:
        city = await directory.handler("tokyo")
        first = sign(city)
        forged = sign(city, BOB).envelope
        forged = forged[:-1] + bytes([forged[-1] ^ 1])
        by_bob = [sign(city, BOB).envelope for _ in range(2)]
        results = await city.submit([forged, forged, first.envelope, *by_bob])
        codes = [getattr(result, "code", "") for result in results]
        # What others send in his name is not counted as his.
        assert codes == ["BAD_SIGNATURE", "BAD_SIGNATURE", "", "", "AUTHOR_QUOTA"]
        # What was received before is no new one.
        again, another = await city.submit([first.envelope, sign(city).envelope])
        assert again.duplicate
        assert (another.code, another.detail) == ("AUTHOR_QUOTA", "sends too fast")
        operator_key = load_key(tmp_path / "operator.key")
        operator = [sign(city, operator_key).envelope for _ in range(3)]
        assert not any(isinstance(it, Refusal) for it in await city.submit(operator))


@pytest.mark.parametrize(
    "fault",
    [
        {"dag": FailingDag(times=2)},
        {"consensus": FailingConsensus("judge", times=2)},
        {"consensus": FailingConsensus("seal", times=2)},
        {"consensus": FailingConsensus("approve", times=2)},
        {"storage": FailingStorage("commit", times=2)},
        {"storage": FailingStorage("certify", times=2)},
    ],
    ids=lambda fault: "-".join(fault),
)
async def test_a_round_that_fails_is_tried_again(
    open_cities: OpenCities, fault: dict[str, object]
) -> None:
    async with open_cities({"tokyo": fault}) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        await submit(city, transaction)
        assert await final(city, transaction) == {transaction.tx_id: ""}
        await verify_all(city, transaction)


async def test_rounds_are_told_in_order_though_their_approvals_overlap(
    open_cities: OpenCities,
) -> None:
    stalling = StallingConsensus("approve")
    pacer = {"min_seconds": 0.01, "max_seconds": 0.01, "max_tx": 1}
    async with open_cities({"tokyo": {"consensus": stalling}}, pacer=pacer) as directory:
        city = await directory.handler("tokyo")
        transactions = [sign(city) for _ in range(4)]
        for transaction in transactions:
            await submit(city, transaction)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while stalling.calls["approve"] < 4:
                await asyncio.sleep(0.01)
        assert (await city.head()).round == 4
        assert (await city.head()).certified_round == 0
        told = []
        stalling.release()
        async for batch in city.watch(None, State.APPROVED, 0):
            told += [event.tx_id for event in batch.events]
            if len(told) == 4:
                break
        assert told == [transaction.tx_id for transaction in transactions]


async def test_a_watch_resumes_where_it_was_left(open_cities: OpenCities) -> None:
    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        mine, theirs = [], []
        for _ in range(3):
            mine.append(sign(city))
            theirs.append(sign(city, BOB))
            await submit(city, mine[-1], theirs[-1])
            await final(city, mine[-1], theirs[-1])
        everything = []
        position = 0
        while len(everything) < 6:
            async for batch in city.watch(None, State.APPROVED, position):
                everything += [event.tx_id for event in batch.events]
                position = batch.position
                break
        assert sorted(everything) == sorted(t.tx_id for t in mine + theirs)
        only_mine = []
        async for batch in city.watch(ALICE_ID, State.SEALED, 0):
            only_mine += [event.tx_id for event in batch.events]
            if batch.position == position:
                break
        assert only_mine == [transaction.tx_id for transaction in mine]


async def test_the_history_is_the_same_after_a_restart(open_cities: OpenCities) -> None:
    cities = {"tokyo": {"storage": "sqlite", "num_hashes": 10}}
    async with open_cities(cities=cities) as directory:
        city = await directory.handler("tokyo")
        held = sign(city, depends_on=[bytes(31) + b"\1"])
        before = [sign(city) for _ in range(5)]
        await submit(city, held, *before)
        await final(city, *before)
        head = await city.head()
    async with open_cities(cities=cities) as directory:
        city = await directory.handler("tokyo")
        # What is held goes on to make rounds until the city closes.
        assert (await city.head()).round >= head.round
        [kept] = await city.storage.rounds(head.round, 1)
        assert kept.checkpoint_hash == head.checkpoint_hash
        await verify_all(city, *before)
        after = sign(city)
        await submit(city, after)
        codes = await final(city, held, after)
        assert codes == {held.tx_id: "DEPENDENCY_MISSING", after.tx_id: ""}
        # Held by a round before the restart, and counted from there.
        [node] = (await city.storage.find([held.tx_id])).values()
        assert node.round <= 1 + city.genesis.hold_rounds
        rounds = await city.storage.rounds(1, 1000)
        assert [round.round for round in rounds] == list(range(1, len(rounds) + 1))


async def test_proofs_hold_between_any_two_sizes(open_cities: OpenCities) -> None:
    from citychain import checkpoint
    from citychain.crypto import merkle

    async with open_cities() as directory:
        city = await directory.handler("tokyo")
        for count in (1, 3, 4, 300, 2):
            transactions = [sign(city) for _ in range(count)]
            await submit(city, *transactions)
            await final(city, *transactions)
        rounds = await city.storage.rounds(1, 1000)
        roots = {round.size: checkpoint.decode(round.checkpoint).root for round in rounds}
        for first in roots:
            for second in roots:
                if first <= second:
                    proven = await city.consistency_proof(first, second)
                    assert proven[:2] == (roots[first], roots[second])
                    merkle.verify_consistency(first, second, proven[2], roots[first], roots[second])
        for leaf in (0, 1, 7, 300, 309):
            proof = await city.inclusion_proof(leaf, 0)
            assert proof.root == roots[proof.size]
            merkle.verify_inclusion(proof.leaf_hash, leaf, proof.size, proof.proof, proof.root)
        with pytest.raises(NotFound):
            await city.inclusion_proof(310, 0)
        with pytest.raises(NotFound):
            await city.consistency_proof(2, 309)
