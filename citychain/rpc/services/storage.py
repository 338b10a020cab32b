"""`StorageService`: fragments that others keep here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from hashlib import sha256
from typing import Any, Final

from citychain.errors import InvalidRequest
from citychain.fragments.owned import OWNER_ID_BYTES, OwnedFragments
from citychain.ports import FragmentKey
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import storage_pb2, storage_pb2_grpc
from citychain.rpc.messages.fragments import (
    JUDGEMENT_KEY,
    PART_BYTES_MAX,
    PRESENT,
    WANTED,
    decode_fragment_key,
    encode_fragment_key,
)

__all__ = ["StorageService"]

TOKEN_BYTES: Final = (16, 64)
"""Least and most of an owner's token."""
SIZE_MAX: Final = 1 << 53
PAGE: Final = 1_000
FETCH_BYTES: Final = 256 << 10
"""Of one message: little waits for who reads slowly."""
CHUNKS_MAX: Final = 64
"""Of one challenge."""
IDLE_SECONDS: Final = 300.0
"""Between two messages of who stores: nobody holds room for nothing."""


class StorageService(storage_pb2_grpc.StorageServiceServicer):
    """See `proto/citychain/v1/storage.proto`."""

    def __init__(self, fragments: OwnedFragments) -> None:
        self._fragments = fragments
        self._committing: set[asyncio.Future[None]] = set()
        """Of each call that stores and is at its last step: done once it has ended."""

    async def StoreFragment(
        self, messages: AsyncIterator[storage_pb2.StoreFragmentRequest], context: Any
    ) -> storage_pb2.StoreFragmentResponse:
        try:
            start = await _next(messages, "start")
        except _Ended:
            raise InvalidRequest("request", "ended before its start") from None
        key = _key(start.start.key, "start.key")
        size = start.start.size
        if size > SIZE_MAX:
            raise InvalidRequest("start.size", f"is {size}; at most {SIZE_MAX} is allowed")
        owner = _owner(start.start.owner, "start.owner")
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wanted = False

        async def parts() -> AsyncGenerator[bytes]:
            nonlocal wanted
            wanted = True
            await context.send_initial_metadata(((JUDGEMENT_KEY, WANTED),))
            left = size
            while (message := await _next(messages, "part", "commit")).WhichOneof("step") == "part":
                left -= len(message.part)
                if not message.part:  # It would hold the room for nothing.
                    raise InvalidRequest("part", "must not be empty")
                if len(message.part) > PART_BYTES_MAX:
                    raise InvalidRequest("part", f"has more than {PART_BYTES_MAX} bytes")
                if left < 0:
                    raise InvalidRequest("part", f"goes beyond the fragment's {size} bytes")
                yield message.part
            if left:
                raise InvalidRequest("commit", f"came {left} bytes too early")
            self._committing.add(ended)

        try:
            async with aclosing(parts()) as given:
                await self._fragments.put(owner, key, size, given)
        except _Ended:
            return storage_pb2.StoreFragmentResponse(stored=False)
        finally:
            self._committing.discard(ended)
            ended.set_result(None)
        if not wanted:
            await context.send_initial_metadata(((JUDGEMENT_KEY, PRESENT),))
        return storage_pb2.StoreFragmentResponse(stored=True)

    async def FetchFragment(  # type: ignore[override]
        self, request: storage_pb2.FetchFragmentRequest, context: Any
    ) -> None:
        key = _key(request.key, "key")
        owner = _owner_id(request.owner_id)
        if request.offset > SIZE_MAX or request.length > SIZE_MAX:
            raise InvalidRequest("offset", f"with length is beyond {SIZE_MAX}")
        at, length = request.offset, request.length
        async with aclosing(
            self._fragments.read(key, at, length, owner, most=FETCH_BYTES)
        ) as parts:
            async for part in parts:
                await context.write(storage_pb2.FetchFragmentResponse(part=part))

    async def HasFragment(
        self, request: storage_pb2.HasFragmentRequest, context: Any
    ) -> storage_pb2.HasFragmentResponse:
        key = _key(request.key, "key")
        size = await self._fragments.size(key, _owner_id(request.owner_id))
        return storage_pb2.HasFragmentResponse(found=size is not None, size=size or 0)

    async def FindFragments(
        self, request: storage_pb2.FindFragmentsRequest, context: Any
    ) -> storage_pb2.FindFragmentsResponse:
        object_id = requests.id_bytes(request.object_id, "object_id")
        after = _key(request.after, "after") if request.HasField("after") else None
        limit = requests.page_size(request.page_size, PAGE, PAGE)
        keys = await self._fragments.find(object_id, after, limit)
        return storage_pb2.FindFragmentsResponse(keys=map(encode_fragment_key, keys))

    async def ListFragments(
        self, request: storage_pb2.ListFragmentsRequest, context: Any
    ) -> storage_pb2.ListFragmentsResponse:
        after = _key(request.after, "after") if request.HasField("after") else None
        limit = requests.page_size(request.page_size, PAGE, PAGE)
        keys = await self._fragments.keys(after, limit)
        return storage_pb2.ListFragmentsResponse(keys=map(encode_fragment_key, keys))

    async def DeleteFragment(
        self, request: storage_pb2.DeleteFragmentRequest, context: Any
    ) -> storage_pb2.DeleteFragmentResponse:
        key, owner = _key(request.key, "key"), _owner(request.owner, "owner")
        deleted = await self._fragments.delete(owner, key)
        return storage_pb2.DeleteFragmentResponse(deleted=deleted)

    async def GetSpace(
        self, request: storage_pb2.GetSpaceRequest, context: Any
    ) -> storage_pb2.GetSpaceResponse:
        owner = _owner_id(request.owner_id)
        if self._committing:
            await asyncio.wait(self._committing)
        used, limit = await self._fragments.space(owner)
        return storage_pb2.GetSpaceResponse(used=used, limit=limit)

    async def Challenge(  # type: ignore[override]
        self, request: storage_pb2.ChallengeRequest, context: Any
    ) -> None:
        key, owner = _key(request.key, "key"), _owner_id(request.owner_id)
        if not request.chunks:
            raise InvalidRequest("chunks", "must not be empty")
        requests.at_most(request.chunks, "chunks", CHUNKS_MAX, "numbers")
        for chunk in request.chunks:
            proof = await self._fragments.prove(key, chunk, owner)
            await context.write(storage_pb2.ChallengeResponse(proof=proof.to_bytes()))


