"""Which committee certifies a round, and how an operator replaces one that is lost.

It is the committee that the round's checkpoint names, unless a recovery from that round, or
from one before, came after the last election. Recoveries are kept as notes
(`citychain.notes`), before any round is certified by whom they put in office.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from citychain import notes
from citychain._native.transactions import Limits, Refusal, Transaction, check_batch, decode_batch
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache
from citychain.errors import InvalidRequest, StorageError
from citychain.notes import RecoveryNote
from citychain.ports import CityContext, CityStorage
from citychain.types import Recovery, Seat
from citychain.waiting import short

__all__ = ["Recoveries", "SignedRecovery"]

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0
"""Until a recovery that was not kept is kept again."""
AHEAD_MS: Final = 60_000
"""By how much the operator's clock may be before the server's."""


class SignedRecovery(NamedTuple):
    """A recovery as it came."""

    tx_id: bytes
    created_at_ms: int
    recovery: Recovery
    note: RecoveryNote


class Recoveries:
    """The recoveries of one city, and the elections that end them."""

    def __init__(self, city: CityContext) -> None:
        self._city = city
        self._elections: set[int] = set()
        self._recoveries: list[SignedRecovery] = []
        """In the order of their rounds, and of their signing."""

    async def load(self, storage: CityStorage) -> None:
        """Read what was kept."""
        for name in await storage.notes(notes.HANDOVER):
            self._elections.add(notes.round_of(name))
        kept = map(notes.decode_recovery, (await storage.notes(notes.RECOVERY)).values())
        for note in kept:
            [transaction] = await self._city.compute(decode_batch, [note.envelope])
            assert transaction.recovery is not None
            self._recoveries.append(_signed(transaction, transaction.recovery, note))

    def forget(self) -> None:
        """Before they are loaded again."""
        self._elections.clear()
        self._recoveries.clear()

    def elected(self, round: int) -> None:
        """The checkpoint of this round names the next committee."""
        self._elections.add(round)

    def in_office(self, round: int, named: tuple[Seat, ...]) -> tuple[Seat, ...]:
        """The committee that certifies a round whose checkpoint names this one."""
        before = [
            known.recovery for known in self._recoveries if known.recovery.from_round <= round
        ]
        if not before:
            return named
        since = before[-1].from_round
        if any(since <= election < round for election in self._elections):
            return named
        return before[-1].seats

    def public_keys(self) -> dict[bytes, bytes]:
        """Those that came with recoveries, by key id."""
        return {
            seat.key_id: public_key
            for known in self._recoveries
            for seat, public_key in zip(known.recovery.seats, known.note.public_keys, strict=True)
        }

    # --- recoveries

    async def read(self, envelope: bytes, public_keys: Sequence[bytes]) -> SignedRecovery:
        """A recovery as it came, checked but for its place in the ledger.

        Raises:
            InvalidRequest: it is not the operator's, or the keys are not those of its seats.
        """
        genesis = self._city.genesis
        operator = KeyCache(1, 1)
        operator.add_public_key(genesis.operator_id, bytes.fromhex(genesis.operator))
        [item] = await self._city.compute(
            check_batch, [envelope], genesis.id, operator, Limits(), self._city.clock.time_ms()
        )
        if isinstance(item, Refusal):
            if item.code == "UNKNOWN_KEY":
                raise InvalidRequest("transaction", "is not signed by the city's operator")
            field = f"transaction.{item.field}" if item.field else "transaction"
            raise InvalidRequest(field, f"{item.code}: {item.detail}")
        if item.author != genesis.operator_id:
            raise InvalidRequest("transaction", "is not signed by the city's operator")
        if (recovery := item.recovery) is None:
            raise InvalidRequest("transaction.body", f"is no recovery but {item.action}")
        if len(public_keys) != len(recovery.seats):
            raise InvalidRequest(
                "public_keys", f"has {len(public_keys)} keys for {len(recovery.seats)} seats"
            )
        for index, (seat, public_key) in enumerate(zip(recovery.seats, public_keys, strict=True)):
            if key_id(public_key) != seat.key_id:
                raise InvalidRequest(f"public_keys[{index}]", "is not the key of this seat")
        return _signed(item, recovery, RecoveryNote(item.envelope, tuple(public_keys)))

    def knows(self, tx_id: bytes) -> bool:
        """Whether this recovery is in force, or was."""
        return any(known.tx_id == tx_id for known in self._recoveries)

    def check_order(self, order: SignedRecovery) -> None:
        """Hold a recovery to those of the same round: the one signed last counts, in the ledger
        as well, where they can be sealed in another order.

        Raises:
            InvalidRequest: it was not signed after them, or is dated ahead, so that none could
                follow.
        """
        field, now = "transaction.body.created_at_ms", self._city.clock.time_ms()
        if order.created_at_ms > now + AHEAD_MS:
            raise InvalidRequest(
                field, f"is {order.created_at_ms}; this server's clock is at {now}: compare clocks"
            )
        since = order.recovery.from_round
        for known in self._recoveries:
            if known.recovery.from_round == since and order.created_at_ms <= known.created_at_ms:
                raise InvalidRequest(
                    field,
                    f"is {order.created_at_ms}; a recovery from the same round was signed at "
                    f"{known.created_at_ms}: sign again, later",
                )

    async def keep(self, order: SignedRecovery, storage: CityStorage) -> None:
        """Keep a recovery and put it in force; meanwhile nobody may certify a round.

        A failed write may have happened all the same, and then it is in force from the next
        opening on. So it is repeated until it succeeds.
        """
        recovery, slug = order.recovery, self._city.slug
        since = recovery.from_round
        number = sum(known.recovery.from_round == since for known in self._recoveries)
        kept = {notes.recovery_name(since, number): notes.recovery_bytes(order.note)}
        while True:
            try:
                await storage.keep(kept)
                break
            except StorageError as error:
                logger.warning("%s: the recovery from round %d: %s", slug, since, error)
                await self._city.clock.sleep(PAUSE_SECONDS)
        self._recoveries.append(order)
        self._recoveries.sort(key=lambda known: known.recovery.from_round)
        logger.warning(
            "%s: by the operator's recovery, rounds from %d on are certified by %s",
            slug,
            since,
            ", ".join(short(seat.key_id) for seat in recovery.seats),
        )


def _signed(transaction: Transaction, recovery: Recovery, note: RecoveryNote) -> SignedRecovery:
    return SignedRecovery(transaction.tx_id, transaction.created_at_ms, recovery, note)
