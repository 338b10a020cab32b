"""Refuses what a city does not take, so that the amount goes back to who sent it.

A delivery that is not approved decides nothing: the sending city goes on trying. To refuse a
remittance is a delivery, too, which only the operator can sign. It is made for

- what the configuration does not accept from a city: such a delivery is not let in;
- what is for an account of escrow here, of which nobody can spend: nor is that, and no resident may
  pay there by name either;
- what the ledger rejected since the payee cannot hold so much.

Nothing here is kept: whoever has no answer tries again, and is refused again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from citychain import record
from citychain._native.transactions import decode_batch
from citychain.between_cities import inbox_object
from citychain.committee import Term
from citychain.errors import CitychainError, InvalidReceipt
from citychain.exchange import terms
from citychain.exchange.judge import mismatch
from citychain.exchange.neighbour import Neighbour, Sign, closing
from citychain.exchange.proof import start_of
from citychain.exchange.verified import verify_receipt
from citychain.genesis import escrow_account
from citychain.handler import CityHandler, Refusal
from citychain.ports import Clock, Compute, StoredRound
from citychain.types import Delivery, Rejection

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction

__all__ = ["ESCROW_PAYEE", "NOT_ACCEPTED", "Doorkeeper"]

logger = logging.getLogger(__name__)

NOT_ACCEPTED: Final = "ASSET_NOT_ACCEPTED"
"""Why a delivery is not let in, and why the remittance is refused."""
ESCROW_PAYEE: Final = "ESCROW_PAYEE"
"""Why what is paid to an account of escrow is not let in, and why a remittance to it is refused."""
OVERFLOW: Final = "OVERFLOW"
"""The ledger's code where a balance would be too large."""
QUEUE_MAX: Final = 1_024
TOGETHER_MAX: Final = 128
REPEAT_SECONDS: Final = 10.0
"""Within this time a delivery is looked at once, and a remittance refused once."""


class _Wanted(NamedTuple):
    """A delivery to be refused."""

    tx_id: bytes
    """The delivery's own."""
    delivery: Delivery
    why: Rejection


