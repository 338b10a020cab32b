"""The fragment store behind a storage server: ``kind = "remote"``.

A call that the server does not answer in time is `StoreUnavailable`, as is a server that cannot be
reached. Whoever cancels a put or a delete waits until the server has done with it, so that nothing
happens behind the back of the next call.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import grpc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from citychain.client.channels import ChannelFactory
from citychain.client.errors import translated
from citychain.client.tls import read_credentials
from citychain.client.tokens import TokenFile
from citychain.config_tls import ClientTlsSettings
from citychain.errors import (
    ConfigurationError,
    FragmentMissing,
    NotOwned,
    StorageError,
    StoreFull,
    StoreUnavailable,
    VerificationError,
)
from citychain.fragments._folder import make_folder, sync_folder
from citychain.fragments.proving import ChunkProof
from citychain.fragments.sources import FOUND_MAX
from citychain.hooks.definitions import ConfigPath
from citychain.ports import FragmentKey, Space, StorageContext
from citychain.rpc._generated.citychain.v1 import storage_pb2, storage_pb2_grpc
from citychain.rpc.messages.fragments import (
    JUDGEMENT_KEY,
    PART_BYTES_MAX,
    WANTED,
    decode_fragment_keys,
    encode_fragment_key,
)

__all__ = ["RemoteOptions", "RemoteStore"]

T = TypeVar("T")

PAGE: Final = 1_000
MESSAGE_BYTES_MAX: Final = 2 * PART_BYTES_MAX
"""What a storage server sends at most."""
SEND_BYTES: Final = 256 << 10
"""Of a fragment in one message: no more waits for a server that takes it slowly."""
SETTLE_SECONDS: Final = 10.0
"""For a server to say what became of a call that was cancelled."""
TOKEN_BYTES: Final = (16, 64)
_ANSWERS: Final = (StoreFull, FragmentMissing, NotOwned)
"""What a server says of a fragment; all else is that it cannot be used now."""


class RemoteOptions(BaseModel):
    """Options of the ``remote`` fragment store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    """``host:port`` of a `citychain storage-server`."""
    tls: ClientTlsSettings | None = None
    """Keys ``ca`` of its authority, ``certificate`` and ``key`` to show, each a PEM file. Without
    it nothing is encrypted."""
    timeout_seconds: float = Field(default=30.0, gt=0, le=3_600, allow_inf_nan=False)
    """To go on without a word from the server."""
    owner_file: ConfigPath | None = None
    """A file with the owner's token, 16 to 64 characters: who has it may delete what was stored
    with it. Absent for ``fragments/NAME/owner`` in the data directory, which is made."""
    token_file: ConfigPath | None = None
    """A file with the token that the server asks callers for, if it does (``--token-keys``)."""

    @field_validator("endpoint")
    @classmethod
    def _is_endpoint(cls, endpoint: str) -> str:
        try:
            ChannelFactory([endpoint])
        except ConfigurationError as error:
            raise ValueError(str(error).removeprefix("endpoints: ")) from None
        return endpoint


