"""Every call of the wire against the real server, with fake cities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from rpc.fakes import (
    GENESIS,
    FakeCity,
    FakeDirectory,
    channel_to,
    digest,
    make_event,
    make_node,
    make_receipt,
    make_record,
    make_refusal,
    make_round,
    serving,
    until,
)

from citychain.errors import NotFound
from citychain.handler import EventBatch, Received, TransactionStatus
from citychain.rpc._generated.citychain.v1 import (
    ledger_pb2,
    services_pb2,
    services_pb2_grpc,
    transaction_pb2,
)
from citychain.rpc.messages import RESPONSE_BYTES, decode_receipt
from citychain.types import ObjectState, Rejection, SealedNode, State

pb = services_pb2


# --- cities


async def test_cities_come_in_pages_in_order_of_slug(cities: Any) -> None:
    first = await cities.ListCities(pb.ListCitiesRequest(page_size=2))
    assert [city.slug for city in first.cities] == ["kaga", "kanazawa"]
    assert first.cities[1].titles["ja"] == "金沢市"
    assert first.cities[1].parts.dag == "sealed-rounds"
    assert first.cities[1].state == pb.CITY_STATE_REGISTERED
    token = first.next_page_token
    second = await cities.ListCities(pb.ListCitiesRequest(page_size=2, page_token=token))
    assert [city.slug for city in second.cities] == ["wajima"]
    assert second.next_page_token == ""


async def test_a_query_narrows_the_list(cities: Any) -> None:
    found = await cities.ListCities(pb.ListCitiesRequest(query="wa"))
    assert [city.slug for city in found.cities] == ["wajima"]


async def test_a_city_is_found_by_a_name_in_any_script(cities: Any, city: FakeCity) -> None:
    city.storage.stored = [make_round(1), make_round(2, certified=False)]
    found = await cities.GetCity(pb.GetCityRequest(city="金沢"))
    assert found.city.slug == "kanazawa"
    assert found.city.state == pb.CITY_STATE_OPEN
    assert (found.genesis, found.genesis_file) == (GENESIS.id, GENESIS.file)
    assert (found.rule, found.consensus) == ("sealed-rounds/1", "solo/1")
    assert (found.head.sealed_round, found.head.approved_round, found.head.size) == (2, 1, 2)
    assert found.head.checkpoint_hash == digest("checkpoint", 2)
    assert found.pending == 7


async def test_objects_come_in_the_order_asked(cities: Any, city: FakeCity) -> None:
    city.storage.states["b"] = ObjectState(3, b"value")
    found = await cities.GetObjects(pb.GetObjectsRequest(city="kanazawa", objects=["a", "b"]))
    assert [(item.object, item.version, item.value) for item in found.objects] == [
        ("a", 0, b""),
        ("b", 3, b"value"),
    ]


# --- submitting


def envelope(content: bytes = b"body") -> transaction_pb2.SignedTransaction:
    return transaction_pb2.SignedTransaction(body=content, scheme=1, key_id=b"k", signature=b"s")


async def test_submit_hands_over_the_bytes_and_returns_the_result(
    transactions: Any, city: FakeCity
) -> None:
    seen: list[bytes] = []

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        seen.extend(envelopes)
        return [Received(digest(1), State.SEALED, True)]

    city.submit = submit
    request = pb.SubmitRequest(city="kanazawa", transaction=envelope())
    result = (await transactions.Submit(request)).result
    assert seen == [envelope().SerializeToString()]
    assert (result.tx_id, result.state, result.duplicate) == (
        digest(1),
        ledger_pb2.STATE_SEALED,
        True,
    )


async def test_a_batch_has_a_result_an_item_in_order(transactions: Any, city: FakeCity) -> None:
    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        return [
            make_refusal("UNKNOWN_KEY", "key_id", "is not known")
            if item == b"bad"
            else make_refusal("AUTHOR_QUOTA")
            if item == b"many"
            else Received(digest(item), State.RECEIVED, item == b"again")
            for item in envelopes
        ]

    city.submit = submit
    request = pb.SubmitBatchRequest(
        city="kanazawa", transactions=[b"good", b"bad", b"again", b"many"]
    )
    good, bad, again, many = (await transactions.SubmitBatch(request)).results
    assert (good.tx_id, good.state, good.duplicate) == (digest(b"good"), 1, False)
    assert not good.HasField("refusal")
    assert (again.tx_id, again.duplicate) == (digest(b"again"), True)
    assert (bad.tx_id, bad.state) == (b"", 0)
    assert bad.refusal == pb.Refusal(
        code="UNKNOWN_KEY", field="key_id", detail="is not known", retryable=True
    )
    assert (many.refusal.retryable, many.refusal.retry_after_ms) == (True, 1_000)


async def test_the_empty_batch_has_no_results(transactions: Any) -> None:
    response = await transactions.SubmitBatch(pb.SubmitBatchRequest(city="kanazawa"))
    assert list(response.results) == []


async def chunks(*sent: tuple[str, list[bytes]]) -> AsyncIterator[pb.SubmitStreamRequest]:
    for name, items in sent:
        yield pb.SubmitStreamRequest(city=name, transactions=items)


async def test_a_stream_answers_in_order_while_its_chunks_overlap(
    transactions: Any, city: FakeCity
) -> None:
    gates = {item: asyncio.Event() for item in (b"1", b"2", b"3")}
    started: list[bytes] = []

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        started.append(envelopes[0])
        await gates[envelopes[0]].wait()
        return [Received(digest(envelopes[0]), State.RECEIVED, False)]

    city.submit = submit
    call = transactions.SubmitStream(chunks(("kanazawa", [b"1"]), ("", [b"2"]), ("", [b"3"])))
    await until(lambda: len(started) == 3)
    for item in (b"3", b"2", b"1"):
        gates[item].set()
    answers = [response.results[0].tx_id async for response in call]
    assert answers == [digest(b"1"), digest(b"2"), digest(b"3")]


async def test_a_stream_answers_a_chunk_before_the_next_one_comes(transactions: Any) -> None:
    call = transactions.SubmitStream()
    for item in (b"1", b"2"):
        await call.write(pb.SubmitStreamRequest(city="kanazawa", transactions=[item]))
        assert (await call.read()).results[0].tx_id == digest(item)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def test_a_stream_works_on_at_most_four_chunks(transactions: Any, city: FakeCity) -> None:
    gate = asyncio.Event()
    working = most = 0

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await gate.wait()
        working -= 1
        return []

    city.submit = submit
    call = transactions.SubmitStream(chunks(*[("kanazawa", [b"x"])] * 20))
    await until(lambda: working == 4)
    await asyncio.sleep(0.05)
    gate.set()
    assert len([response async for response in call]) == 20
    assert most == 4


async def test_an_error_ends_a_stream_after_the_answers_before_it(
    transactions: Any, city: FakeCity
) -> None:
    cancelled: list[bytes] = []
    third = asyncio.Event()

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        if envelopes[0] == b"2":
            raise NotFound("thing", "2")
        if envelopes[0] == b"3":
            third.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(b"3")
                raise
        await asyncio.wait_for(third.wait(), 60)
        return [Received(digest(envelopes[0]), State.RECEIVED, False)]

    city.submit = submit
    sent = [("kanazawa", [item]) for item in (b"1", b"2", b"3")]
    call = transactions.SubmitStream(chunks(*sent))
    assert (await call.read()).results[0].tx_id == digest(b"1")
    with pytest.raises(grpc.aio.AioRpcError, match="no thing '2'"):
        await call.read()
    assert cancelled == [b"3"]


async def test_a_bad_chunk_ends_a_stream_after_the_answers_before_it(transactions: Any) -> None:
    sent = [("kanazawa", [b"1"]), ("nowhere", [b"2"])]
    call = transactions.SubmitStream(chunks(*sent))
    assert (await call.read()).results[0].tx_id == digest(b"1")
    with pytest.raises(grpc.aio.AioRpcError, match="no city 'nowhere'"):
        await call.read()


async def test_a_client_that_leaves_stops_the_work_on_its_stream(
    transactions: Any, city: FakeCity
) -> None:
    left = asyncio.Event()
    started = asyncio.Event()

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return []

    city.submit = submit
    call = transactions.SubmitStream(chunks(("kanazawa", [b"1"])))
    await asyncio.wait_for(started.wait(), 120)
    call.cancel()
    await asyncio.wait_for(left.wait(), 120)


# --- reading transactions


async def test_a_linked_transaction_comes_with_its_node(transactions: Any, city: FakeCity) -> None:
    node = make_node(4, 2)
    stored = envelope().SerializeToString()
    city.statuses[node.tx_id] = TransactionStatus(
        node.tx_id, State.APPROVED, stored, node, 4_000, digest("poh")
    )
    request = pb.GetTransactionRequest(city="kanazawa", tx_id=node.tx_id)
    found = (await transactions.GetTransaction(request)).transaction
    assert found.state == ledger_pb2.STATE_APPROVED
    assert found.transaction == envelope()
    assert (found.round, found.seq, found.author) == (4, 2, node.author)
    assert found.node.node_id == node.node_id
    assert found.node.rule == "sealed-rounds/1"
    assert (found.node.time_ms, found.node.poh) == (4_000, digest("poh"))
    assert found.node.parents[0].node_id == GENESIS.id
    assert not found.HasField("rejection")


async def test_a_rejected_transaction_comes_with_its_rejection(
    transactions: Any, city: FakeCity
) -> None:
    rejection = Rejection("CONFLICT", "another was first")
    node = SealedNode(digest("tx"), digest("author"), 4, 2, None, (), rejection)
    city.statuses[node.tx_id] = TransactionStatus(
        node.tx_id, State.REJECTED, None, node, 4_000, digest("poh")
    )
    request = pb.GetTransactionRequest(city="kanazawa", tx_id=node.tx_id)
    found = (await transactions.GetTransaction(request)).transaction
    assert (found.rejection.code, found.rejection.reason) == rejection
    assert not found.HasField("node")
    assert not found.HasField("transaction")


async def test_receipts_come_in_order_and_are_empty_where_there_is_none(
    transactions: Any, city: FakeCity
) -> None:
    receipt = make_receipt(digest(2))
    city.finished[receipt.tx_id] = receipt
    request = pb.GetReceiptsRequest(city="kanazawa", tx_ids=[digest(1), digest(2)])
    nothing, something = (await transactions.GetReceipts(request)).receipts
    assert nothing == ledger_pb2.Receipt()
    assert decode_receipt(something) == receipt
    request.known_round = 7
    await transactions.GetReceipts(request)
    assert city.known_rounds == [0, 7]


async def test_as_many_receipts_come_as_fit_in_a_response(
    transactions: Any, city: FakeCity
) -> None:
    tx_ids = [digest(index) for index in range(100)]
    for tx_id in tx_ids:
        city.finished[tx_id] = make_receipt(tx_id, filler=100_000)
    request = pb.GetReceiptsRequest(city="kanazawa", tx_ids=tx_ids)
    response = await transactions.GetReceipts(request)
    assert [receipt.tx_id for receipt in response.receipts] == tx_ids[: len(response.receipts)]
    assert 1 < len(response.receipts) < 100
    assert response.ByteSize() < RESPONSE_BYTES + 1_000
    city.finished[tx_ids[0]] = make_receipt(tx_ids[0], filler=RESPONSE_BYTES)
    assert len((await transactions.GetReceipts(request)).receipts) == 1


# --- watching


async def test_watching_ids_ends_with_the_handlers_events(
    transactions: Any, city: FakeCity
) -> None:
    events = [make_event(1), make_event(1, 1, State.REJECTED)]
    city.tell(EventBatch(events, 1))
    request = pb.WatchRequest(city="kanazawa", transactions=pb.TxIds(tx_ids=[digest(1)]))
    [response] = [response async for response in transactions.Watch(request)]
    assert [(event.tx_id, event.state, event.code) for event in response.events] == [
        (events[0].tx_id, State.APPROVED, ""),
        (events[1].tx_id, State.REJECTED, "CONFLICT"),
    ]
    assert city.watched == [([digest(1)], State.APPROVED)]


async def test_watching_an_author_begins_after_a_position(
    transactions: Any, city: FakeCity
) -> None:
    city.tell(*(EventBatch([make_event(round)], round) for round in (1, 2, 3)))
    request = pb.WatchRequest(
        city="kanazawa", author=digest("author"), from_state=2, after_position=1
    )
    call = transactions.Watch(request)
    assert [(await call.read()).position for _ in range(2)] == [2, 3]
    assert city.watched == [(digest("author"), State.SEALED, 1)]
    call.cancel()
    await until(lambda: city.closed_streams == 1)


@pytest.mark.parametrize("after", [None, 0])
async def test_an_unset_position_differs_from_the_beginning(
    transactions: Any, city: FakeCity, after: int | None
) -> None:
    request = pb.WatchRequest(city="kanazawa", everything=True, after_position=after)
    call = transactions.Watch(request)
    await until(lambda: bool(city.watched))
    assert city.watched == [(None, State.APPROVED, after)]
    call.cancel()


async def test_a_large_round_is_told_in_messages_of_a_thousand(
    transactions: Any, city: FakeCity
) -> None:
    events = [make_event(6, seq) for seq in range(500)] + [
        make_event(7, seq) for seq in range(1999)
    ]
    city.tell(EventBatch(events, 7), EventBatch([], 8))
    call = transactions.Watch(pb.WatchRequest(city="kanazawa", everything=True))
    responses = [await call.read() for _ in range(4)]
    assert [len(response.events) for response in responses] == [1000, 1000, 499, 0]
    # Who resumes after the first two messages must be told round 7 again.
    assert [response.position for response in responses] == [6, 6, 7, 8]
    call.cancel()


async def test_a_client_that_reads_nothing_and_leaves_is_let_go(
    transactions: Any, city: FakeCity
) -> None:
    """The server waits in a write then, so nothing ends the handler's events but closing them."""
    told = 0
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[EventBatch]:
        nonlocal told
        try:
            while True:
                told += 1
                yield EventBatch([make_event(told, seq) for seq in range(1_000)], told)
        finally:
            closed.set()

    events = endless()  # Held, so that it is not closed by being collected.
    city.watch = lambda author, from_state, after: events
    call = transactions.Watch(pb.WatchRequest(city="kanazawa", everything=True))
    await until(lambda: told > 0)
    before = -1
    while told != before:
        before = told
        await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.wait_for(closed.wait(), 120)