class _Ended(Exception):
    """Raised where a stream has no more messages."""


async def _next(
    messages: AsyncIterator[storage_pb2.StoreFragmentRequest], *steps: str
) -> storage_pb2.StoreFragmentRequest:
    """The next message, which must have one of these steps."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            message = await anext(messages, None)
    except TimeoutError:
        raise InvalidRequest("request", f"nothing came for {IDLE_SECONDS:.0f} s") from None
    if message is None:
        raise _Ended
    if message.WhichOneof("step") not in steps or (
        message.WhichOneof("step") == "commit" and not message.commit
    ):
        raise InvalidRequest("step", f"must be {' or '.join(steps)} here")
    return message


def _key(message: storage_pb2.FragmentKey, field: str) -> FragmentKey:
    return requests.decoded(decode_fragment_key, message, field)


def _owner(token: bytes, field: str) -> bytes:
    """The id of the owner that has this token."""
    least, most = TOKEN_BYTES
    if not least <= len(token) <= most:
        raise InvalidRequest(
            field, f"has {len(token)} bytes; an owner's token has {least} to {most}"
        )
    return sha256(token).digest()


def _owner_id(value: bytes) -> bytes | None:
    if value and len(value) != OWNER_ID_BYTES:
        raise InvalidRequest("owner_id", f"has {len(value)} bytes; an id has {OWNER_ID_BYTES}")
    return value or None
