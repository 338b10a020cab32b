"""City tests: what watchers are told, and what the log proves."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import combinations
from typing import Final

import pytest

from citychain import checkpoint
from citychain.crypto import merkle
from citychain.crypto.keys import key_id
from citychain.errors import InvalidRequest, NotFound
from citychain.handler import EventBatch, TransactionEvent
from citychain.testing.conformance._city_history import History, sealed_ids
from citychain.testing.conformance._city_session import City, Serving, Sign
from citychain.types import State

__all__ = ["WatchingTests"]

BATCHES: Final = (1, 3, 1, 5, 2)
"""Transactions that are submitted, each batch once the one before is final."""


class WatchingTests:
    """Part of `CitySuite`."""

    async def test_who_watches_transactions_is_told_each_state_once_and_in_order(
        self, city: City, transactions: Sign
    ) -> None:
        history = History()
        async with city.serve() as serving:
            batch = await transactions(serving.client, 6)
            await history.submit(serving.client, batch)
            ids = list(history.sent)
            during = await _all_of(serving.events(tx_ids=ids, from_state=State.RECEIVED))
            after = await _all_of(serving.events(tx_ids=ids, from_state=State.RECEIVED))
        for events in (during, after):
            by_id: dict[bytes, list[State]] = defaultdict(list)
            for event in events:
                by_id[event.tx_id].append(event.state)
            assert by_id.keys() == set(ids), "a watcher was not told of every transaction"
            for states in by_id.values():
                assert states == sorted(set(states)), f"a watcher was told {states}"
                assert states[-1] is State.APPROVED, "the stream ended before the final state"
        assert len(after) == len(ids), "what is final already is told once"

    @pytest.mark.parametrize("from_state", [State.SEALED, State.APPROVED])
    async def test_who_watches_the_city_or_an_author_is_told_everything_once_and_in_order(
        self, city: City, transactions: Sign, from_state: State
    ) -> None:
        async with city.serve() as serving:
            batches = [await transactions(serving.client, count) for count in BATCHES]
            author = key_id(batches[0][0].public_key)
            last = batches[-1][-1].tx_id
            watching = [
                asyncio.create_task(_until(events, last))
                for events in (
                    serving.events(from_state=from_state, after=0),
                    serving.events(from_state=from_state, after=0, author=author),
                )
            ]
            for batch in batches:
                history = History()
                await history.submit(serving.client, batch)
                await history.finish(serving.client)
            told = [
                *await asyncio.gather(*watching),
                # Who comes late is told the same.
                await _until(serving.events(from_state=from_state, after=0), last),
            ]
            sealed = await sealed_ids(serving.client)
        sent = [signed.tx_id for batch in batches for signed in batch]
        for stream in told:
            events = [event for one in stream for event in one.events]
            ids = [event.tx_id for event in events]
            assert sorted(set(ids)) == sorted(ids), "a watcher was told of a transaction twice"
            assert {event.state for event in events} == {from_state}
            places = [(event.round, event.seq) for event in events]
            assert places == sorted(places), "a watcher was told of places out of order"
            assert [tx_id for tx_id in ids if tx_id in sent] == [
                tx_id for tx_id in sealed if tx_id in sent
            ], "a watcher was not told of every transaction in the order of the ledger"
            positions = [one.position for one in stream]
            assert positions == sorted(positions)

    async def test_a_watcher_that_comes_back_misses_and_repeats_nothing(
        self, city: City, transactions: Sign
    ) -> None:
        history, seen, position = History(), list[TransactionEvent](), 0
        for _ in range(2):
            async with city.serve() as serving:  # The second time on what the first one left.
                for count in BATCHES:
                    await history.submit(serving.client, await transactions(serving.client, count))
                await history.finish(serving.client)
                while not set(history.sent) <= {event.tx_id for event in seen}:
                    # A new stream for each batch.
                    watching = serving.client.watch(after=position)
                    patience = asyncio.timeout(serving.patience.total_seconds())
                    async with aclosing(watching), patience:
                        batch = await anext(watching)
                    assert batch.position > position, "a watcher was told the same again"
                    seen += batch.events
                    position = batch.position
                sealed = await sealed_ids(serving.client)
        assert [event.tx_id for event in seen] == sealed

    async def test_proofs_hold_for_every_size_of_the_log(
        self, city: City, transactions: Sign
    ) -> None:
        history = History()
        async with city.serve() as serving:
            client = serving.client
            for count in BATCHES:
                await history.submit(client, await transactions(client, count))
                await history.finish(client)
            roots = await _roots(serving)
            last = max(roots)
            assert last == len(await sealed_ids(client))
            for size, root in roots.items():
                for index in range(size):
                    proof = await client.inclusion_proof(index, size)
                    assert (proof.size, proof.root) == (size, root), "a proof is for another log"
                    merkle.verify_inclusion(proof.leaf_hash, index, size, proof.proof, root)
            for first, second in [*combinations(roots, 2), (last, last)]:
                *both, proof_between = await client.consistency_proof(first, second)
                assert both == [roots[first], roots[second]], "a proof is for other logs"
                merkle.verify_consistency(first, second, proof_between, *both)
            for size in {*range(1, last + 2)} - roots.keys():
                with pytest.raises(NotFound):
                    await client.inclusion_proof(0, size)
            with pytest.raises(InvalidRequest):
                await client.inclusion_proof(last, last)
            for tx_id, receipt in history.receipts.items():
                proof = await client.inclusion_proof(receipt.leaf_index, last)
                leaf = (await client.status([tx_id]))[tx_id].node
                assert leaf is not None
                assert (leaf.round, leaf.seq) == (receipt.round, receipt.seq)


async def _roots(serving: Serving) -> dict[int, bytes]:
    """Of the log by the sizes at which a round ended, smallest first."""
    rounds = await serving.client.rounds(1, 1_000)
    return {stored.size: checkpoint.decode(stored.checkpoint).root for stored in rounds}


async def _all_of(events: AsyncGenerator[EventBatch, None]) -> list[TransactionEvent]:
    """All events of a stream that ends."""
    return [event async for batch in events for event in batch.events]


async def _until(events: AsyncGenerator[EventBatch, None], last: bytes) -> list[EventBatch]:
    """Batches of a stream without end, up to the one that tells of a transaction."""
    batches = []
    async with aclosing(events):
        async for batch in events:
            batches.append(batch)
            if any(event.tx_id == last for event in batch.events):
                break
    return batches
