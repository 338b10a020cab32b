from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from free_ports import free_address
from rpc.fakes import (
    GENESIS,
    FakeCity,
    FakeDirectory,
    digest,
    make_event,
    make_node,
    make_receipt,
    make_round,
    serving,
    until,
)

from citychain.city.listing import CityState
from citychain.client import ChannelFactory, CityClient, LinkedNode
from citychain.client import city as client_city
from citychain.errors import NotFound, VerificationError
from citychain.handler import EventBatch, InclusionProof, TransactionStatus
from citychain.rpc._generated.citychain.v1 import services_pb2_grpc
from citychain.rpc.messages import decode_events, encode_events
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.types import Head, ObjectState, State


async def test_info_tells_what_the_city_is(city: CityClient, fake: FakeCity) -> None:
    fake.storage.stored = [make_round(1), make_round(2, certified=False)]
    info = await city.info()
    assert info.listing.slug == "kanazawa"
    assert info.listing.titles["ja"] == "金沢市"
    assert info.listing.state == CityState.OPEN
    assert (info.genesis, info.genesis_file) == (GENESIS.id, GENESIS.file)
    assert (info.rule, info.consensus) == ("sealed-rounds/1", "solo/1")
    assert info.head == Head(
        round=2, size=2, checkpoint_hash=digest("checkpoint", 2), certified_round=1
    )
    assert info.pending == 7


async def test_a_genesis_file_that_is_another_is_noticed(city: CityClient, fake: FakeCity) -> None:
    class Lying:
        id = GENESIS.id
        file = GENESIS.file + b" "
        rule, consensus = GENESIS.rule, GENESIS.consensus

    fake.genesis = Lying()
    with pytest.raises(VerificationError, match="genesis"):
        await city.info()


async def test_any_number_of_objects_can_be_asked(city: CityClient, fake: FakeCity) -> None:
    names = [f"object-{number}" for number in range(600)]
    fake.storage.states["object-300"] = ObjectState(2, b"value")
    states = await city.objects(names)
    assert list(states) == names
    assert states["object-300"] == ObjectState(2, b"value")
    assert states["object-0"] == ObjectState(0, b"")


async def test_status_leaves_unknown_transactions_out(city: CityClient, fake: FakeCity) -> None:
    node = make_node(1)
    known = TransactionStatus(node.tx_id, State.APPROVED, None, node, 1_000, digest("poh"))
    fake.statuses[node.tx_id] = known
    assert await city.status([node.tx_id, digest("unknown")]) == {node.tx_id: known}


async def test_status_does_not_take_an_unknown_city_for_an_unknown_transaction(
    server: CoreServer,
) -> None:
    async with CityClient("nowhere", ChannelFactory([server.address])) as client:
        with pytest.raises(NotFound, match="no city"):
            await client.status([digest(1)])


# --- waiting


async def test_wait_returns_how_each_reached_the_state(city: CityClient, fake: FakeCity) -> None:
    approved, rejected = make_event(1), make_event(1, 1, State.REJECTED)
    fake.tell(EventBatch([approved], 1), EventBatch([rejected], 2))
    reached = await city.wait([approved.tx_id, rejected.tx_id])
    assert reached == {approved.tx_id: approved, rejected.tx_id: rejected}


async def test_wait_for_an_early_state_does_not_wait_for_the_last(
    city: CityClient, fake: FakeCity
) -> None:
    sealed = make_event(1, 0, State.SEALED)
    fake.tell(EventBatch([sealed], 1))
    fake.watch_transactions = lambda tx_ids, from_state: fake._events(0, endless=True)
    assert await city.wait([sealed.tx_id], State.SEALED) == {sealed.tx_id: sealed}
    await until(lambda: fake.closed_streams == 1)