# --- graph


@pytest.fixture
def family(city: FakeCity) -> list[SealedNode]:
    """A first node, and three that have it as a parent."""
    first = make_node(1)
    genesis = first.parents[0]
    children = [make_node(2, seq, [first.ref, genesis]) for seq in range(3)]
    city.storage.add(first, *children)
    return [first, *children]


async def test_a_node_comes_with_what_its_round_says(dag: Any, family: list[SealedNode]) -> None:
    node = family[1]
    found = (await dag.GetNode(pb.GetNodeRequest(city="kanazawa", node_id=node.node_id))).node
    assert (found.tx_id, found.author, found.seq) == (node.tx_id, node.author, 0)
    assert (found.rule, found.time_ms, found.poh) == ("sealed-rounds/1", 2_000, digest("poh"))


async def test_parents_leave_the_genesis_out(dag: Any, family: list[SealedNode]) -> None:
    request = pb.ListParentsRequest(city="kanazawa", node_id=family[2].node_id)
    parents = (await dag.ListParents(request)).parents
    assert [parent.node_id for parent in parents] == [family[0].node_id]


async def test_children_come_in_pages(dag: Any, family: list[SealedNode]) -> None:
    request = pb.ListChildrenRequest(city="kanazawa", node_id=family[0].node_id, page_size=2)
    first = await dag.ListChildren(request)
    assert [child.seq for child in first.children] == [0, 1]
    request.page_token = first.next_page_token
    second = await dag.ListChildren(request)
    assert [child.seq for child in second.children] == [2]
    assert second.next_page_token == ""


