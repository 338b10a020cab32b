"""City tests: what becomes of what is submitted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar, Final

import pytest

from citychain.city.names import normalise
from citychain.client.city import CityClient
from citychain.client.receipts import save_receipt, verify_receipt
from citychain.client.transactions import CONTEXT, SignedTransaction, sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.errors import NotFound
from citychain.handler import EventBatch, Received
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.rpc.messages import Refused
from citychain.testing.conformance._city_history import History, sealed_ids, verify
from citychain.testing.conformance._city_session import City, Sign
from citychain.testing.faults import StallingConsensus, StallingStorage
from citychain.testing.server import TransactionFactory
from citychain.types import State

__all__ = ["SubmissionTests"]

TASKS: Final = 20
"""That submit the same at the same time."""

IN_TURN: Final = 6
"""Transactions that are sent one after the other."""


class SubmissionTests:
    """Part of `CitySuite`."""

    many: ClassVar[int]

    async def test_each_of_its_names_means_the_city(self, city: City) -> None:
        plan = city.plan
        names = {plan.slug, plan.slug.upper(), *plan.titles.values(), *plan.aliases}
        clashes = city.cities.clashes()
        async with city.serve() as serving:
            genesis = (await serving.client.info()).genesis
            for name in sorted(names):
                if (key := normalise(name)) in clashes:
                    print(f"{name} is left out: installed cities claim it: {clashes[key]}")
                    continue
                async with serving.named(name) as client:
                    try:
                        info = await client.info()
                    except NotFound as error:
                        raise AssertionError(
                            f"{name} finds no city: {error}; where it is a name of another one "
                            "too it means neither"
                        ) from error
                    assert info.listing.slug == plan.slug, f"{name} means {info.listing.slug}"
                    assert info.genesis == genesis
            listing = (await serving.client.info()).listing
            assert listing.titles == plan.titles
            assert listing.aliases == plan.aliases
            assert listing.parent == plan.parent

    async def test_a_transaction_is_received_sealed_approved_and_proven(
        self, city: City, transactions: Sign, tmp_path: Path
    ) -> None:
        committing, approving = StallingStorage("commit"), StallingConsensus("approve")
        async with city.serve() as serving:
            [signed] = await transactions(serving.client)
        async with city.serve(storage=committing, consensus=approving) as serving:
            client = serving.client
            tx_id = signed.tx_id
            assert await client.submit([signed]) == [Received(tx_id, State.RECEIVED, False)]
            events = serving.events(tx_ids=[tx_id], from_state=State.RECEIVED)
            told = await anext(events)
            await committing.reached()
            await _stands(client, tx_id, State.RECEIVED)
            committing.release()
            await client.wait([tx_id], State.SEALED)
            await _stands(client, tx_id, State.SEALED)
            approving.release()
            event = (await client.wait([tx_id]))[tx_id]
            assert event.state is State.APPROVED, (
                f"it became {event.state.name} {event.code}: override the fixture `transactions` "
                "with what the city approves"
            )
            states = [event.state for event in told.events] + await _states(events)
            assert states == [State.RECEIVED, State.SEALED, State.APPROVED], (
                f"who watched it from the beginning was told {states}"
            )
            status = (await client.status([tx_id]))[tx_id]
            assert status.state is State.APPROVED
            [receipt] = (await client.receipts([tx_id])).values()
            assert receipt.tx_id == tx_id, "the receipt is for another transaction"
            assert status.node is not None
            assert receipt.node_id == status.node.node_id, "the receipt is for another node"
            assert receipt.envelope == status.envelope
            genesis = (await client.info()).genesis_file
        save_receipt(tmp_path / "receipt.json", receipt)
        (tmp_path / "genesis.json").write_bytes(genesis)
        verify_receipt(tmp_path / "receipt.json", tmp_path / "genesis.json")

    async def test_one_transaction_submitted_by_many_tasks_is_one(
        self, city: City, transactions: Sign
    ) -> None:
        history = History()
        async with city.serve() as serving, AsyncExitStack() as stack:
            batch = await transactions(serving.client, 3)
            clients = [
                await stack.enter_async_context(serving.named(city.plan.slug)) for _ in range(4)
            ]
            answers = await asyncio.gather(
                *(clients[number % 4].submit(batch) for number in range(TASKS))
            )
            for signed, results in zip(batch, zip(*answers, strict=True), strict=True):
                refused = [result for result in results if not isinstance(result, Received)]
                assert not refused, f"a repeat must be answered, not refused: {refused[0]}"
                assert {result.tx_id for result in results} == {signed.tx_id}
                first = [result for result in results if not result.duplicate]
                assert len(first) == 1, f"{len(first)} of {TASKS} submissions were taken for new"
            await history.submit(serving.client, batch)
            await history.settle(serving, city.cities)

    async def test_a_repeat_is_answered_with_the_original_at_any_time(
        self, city: City, transactions: Sign, signed_transactions: TransactionFactory
    ) -> None:
        history = History()
        async with city.serve() as serving:
            batch = await transactions(serving.client, 2)
            await history.submit(serving.client, batch)
            await history.finish(serving.client)
            size = (await serving.client.info()).head.size
            _are_known(await serving.client.submit(batch), batch)
        # Another signature of the same body is the same transaction.
        again = [_signed_again(signed, signed_transactions.key()) for signed in batch]
        approving = StallingConsensus("approve")  # What is final needs no approval any more.
        async with city.serve(consensus=approving) as serving:
            _are_known(await serving.client.submit(again), batch)
            assert (await serving.client.info()).head.size == size, "repeats were sealed"
            assert await serving.client.receipts(list(history.sent)) == history.receipts, (
                "receipts are not those that were given before the restart"
            )
            approving.release()
            await history.settle(serving, city.cities)

    async def test_what_is_sent_after_another_is_sealed_stands_after_it(
        self, city: City, transactions: Sign
    ) -> None:
        """Within a round the rule may order as it likes."""
        history = History()
        async with city.serve() as serving:
            client = serving.client
            for signed in await transactions(client, IN_TURN):
                await history.submit(client, [signed])
                await client.wait([signed.tx_id], State.SEALED)
            await history.finish(client)
            sealed = await sealed_ids(client)
        ours = [tx_id for tx_id in sealed if tx_id in history.sent]
        assert ours == list(history.sent), (
            "a transaction stands before one that was sealed when it was sent"
        )
        places = [(it.round, it.seq) for it in map(history.receipts.__getitem__, history.sent)]
        assert places == sorted(set(places)), (
            f"by their receipts, transactions sent one after the other stand at {places}"
        )

    async def test_many_transactions(self, city: City, transactions: Sign) -> None:
        history = History()
        async with city.serve() as serving:
            batches = [
                await transactions(serving.client, self.many // 4, key=key) for key in range(4)
            ]
            await asyncio.gather(*(history.submit(serving.client, batch) for batch in batches))
            await history.finish(serving.client)
            ours = [it for it in await sealed_ids(serving.client) if it in history.sent]
            assert len(ours) == len(set(ours)) == len(history.sent)
            some = list(history.receipts)[:: max(1, self.many // 50)]
            verify({tx_id: history.receipts[tx_id] for tx_id in some}, await serving.genesis())

    async def test_what_is_refused_is_named_and_not_stored(
        self, city: City, transactions: Sign, signed_transactions: TransactionFactory
    ) -> None:
        history = History()
        async with city.serve() as serving:
            client = serving.client
            good = await transactions(client, 2)
            await history.submit(client, good[:1])
            await history.finish(client)
            size = (await client.info()).head.size
            stranger = signed_transactions.key(99)
            elsewhere = sign_transaction(
                stranger, genesis=os.urandom(32), data=b"x", with_public_key=True
            )
            wrong = {
                "MALFORMED": b"no transaction",
                "WRONG_GENESIS": elsewhere.envelope,
                "BAD_SIGNATURE": _changed(good[1], signature=_message(good[0]).signature),
                "KEY_MISMATCH": _changed(good[1], public_key=stranger.public_key),
            }
            results = await client.submit([*wrong.values(), good[1]])
            for code, result in zip(wrong, results, strict=False):
                assert isinstance(result, Refused), f"{code} was received: {result}"
                assert result.code == code, f"{code} was refused as {result.code}"
                # Of bytes that cannot be read at all there is no field to name.
                assert result.field or code == "MALFORMED", f"{code} does not name the field"
                assert result.detail, f"{code} does not say what is wrong"
            assert isinstance(results[-1], Received), "what stood beside refused ones was refused"
            history.sent[good[1].tx_id] = good[1]
            history.acknowledged.add(good[1].tx_id)
            await history.finish(client)
            assert not await client.status([elsewhere.tx_id])
            info = await client.info()
            assert info.head.size == size + 1, "something that was refused was stored"
            assert info.pending == 0

    async def test_a_rejection_is_proven(self, city: City, rejected: Sign | None) -> None:
        if rejected is None:
            pytest.skip("the fixture `rejected` gives nothing that the city rejects")
        async with city.serve() as serving:
            client = serving.client
            [signed] = await rejected(client)
            [result] = await client.submit([signed])
            assert isinstance(result, Received), (
                f"refused before it was stored ({result}): the fixture `rejected` is to give "
                "something that the ledger rejects"
            )
            event = (await client.wait([signed.tx_id]))[signed.tx_id]
            assert event.state is State.REJECTED, (
                f"it is {event.state.name}: override the fixture `rejected` with what the city "
                "rejects, or with None"
            )
            assert event.code, "a rejection has no code"
            receipts = await client.receipts([signed.tx_id])
            assert receipts.keys() == {signed.tx_id}, "a rejection has no receipt"
            verify(receipts, await serving.genesis())
            rejection = receipts[signed.tx_id].rejection
            assert rejection is not None
            assert rejection.code == event.code, "the receipt has another code than was told"
            assert rejection.reason, "the receipt does not say why"
            [again] = await client.submit([signed])
            assert isinstance(again, Received)
            assert (again.state, again.duplicate) == (State.REJECTED, True)

    async def test_what_is_unknown_is_absent(self, city: City, transactions: Sign) -> None:
        history = History()
        async with city.serve() as serving:
            client = serving.client
            await history.submit(client, await transactions(client))
            await history.finish(client)
            [known], unknown = history.sent, os.urandom(32)
            assert (await client.status([unknown, known])).keys() == {known}
            assert (await client.receipts([unknown, known])).keys() == {known}
            with pytest.raises(NotFound):
                await client.wait([unknown])
            with pytest.raises(NotFound):
                await client.node(unknown)
            assert await client.rounds((await client.info()).head.round + 1, 5) == []


async def _states(events: AsyncIterator[EventBatch]) -> list[State]:
    return [event.state async for batch in events for event in batch.events]


async def _stands(client: CityClient, tx_id: bytes, state: State) -> None:
    status = (await client.status([tx_id]))[tx_id]
    assert status.state is state, f"it is {status.state.name}, and can be {state.name} at most"
    assert (status.node is None) == (state is State.RECEIVED)
    assert not await client.receipts([tx_id]), f"a receipt was given while it is {state.name}"


def _are_known(results: Sequence[Received | Refused], batch: Sequence[SignedTransaction]) -> None:
    for signed, result in zip(batch, results, strict=True):
        assert isinstance(result, Received), f"a repeat must be answered, not refused: {result}"
        assert result.tx_id == signed.tx_id, "a repeat was answered with another id"
        assert result.duplicate, "a repeat was taken for a new transaction"
        assert result.state is State.APPROVED, "the answer is not how the original stands"


def _message(signed: SignedTransaction) -> transaction_pb2.SignedTransaction:
    return transaction_pb2.SignedTransaction.FromString(signed.with_public_key())


def _changed(signed: SignedTransaction, **fields: bytes) -> bytes:
    message = _message(signed)
    for name, value in fields.items():
        setattr(message, name, value)
    return message.SerializeToString()


def _signed_again(signed: SignedTransaction, key: SigningKey) -> SignedTransaction:
    if signed.public_key != key.public_key:
        return signed  # By a key of the fixture `transactions`' own.
    body = _message(signed).body
    envelope = _changed(signed, signature=key.sign(body, CONTEXT))
    assert envelope != signed.with_public_key()
    return SignedTransaction(signed.tx_id, envelope, signed.public_key)
