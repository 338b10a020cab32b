"""Holding a city to its promises: what became of an acknowledged transaction.

::

    check = PromiseCheck(promise)           # verified: `citychain.acknowledgement.verify`
    for round in rounds:                    # verified, from the first one on
        check.see(round, record, certified)
    verdict = check.verdict(now_ms)

Kept is what a certified round of a time not after the deadline seals, approved or rejected.
A city's rounds never go back in time. So a promise is broken for good once a round of a later
time is certified and none before it has the transaction; sealing it afterwards mends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from citychain.acknowledgement import Promise, to_fields
from citychain.errors import VerificationError
from citychain.types import Certificate

if TYPE_CHECKING:
    from citychain.ports import StoredRound
    from citychain.record import RoundRecord

__all__ = ["BrokenPromise", "PromiseCheck", "PromiseState", "PromiseVerdict"]


class PromiseState(StrEnum):
    """What became of a promise."""

    KEPT = "kept"
    OPEN = "open"
    """Not due yet."""
    DUE = "due"
    """The deadline is over, and no certified round proves anything: the city withholds
    rounds, stands still, or was not asked again."""
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class BrokenPromise:
    """Proof that a city broke a promise.

    Whoever has the city's genesis file and its rounds up to this one can repeat it: the
    acknowledgement is the operator's, the checkpoint is certified, its record's time is after
    the deadline, and no record of a round before it has the transaction. The checkpoint names
    that record by hash, and by its predecessors all the others.
    """

    promise: Promise
    round: int
    """The first round after the deadline."""
    time_ms: int
    """Its time."""
    checkpoint: bytes
    """Of the first certified round from that one on."""
    certificate: Certificate

    @property
    def statement(self) -> str:
        """What is proven, for people."""
        promised = self.promise.acknowledgement
        return (
            f"The operator of city {promised.genesis.hex()} signed at "
            f"{_time(promised.received_ms)} that transaction {self.promise.tx_id.hex()} would be "
            f"final by {_time(promised.final_by_ms)}. Round {self.round} is of "
            f"{_time(self.time_ms)}, and no round before it has the transaction."
        )

    def to_fields(self) -> dict[str, Any]:
        """For JSON; bytes in hexadecimal."""
        return {
            "statement": self.statement,
            "acknowledgement": to_fields(self.promise),
            "round": self.round,
            "time_ms": self.time_ms,
            "checkpoint": self.checkpoint.hex(),
            "certificate": {
                "round": self.certificate.round,
                "checkpoint_hash": self.certificate.checkpoint_hash.hex(),
                "votes": [
                    {"key_id": vote.key_id.hex(), "signature": vote.signature.hex()}
                    for vote in self.certificate.votes
                ],
            },
        }


@dataclass(frozen=True, slots=True)
class PromiseVerdict:
    """What became of a promise, as far as the rounds tell."""

    state: PromiseState
    detail: str
    """For people."""
    round: int
    """The round that seals the transaction, certified or not, in time or not; 0 for none."""
    proof: BrokenPromise | None = None
    """Set for a broken one."""


class PromiseCheck:
    """Follows a city's rounds for one promise.

    Args:
        promise: Found valid.
    """

    def __init__(self, promise: Promise) -> None:
        self._promise = promise
        self._round = 0
        self._sealed: tuple[int, int] | None = None
        """Round and time that seal the transaction."""
        self._after: tuple[int, int] | None = None
        """The first round after the deadline, and its time."""
        self._certified: tuple[int, int] = (0, 0)
        self._proof: tuple[bytes, Certificate] | None = None

    def see(self, round: StoredRound, record: RoundRecord, certified: bool) -> None:
        """Take the next round, from 1 on.

        Args:
            round: Found valid: it follows the one before, and has this record.
            certified: Whether its certificate was found valid. One holds for all rounds before.

        Raises:
            VerificationError: a round was left out.
        """
        promised = self._promise.acknowledgement
        if round.round != self._round + 1 or record.genesis != promised.genesis:
            raise VerificationError(
                f"round {round.round} of city {record.genesis.hex()[:16]}… is not round "
                f"{self._round + 1} of city {promised.genesis.hex()[:16]}…"
            )
        self._round = round.round
        place = round.round, record.time_ms
        if self._promise.tx_id in record.tx_ids:
            self._sealed = self._sealed or place
        if record.time_ms > promised.final_by_ms:
            self._after = self._after or place
        if certified and round.certificate is not None:
            self._certified = place
            if self._after and self._proof is None:
                self._proof = round.checkpoint, round.certificate

    def verdict(self, now_ms: int) -> PromiseVerdict:
        """What became of the promise, by the rounds seen so far."""
        promised = self._promise.acknowledgement
        sealed, certified = self._sealed, self._certified
        round = sealed[0] if sealed else 0
        in_time = sealed is not None and (self._after is None or round < self._after[0])
        deadline = f"the deadline {_time(promised.final_by_ms)}"
        if in_time and round <= certified[0]:
            return PromiseVerdict(PromiseState.KEPT, f"final in round {round}", round)
        if self._after and self._proof:
            proof = BrokenPromise(self._promise, *self._after, *self._proof)
            late = f"; round {round} seals it, too late" if round else ""
            detail = f"round {self._after[0]} is after {deadline}, and none before it has it{late}"
            return PromiseVerdict(PromiseState.BROKEN, detail, round, proof)
        where = f"sealed in round {round}, which is not certified" if round else "in no round yet"
        if now_ms <= promised.final_by_ms:
            return PromiseVerdict(PromiseState.OPEN, f"{where}; not due before {deadline}", round)
        known = (
            f"the latest certified round, {certified[0]}, is of {_time(certified[1])}"
            if certified[0]
            else "no round is certified"
        )
        return PromiseVerdict(PromiseState.DUE, f"{where}; past {deadline}, but {known}", round)


def _time(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