async def test_the_genesis_has_children(dag: Any, family: list[SealedNode]) -> None:
    request = pb.ListChildrenRequest(city="kanazawa", node_id=GENESIS.id)
    assert len((await dag.ListChildren(request)).children) == 4


async def test_nodes_of_a_round_come_by_seq(
    dag: Any, city: FakeCity, family: list[SealedNode]
) -> None:
    rejected = (digest("rejected"), Rejection("CONFLICT", "it was taken"))
    sealed = [rejected, *((node.tx_id, None) for node in family[1:])]
    city.storage.stored = [make_round(1), make_round(2, make_record(2, sealed))]
    city.storage.sealed.clear()
    city.storage.add(*(replace(node, seq=node.seq + 1) for node in family[1:]))
    request = pb.ListNodesRequest(city="kanazawa", round=2, from_seq=2, page_size=1)
    [node] = (await dag.ListNodes(request)).nodes
    assert (node.node_id, node.seq, node.time_ms) == (family[2].node_id, 2, 2_000)
    assert [parent.round for parent in node.parents] == [1, 0]
    # The others of the round were not read.
    assert city.storage.wanted == [[family[2].tx_id]]
    request.from_seq, request.page_size = 0, 3
    assert [node.seq for node in (await dag.ListNodes(request)).nodes] == [1, 2, 3]
    request.from_seq = 4
    assert not (await dag.ListNodes(request)).nodes