async def test_wait_asks_again_only_for_what_is_left(
    directory: FakeDirectory, fake: FakeCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[EventBatch] = []

    def decoded(message: Any) -> EventBatch:
        told.append(decode_events(message))
        return told[-1]

    monkeypatch.setattr(client_city, "decode_events", decoded)
    first, second = make_event(1), make_event(2)
    fake.batches = [EventBatch([first], 1)]
    endless = True

    def watch_transactions(tx_ids: Any, from_state: State) -> Any:
        fake.watched.append(list(tx_ids))
        return fake._events(0, endless=endless)

    fake.watch_transactions = watch_transactions
    async with serving(directory, ServerOptions(listen=free_address())) as server:
        channels = ChannelFactory([server.address])
        async with CityClient("kanazawa", channels) as client:
            waiting = asyncio.create_task(client.wait([first.tx_id, second.tx_id]))
            await until(lambda: len(told) == 1)
            await server.__aexit__()
            fake.batches = [EventBatch([second], 2)]
            async with CoreServer(directory, options=server._options):
                reached = await asyncio.wait_for(waiting, 120)
    assert reached == {first.tx_id: first, second.tx_id: second}
    assert fake.watched == [[first.tx_id, second.tx_id], [second.tx_id]]


async def test_waiting_for_an_unknown_transaction_is_not_found(
    city: CityClient, fake: FakeCity
) -> None:
    with pytest.raises(NotFound, match=digest(1).hex()):
        await city.wait([digest(1)])


async def test_waiting_ends_at_the_timeout(
    city: CityClient, fake: FakeCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = closed = 0

    async def endless(tx_ids: Sequence[bytes], from_state: State) -> AsyncIterator[EventBatch]:
        nonlocal opened, closed
        opened += 1
        try:
            await asyncio.Event().wait()
            yield EventBatch([], 1)
        finally:
            closed += 1

    monkeypatch.setattr(fake, "watch_transactions", endless)
    timeout = timedelta(milliseconds=100)
    async with asyncio.timeout(120):
        while not opened:  # As long as the time is over before the server is reached.
            with pytest.raises(TimeoutError):
                await city.wait([digest(1)], timeout=timeout)
            timeout *= 2
    await until(lambda: closed == opened)


# --- watching


async def test_watch_begins_after_the_latest_approved_round(
    city: CityClient, fake: FakeCity
) -> None:
    fake.storage.stored = [make_round(1), make_round(2), make_round(3, certified=False)]
    fake.tell(*(EventBatch([make_event(number)], number) for number in (1, 2, 3)))
    assert await anext(city.watch()) == EventBatch([make_event(3)], 3)
    assert fake.watched[-1] == (None, State.APPROVED, 2)
    fake.tell(EventBatch([make_event(4)], 4))
    async with aclosing(city.watch(author=digest("a"), from_state=State.SEALED)) as batches:
        assert await anext(batches) == EventBatch([make_event(4)], 4)
    assert fake.watched[-1] == (digest("a"), State.SEALED, 3)
    await until(lambda: fake.closed_streams == 2)


async def test_watch_tells_each_event_once() -> None:
    """The connection breaks in the middle of a round that takes two messages."""
    large = [make_event(2, seq) for seq in range(1_500)]
    first, second, third = (
        message
        for batch in (EventBatch([make_event(1)], 1), EventBatch(large, 2))
        for message in encode_events(batch)
    )
    asked: list[int] = []

    class Breaking(services_pb2_grpc.TransactionServiceServicer):
        async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
            asked.append(request.after_position)
            if len(asked) == 1:
                yield first
                yield second
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            yield second
            yield third

    server = grpc.aio.server()
    services_pb2_grpc.add_TransactionServiceServicer_to_server(Breaking(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with CityClient("kanazawa", ChannelFactory([f"127.0.0.1:{port}"])) as client:
        batches = [batch async for batch in client.watch(after=0)]
    await server.stop(0)
    assert asked == [0, 1]
    assert [batch.position for batch in batches] == [1, 1, 1, 2]
    assert [event for batch in batches for event in batch.events] == [make_event(1), *large]


async def test_watch_goes_on_after_a_restart(directory: FakeDirectory, fake: FakeCity) -> None:
    fake.tell(EventBatch([make_event(1)], 1), EventBatch([make_event(2)], 2))
    async with serving(directory, ServerOptions(listen=free_address())) as server:
        channels = ChannelFactory([server.address])
        async with (
            CityClient("kanazawa", channels) as client,
            aclosing(client.watch(after=0)) as batches,
        ):
            told = [await anext(batches) for _ in range(2)]
            await server._server.stop(0)
            fake.tell(EventBatch([make_event(3)], 3))
            async with CoreServer(directory, options=server._options):
                told.append(await asyncio.wait_for(anext(batches), 120))
    assert told == [EventBatch([make_event(number)], number) for number in (1, 2, 3)]
    assert fake.watched[-1] == (None, State.APPROVED, 2)


async def test_watch_goes_on_on_another_server(fake: FakeCity) -> None:
    fake.tell(EventBatch([make_event(1)], 1))
    async with (
        serving(FakeDirectory(kanazawa=fake)) as first,
        serving(FakeDirectory(kanazawa=fake)) as second,
    ):
        channels = ChannelFactory([second.address, first.address])
        async with (
            CityClient("kanazawa", channels) as client,
            aclosing(client.watch(after=0)) as batches,
        ):
            assert (await anext(batches)).position == 1
            await second.__aexit__()
            fake.tell(EventBatch([make_event(2)], 2))
            assert (await asyncio.wait_for(anext(batches), 120)).position == 2
            assert fake.watched[-1] == (None, State.APPROVED, 1)


# --- receipts


async def test_receipts_are_asked_until_all_have_come(city: CityClient, fake: FakeCity) -> None:
    tx_ids = [digest(number) for number in range(300)]
    for tx_id in tx_ids[1:]:
        fake.finished[tx_id] = make_receipt(tx_id, filler=30_000)
    receipts = await city.receipts(tx_ids)
    assert receipts == fake.finished
    assert list(receipts) == tx_ids[1:]
    assert set(fake.known_rounds) == {0}
    fake.known_rounds.clear()
    await city.receipts(tx_ids, known_round=5)
    assert set(fake.known_rounds) == {5}


# --- the graph


async def test_the_graph_is_read_by_node(city: CityClient, fake: FakeCity) -> None:
    first = make_node(1)
    children = [make_node(2, seq, [first.ref, first.parents[0]]) for seq in range(150)]
    fake.storage.add(first, *children)
    assert first.node_id is not None
    expected = LinkedNode(first, "sealed-rounds/1", 1_000, digest("poh"))
    assert await city.node(first.node_id) == expected
    assert children[3].node_id is not None
    assert await city.parents(children[3].node_id) == [expected]
    found = [child.node async for child in city.children(first.node_id)]
    assert found == children
    with pytest.raises(NotFound):
        await city.node(digest("unknown"))


# --- rounds and proofs


async def test_rounds_are_asked_until_the_limit(city: CityClient, fake: FakeCity) -> None:
    fake.storage.stored = [make_round(number, bytes(1 << 20)) for number in range(1, 8)]
    assert await city.rounds(2, 4) == fake.storage.stored[1:5]
    assert await city.rounds(6) == fake.storage.stored[5:]
    assert await city.rounds(8) == []


async def test_rounds_are_followed_across_a_restart(
    directory: FakeDirectory, fake: FakeCity
) -> None:
    fake.storage.stored = [make_round(number) for number in (1, 2)]
    async with serving(directory, ServerOptions(listen=free_address())) as server:
        channels = ChannelFactory([server.address])
        async with (
            CityClient("kanazawa", channels) as client,
            aclosing(client.follow_rounds()) as rounds,
        ):
            assert [(await anext(rounds)).round for _ in range(2)] == [1, 2]
            await server.__aexit__()
            fake.storage.stored += [make_round(3), make_round(4, certified=False)]
            async with CoreServer(directory, options=server._options):
                third = await asyncio.wait_for(anext(rounds), 120)
    assert third == make_round(3)


async def test_a_checkpoint_comes_without_a_record(city: CityClient, fake: FakeCity) -> None:
    fake.storage.stored = [make_round(1), make_round(2)]
    assert await city.checkpoint() == replace(make_round(2), record=b"")
    assert await city.checkpoint(1) == replace(make_round(1), record=b"")


async def test_proofs_are_those_of_the_handler(city: CityClient) -> None:
    proof = await city.inclusion_proof(3)
    assert proof == InclusionProof(digest("leaf"), 10, digest("root"), (digest("hash"),))
    roots = await city.consistency_proof(3, 5)
    assert roots == (digest("root", 3), digest("root", 5), (digest("hash"),))
