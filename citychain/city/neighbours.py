"""Other cities, of this server and of others, for `citychain.exchange`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from citychain.between_cities import (
    Decided,
)
from citychain.city.plan import CityPlan
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.tls import read_credentials
from citychain.client.tokens import TokenFile
from citychain.client.transactions import sign_transaction
from citychain.config import PeerSettings, Settings
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, NotFound, NotSupported
from citychain.exchange.exchange import Neighbours
from citychain.exchange.local import FINAL, LocalCity
from citychain.exchange.neighbour import ROUND_MAX, Neighbour, PeerCity, Sign, Signed, closing
from citychain.exchange.peers import PEER_BYTES_MAX, PEER_HASHES_MAX
from citychain.genesis import Genesis
from citychain.handler import CityHandler, Received, Refusal
from citychain.ports import Compute, StoredRound
from citychain.receipt import Receipt
from citychain.types import Anchor, Delivery, Handover, Peer, Settlement

__all__ = [
    "Directory",
    "RemoteCity",
    "find_neighbours",
    "operator_signs",
    "parent_of",
    "peer_channels",
    "peer_genesis",
]

ANSWER: Final = timedelta(seconds=5)
"""How long a server may take to answer before it is tried anew."""


class Directory(Protocol):
    """As `citychain.city.directory.CityDirectory`."""

    async def handler(self, name: str) -> CityHandler: ...


class RemoteCity(PeerCity):
    """A city of another server as a `PeerCity`."""

    def __init__(self, client: CityClient) -> None:
        self._client = client

    async def genesis(self) -> Genesis:
        """See `PeerCity.genesis`."""
        return Genesis.from_bytes((await self._client.info()).genesis_file)

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Received | Refusal]:
        """See `PeerCity.submit`."""
        return [
            result
            if isinstance(result, Received)
            else Refusal(result.code, result.field, result.detail, tx_id=result.tx_id)
            for result in await self._client.submit(envelopes)
        ]

    async def wait(self, tx_ids: Sequence[bytes]) -> None:
        """See `PeerCity.wait`."""
        await self._client.wait(tx_ids, timeout=FINAL)

    async def decided(self, source: bytes, tx_ids: Sequence[bytes]) -> Mapping[bytes, Decided]:
        """See `PeerCity.decided`."""
        return await self._client.deliveries(source, tx_ids)

    async def receipts(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, Receipt]:
        """See `PeerCity.receipts`."""
        return await self._client.receipts(tx_ids, known_round=ROUND_MAX)

    async def objects(self, objects: Sequence[str]) -> Mapping[str, bytes]:
        """See `PeerCity.objects`."""
        found = await self._client.objects(objects)
        return {name: state.value for name, state in found.items() if state.version}

    async def handovers(self, known_round: int) -> AsyncIterator[Sequence[Handover]]:
        """See `PeerCity.handovers`."""
        with suppress(NotSupported):  # A city without votes keeps its committee.
            async with closing(self._client.handover_pages(known_round)) as pages:
                async for page in pages:
                    yield page

    async def latest_round(self) -> int:
        """See `PeerCity.latest_round`."""
        return (await self._client.info()).head.round

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """See `PeerCity.rounds`."""
        return await self._client.rounds(first, limit)


def operator_signs(operator: SigningKey, compute: Compute) -> Sign:
    """Signs for the couriers of a server's cities."""

    def sign(
        genesis: bytes,
        actions: Sequence[Peer | Delivery | Settlement | Anchor],
        depends_on: Sequence[Sequence[bytes]],
    ) -> list[Signed]:
        signed = (
            sign_transaction(
                operator,
                genesis=genesis,
                action=action,
                depends_on=dependencies,
                with_public_key=True,
            )
            for action, dependencies in zip(actions, depends_on, strict=True)
        )
        return [Signed(one.tx_id, one.envelope) for one in signed]

    async def batch(
        genesis: bytes,
        actions: Sequence[Peer | Delivery | Settlement | Anchor],
        depends_on: Sequence[Sequence[bytes]],
    ) -> list[Signed]:
        return await compute(sign, genesis, actions, depends_on)

    return batch


