"""Judges where authors are: presences themselves, and who must have shown one.

Bounds come first and signatures last, so that what cannot be right costs little.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isqrt
from typing import Final

from citychain._native.transactions import Transaction
from citychain.consensus._ground import Ground
from citychain.consensus._ledger_before import LedgerBefore, Wanted
from citychain.consensus._poh_pop_options import PohPopOptions
from citychain.consensus._rejections import reject
from citychain.crypto import signatures
from citychain.crypto.places import chord_squared
from citychain.ports import RoundContext
from citychain.presence import (
    WITNESS_CONTEXT,
    PresenceRecord,
    pop_hash,
    presence_object,
    witness_message,
    witness_object,
)
from citychain.types import Presence, Rejection

__all__ = ["PresenceJudge"]

PRESENCES_MAX: Final = 4
"""Presences of one key that a round takes."""
FREE_ACTIONS: Final = frozenset(
    (
        "presence",
        "withdrawal",
        "witness",
        "equivocation",
        "recovery",
        "peer",
        "delivery",
        "settlement",
        "anchor",
        "reward",
    )
)
"""Actions that ask no presence of their author: the way to one, proofs that anybody may bring,
what is the operator's, and taking one's own stake back."""


class PresenceJudge:
    """Judges presences by a city's options. Not for policy ``none``."""

    def __init__(self, options: PohPopOptions, genesis: bytes) -> None:
        self._options = options
        self._genesis = genesis
        self._ground = Ground(options)

    def want(self, round: int, candidates: Sequence[Transaction], wanted: Wanted) -> None:
        """Add what `judge`, `pops` and `records` read."""
        authors = {candidate.author for candidate in candidates}
        wanted.objects.update(map(presence_object, authors))
        for candidate in candidates:
            presence = candidate.presence
            if presence is None or self._bad_window(presence, round):
                continue
            if presence.first_round:
                wanted.rounds.add(presence.first_round)
            if self._options.witnesses:
                wanted.objects.update(
                    witness_object(witness.key_id) for witness in presence.witnesses
                )

    def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], before: LedgerBefore
    ) -> dict[int, Rejection]:
        """Rejections by index into the candidates; of one key's presences in one round that
        with the lower transaction id counts as the earlier."""
        rejections: dict[int, Rejection] = {}
        absent: dict[bytes, Rejection | None] = {}
        claims: dict[int, Presence] = {}
        for index, candidate in enumerate(candidates):
            if presence := candidate.presence:
                claims[index] = presence
            elif candidate.action not in FREE_ACTIONS:
                author = candidate.author
                if author not in absent:
                    absent[author] = self._absence(round.round, before, author)
                if rejection := absent[author]:
                    rejections[index] = rejection
        in_order = sorted(claims, key=lambda index: candidates[index].tx_id)
        claims = {index: claims[index] for index in in_order}
        return rejections | self._judge_claims(round, candidates, claims, before)

    def holds(self, round: int, record: PresenceRecord | None) -> bool:
        """Whether a presence still holds in a round."""
        return record is not None and round - record.round <= self._options.validity_rounds

    def last(self, before: LedgerBefore, key: bytes) -> PresenceRecord | None:
        """A key's last presence before the round."""
        value = before.value(presence_object(key))
        return PresenceRecord.from_bytes(value) if value else None

    def pops(
        self, round: int, candidates: Sequence[Transaction], before: LedgerBefore
    ) -> list[bytes]:
        """Hash of the judgement of place of each candidate."""
        policy = self._options.policy
        authors = {candidate.author for candidate in candidates}
        known = {author: before.value(presence_object(author)) for author in authors}
        return [
            pop_hash(self._genesis, round, candidate.tx_id, policy, known[candidate.author])
            for candidate in candidates
        ]

    def records(
        self, round: RoundContext, approved: Iterable[Transaction]
    ) -> dict[bytes, PresenceRecord]:
        """What approved presences leave, by key id: of each key the last one."""
        return {
            transaction.author: self._record(round, transaction.tx_id, presence)
            for transaction in approved
            if (presence := transaction.presence)
        }

    def _record(self, round: RoundContext, tx_id: bytes, presence: Presence) -> PresenceRecord:
        point = presence.latitude_e7, presence.longitude_e7
        return PresenceRecord(
            round.round,
            round.time_ms,
            *point,
            presence.accuracy_m,
            self._ground.factor_permille(point, round.time_ms),
            tx_id,
        )

    def _absence(self, round: int, before: LedgerBefore, author: bytes) -> Rejection | None:
        record = self.last(before, author)
        if record is None:
            return reject("NO_PRESENCE", "send a presence in this city before")
        if not self.holds(round, record):
            until = record.round + self._options.validity_rounds
            return reject(
                "PRESENCE_EXPIRED", f"the presence of round {record.round} held to round {until}"
            )
        return None

    # --- presences

    def _judge_claims(
        self,
        round: RoundContext,
        candidates: Sequence[Transaction],
        claims: Mapping[int, Presence],
        before: LedgerBefore,
    ) -> dict[int, Rejection]:
        rejections: dict[int, Rejection] = {}
        left: dict[int, Presence] = {}
        for index, presence in claims.items():
            if rejection := self._out_of_bounds(round, presence, before):
                rejections[index] = rejection
            else:
                left[index] = presence
        for index, rejection in self._elsewhere(left).items():
            rejections[index] = rejection
            del left[index]
        for judge in (self._crowded, self._unseen, self._too_fast):
            for index, rejection in judge(round, candidates, left, before).items():
                rejections[index] = rejection
                del left[index]
        return rejections

    def _bad_window(self, presence: Presence, round: int) -> str | None:
        first, last = presence.first_round, presence.last_round
        longest = self._options.window_rounds_max
        if not first < round <= last:
            return f"made for rounds after {first} up to {last}, this is round {round}"
        if last - first > longest:
            return f"made for {last - first} rounds; at most {longest} are allowed"
        return None

    def _out_of_bounds(
        self, round: RoundContext, presence: Presence, before: LedgerBefore
    ) -> Rejection | None:
        if fault := self._bad_window(presence, round.round):
            return reject("BAD_WINDOW", fault)
        first = presence.first_round
        anchor = before.checkpoint_hash(first) if first else self._genesis
        if presence.anchor != anchor:
            return reject("BAD_WINDOW", f"the anchor is not the hash of round {first}'s checkpoint")
        asked = self._options.accuracy_max_m
        if presence.accuracy_m > asked:
            return reject(
                "INACCURATE", f"accurate to {presence.accuracy_m} m; to {asked} m is asked"
            )
        return None

    def _elsewhere(self, claims: Mapping[int, Presence]) -> dict[int, Rejection]:
        points = [(claim.latitude_e7, claim.longitude_e7) for claim in claims.values()]
        return {
            index: reject("OUTSIDE_REGION", f"the position lies in {where}")
            for index, where in zip(claims, self._ground.outside(points), strict=True)
            if where is not None
        }

    def _crowded(
        self,
        round: RoundContext,
        candidates: Sequence[Transaction],
        claims: Mapping[int, Presence],
        before: LedgerBefore,
    ) -> dict[int, Rejection]:
        counts: dict[bytes, int] = defaultdict(int)
        rejections: dict[int, Rejection] = {}
        for index in claims:
            author = candidates[index].author
            counts[author] += 1
            if counts[author] > PRESENCES_MAX:
                rejections[index] = reject(
                    "TOO_MANY_PRESENCES", f"a round takes {PRESENCES_MAX} of one key"
                )
        return rejections

    def _unseen(
        self,
        round: RoundContext,
        candidates: Sequence[Transaction],
        claims: Mapping[int, Presence],
        before: LedgerBefore,
    ) -> dict[int, Rejection]:
        """Those that too few registered witnesses signed; all signatures in one batch."""
        needed = self._options.witnesses
        if not needed:
            return {}
        rejections: dict[int, Rejection] = {}
        valid: dict[int, int] = {}
        owners: list[int] = []
        batch: list[tuple[bytes, bytes, bytes, bytes]] = []
        for index, claim in claims.items():
            subject = candidates[index].author
            message = witness_message(self._genesis, subject, claim)
            signed = [
                (public_key, message, WITNESS_CONTEXT, witness.signature)
                for witness in claim.witnesses
                if witness.key_id != subject
                and (public_key := before.value(witness_object(witness.key_id)))
            ]
            if len(signed) < needed:
                rejections[index] = reject(
                    "WITNESSES_MISSING",
                    f"{len(signed)} of {needed} are registered witnesses other than the author",
                )
            else:
                valid[index] = 0
                owners += [index] * len(signed)
                batch += signed
        for index, holds in zip(owners, signatures.verify_batch(batch), strict=True):
            valid[index] += holds
        for index, count in valid.items():
            if count < needed:
                rejections[index] = reject(
                    "WITNESSES_MISSING", f"{count} of {needed} witnesses' signatures hold"
                )
        return rejections

    def _too_fast(
        self,
        round: RoundContext,
        candidates: Sequence[Transaction],
        claims: Mapping[int, Presence],
        before: LedgerBefore,
    ) -> dict[int, Rejection]:
        """Held against the key's last presence, and against those accepted in this round."""
        seen: dict[bytes, list[PresenceRecord]] = {}
        rejections: dict[int, Rejection] = {}
        for index, claim in claims.items():
            transaction = candidates[index]
            author = transaction.author
            if author not in seen:
                last = self.last(before, author)
                seen[author] = [last] if last else []
            here = self._record(round, transaction.tx_id, claim)
            for there in seen[author]:
                if fault := travel_fault(here, there, self._options.speed_max_mps):
                    rejections[index] = reject("IMPOSSIBLE_TRAVEL", fault)
                    break
            else:
                seen[author].append(here)
        return rejections


def travel_fault(a: PresenceRecord, b: PresenceRecord, speed_max_mps: int) -> str | None:
    """Why nobody can have been at both places, if that is so; exact, and the same either way.

    The straight line through the earth stands for the way, so a longer way is allowed than
    the speed would; both accuracies are allowed in full.
    """
    apart = chord_squared((a.latitude_e7, a.longitude_e7), (b.latitude_e7, b.longitude_e7))
    time_ms = abs(a.time_ms - b.time_ms)
    reach_mm = speed_max_mps * time_ms + 1_000 * (a.accuracy_m + b.accuracy_m)
    if apart * 1_000_000 <= reach_mm**2:
        return None
    return (
        f"{a.tx_id.hex()} is {isqrt(apart)} m from {b.tx_id.hex()}, {time_ms} ms apart; "
        f"no more than {reach_mm // 1_000} m can be"
    )
