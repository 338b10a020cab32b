"""Anchors a city's newest certified checkpoint at its parent, as a transaction of that city.

At most one in a while, and only when something changed. A city that is anchored is part of its
parent's log, and with that of its parent's parent's: see `citychain.levels`.

Anybody may have brought the same checkpoint before, couriers of both cities most of all
(`citychain.exchange.steps`). The parent takes it once: so that anchor is looked for in its latest
rounds, and links receipts as an own one does.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from citychain import record
from citychain._native.transactions import decode_batch
from citychain.between_cities import anchor_object
from citychain.errors import CitychainError
from citychain.exchange.local import LocalCity
from citychain.exchange.neighbour import (
    REJECTED_SECONDS_MAX,
    Backoff,
    Neighbour,
    PeerCity,
    Sign,
    Stranger,
    closing,
)
from citychain.exchange.proof import encode_certified, handover_bytes
from citychain.exchange.steps import STEP_BYTES, Steps
from citychain.genesis import Genesis
from citychain.handler import CityHandler, Refusal
from citychain.notes import ANCHORED, ANCHORING, AnchorNote, anchor_bytes, decode_anchor
from citychain.ports import Clock, Compute, StoredRound
from citychain.types import Anchor, Peer

__all__ = ["Anchorer"]

logger = logging.getLogger(__name__)

LOOK_BACK: Final = 1_024
"""Rounds of the parent, the latest, in which an anchor that it has is looked for."""
PAGE: Final = 16
"""Of them asked for at a time."""
READ_TOGETHER: Final = 64
"""Transactions of such a round."""
NOT_FINAL: Final = "it is not final"


class Anchorer:
    """Anchors one city; `run` it where the city is led.

    Args:
        parent: Finds the parent; asked once there is something to anchor.
        seconds: The least between two anchors.
        operator: Key id of the operator who signs.
    """

    def __init__(
        self,
        *,
        slug: str,
        home: CityHandler,
        parent: Callable[[], Awaitable[Neighbour | None]],
        seconds: float,
        operator: bytes,
        sign: Sign,
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._slug = slug
        self._home = home
        self._find = parent
        self._seconds = seconds
        self._operator = operator
        self._sign = sign
        self._compute = compute
        self._clock = clock
        self._here = LocalCity(home)
        self._steps: Steps | None = None
        self._room = STEP_BYTES
        """For handovers beside the newest checkpoint."""
        self._backoff = Backoff()
        self._rejections = Backoff(REJECTED_SECONDS_MAX)
        self._told = ""
        self._sought = 0
        """The latest round whose anchor was looked for in vain."""

    async def run(self) -> None:
        """Work until cancelled, or until there is found to be no parent; what fails is tried
        again, after a while."""
        kept = (await self._home.storage.notes(ANCHORED)).get(ANCHORED)
        # Where that was another parent's, the next round is the first for this one.
        position = decode_anchor(kept).round if kept else 0
        while True:
            await self._clock.sleep(self._seconds)
            await self._past(position)
            try:
                if (parent := await self._find()) is None:
                    return
                async with parent.connect() as city:
                    position = await self._anchor(parent, city)
                self._backoff.reset()
                self._rejections.reset()
                self._told = ""
            except Exception as error:
                trouble = str(error) or type(error).__name__
                if trouble != self._told:
                    logger.warning("%s: its checkpoint is not anchored: %s", self._slug, trouble)
                self._told = trouble
                backoff = self._rejections if isinstance(error, _Rejected) else self._backoff
                await self._clock.sleep(backoff.seconds())

    async def _note(self, name: str, parent: Neighbour) -> AnchorNote | None:
        note = (await self._home.storage.notes(name)).get(name)
        decoded = decode_anchor(note) if note else None
        return decoded if decoded and decoded.parent == parent.genesis.id else None

    async def _past(self, round: int) -> None:
        """Return once a later round is certified."""
        async with closing(self._home.stream_rounds(round + 1, sealed=False)) as rounds:
            async for _ in rounds:
                return

    async def _anchor(self, parent: Neighbour, city: PeerCity) -> int:
        """Anchor the newest certified checkpoint; returns its round."""
        ours, theirs = self._home.genesis, await city.genesis()
        if theirs.id != parent.genesis.id:
            raise Stranger(parent, theirs)
        await self._be_pinned(parent.genesis, city)
        earlier = await self._note(ANCHORING, parent)
        if earlier is not None and earlier.round > await self._linked(parent):
            await self._found(city, earlier)
        last = (await self._home.head()).certified_round
        if await self._has(parent, city, last):
            return last
        [stored] = await self._home.storage.rounds(last, 1)
        assert stored.certificate is not None
        if self._steps is None or self._steps.target != theirs.id:
            self._steps = Steps(ours, theirs.id, self._sign, self._compute, self._clock)
        while True:
            start, handovers = await self._steps.way(self._here, city, last, room=self._room)
            proof = await self._compute(encode_certified, start, stored.certificate, handovers)
            anchor = Anchor(ours.id, stored.checkpoint, proof)
            [signed] = await self._sign(theirs.id, [anchor], [()])
            note = AnchorNote(theirs.id, stored.round, stored.size, signed.tx_id)
            await self._home.storage.keep({ANCHORING: anchor_bytes(note)})
            [result] = await city.submit([signed.envelope])
            if not isinstance(result, Refusal):
                break
            if result.code != "TOO_LARGE" or not handovers:
                raise _Refused(f"{result.code}: {result.detail}")
            # Then more of them go before it.
            self._room = sum(map(handover_bytes, handovers)) // 2
        await city.wait([signed.tx_id])
        why = await self._found(city, note)
        if why is not None and not await self._has(parent, city, last):
            self._steps.forget()
            raise _Rejected(why)
        return last

    async def _linked(self, parent: Neighbour) -> int:
        """The latest round whose anchor is noted; 0 for none."""
        note = await self._note(ANCHORED, parent)
        return note.round if note is not None else 0

    async def _has(self, parent: Neighbour, city: PeerCity, last: int) -> bool:
        """Whether the parent has this round or a later one; keeps the note of whose anchor it is.

        Raises:
            _Refused: that anchor is not final yet.
        """
        if (there := await city.anchored(self._home.genesis.id)) < last:
            return False
        if there > max(await self._linked(parent), self._sought):
            for stored in await self._home.storage.rounds(there, 1):
                if (tx_id := await self._brought(city, stored)) is not None:
                    note = AnchorNote(parent.genesis.id, there, stored.size, tx_id)
                    await self._home.storage.keep({ANCHORED: anchor_bytes(note)})
                elif await city.latest_round() > LOOK_BACK:
                    self._sought = there
                else:  # All rounds were looked at: one was not visible yet.
                    raise _Refused("its parent has it, and does not show yet in which round")
        return True

    async def _brought(self, city: PeerCity, stored: StoredRound) -> bytes | None:
        """The parent's transaction that anchors a round; ``None`` if it is too far back."""
        object = anchor_object(self._home.genesis.id)
        async for round in _latest_rounds(city):
            if object.encode() not in round.record:
                continue
            if round.certificate is None:
                raise _Refused(NOT_FINAL)
            tx_ids = (await self._compute(record.decode, round.record)).tx_ids
            for at in range(0, len(tx_ids), READ_TOGETHER):
                receipts = await city.receipts(tx_ids[at : at + READ_TOGETHER])
                envelopes = [
                    receipt.envelope
                    for receipt in receipts.values()
                    if receipt.rejection is None and receipt.envelope is not None
                ]
                for transaction in await self._compute(decode_batch, envelopes):
                    anchor = transaction.anchor
                    if anchor is not None and anchor.checkpoint == stored.checkpoint:
                        return transaction.tx_id
        return None

    async def _found(self, city: PeerCity, note: AnchorNote) -> str | None:
        """Keep the note of an anchor that the parent approved; returns why it did not."""
        receipt = (await city.receipts([note.tx_id])).get(note.tx_id)
        if receipt is None:
            return NOT_FINAL
        if receipt.rejection is not None:
            return ": ".join(receipt.rejection)
        await self._home.storage.keep({ANCHORED: anchor_bytes(note)})
        return None

    async def _be_pinned(self, theirs: Genesis, city: PeerCity) -> None:
        """Have the parent know this city: where one operator has both, that is done here."""
        ours = self._home.genesis
        pinned = await city.pinned(ours.network, ours.city)
        if pinned == ours.id:
            return
        if pinned is not None or theirs.operator_id != self._operator:
            raise _Refused(
                f"{theirs.city} has not pinned {ours.city} with genesis {ours.id.hex()[:16]}…: its "
                f"operator names it under [peers.{ours.city}]"
            )
        [signed] = await self._sign(theirs.id, [Peer(ours.file)], [()])
        await city.submit([signed.envelope])
        await city.wait([signed.tx_id])


async def _latest_rounds(city: PeerCity) -> AsyncIterator[StoredRound]:
    """A city's latest rounds, the newest first."""
    end = await city.latest_round() + 1
    # What was read before may be newer than where it was said to stand.
    for _ in range(LOOK_BACK // PAGE):
        newer = await city.rounds(end, PAGE)
        end += len(newer)
        if len(newer) < PAGE:
            break
    last = max(end - LOOK_BACK, 1)
    while end > last:
        first = max(end - PAGE, last)
        for round in reversed(await city.rounds(first, end - first)):
            yield round
        end = first


class _Refused(CitychainError):
    pass


class _Rejected(_Refused):
    """By a round: what was sent stays in the parent's ledger."""