async def find_neighbours(
    plan: CityPlan, settings: Settings, directory: Directory, compute: Compute
) -> Neighbours:
    """Whom a city has to do with, by the configuration.

    Raises:
        CitychainError: one of them cannot be had now, or is configured wrongly.
    """
    chosen = settings.peers if plan.peers is None else plan.peers
    for slug in chosen:
        if slug not in settings.peers:
            raise ConfigurationError(
                f"city {plan.slug}: peers names {slug}, and there is no [peers.{slug}]"
            )
    found = []
    for slug in chosen:
        if slug != plan.slug or settings.peers[slug].endpoints:
            found.append(await _neighbour(slug, settings.peers[slug], directory, compute))
    parent = None
    if (above := parent_of(plan, settings)) is not None:
        parent = partial(_parent, above[0], settings, directory, compute)
    return Neighbours(found, parent)


def parent_of(plan: CityPlan, settings: Settings) -> tuple[str, tuple[str, ...]] | None:
    """Slug of the city's parent, and where that is served; ``None`` without one."""
    if plan.parent is None or plan.parent == plan.slug:
        return None
    table = settings.peers.get(plan.parent)
    return plan.parent, table.endpoints if table is not None else ()


async def _parent(
    slug: str, settings: Settings, directory: Directory, compute: Compute
) -> Neighbour | None:
    table = settings.peers.get(slug, PeerSettings())
    try:
        return await _neighbour(slug, table, directory, compute)
    except NotFound:
        return None  # A plugin's city whose country nobody has here.


async def _neighbour(
    slug: str, table: PeerSettings, directory: Directory, compute: Compute
) -> Neighbour:
    connect: Callable[[], AbstractAsyncContextManager[PeerCity]]
    if table.genesis is not None:
        genesis = await compute(peer_genesis, slug, table.genesis)
    else:
        genesis = (await directory.handler(slug)).genesis
    if table.endpoints:
        # What is wrong with its files is told when the city is opened, not by its couriers alone.
        await compute(peer_channels, slug, table)
        connect = _elsewhere(slug, table, compute)
    else:
        connect = _here(slug, directory)
    assets = None if table.assets is None else frozenset(table.assets)
    return Neighbour(slug, genesis, table.endpoints, assets, connect)


def peer_genesis(slug: str, file: Path) -> Genesis:
    """The genesis file that pins a peer. Reads a file: not for an event loop.

    Raises:
        ConfigurationError: it cannot be read, or is of another city, or of one that cannot be a
            peer.
    """
    try:
        content = file.read_bytes()
        genesis = Genesis.from_bytes(content)
    except (OSError, ConfigurationError) as error:
        raise ConfigurationError(f"peers.{slug}.genesis: {file}: {error}") from None
    if len(content) > PEER_BYTES_MAX:
        raise ConfigurationError(
            f"peers.{slug}.genesis: {file} has {len(content)} bytes; at most {PEER_BYTES_MAX} "
            "can be pinned"
        )
    if genesis.num_hashes > PEER_HASHES_MAX:
        raise ConfigurationError(
            f"peers.{slug}.genesis: {file} asks for {genesis.num_hashes} hashes a round; a peer "
            f"that others verify has at most {PEER_HASHES_MAX}"
        )
    if genesis.city != slug:
        raise ConfigurationError(
            f"peers.{slug}.genesis: {file} is the genesis of {genesis.city}: call the table "
            f"[peers.{genesis.city}]"
        )
    return genesis


def peer_channels(slug: str, table: PeerSettings) -> ChannelFactory:
    """How a peer's servers are reached. Reads files: not for an event loop.

    Raises:
        ConfigurationError: a file cannot be used; names the table.
    """
    credentials = None
    if (tls := table.tls) is not None:
        try:
            credentials = read_credentials(tls.ca, tls.certificate, tls.key)
        except ConfigurationError as error:
            raise ConfigurationError(f"peers.{slug}.tls: {error}") from None
    try:
        token = None if table.token_file is None else TokenFile(table.token_file)
        return ChannelFactory(table.endpoints, token=token, credentials=credentials)
    except ConfigurationError as error:
        raise ConfigurationError(f"peers.{slug}: {error}") from None


def _here(slug: str, directory: Directory) -> Callable[[], AbstractAsyncContextManager[PeerCity]]:
    @asynccontextmanager
    async def connect() -> AsyncIterator[PeerCity]:
        yield LocalCity(await directory.handler(slug))

    return connect


def _elsewhere(
    slug: str, table: PeerSettings, compute: Compute
) -> Callable[[], AbstractAsyncContextManager[PeerCity]]:
    @asynccontextmanager
    async def connect() -> AsyncIterator[PeerCity]:
        # Read anew for each connection: certificates are replaced while a server runs.
        channels = await compute(peer_channels, slug, table)
        async with CityClient(slug, channels, timeout=ANSWER) as client:
            yield RemoteCity(client)

    return connect
