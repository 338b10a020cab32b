"""A fragment store in a bucket of S3, or of whatever else speaks its protocol.

::

    PREFIX/<object>/<root>-<index>     a whole fragment

All digits are lower-case hexadecimal: 64, 64 and 2, so a bucket, which lists names in order, lists
fragments as their keys sort. What has another name is none of ours, and left alone.

A fragment of a few MiB is put by one request that the service refuses if the name is taken. A
larger one is sent in pieces, which the service joins at the end; that request knows no such
condition, so the name is looked at just before. What a process that was killed leaves is no
fragment: a rule of the bucket removes pieces that were never joined.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Bucket

from citychain.errors import FragmentMissing, StorageError, StoreFull, StoreUnavailable
from citychain.fragments._parts import exactly
from citychain.fragments._room import Claim, Room
from citychain.fragments._s3_options import S3Options
from citychain.fragments._settled import settled
from citychain.fragments.sources import FOUND_MAX
from citychain.ports import FragmentKey, Space

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

    from citychain.fragments._s3_options import AccessKey
    from citychain.ports import StorageContext

__all__ = ["S3Options", "S3Store"]

PIECE: Final = 5 << 20
"""Bytes of a piece; what is no larger is put by one request. Services take no less."""
PIECES_MAX: Final = 9_000
"""Services take 10,000."""
PIECES_AT_ONCE: Final = 2
RETRIES: Final = 3
PAGE: Final = 1_000
"""Names that a service lists at a time."""

NAME: Final = re.compile(r"([0-9a-f]{64})/([0-9a-f]{64})-([0-9a-f]{2})")
CODE: Final = re.compile(
    r"<Code>([^<]{1,100})</Code>(?:.*?<Message>([^<]{1,300})</Message>)?", re.S
)
FULL: Final = re.compile(r"QuotaExceeded|StorageFull|InsufficientStorage|status code: 507")
DETAIL_MAX: Final = 300


class S3Store:
    """A `FragmentStore` in a bucket, which several processes may use."""

    def __init__(self, options: S3Options, context: StorageContext) -> None:
        at = f" at {options.endpoint}" if options.endpoint else ""
        self._where = f"bucket {options.bucket}{at}"
        self._options = options
        self._room = Room(f"{self._where}, {options.prefix}/", options.limit_mib)
        self._joining = asyncio.Lock()
        self._deleting: dict[str, asyncio.Future[bool]] = {}

    async def __aenter__(self) -> S3Store:
        with self._errors():
            self._bucket = _bucket(self._options)
        await self._be_there()
        if self._room.limit is not None:
            self._room.used = await self._counted()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    # Fragments

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        """See `FragmentStore.put`."""
        name = self._name(key)
        if await self._size(name) is not None:
            return
        with self._room.claim(size) as claim:
            if size <= PIECE:
                content = bytearray()
                async for part in exactly(size, parts, self._where):
                    content += part
                await settled(self._create(name, content, claim))
            else:
                await self._upload(name, size, parts, claim)

    async def _create(self, name: str, content: bytearray, claim: Claim) -> None:
        with self._errors():
            try:
                await obstore.put_async(self._bucket, name, content, mode="create")
            except AlreadyExistsError:
                return
        claim.keep()

    async def _upload(
        self, name: str, size: int, parts: AsyncIterator[bytes], claim: Claim
    ) -> None:
        writer = obstore.open_writer_async(
            self._bucket,
            name,
            buffer_size=max(PIECE, -(-size // PIECES_MAX)),
            max_concurrency=PIECES_AT_ONCE,
        )

        async def join() -> None:
            async with self._joining:
                if await self._size(name) is not None:
                    raise AlreadyExistsError
                with self._errors():
                    await writer.close()
                claim.keep()

        try:
            async for part in exactly(size, parts, self._where):
                with self._errors():
                    await settled(writer.write(part))
            await settled(join())
        except BaseException as error:
            if not claim.kept:
                await settled(_abort(writer, error))
            if not isinstance(error, AlreadyExistsError):
                raise

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        name = self._name(key)
        try:
            got = await obstore.get_range_async(self._bucket, name, start=offset, length=length)
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                await self._be_there()
                raise FragmentMissing(f"{self._where} has no {name}") from None
            size = await self._size(name)
            if size is not None and size < offset + length:
                raise self._too_short(name, size) from None
            raise self._told(error) from error
        if len(got) != length:
            raise self._too_short(name, offset + len(got))
        return bytes(got)

    def _too_short(self, name: str, end: int) -> FragmentMissing:
        return FragmentMissing(f"{self._where}: {name} ends at byte {end}")

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        size = await self._size(self._name(key))
        if size is None:
            await self._be_there()
        return size

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""
        below = f"{self._options.prefix}/{object_id.hex()}"
        found: list[FragmentKey] = []
        async for key, _ in self._list(below, None):
            found.append(key)
            if len(found) == FOUND_MAX:
                break
        return found

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        found: list[FragmentKey] = []
        async for key, _ in self._list(self._options.prefix, after):
            found.append(key)
            if len(found) == limit:
                break
        return found

    async def delete(self, key: FragmentKey) -> bool:
        """See `FragmentStore.delete`. In a bucket with versions the old one stays, and costs."""
        name = self._name(key)
        running = self._deleting.get(name)
        if running is not None:
            await asyncio.shield(running)
            return False
        task = asyncio.ensure_future(self._delete(name))
        self._deleting[name] = task
        task.add_done_callback(lambda _: self._deleting.pop(name))
        return await settled(task)

    async def _delete(self, name: str) -> bool:
        size = await self._size(name)
        if size is None:
            await self._be_there()
            return False
        with self._errors():
            await obstore.delete_async(self._bucket, name)
        self._room.give_back(size)
        return True

    async def space(self) -> Space:
        """See `FragmentStore.space`; without a limit everything is listed now."""
        used = self._room.used if self._room.limit is not None else await self._counted()
        return Space(used, self._room.limit)

    # Requests

    def _name(self, key: FragmentKey) -> str:
        prefix = self._options.prefix
        return f"{prefix}/{key.object_id.hex()}/{key.root.hex()}-{key.index:02x}"

    async def _size(self, name: str) -> int | None:
        """``None`` also where there is no bucket."""
        with self._errors():
            try:
                return (await obstore.head_async(self._bucket, name))["size"]
            except FileNotFoundError:
                return None

    async def _be_there(self) -> None:
        """Raises `StoreUnavailable` if the bucket is gone: then nothing is known of what was in
        it. To list the names behind all of ours costs little."""
        end = f"{self._options.prefix}/g"
        with self._errors():
            async for _ in obstore.list(self._bucket, self._options.prefix, offset=end):
                break

    async def _list(
        self, below: str, after: FragmentKey | None
    ) -> AsyncIterator[tuple[FragmentKey, int]]:
        """Keys and sizes of the fragments below a name, in order."""
        offset = last = "" if after is None else self._name(after)
        listing = obstore.list(self._bucket, below, offset=offset or None, chunk_size=PAGE)
        while True:
            with self._errors():
                page = await anext(listing, None)
            if page is None:
                return
            for meta in page:
                name = meta["path"]
                if name <= last:
                    raise StoreUnavailable(
                        f"{self._where} does not list names in order, as directory buckets do not: "
                        "use a general purpose bucket"
                    )
                last = name
                if found := NAME.fullmatch(name, len(self._options.prefix) + 1):
                    object_id, root, index = found.groups()
                    yield (
                        FragmentKey(bytes.fromhex(object_id), bytes.fromhex(root), int(index, 16)),
                        meta["size"],
                    )

    async def _counted(self) -> int:
        return sum([size async for _, size in self._list(self._options.prefix, None)])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except AlreadyExistsError:
            raise
        except (BaseError, OSError) as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> StorageError:
        said = str(error)
        code = CODE.search(said)
        # Before the last dash it tells of the request and of its repetitions.
        first = said.partition("\n")[0].rpartition(" - ")[2]
        detail = ": ".join(filter(None, code.groups())) if code else first
        what = f"fragment store in {self._where}: {detail[:DETAIL_MAX]}"
        if FULL.search(said):
            return StoreFull(f"{what}; make room, or lower limit_mib to what there is")
        return StoreUnavailable(
            f"{what}; see that endpoint and bucket are right, and that the key may list, read, "
            "write and delete there"
        )


async def _abort(writer: obstore.AsyncWritableFile, error: BaseException) -> None:
    """Let the service forget the pieces. Where that fails, too, they are not joined anyhow."""
    try:
        await writer.__aexit__(type(error), error, None)
    except (BaseError, OSError):
        return


def _bucket(options: S3Options) -> Bucket:
    """A client; it connects when it is used."""
    config: S3Config = {
        "region": options.region,
        "virtual_hosted_style_request": options.bucket_in_host,
        # One is deleted at a time, and by that request everywhere.
        "disable_bulk_delete": True,
    }
    if options.endpoint is not None:
        # The second one, should the environment have it, counts more than the first.
        config["endpoint"] = config["aws_endpoint_url_s3"] = options.endpoint
    timeout = timedelta(seconds=options.timeout_seconds)
    client: ClientConfig = {
        "timeout": timeout,
        "allow_http": (options.endpoint or "").startswith("http://"),
    }
    if (trusted := options.trusted()) is not None:
        client["root_certificate"] = trusted
    key = options.access_key()
    return Bucket(
        options.bucket,
        config=config,
        client_options=client,
        retry_config={"max_retries": RETRIES, "retry_timeout": 2 * timeout},
        # As a part of the configuration it would get a session token that the environment has.
        credential_provider=None if key is None else lambda: _credential(key),
    )


def _credential(key: AccessKey) -> S3Credential:
    return {"access_key_id": key.key_id, "secret_access_key": key.secret, "expires_at": None}
