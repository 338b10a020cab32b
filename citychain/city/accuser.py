"""Brings what proves that a representative signed two checkpoints of a round into the ledger.

Elections leave such a key out, and they see the ledger alone. A proof is submitted as a
transaction of the operator's, which is kept as a note before that: it is submitted again, the
same one, until it has a final state. The ledger takes a proof against a key that has a seat or
stands for one; if it refused one for want of that, another is submitted when the key does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from citychain import election
from citychain.client.transactions import sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.errors import CitychainError
from citychain.genesis import Genesis
from citychain.handler import Received, Refusal
from citychain.notes import ACCUSATION, ACCUSED
from citychain.ports import CityStorage, Compute, SupportsVotes
from citychain.types import ConflictingVotes, Equivocation, State
from citychain.waiting import short

__all__ = ["Accuser", "accusation"]

logger = logging.getLogger(__name__)

UNPROVEN: Final = "EQUIVOCATION_UNPROVEN"


async def accusation(
    genesis: Genesis, operator: SigningKey, compute: Compute, proof: ConflictingVotes
) -> bytes:
    """The operator's transaction that brings a proof into the ledger."""
    first, second = proof.first, proof.second
    action = Equivocation(
        proof.public_key,
        first.round,
        first.checkpoint_hash,
        first.vote.signature,
        second.checkpoint_hash,
        second.vote.signature,
    )
    signed = await compute(
        sign_transaction, operator, genesis=genesis.id, action=action, with_public_key=True
    )
    return signed.envelope


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
        genesis: Genesis,
        storage: CityStorage,
        voting: SupportsVotes,
        sign: Callable[[ConflictingVotes], Awaitable[bytes]],
        submit: Callable[[Sequence[bytes]], Awaitable[Sequence[Received | Refusal]]],
    ) -> None:
        self._slug = slug
        self._genesis = genesis
        self._storage = storage
        self._voting = voting
        self._sign = sign
        self._submit = submit
        self._envelopes: dict[bytes, bytes] = {}
        """By key id, of those that are not done."""
        self._unproven: set[bytes] = set()
        """Keys whose envelope was rejected, as they had no seat and stood for none."""
        self._done: set[bytes] = set()
        self._loaded = False

    async def look(self) -> None:
        """Bring proofs on their way; what fails is tried again the next time."""
        if not self._loaded:
            await self._load()
        for conflict in (await self._voting.committee()).conflicting:
            key_id = conflict.first.vote.key_id
            if key_id in self._done:
                continue
            try:
                await self._accuse(key_id, conflict)
            except CitychainError as error:
                logger.warning("%s: %s is not accused yet: %s", self._slug, short(key_id), error)

    async def _load(self) -> None:
        for name in await self._storage.notes(ACCUSED):
            self._done.add(bytes.fromhex(name.removeprefix(ACCUSED)))
        for name, envelope in (await self._storage.notes(ACCUSATION)).items():
            self._envelopes[bytes.fromhex(name.removeprefix(ACCUSATION))] = envelope
        self._loaded = True

    async def _accuse(self, key_id: bytes, conflict: ConflictingVotes) -> None:
        if key_id in self._unproven and key_id not in await self._representatives():
            return
        if key_id in self._unproven or key_id not in self._envelopes:
            envelope = await self._sign(conflict)
            await self._storage.keep({f"{ACCUSATION}{key_id.hex()}": envelope})
            self._envelopes[key_id] = envelope
            self._unproven.discard(key_id)
        [result] = await self._submit([self._envelopes[key_id]])
        if isinstance(result, Refusal):
            logger.warning(
                "%s: %s is not accused yet: %s: %s",
                self._slug,
                short(key_id),
                result.code,
                result.detail,
            )
        elif result.state == State.APPROVED:
            await self._storage.keep({f"{ACCUSED}{key_id.hex()}": result.tx_id})
            self._done.add(key_id)
        elif result.state == State.REJECTED:
            await self._rejected(key_id, result.tx_id)
        elif not result.duplicate:
            logger.warning(
                "%s: transaction %s accuses representative %s of signing two checkpoints",
                self._slug,
                result.tx_id.hex(),
                short(key_id),
            )

    async def _rejected(self, key_id: bytes, tx_id: bytes) -> None:
        rejection = (await self._storage.find([tx_id]))[tx_id].rejection
        assert rejection is not None
        if rejection.code == UNPROVEN:
            self._unproven.add(key_id)
        else:
            # Somebody else proved it before, or this city has no use for proofs.
            self._done.add(key_id)
        logger.warning(
            "%s: the accusation of %s was rejected: %s: %s",
            self._slug,
            short(key_id),
            rejection.code,
            rejection.reason,
        )

    async def _representatives(self) -> set[bytes]:
        """Keys that have a seat, or stand for one, by the ledger."""
        states = await self._storage.objects([election.COMMITTEE, election.CANDIDATES])
        seats = self._genesis.seats
        if (state := states.get(election.COMMITTEE)) and state.value:
            seats = election.decode_committee(state.value)
        if (state := states.get(election.CANDIDATES)) and state.value:
            seats += election.decode_candidates(state.value)
        return {seat.key_id for seat in seats}