class Doorkeeper:
    """Refuses remittances to one city."""

    def __init__(
        self,
        *,
        slug: str,
        sign: Sign,
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._slug = slug
        self._neighbours: dict[bytes, Neighbour] = {}
        self._escrows: dict[bytes, Neighbour] = {}
        """By the account of what is on its way to them."""
        self._sign = sign
        self._compute = compute
        self._clock = clock
        self._queue: asyncio.Queue[_Wanted] = asyncio.Queue(QUEUE_MAX)
        self._lately: OrderedDict[tuple[bytes, ...], float] = OrderedDict()
        """Deliveries by their own id; and by city and id remittances that were refused, once the
        proof held: or else a false delivery would keep the true one out."""

    def know(self, neighbours: Sequence[Neighbour]) -> None:
        """Whose deliveries there may be something against."""
        self._neighbours = {neighbour.genesis.id: neighbour for neighbour in neighbours}
        self._escrows = {escrow_account(it.genesis.id): it for it in neighbours}

    def refuses(self, transaction: Transaction) -> Refusal | None:
        """Why a transaction is not let in, if it is not; must not block."""
        if not self._neighbours:
            return None
        delivery = transaction.delivery
        if delivery is None:
            return self._misdirected(transaction)
        if delivery.refusal_code:
            return None
        if (neighbour := self._neighbours.get(delivery.city)) is None:
            return None  # What it sends is never refused, so it would not go back.
        if (kept_for := self._escrows.get(delivery.to)) is not None:
            detail = f"it is where {self._slug} keeps what is on its way to {kept_for.slug}"
            self._put(_Wanted(transaction.tx_id, delivery, Rejection(ESCROW_PAYEE, detail)))
            field = "body.delivery.to"
            return Refusal(ESCROW_PAYEE, field, f"{detail}: it goes back", tx_id=transaction.tx_id)
        if neighbour.assets is None or delivery.asset in neighbour.assets:
            return None
        detail = f"{self._slug} takes no {delivery.asset} from {neighbour.slug}"
        self._put(_Wanted(transaction.tx_id, delivery, Rejection(NOT_ACCEPTED, detail)))
        return Refusal(
            NOT_ACCEPTED, "body.delivery.asset", f"{detail}: it goes back", tx_id=transaction.tx_id
        )

    def _misdirected(self, transaction: Transaction) -> Refusal | None:
        """Why a payment is not let in whose payee is an account of escrow, here or there."""
        if (transfer := transaction.transfer) is not None:
            if (kept_for := self._escrows.get(transfer[1])) is None:
                return None
            field, place, other = "body.transfer.to", self._slug, kept_for.slug
        elif (remittance := transaction.remittance) is not None:
            neighbour = self._neighbours.get(remittance.city)
            # What the other city keeps for others again, it refuses itself.
            if neighbour is None or remittance.to != escrow_account(transaction.genesis):
                return None
            field, place, other = "body.remittance.to", neighbour.slug, self._slug
        else:
            return None
        detail = (
            f"is where {place} keeps what is on its way to {other}; nobody can spend what is paid "
            "there by name"
        )
        return Refusal(ESCROW_PAYEE, field, detail, tx_id=transaction.tx_id)

    def _put(self, wanted: _Wanted) -> None:
        """To be refused, if there is room; else when it comes again."""
        if not self._queue.full() and self._first((wanted.tx_id,)):
            self._queue.put_nowait(wanted)

    def _first(self, key: tuple[bytes, ...]) -> bool:
        """Whether it is the first of its kind within some time, as of now."""
        now = self._clock.monotonic()
        if now - self._lately.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._lately[key] = now
        if len(self._lately) > 8 * QUEUE_MAX:
            self._lately.popitem(last=False)
        return True

    async def attend(self, home: CityHandler) -> None:
        """Refuse what is to be refused; without end."""
        while True:
            wanted = [await self._queue.get()]
            while len(wanted) < TOGETHER_MAX and not self._queue.empty():
                wanted.append(self._queue.get_nowait())
            try:
                await self._refuse(home, wanted)
            except CitychainError as error:
                logger.warning("%s: nothing was refused: %s", self._slug, error)

    async def follow(self, home: CityHandler) -> None:
        """Look for deliveries that the ledger rejected; without end."""
        first = (await home.head()).certified_round + 1
        async with closing(home.stream_rounds(first, sealed=False)) as rounds:
            async for stored in rounds:
                if OVERFLOW.encode() in stored.record:
                    await self._look(home, stored)

    async def _look(self, home: CityHandler, stored: StoredRound) -> None:
        decided = await self._compute(record.decode, stored.record)
        rejected = {
            tx_id: verdict
            for tx_id, verdict in zip(decided.tx_ids, decided.verdicts, strict=True)
            if verdict is not None and verdict.code == OVERFLOW
        }
        raw = await home.storage.raw(list(rejected))
        envelopes = [one.envelope for one in raw.values()]
        for transaction in await self._compute(decode_batch, envelopes):
            tx_id, delivery = transaction.tx_id, transaction.delivery
            if delivery is not None and not delivery.refusal_code:
                self._put(_Wanted(tx_id, delivery, rejected[tx_id]))

    async def _refuse(self, home: CityHandler, wanted: Sequence[_Wanted]) -> None:
        names = [inbox_object(it.delivery.city, it.delivery.tx_id) for it in wanted]
        decided = await home.storage.objects(list(dict.fromkeys(names)))
        open = [it for name, it in zip(names, wanted, strict=True) if name not in decided]
        starts = {(it.delivery.city, start_of(it.delivery.proof) or b"") for it in open}
        known = await terms.known(starts, home.storage, self._compute)
        held = await self._compute(self._verified, home.genesis.id, open, known)
        refusals = [
            it.delivery._replace(refusal_code=it.why.code, refusal_reason=it.why.reason)
            for it, holds in zip(open, held, strict=True)
            if holds and self._first((it.delivery.city, it.delivery.tx_id))
        ]
        if refusals:
            signed = await self._sign(home.genesis.id, refusals, [()] * len(refusals))
            await home.submit([one.envelope for one in signed])

    def _verified(
        self,
        ours: bytes,
        wanted: Sequence[_Wanted],
        known: Mapping[tuple[bytes, bytes], Term],
    ) -> list[bool]:
        """Whether each is what its city says: nothing is signed for a stranger's invention."""
        return [self._holds(ours, it, known) for it in wanted]

    def _holds(self, ours: bytes, it: _Wanted, known: Mapping[tuple[bytes, bytes], Term]) -> bool:
        city, named = it.delivery.city, start_of(it.delivery.proof)
        neighbour, start = self._neighbours.get(city), known.get((city, named or b""))
        if neighbour is None or (named != city and start is None):
            return False
        try:
            shown = verify_receipt(neighbour.genesis, it.tx_id, it.delivery.proof, start)
        except InvalidReceipt:
            return False
        return shown.rejection is None and mismatch(it.delivery, shown, ours) is None
