"""Holds approved rounds to their signatures.

No hash of a round has them: a transaction's id leaves its signature out, and a checkpoint knows
nothing of the votes for it. Where one was damaged all hashes hold, and nobody can take the round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from citychain._native.transactions import Refusal, check_batch
from citychain.city.handovers import Handovers
from citychain.city.replay import WIDEST
from citychain.committee import CommitteeChain
from citychain.crypto.signatures import KeyCache
from citychain.errors import InvalidRound, VerificationError
from citychain.genesis import Genesis
from citychain.ports import CityStorage, Compute, StoredRound
from citychain.types import Handover

__all__ = ["Votes", "check_signatures"]

PREPARED_KEYS: Final = 1_024
"""Each takes 66 KB; others are prepared anew."""


def check_signatures(
    genesis: bytes,
    rounds: Iterable[tuple[int, Sequence[bytes]]],
    public_keys: Mapping[bytes, bytes],
) -> None:
    """Check the signatures of envelopes, round by round.

    Args:
        public_keys: Those of the authors, by key id.

    Raises:
        InvalidRound: one does not hold, or its key is missing.
    """
    keys = KeyCache(min(len(public_keys), PREPARED_KEYS), len(public_keys))
    for key_id, public_key in public_keys.items():
        keys.add_public_key(key_id, public_key)
    for round, envelopes in rounds:
        for item in check_batch(envelopes, genesis, keys, WIDEST, 0):
            if isinstance(item, Refusal):
                raise InvalidRound(round, "transactions", f"{item.code}: {item.detail}")


class Votes:
    """Holds rounds of a storage, or copies of them, to the committees in office.

    Who was in office is followed from the genesis by what the storage has of it.
    """

    def __init__(self, genesis: Genesis, storage: CityStorage, compute: Compute) -> None:
        self._handovers = Handovers(storage)
        self._compute = compute
        self._chain = CommitteeChain(genesis)
        self._applied: set[Handover] = set()

    async def check(self, rounds: Sequence[StoredRound]) -> None:
        """Check the certificates of approved rounds in a row.

        Raises:
            VerificationError: one does not hold, or a handover up to there.
            StorageError: the storage lacks a key of a committee.
        """
        handovers = await self._handovers.between(0, rounds[-1].round + 1)
        await self._compute(self._check, handovers, rounds)

    def _check(self, handovers: Sequence[Handover], rounds: Sequence[StoredRound]) -> None:
        for handover in handovers:
            if handover not in self._applied:
                self._chain.apply(handover)
                self._applied.add(handover)
        for stored in rounds:
            if stored.certificate is None:
                raise InvalidRound(stored.round, "certificate", "the storage does not give it")
            try:
                self._chain.verify_certificate(stored.checkpoint, stored.certificate)
            except VerificationError as error:
                raise InvalidRound(stored.round, "certificate", str(error)) from None
