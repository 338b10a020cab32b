"""`TransactionService`: transactions in, their states and receipts out.

A submitted transaction is never opened here: the bytes that came are the bytes
that the handler gets, a batch at a time.

Methods that stream are coroutines that write, not generators: a generator is not
told of what happens to its call while it is suspended, so it could not tell the
server's end from a client's. The stubs know generators alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from citychain.errors import InvalidRequest, NotFound
from citychain.handler import CityHandler, EventBatch, Received, Refusal
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2, services_pb2_grpc
from citychain.rpc.directory import CityDirectory
from citychain.rpc.draining import Drain, closing
from citychain.rpc.messages import (
    RESPONSE_BYTES,
    encode_acknowledgement,
    encode_events,
    encode_receipt,
    encode_results,
    encode_transaction,
)
from citychain.rpc.status import refusal_error, refused
from citychain.types import State

__all__ = ["TransactionService"]

TRANSACTIONS_MAX: Final = 1_000
CHUNKS_MAX: Final = 4
"""Chunks of one stream at work: so many overlap in checking and storing."""
RECEIPTS_MAX: Final = 256
RECEIPTS_STEP: Final = 16
WATCHED_MAX: Final = 10_000

Answer = asyncio.Task[Sequence[Received | Refusal]]


class TransactionService(services_pb2_grpc.TransactionServiceServicer):
    """See `proto/citychain/v1/services.proto`."""

    def __init__(self, directory: CityDirectory, drain: Drain) -> None:
        self._directory = directory
        self._drain = drain

    async def Submit(
        self, request: services_pb2.SubmitRequest, context: Any
    ) -> services_pb2.SubmitResponse:
        name = requests.text(request.city, "city")
        if not request.HasField("transaction"):
            raise InvalidRequest("transaction", "must be given")
        handler = await self._directory.handler(name)
        [result] = await handler.submit([request.transaction.SerializeToString()])
        if isinstance(result, Refusal):
            raise refusal_error(result)
        return services_pb2.SubmitResponse(
            result=services_pb2.SubmitResult(
                tx_id=result.tx_id,
                state=ledger_pb2.State.ValueType(result.state),
                duplicate=result.duplicate,
            )
        )

    async def SubmitBatch(
        self, request: services_pb2.SubmitBatchRequest, context: Any
    ) -> services_pb2.SubmitBatchResponse:
        name = requests.text(request.city, "city")
        envelopes = _envelopes(request.transactions)
        handler = await self._directory.handler(name)
        response = services_pb2.SubmitBatchResponse()
        if request.acknowledge:
            results = await handler.submit(envelopes, acknowledge=True)
            encode_acknowledgement(response.acknowledgement, results)
        else:
            results = await handler.submit(envelopes)
        _answer(response, results)
        return response

    async def SubmitStream(  # type: ignore[override]
        self, chunks: AsyncIterator[services_pb2.SubmitStreamRequest], context: Any
    ) -> None:
        answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        room = asyncio.Semaphore(CHUNKS_MAX)
        reader = asyncio.create_task(self._read(chunks, answers, room))
        answer: Answer | None = None
        try:
            while (answer := await answers.get()) is not None:
                response = services_pb2.SubmitStreamResponse()
                _answer(response, await answer)
                await context.write(response)
                room.release()
            # What ended the reading comes after the answers to what was read before.
            await reader
        finally:
            left: list[asyncio.Task[Any]] = [reader, *([answer] if answer else [])]
            while not answers.empty():
                if (answer := answers.get_nowait()) is not None:
                    left.append(answer)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(
        self,
        chunks: AsyncIterator[services_pb2.SubmitStreamRequest],
        answers: asyncio.Queue[Answer | None],
        room: asyncio.Semaphore,
    ) -> None:
        """Start the work on each chunk, as many as there is room for; ``None`` ends them."""
        name = ""
        try:
            async with self._drain.stream():
                while True:
                    await room.acquire()
                    chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    name = requests.text(chunk.city or name, "city")
                    envelopes = _envelopes(chunk.transactions)
                    handler = await self._directory.handler(name)
                    answers.put_nowait(asyncio.create_task(_submit(handler, envelopes)))
        finally:
            answers.put_nowait(None)

    async def GetTransaction(
        self, request: services_pb2.GetTransactionRequest, context: Any
    ) -> services_pb2.GetTransactionResponse:
        name = requests.text(request.city, "city")
        tx_id = requests.id_bytes(request.tx_id, "tx_id")
        handler = await self._directory.handler(name)
        status = (await handler.status([tx_id])).get(tx_id)
        if status is None:
            raise NotFound("transaction", tx_id.hex())
        return services_pb2.GetTransactionResponse(
            transaction=encode_transaction(status, handler.genesis.rule)
        )

    async def GetReceipts(
        self, request: services_pb2.GetReceiptsRequest, context: Any
    ) -> services_pb2.GetReceiptsResponse:
        name = requests.text(request.city, "city")
        tx_ids = requests.ids(request.tx_ids, "tx_ids", RECEIPTS_MAX)
        known_round = request.known_round
        handler = await self._directory.handler(name)
        response = services_pb2.GetReceiptsResponse()
        size = 0
        for start in range(0, len(tx_ids), RECEIPTS_STEP):
            step = tx_ids[start : start + RECEIPTS_STEP]
            receipts = await handler.receipts(step, known_round)
            for tx_id in step:
                found = receipts.get(tx_id)
                message = encode_receipt(found) if found else ledger_pb2.Receipt()
                size += message.ByteSize()
                if size > RESPONSE_BYTES and response.receipts:
                    return response
                response.receipts.append(message)
        return response

    async def Watch(  # type: ignore[override]
        self, request: services_pb2.WatchRequest, context: Any
    ) -> None:
        name = requests.text(request.city, "city")
        subject, state, after = _subject(request)
        async with self._drain.stream():
            handler = await self._directory.handler(name)
            events: AsyncIterator[EventBatch]
            if isinstance(subject, list):
                events = handler.watch_transactions(subject, state)
            else:
                events = handler.watch(subject, state, after)
            async with closing(events):
                async for batch in events:
                    for response in encode_events(batch):
                        await context.write(response)


def _envelopes(transactions: Sequence[bytes]) -> list[bytes]:
    return list(requests.at_most(transactions, "transactions", TRANSACTIONS_MAX, "items"))


async def _submit(handler: CityHandler, envelopes: Sequence[bytes]) -> Sequence[Received | Refusal]:
    return await handler.submit(envelopes)


def _answer(
    response: services_pb2.SubmitBatchResponse | services_pb2.SubmitStreamResponse,
    results: Sequence[Received | Refusal],
) -> None:
    encode_results(
        response,
        [refused(result) if isinstance(result, Refusal) else result for result in results],
    )


def _subject(
    request: services_pb2.WatchRequest,
) -> tuple[list[bytes] | bytes | None, State, int | None]:
    """What to watch (ids, an author, or ``None`` for everything), from which state on, and
    the position to begin after."""
    kind = request.WhichOneof("subject")
    by_id = kind == "transactions"
    state = request.from_state or State.APPROVED
    allowed = (State.RECEIVED, State.SEALED, State.APPROVED)[0 if by_id else 1 :]
    if state not in allowed:
        names = ", ".join(state.name for state in allowed)
        raise InvalidRequest("from_state", f"must be one of {names} for {kind or 'this'}")
    after = request.after_position if request.HasField("after_position") else None
    if after is not None and (by_id or after >= 1 << 63):
        raise InvalidRequest("after_position", "is a round, and for author and everything alone")
    subject: list[bytes] | bytes | None = None
    if by_id:
        subject = requests.ids(request.transactions.tx_ids, "transactions.tx_ids", WATCHED_MAX)
    elif kind == "author":
        subject = requests.id_bytes(request.author, "author")
    elif not request.everything:
        raise InvalidRequest("subject", "must be given: transactions, author or everything")
    return subject, State(state), after
