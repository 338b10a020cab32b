"""Transactions on their way in, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from citychain.acknowledgement import PATH_MAX, Acknowledgement, Promise
from citychain.crypto.signatures import SIGNATURE_BYTES
from citychain.handler import Received, Refusal
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2
from citychain.rpc.messages.fields import (
    ID_BYTES,
    at_most,
    exact,
    optional,
    read_state,
    wire_state,
)

__all__ = [
    "Refused",
    "decode_acknowledgement",
    "decode_results",
    "encode_acknowledgement",
    "encode_results",
    "encode_submission",
]


class Refused(NamedTuple):
    """A submitted transaction that was not accepted: nothing of it is stored."""

    code: str
    """``BAD_SIGNATURE``, ``UNKNOWN_KEY``, ``EXPIRED``, ...: docs/errors.md."""
    field: str
    """Path of the field, such as ``body.writes[2].object``; may be empty."""
    detail: str
    retryable: bool
    retry_after: timedelta
    """For overload; else zero."""
    tx_id: bytes | None = None
    """``None`` where it could not be read."""


@lru_cache(4_096)
def _envelope_prefix(length: int) -> bytes:
    """Tag and length of ``bytes transactions = 2``."""
    prefix = bytearray(b"\x12")
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)


def encode_submission(city: str, envelopes: Iterable[bytes], *, acknowledge: bool = False) -> bytes:
    """A serialized ``SubmitBatchRequest`` (or, without ``acknowledge``, ``SubmitStreamRequest``).

    Written by hand because protobuf copies each envelope three times more.
    """
    request = services_pb2.SubmitBatchRequest(city=city, acknowledge=acknowledge)
    parts = [request.SerializeToString()]
    for envelope in envelopes:
        parts += (_envelope_prefix(len(envelope)), envelope)
    return b"".join(parts)


def encode_results(
    response: services_pb2.SubmitBatchResponse | services_pb2.SubmitStreamResponse,
    results: Iterable[Received | Refused],
) -> None:
    """Append results to a response."""
    add = response.results.add
    for result in results:
        if isinstance(result, Refused):
            _encode_refused(result, add(tx_id=result.tx_id or b"").refusal)
        elif (promise := result.promise) is not None:
            add(
                tx_id=result.tx_id,
                state=wire_state(result.state),
                duplicate=result.duplicate,
                leaf_index=promise.leaf_index,
                path=promise.path,
            )
        elif result.duplicate:
            add(tx_id=result.tx_id, state=wire_state(result.state), duplicate=True)
        else:
            add(tx_id=result.tx_id, state=wire_state(result.state))


def _encode_refused(refused: Refused, message: services_pb2.Refusal) -> None:
    message.code = refused.code
    message.field = refused.field
    message.detail = refused.detail
    message.retryable = refused.retryable
    message.retry_after_ms = refused.retry_after // timedelta(milliseconds=1)


def encode_acknowledgement(
    message: ledger_pb2.Acknowledgement, results: Sequence[Received | Refusal]
) -> None:
    """What was signed for the results of one request; nothing if none was accepted."""
    for result in results:
        if isinstance(result, Received) and result.promise is not None:
            signed = result.promise.acknowledgement
            message.root = signed.root
            message.size = signed.size
            message.received_ms = signed.received_ms
            message.final_by_ms = signed.final_by_ms
            message.signature = signed.signature
            return


def decode_acknowledgement(message: ledger_pb2.Acknowledgement, genesis: bytes) -> Acknowledgement:
    """What a city signed; whether it did is not checked."""
    return Acknowledgement(
        genesis=genesis,
        root=exact(message.root, ID_BYTES, "acknowledgement.root"),
        size=message.size,
        received_ms=message.received_ms,
        final_by_ms=message.final_by_ms,
        signature=exact(message.signature, SIGNATURE_BYTES, "acknowledgement.signature"),
    )


def decode_results(
    results: Iterable[services_pb2.SubmitResult], acknowledgement: Acknowledgement | None = None
) -> list[Received | Refused]:
    """What became of each submitted transaction; with an acknowledgement, and what it promises."""
    decoded: list[Received | Refused] = []
    for result in results:
        if result.state == ledger_pb2.STATE_UNSPECIFIED:
            decoded.append(_decode_refused(result))
        else:
            tx_id = exact(result.tx_id, ID_BYTES, "results.tx_id")
            promise = _decode_promise(acknowledgement, result) if acknowledgement else None
            decoded.append(Received(tx_id, read_state(result.state), result.duplicate, promise))
    return decoded


def _decode_promise(acknowledgement: Acknowledgement, result: services_pb2.SubmitResult) -> Promise:
    at_most(len(result.path), PATH_MAX, "results.path")
    path = tuple(exact(one, ID_BYTES, "results.path") for one in result.path)
    return Promise(acknowledgement, result.tx_id, result.leaf_index, path)


def _decode_refused(result: services_pb2.SubmitResult) -> Refused:
    refusal = result.refusal
    return Refused(
        refusal.code,
        refusal.field,
        refusal.detail,
        refusal.retryable,
        timedelta(milliseconds=refusal.retry_after_ms),
        optional(result.tx_id, ID_BYTES, "results.tx_id"),
    )