class RemoteStore:
    """A `FragmentStore` that a storage server keeps."""

    def __init__(self, options: RemoteOptions, context: StorageContext) -> None:
        self._options = options
        self._context = context
        self._seconds = options.timeout_seconds
        self._channel: grpc.aio.Channel
        self._stub: storage_pb2_grpc.StorageServiceAsyncStub
        self._token = b""
        self._owner_id = b""

    async def __aenter__(self) -> Self:
        """Connect. See `FragmentStore.__aenter__`."""
        given = self._options.owner_file
        own = self._context.directory / "owner"
        try:
            self._token = await self._context.compute(_token, given or own, make=given is None)
        except OSError as error:
            raise StoreUnavailable(f"owner_file: {error.filename}: {error.strerror}") from error
        self._owner_id = sha256(self._token).digest()
        channels = await self._context.compute(_channels, self._options)
        # What a store does not take goes to the next one: who asked decides, not the channel.
        self._channel = channels.channel(repeat=False)
        self._stub = storage_pb2_grpc.StorageServiceStub(self._channel)
        try:
            await self.space()
        except BaseException:
            await self._channel.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._channel.close()

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        """See `FragmentStore.put`."""
        sending = _Sending(self._stub.StoreFragment(), self._seconds)
        start = storage_pb2.StoreFragmentRequest.Start(
            key=encode_fragment_key(key), size=size, owner=self._token
        )
        try:
            if await self._sent(sending.begin(start)):
                await self._send(sending, size, parts)
                await self._sent(sending.commit())
            stored = await self._sent(sending.answer())
        except BaseException:
            await _settled(sending.give_up())
            raise
        finally:
            sending.call.cancel()
        if not stored:
            raise StoreUnavailable(f"{self._options.endpoint}: it did not store the fragment")

    async def _send(self, sending: _Sending, size: int, parts: AsyncIterator[bytes]) -> None:
        came = 0
        async for part in parts:
            came += len(part)
            if came > size:
                raise StorageError(f"a fragment of {size} bytes came with {came} or more")
            for at in range(0, len(part), SEND_BYTES):
                await self._sent(sending.send(part[at : at + SEND_BYTES]))
        if came != size:
            raise StorageError(f"a fragment of {size} bytes came with {came}")

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        call = self._stub.FetchFragment(
            storage_pb2.FetchFragmentRequest(
                key=encode_fragment_key(key),
                offset=offset,
                length=length,
                owner_id=self._owner_id,
            )
        )
        return await self._asked(self._fetched(call, length))

    async def _fetched(self, call: Any, length: int) -> bytes:
        parts, left = [], length
        try:
            while (message := await _in_time(call.read(), self._seconds)) is not grpc.aio.EOF:
                left -= len(message.part)
                if left < 0:
                    break
                parts.append(message.part)
        finally:
            call.cancel()
        if left:
            raise StoreUnavailable(
                f"{self._options.endpoint}: it gave {length - left} bytes for {length}"
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        request = storage_pb2.HasFragmentRequest(
            key=encode_fragment_key(key), owner_id=self._owner_id
        )
        answer = await self._asked(self._stub.HasFragment(request, timeout=self._seconds))
        return answer.size if answer.found else None

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""
        found: list[FragmentKey] = []
        while True:
            request = storage_pb2.FindFragmentsRequest(object_id=object_id, page_size=PAGE)
            if found:
                request.after.CopyFrom(encode_fragment_key(found[-1]))
            answer = await self._asked(self._stub.FindFragments(request, timeout=self._seconds))
            page = self._keys(answer.keys, found[-1] if found else None)
            if any(key.object_id != object_id for key in page):
                raise StoreUnavailable(f"{self._options.endpoint}: keys: of another object")
            found += page
            if len(page) < PAGE or len(found) >= FOUND_MAX:
                return found[:FOUND_MAX]

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        found: list[FragmentKey] = []
        while len(found) < limit:
            asked = min(PAGE, limit - len(found))
            request = storage_pb2.ListFragmentsRequest(page_size=asked)
            if after is not None:
                request.after.CopyFrom(encode_fragment_key(after))
            answer = await self._asked(self._stub.ListFragments(request, timeout=self._seconds))
            page = self._keys(answer.keys, after)[:asked]
            found += page
            if len(page) < asked:
                break
            after = page[-1]
        return found

    def _keys(
        self, messages: Sequence[storage_pb2.FragmentKey], after: FragmentKey | None
    ) -> list[FragmentKey]:
        try:
            if len(messages) > PAGE:
                raise VerificationError(f"keys: {len(messages)}, where {PAGE} are a page")
            keys = decode_fragment_keys(messages, "keys")
            if keys and after is not None and keys[0] <= after:
                raise VerificationError("keys: they do not go on after the last page")
        except VerificationError as error:
            raise StoreUnavailable(f"{self._options.endpoint}: {error}") from None
        return keys

    async def delete(self, key: FragmentKey) -> bool:
        """See `FragmentStore.delete`.

        Raises:
            NotOwned: it was stored with another owner's token.
        """
        request = storage_pb2.DeleteFragmentRequest(key=encode_fragment_key(key), owner=self._token)
        call = self._stub.DeleteFragment(request, timeout=self._seconds)
        answer = await self._sent(_awaited(call))
        return answer.deleted

    async def space(self) -> Space:
        """See `FragmentStore.space`. The limit is what it may be as far as this owner goes."""
        request = storage_pb2.GetSpaceRequest(owner_id=self._owner_id)
        answer = await self._asked(self._stub.GetSpace(request, timeout=self._seconds))
        return Space(answer.used, answer.limit if answer.HasField("limit") else None)

    async def challenge(self, key: FragmentKey, chunks: Sequence[int]) -> list[ChunkProof]:
        """Proofs of chunks of a fragment, verified; at most 64 of them.

        Raises:
            FragmentMissing: the server has no such fragment.
            VerificationError: what it has of the fragment is wrong, or what it says of it.
            StoreUnavailable: it does not answer, or the fragment has no such chunks.
        """
        call = self._stub.Challenge(
            storage_pb2.ChallengeRequest(
                key=encode_fragment_key(key), chunks=chunks, owner_id=self._owner_id
            )
        )
        given = await self._asked(self._proofs(call, len(chunks)))
        return await self._context.compute(_verified, given, key, chunks)

    async def _proofs(self, call: Any, count: int) -> list[bytes]:
        proofs: list[bytes] = []
        try:
            while (message := await _in_time(call.read(), self._seconds)) is not grpc.aio.EOF:
                if len(proofs) == count:
                    raise VerificationError(f"{self._options.endpoint}: more proofs than chunks")
                proofs.append(message.proof)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DATA_LOSS:
                raise VerificationError(f"{self._options.endpoint}: {error.details()}") from None
            raise
        finally:
            call.cancel()
        if len(proofs) != count:
            raise VerificationError(f"{self._options.endpoint}: fewer proofs than chunks")
        return proofs

    # Calls

    async def _asked(self, answer: Awaitable[T]) -> T:
        """What a call gives, or our error."""
        try:
            return await answer
        except grpc.aio.AioRpcError as error:
            raise self._ours(error) from None
        except TimeoutError:
            raise self._silent() from None
        except asyncio.InvalidStateError as error:
            raise StoreUnavailable(f"{self._options.endpoint}: {error}") from None

    async def _sent(self, step: Coroutine[Any, Any, T]) -> T:
        """Likewise, for what changes something: whoever is cancelled waits for its end."""
        task = asyncio.create_task(step)
        try:
            return await self._asked(asyncio.shield(task))
        except asyncio.CancelledError:
            await _settled(task)
            raise

    def _ours(self, error: grpc.aio.AioRpcError) -> StorageError:
        ours, _ = translated(error)
        message, endpoint = str(ours), self._options.endpoint
        if endpoint not in message:
            message = f"{endpoint}: {message}"
        if isinstance(ours, _ANSWERS):
            return type(ours)(message)
        return StoreUnavailable(message)

    def _silent(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._options.endpoint}: no word from the server for {self._seconds:g} s"
        )


