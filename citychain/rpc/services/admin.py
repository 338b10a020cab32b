"""`AdminService`: what a city's operator asks of the server that has it open."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

from citychain.errors import ConfigurationError, InvalidRequest, NotSupported
from citychain.moving.moving import MoveResult, Phase
from citychain.moving.request import CHALLENGE_BYTES, MoveRequest, verify_move
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.directory import CityDirectory, CityMoves
from citychain.rpc.draining import Drain

__all__ = ["AdminService"]

STORAGE_CHARACTERS_MAX: Final = 80
TELL_SECONDS: Final = 0.25
"""Between messages of how far a move is."""
ANSWER_SECONDS: Final = 60.0
"""For the second message: nobody holds a call open for nothing."""

PHASES: Final[dict[Phase, services_pb2.MovePhase.ValueType]] = {
    "copying": services_pb2.MOVE_PHASE_COPYING,
    "comparing": services_pb2.MOVE_PHASE_COMPARING,
    "holding": services_pb2.MOVE_PHASE_HOLDING,
}


class AdminService(services_pb2_grpc.AdminServiceServicer):
    """See `proto/citychain/v1/services.proto`."""

    def __init__(self, directory: CityDirectory, drain: Drain, moves: CityMoves | None) -> None:
        self._directory = directory
        self._drain = drain
        self._moves = moves

    async def MoveCity(  # type: ignore[override]
        self, messages: AsyncIterator[services_pb2.MoveCityRequest], context: Any
    ) -> None:
        if self._moves is None:
            raise NotSupported("this server moves no cities")
        async with self._drain.stream():
            first = await self._next(messages)
            city = requests.text(first.city, "city")
            storage = requests.text(first.storage, "storage", STORAGE_CHARACTERS_MAX)
            request = MoveRequest(storage, first.forget, first.allow_volatile)
            genesis = (await self._directory.handler(city)).genesis
            challenge = secrets.token_bytes(CHALLENGE_BYTES)
            await context.write(services_pb2.MoveCityResponse(challenge=challenge))
            signature = (await self._next(messages)).signature
            await asyncio.to_thread(verify_move, genesis, challenge, request, signature)
            try:
                if request.forget:
                    await self._moves.forget(city, storage)
                    await context.write(_done())
                else:
                    await self._move(self._moves, city, request, context)
            except ConfigurationError as error:
                # The operator's to mend, and theirs to read.
                raise InvalidRequest("storage", str(error)) from None

    async def _next(
        self, messages: AsyncIterator[services_pb2.MoveCityRequest]
    ) -> services_pb2.MoveCityRequest:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                message = await anext(messages, None)
        except TimeoutError:
            message = None
        if message is None:
            raise InvalidRequest("request", "ended before its second message")
        return message

    async def _move(self, moves: CityMoves, city: str, request: MoveRequest, context: Any) -> None:
        latest: dict[Phase, services_pb2.MoveCityResponse] = {}
        changed = asyncio.Event()

        def told(phase: Phase, done: int, of: int) -> None:
            # Of each phase the newest: none is skipped, however short it is.
            latest[phase] = services_pb2.MoveCityResponse(phase=PHASES[phase], done=done, of=of)
            changed.set()

        async def tell_latest() -> None:
            while latest:
                await context.write(latest.pop(next(iter(latest))))

        async def tell() -> None:
            while True:
                await changed.wait()
                changed.clear()
                await tell_latest()
                await asyncio.sleep(TELL_SECONDS)

        telling = asyncio.create_task(tell())
        try:
            result = await moves.move(
                city, request.storage, volatile=request.allow_volatile, told=told
            )
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await tell_latest()
        await context.write(_done(result))


def _done(result: MoveResult | None = None) -> services_pb2.MoveCityResponse:
    message = services_pb2.MoveCityResponse(phase=services_pb2.MOVE_PHASE_DONE)
    if result is not None:
        message.done = message.of = result.rounds
        message.transactions = result.transactions
        message.copying_ms = round(1000 * result.copying_seconds)
        message.held_ms = round(1000 * result.held_seconds)
    return message
