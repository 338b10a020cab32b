"""Submitting transactions: in chunks, a few at a time, until each has its answer.

Repeating is safe, since a transaction's id is the hash of its signed body: one
that had arrived is answered as a duplicate. So a broken stream is opened again
and goes on with the first chunk that has no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias

import grpc

from citychain import acknowledgement
from citychain.client._ended import result_of
from citychain.client.retries import Retries
from citychain.client.transactions import SignedTransaction, identity
from citychain.errors import InvalidAcknowledgement, InvalidRequest, ServerError
from citychain.genesis import Genesis
from citychain.handler import Received
from citychain.rpc._generated.citychain.v1 import services_pb2
from citychain.rpc.messages import (
    Refused,
    decode_acknowledgement,
    decode_results,
    encode_submission,
)

__all__ = ["Submission"]

CHUNK_TRANSACTIONS: Final = 250
CHUNK_BYTES: Final = 900_000
"""Below the smallest message that a server can be told to accept."""
CHUNKS_MAX: Final = 4
"""Chunks without an answer; a server works on as many at a time."""

Item: TypeAlias = SignedTransaction | bytes
Result: TypeAlias = Received | Refused


class Submission:
    """Submits transactions to one city over one channel."""

    def __init__(self, channel: grpc.aio.Channel, city: str) -> None:
        self._city = city
        # Requests are bytes already: see `encode_submission`.
        service = "/citychain.v1.TransactionService"
        self._batch: Any = channel.unary_unary(
            f"{service}/SubmitBatch",
            response_deserializer=services_pb2.SubmitBatchResponse.FromString,
        )
        self._stream: Any = channel.stream_stream(
            f"{service}/SubmitStream",
            response_deserializer=services_pb2.SubmitStreamResponse.FromString,
        )

    async def submit(
        self, items: Sequence[Item], timeout: timedelta, signed_by: Genesis | None = None
    ) -> list[Result]:
        """See `CityClient.submit`.

        Args:
            signed_by: Of the city whose operator must sign for what is received.
        """
        envelopes = [item if isinstance(item, bytes) else item.envelope for item in items]
        results = await self._send(envelopes, timeout, signed_by)
        by_value: set[int] = set()
        quota = Retries(timeout)
        while again := _again(items, results, by_value):
            least = max(result.retry_after for result in again.values())
            if least and not await quota.wait(least):
                break
            for index, result in again.items():
                item = items[index]
                if result.code == "UNKNOWN_KEY" and isinstance(item, SignedTransaction):
                    by_value.add(index)
                    envelopes[index] = item.with_public_key()
            answers = await self._send([envelopes[index] for index in again], timeout, signed_by)
            for index, answer in zip(again, answers, strict=True):
                results[index] = answer
            if any(isinstance(answer, Received) for answer in answers):
                quota.progress()
        return results

    async def _send(
        self, envelopes: Sequence[bytes], timeout: timedelta, signed_by: Genesis | None
    ) -> list[Result]:
        retries = Retries(timeout)
        chunks = list(_chunks(envelopes))
        answered: list[list[Result]] = []
        while len(answered) < len(chunks):
            try:
                if signed_by is not None:
                    await self._send_acknowledged(chunks, answered, retries, signed_by)
                elif len(chunks) > 1:
                    await self._send_stream(chunks, answered, retries)
                else:
                    await self._send_batch(chunks, answered, retries)
            except grpc.aio.AioRpcError as error:
                await retries.pause(error)
        return [result for results in answered for result in results]

    async def _send_batch(
        self, chunks: list[list[bytes]], answered: list[list[Result]], retries: Retries
    ) -> None:
        [chunk] = chunks
        request = encode_submission(self._city, chunk)
        response = await self._batch(request, timeout=retries.remaining)
        answered.append(_checked(response.results, chunk))

    async def _send_acknowledged(
        self,
        chunks: list[list[bytes]],
        answered: list[list[Result]],
        retries: Retries,
        signed_by: Genesis,
    ) -> None:
        """Send the chunks that have no answer yet one after the other: each is signed for."""
        for chunk in chunks[len(answered) :]:
            request = encode_submission(self._city, chunk, acknowledge=True)
            response = await self._batch(request, timeout=retries.remaining)
            answered.append(await asyncio.to_thread(_signed, response, chunk, signed_by))
            retries.progress()

    async def _send_stream(
        self, chunks: list[list[bytes]], answered: list[list[Result]], retries: Retries
    ) -> None:
        """Send the chunks that have no answer yet over one stream."""
        stream = _Stream(self._stream())
        sent = len(answered)
        try:
            while len(answered) < len(chunks):
                async with asyncio.timeout(retries.remaining):
                    while sent < min(len(chunks), len(answered) + CHUNKS_MAX):
                        await stream.write(encode_submission(self._city, chunks[sent]))
                        sent += 1
                    response = await stream.read()
                if response is grpc.aio.EOF:
                    raise ServerError("the server ended the stream without an answer", "")
                answered.append(_checked(response.results, chunks[len(answered)]))
                retries.progress()
            await stream.done_writing()
        finally:
            stream.cancel()


class _Stream:
    """A stream that keeps the status with which the server ended it.

    grpc.aio calls a write to a stream that has ended INTERNAL, and puts that in the place of
    the server's own status, which may say how long to wait.
    """

    def __init__(self, call: Any) -> None:
        self._status: grpc.aio.AioRpcError | None = None
        self._call = call
        self.read = call.read
        self.done_writing = call.done_writing
        self.cancel = call.cancel
        call.add_done_callback(self._ended)

    def _ended(self, call: Any) -> None:
        """Called with each status; the first is the server's."""
        if self._status is None:
            coroutines = (call.code(), call.details(), call.trailing_metadata())
            code, details, metadata = map(result_of, coroutines)
            self._status = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details)

    async def write(self, request: bytes) -> None:
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise self._status or error from None


