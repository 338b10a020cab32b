"""Asks a server to move a city, in the name of its operator."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from citychain.client.channels import ChannelFactory
from citychain.client.errors import translated
from citychain.crypto.signatures import SigningKey
from citychain.errors import ServerUnavailable, VerificationError
from citychain.genesis import Genesis
from citychain.moving.moving import MoveResult, Phase, Told
from citychain.moving.request import CHALLENGE_BYTES, MoveRequest, sign_move
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc

__all__ = ["request_move"]

PHASES: Final[dict[int, Phase]] = {
    services_pb2.MOVE_PHASE_COPYING: "copying",
    services_pb2.MOVE_PHASE_COMPARING: "comparing",
    services_pb2.MOVE_PHASE_HOLDING: "holding",
}


async def request_move(
    channels: ChannelFactory,
    city: str,
    genesis: Genesis,
    operator: SigningKey,
    request: MoveRequest,
    told: Told = lambda phase, done, of: None,
) -> MoveResult:
    """Have the server that answers move a city, or remove it from a storage that it left.

    Whatever ends this early ends the move, unless it is decided by then. A repetition goes on
    from what was copied.

    Args:
        genesis: Of the city; the server's challenge is signed for it.

    Raises:
        InvalidRequest: the storage is none for it, or the key is not the operator's.
        MoveFailed: the message says why; the city lives where it lived.
        ServerUnavailable: no server answers, or it ended; whether the city moved is unknown.
    """
    async with channels.channel() as channel:
        call: Any = services_pb2_grpc.AdminServiceStub(channel).MoveCity()
        try:
            await call.write(
                services_pb2.MoveCityRequest(
                    city=city,
                    storage=request.storage,
                    forget=request.forget,
                    allow_volatile=request.allow_volatile,
                )
            )
            challenge = (await _read(call)).challenge
            if len(challenge) != CHALLENGE_BYTES:
                raise VerificationError("challenge: is none")
            signature = await asyncio.to_thread(sign_move, operator, genesis.id, challenge, request)
            await call.write(services_pb2.MoveCityRequest(signature=signature))
            await call.done_writing()
            while (message := await _read(call)).phase != services_pb2.MOVE_PHASE_DONE:
                if (phase := PHASES.get(message.phase)) is not None:
                    told(phase, message.done, message.of)
            return MoveResult(
                message.done,
                message.transactions,
                message.copying_ms / 1000,
                message.held_ms / 1000,
            )
        except grpc.aio.AioRpcError as error:
            raise translated(error)[0] from error
        finally:
            call.cancel()


async def _read(call: Any) -> services_pb2.MoveCityResponse:
    message = await call.read()
    if message is grpc.aio.EOF:
        await call.code()
        raise ServerUnavailable("the server ended the call")
    answer: services_pb2.MoveCityResponse = message
    return answer