async def test_nodes_that_are_not_visible_yet_are_to_be_asked_for_again(
    dag: Any, city: FakeCity
) -> None:
    city.storage.stored = [make_round(1, make_record(1, [(digest("on its way"), None)]))]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await dag.ListNodes(pb.ListNodesRequest(city="kanazawa", round=1))
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


# --- rounds and proofs


async def test_rounds_come_from_a_number_on(dag: Any, city: FakeCity) -> None:
    city.storage.stored = [make_round(number) for number in range(1, 31)]
    request = pb.ListRoundsRequest(city="kanazawa", from_round=3)
    rounds = (await dag.ListRounds(request)).rounds
    assert [item.round for item in rounds] == list(range(3, 13))
    assert rounds[0].record == b"record"
    assert rounds[0].peaks == digest("peak", 3)
    assert rounds[0].certificate.votes[0].key_id == digest("key")
    request = pb.ListRoundsRequest(city="kanazawa", from_round=25, page_size=100)
    assert len((await dag.ListRounds(request)).rounds) == 6


async def test_as_many_rounds_come_as_fit_in_a_response(dag: Any, city: FakeCity) -> None:
    record = bytes(8 << 20)
    city.storage.stored = [make_round(number, record[:-1]) for number in range(1, 4)]
    rounds = (await dag.ListRounds(pb.ListRoundsRequest(city="kanazawa", from_round=1))).rounds
    assert [item.round for item in rounds] == [1]