def _checked(results: Sequence[services_pb2.SubmitResult], chunk: list[bytes]) -> list[Result]:
    _check_count(results, chunk)
    return decode_results(results)


def _check_count(results: Sequence[services_pb2.SubmitResult], chunk: list[bytes]) -> None:
    if len(results) != len(chunk):
        raise ServerError(f"{len(results)} results for {len(chunk)} transactions", "")


def _signed(
    response: services_pb2.SubmitBatchResponse, chunk: list[bytes], genesis: Genesis
) -> list[Result]:
    """Results with promises that are found valid, for these transactions of this city.

    The genesis is what the server says; that each transaction was signed for it makes it
    the one that the caller means.

    Raises:
        InvalidAcknowledgement: naming the first check that does not hold.
    """
    _check_count(response.results, chunk)
    if not any(result.state for result in response.results):
        return decode_results(response.results)
    if not response.HasField("acknowledgement"):
        raise InvalidAcknowledgement("signature", "the server did not sign")
    results = decode_results(
        response.results, decode_acknowledgement(response.acknowledgement, genesis.id)
    )
    promises = []
    for result, envelope in zip(results, chunk, strict=True):
        if isinstance(result, Refused) or result.promise is None:
            continue
        try:
            tx_id, signed_for = identity(envelope)
        except InvalidRequest as error:
            raise InvalidAcknowledgement("tx_id", str(error)) from None
        if result.tx_id != tx_id:
            raise InvalidAcknowledgement("tx_id", "for another transaction than was sent")
        if signed_for != genesis.id:
            raise InvalidAcknowledgement("genesis", "the transaction was signed for another city")
        promises.append(result.promise)
    acknowledgement.verify(genesis, *promises)
    return results


def _chunks(envelopes: Sequence[bytes]) -> Iterator[list[bytes]]:
    """In order, each within the bounds of a chunk, or a single larger envelope."""
    chunk: list[bytes] = []
    size = 0
    for envelope in envelopes:
        size += len(envelope)
        if chunk and (size > CHUNK_BYTES or len(chunk) == CHUNK_TRANSACTIONS):
            yield chunk
            chunk, size = [], len(envelope)
        chunk.append(envelope)
    if chunk:
        yield chunk


def _again(
    items: Sequence[Item], results: Sequence[Result], by_value: set[int]
) -> dict[int, Refused]:
    """By index, refusals that another attempt may mend: of an overload, or of a key that is
    not known and can be sent by value."""
    return {
        index: result
        for index, result in enumerate(results)
        if isinstance(result, Refused)
        and (
            result.retry_after
            or (
                result.code == "UNKNOWN_KEY"
                and isinstance(items[index], SignedTransaction)
                and index not in by_value
            )
        )
    }