class _Sending:
    """One call that stores, step by step. Each step is let finish, or the call ends with it."""

    def __init__(self, call: Any, seconds: float) -> None:
        self.call = call
        self._seconds = seconds
        self._said: grpc.aio.AioRpcError | None = None
        self._ended: asyncio.Task[Any] | None = None
        self._is_committed = False
        call.add_done_callback(self._note)

    async def begin(self, start: storage_pb2.StoreFragmentRequest.Start) -> bool:
        """Whether the server wants the content: it has not got it yet."""
        await self._write(storage_pb2.StoreFragmentRequest(start=start))
        metadata = await _in_time(self.call.initial_metadata(), self._seconds)
        judged = dict([*(metadata or ())]).get(JUDGEMENT_KEY)
        if judged is None:
            await _in_time(self.call, self._seconds)  # It says why not.
        return judged == WANTED

    async def send(self, part: bytes) -> None:
        """Send some of the content."""
        await self._write(storage_pb2.StoreFragmentRequest(part=part))

    async def commit(self) -> None:
        """Say that this was all."""
        self._is_committed = True
        await self._write(storage_pb2.StoreFragmentRequest(commit=True))

    async def answer(self) -> bool:
        """Whether it is stored."""
        with suppress(grpc.aio.InternalError):  # The server has ended the call, and says why.
            await _in_time(self.call.done_writing(), self._seconds)
        answer = await _in_time(self._end(), self._seconds)
        return bool(answer.stored)

    async def give_up(self) -> None:
        """Let the server end the call, whatever it makes of it."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            if self._is_committed:
                await self._end()
            else:
                await self.answer()

    def _end(self) -> asyncio.Future[Any]:
        """The server's answer. Who waits for it in vain does not cancel the call by that: the
        server may be at its last step, and would take it behind our back."""
        if self._ended is None:
            self._ended = asyncio.ensure_future(_awaited(self.call))
            self._ended.add_done_callback(lambda it: it.cancelled() or it.exception())
        return asyncio.shield(self._ended)

    async def _write(self, message: storage_pb2.StoreFragmentRequest) -> None:
        try:
            await _in_time(self.call.write(message), self._seconds)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._why() or error from None

    async def _why(self) -> grpc.aio.AioRpcError | None:
        """What the server said as it ended the call, which may come a moment later."""
        for _ in range(100):
            if self._said is not None and self._said.code() != grpc.StatusCode.INTERNAL:
                break
            await asyncio.sleep(0.01)
        return self._said

    def _note(self, call: Any) -> None:
        """Keep the server's word. grpc calls this for each status that it gives a call; that a
        message was not sent is one, and may take the place of the one that came from the server."""
        code = _at_once(call.code())
        if code != grpc.StatusCode.OK and (
            self._said is None or self._said.code() == grpc.StatusCode.INTERNAL
        ):
            self._said = grpc.aio.AioRpcError(
                code,
                grpc.aio.Metadata(),
                _at_once(call.trailing_metadata()) or grpc.aio.Metadata(),
                _at_once(call.details()),
            )


def _at_once(ready: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the call has no status yet")


async def _in_time(answer: Awaitable[T], seconds: float) -> T:
    async with asyncio.timeout(seconds):
        return await answer


async def _awaited(call: Awaitable[T]) -> T:
    return await call


async def _settled(step: Coroutine[Any, Any, object] | asyncio.Task[Any]) -> None:
    """Wait for the end of a step that nobody asks for any more, however often who waits is
    cancelled; but no longer than `SETTLE_SECONDS`."""
    task = asyncio.ensure_future(step)
    end = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while not task.done():
        left = end - asyncio.get_running_loop().time()
        if left <= 0:
            task.cancel()
        try:
            await asyncio.wait([task], timeout=max(left, 1.0))
        except asyncio.CancelledError:
            continue
    if not task.cancelled():
        task.exception()  # Nobody else asks for it.


def _verified(given: Sequence[bytes], key: FragmentKey, chunks: Sequence[int]) -> list[ChunkProof]:
    proofs = [ChunkProof.from_bytes(data) for data in given]
    for proof, chunk in zip(proofs, chunks, strict=True):
        proof.verify(key.root, key.index, chunk)
        if proof.object_id != key.object_id:
            raise VerificationError("proof: of another object")
    return proofs


def _channels(options: RemoteOptions) -> ChannelFactory:
    """Raises `StoreUnavailable`: a file cannot be used, or a token must not be sent there."""
    patience = timedelta(seconds=max(1.0, options.timeout_seconds / 2))
    try:
        tls, credentials = options.tls, None
        if tls is not None:
            credentials = read_credentials(tls.ca, tls.certificate, tls.key)
        return ChannelFactory(
            [options.endpoint],
            keepalive=patience,
            connect=patience,
            max_message_bytes=MESSAGE_BYTES_MAX,
            token=None if options.token_file is None else TokenFile(options.token_file),
            credentials=credentials,
        )
    except ConfigurationError as error:
        raise StoreUnavailable(str(error)) from None


def _token(path: Path, *, make: bool) -> bytes:
    """The token in a file, which is made if it may be.

    Raises:
        OSError: the file cannot be read.
        StoreUnavailable: it has no token.
    """
    if make and not path.exists():
        make_folder(path.parent)
        mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        file = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, secrets.token_hex(32).encode())
            os.fsync(file)
            with suppress(FileExistsError):  # Another process was first.
                os.link(mine, path)
        finally:
            os.close(file)
            mine.unlink()
        sync_folder(path.parent)  # Who lost it could delete nothing that was stored with it.
    token = path.read_bytes().strip()
    least, most = TOKEN_BYTES
    if not least <= len(token) <= most:
        raise StoreUnavailable(
            f"owner_file: {path} has {len(token)} bytes; a token has {least} to {most}"
        )
    return token
