"""What an application asks a city about its dealings with other cities; part of `CityClient`."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from citychain.between_cities import Decided, RemittanceState, peer_name_object
from citychain.client.submission import Item, Result
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.errors import NotFound, TransactionRefused
from citychain.genesis import Genesis
from citychain.handler import PeerStatus, RemittanceStatus, TransactionEvent
from citychain.rpc._generated.citychain.v1 import services_pb2
from citychain.rpc.messages import Refused
from citychain.rpc.messages.exchange import (
    AnchorStatus,
    decode_anchor,
    decode_deliveries,
    decode_peers,
    decode_remittance,
)
from citychain.types import ObjectState, Remittance, State

if TYPE_CHECKING:
    from citychain.client.city import CityInfo

__all__ = ["ExchangeCalls"]

DELIVERIES_MAX: Final = 256
PENDING: Final = RemittanceState.PENDING
POLL_SECONDS: Final = (0.05, 1.0)
"""First and longest pause between two looks at a remittance."""


class ExchangeCalls:
    """Remittances, peers and anchors."""

    _city: str
    _timeout: timedelta
    _exchange: Any

    @abstractmethod
    async def _call(self, method: Any, request: Any) -> Any: ...

    @abstractmethod
    async def info(self) -> CityInfo:
        """See `CityClient.info`."""

    @abstractmethod
    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `CityClient.objects`."""

    @abstractmethod
    async def submit(
        self,
        transactions: Sequence[Item],
        *,
        timeout: timedelta | None = None,
        acknowledge: bool | Genesis = False,
    ) -> list[Result]:
        """See `CityClient.submit`."""

    @abstractmethod
    async def wait(
        self,
        tx_ids: Sequence[bytes],
        state: State = State.APPROVED,
        *,
        timeout: timedelta | None = None,
    ) -> Mapping[bytes, TransactionEvent]:
        """See `CityClient.wait`."""

    async def remit(
        self, key: SigningKey, *, asset: str, amount: int, to: bytes, city: bytes | str
    ) -> SignedTransaction:
        """Send an amount to a key in another city; returns the transaction, which is received.

        `wait` tells when it is approved, which is when the amount is in escrow; `remittance` and
        `delivered` tell what the other city answers.

        Args:
            key: The payer's.
            to: Key id of the payee there.
            city: The other city's genesis id, or its slug.

        Raises:
            NotFound: no city is pinned by this slug.
            TransactionRefused: the transaction was not accepted.
        """
        genesis = Genesis.from_bytes((await self.info()).genesis_file)
        target = await self.peer_id(city, genesis) if isinstance(city, str) else city
        action = Remittance(asset=asset, city=target, to=to, amount=amount)
        signed = sign_transaction(key, genesis=genesis.id, action=action)
        [result] = await self.submit([signed])
        if isinstance(result, Refused):
            raise TransactionRefused(result.code, result.field, result.detail)
        return signed

    async def peer_id(self, slug: str, genesis: Genesis | None = None) -> bytes:
        """Genesis id of the city of this network that this one has pinned by a slug.

        Args:
            genesis: This city's, if it is known.

        Raises:
            NotFound: none is.
        """
        if genesis is None:
            genesis = Genesis.from_bytes((await self.info()).genesis_file)
        name = peer_name_object(genesis.network, slug)
        if not (found := (await self.objects([name]))[name].value):
            raise NotFound("pinned peer", slug)
        return found

    async def remittance(self, tx_id: bytes) -> RemittanceStatus:
        """What became of a remittance, as certified rounds say.

        Raises:
            NotFound: no approved transaction of this id sends anything to another city.
        """
        request = services_pb2.GetRemittanceRequest(city=self._city, tx_id=tx_id)
        found = await self._call(self._exchange.GetRemittance, request)
        return decode_remittance(found.remittance)

    async def delivered(
        self, tx_id: bytes, *, timeout: timedelta | None = None
    ) -> RemittanceStatus:
        """Wait until a remittance is approved, and the other city's answer is in this city's
        ledger.

        Raises:
            NotFound: the transaction is unknown, was rejected, or sends nothing to another city.
            TimeoutError: it is not, in time; the default is the client's own.
        """
        async with asyncio.timeout((timeout or self._timeout).total_seconds()):
            await self.wait([tx_id], timeout=timeout)
            pause = POLL_SECONDS[0]
            while (found := await self.remittance(tx_id)).outgoing.state == PENDING:
                await asyncio.sleep(pause)
                pause = min(2 * pause, POLL_SECONDS[1])
        return found

    async def deliveries(self, source: bytes, tx_ids: Sequence[bytes]) -> dict[bytes, Decided]:
        """What this city decided about remittances of another, by their ids; those that it
        decided nothing about are absent. `receipts` proves it, once that is final.

        Args:
            source: Genesis id of the other city.
        """
        decided: dict[bytes, Decided] = {}
        for start in range(0, len(tx_ids), DELIVERIES_MAX):
            ids = tx_ids[start : start + DELIVERIES_MAX]
            request = services_pb2.GetDeliveriesRequest(city=self._city, source=source, tx_ids=ids)
            decided |= decode_deliveries(
                await self._call(self._exchange.GetDeliveries, request), ids
            )
        return decided

    async def peers(self) -> list[PeerStatus]:
        """The cities that this one exchanges with, and how it goes with each."""
        request = services_pb2.ListPeersRequest(city=self._city)
        return decode_peers(await self._call(self._exchange.ListPeers, request))

    async def anchor(self) -> AnchorStatus | None:
        """The latest checkpoint of this city that its parent has; ``None`` without one."""
        request = services_pb2.GetAnchorRequest(city=self._city)
        return decode_anchor(await self._call(self._exchange.GetAnchor, request))