async def test_rounds_are_streamed_as_they_are_approved(dag: Any, city: FakeCity) -> None:
    city.storage.stored = [make_round(1), make_round(2, certified=False)]
    sealed = dag.StreamRounds(pb.StreamRoundsRequest(city="kanazawa", from_round=1, sealed=True))
    assert [(await sealed.read()).round.round for _ in range(2)] == [1, 2]
    sealed.cancel()
    await until(lambda: city.closed_streams == 1)
    approved = dag.StreamRounds(pb.StreamRoundsRequest(city="kanazawa", from_round=1))
    assert (await approved.read()).round.round == 1
    city.storage.stored[1] = make_round(2)
    city.more.set()
    second = (await approved.read()).round
    assert second.round == 2
    assert second.HasField("certificate")
    approved.cancel()


async def test_a_checkpoint_comes_without_its_record(dag: Any, city: FakeCity) -> None:
    city.storage.stored = [make_round(1), make_round(2), make_round(3, certified=False)]
    latest = (await dag.GetCheckpoint(pb.GetCheckpointRequest(city="kanazawa"))).round
    assert (latest.round, latest.record) == (2, b"")
    assert latest.checkpoint == b"checkpoint 2"
    sealed = (await dag.GetCheckpoint(pb.GetCheckpointRequest(city="kanazawa", round=3))).round
    assert not sealed.HasField("certificate")


async def test_proofs_are_those_of_the_handler(dag: Any) -> None:
    request = pb.GetInclusionProofRequest(city="kanazawa", leaf_index=3)
    inclusion = await dag.GetInclusionProof(request)
    assert (inclusion.leaf_hash, inclusion.size) == (digest("leaf"), 10)
    assert (inclusion.root, list(inclusion.proof)) == (digest("root"), [digest("hash")])
    consistency = await dag.GetConsistencyProof(
        pb.GetConsistencyProofRequest(city="kanazawa", first_size=3, second_size=5)
    )
    assert consistency.first_root == digest("root", 3)
    assert consistency.second_root == digest("root", 5)
    assert list(consistency.proof) == [digest("hash")]


# --- plugins


async def test_plugins_are_told_with_their_state(directory: FakeDirectory) -> None:
    record = SimpleNamespace(
        name="kanazawa",
        distribution="citychain-kanazawa",
        version="1.0",
        hooks=("citychain_cities",),
        status="failed",
        reason="it does not import",
    )
    async with serving(directory, plugins=[record]) as server, channel_to(server) as channel:
        stub: Any = services_pb2_grpc.PluginServiceStub(channel)
        [plugin] = (await stub.ListPlugins(pb.ListPluginsRequest())).plugins
    assert plugin == pb.Plugin(
        name="kanazawa",
        distribution="citychain-kanazawa",
        version="1.0",
        hooks=["citychain_cities"],
        status="failed",
        reason="it does not import",
    )
