"""Brings what proves that a representative signed two checkpoints of a round into the ledger.

Elections leave such a key out, and they see the ledger alone. A proof is submitted as a
transaction of the operator's; a note with its id says that it was.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from citychain.errors import CitychainError
from citychain.handler import Received, Refusal
from citychain.notes import ACCUSED
from citychain.ports import CityStorage, SupportsVotes
from citychain.types import ConflictingVotes
from citychain.waiting import short

__all__ = ["Accuser"]

logger = logging.getLogger(__name__)


class Accuser:
    """Submits the proofs of one city.

    Args:
        sign: Makes the envelope of an equivocation transaction.
        submit: As `citychain.handler.CityHandler.submit`.
    """

    def __init__(
        self,
        *,
        slug: str,
        storage: CityStorage,
        voting: SupportsVotes,
        sign: Callable[[ConflictingVotes], Awaitable[bytes]],
        submit: Callable[[Sequence[bytes]], Awaitable[Sequence[Received | Refusal]]],
    ) -> None:
        self._slug = slug
        self._storage = storage
        self._voting = voting
        self._sign = sign
        self._submit = submit
        self._accused: set[bytes] | None = None

    async def look(self) -> None:
        """Submit the proofs that came since; what fails is tried again the next time."""
        if self._accused is None:
            kept = await self._storage.notes(ACCUSED)
            self._accused = {bytes.fromhex(name.removeprefix(ACCUSED)) for name in kept}
        for conflict in (await self._voting.committee()).conflicting:
            key_id = conflict.first.vote.key_id
            if key_id not in self._accused and await self._accuse(key_id, conflict):
                self._accused.add(key_id)

    async def _accuse(self, key_id: bytes, conflict: ConflictingVotes) -> bool:
        try:
            [result] = await self._submit([await self._sign(conflict)])
        except CitychainError as error:
            logger.warning("%s: %s is not accused yet: %s", self._slug, short(key_id), error)
            return False
        if isinstance(result, Refusal):
            logger.warning(
                "%s: %s is not accused yet: %s: %s",
                self._slug,
                short(key_id),
                result.code,
                result.detail,
            )
            return False
        await self._storage.keep({f"{ACCUSED}{key_id.hex()}": result.tx_id})
        logger.warning(
            "%s: transaction %s accuses representative %s of signing two checkpoints",
            self._slug,
            result.tx_id.hex(),
            short(key_id),
        )
        return True
