"""What ``poh-pop`` says of a round: pure, and without the event loop.

A record tells in which order a round's candidates were sealed, and a DAG rule may choose that
after they are judged. So nothing here depends on their order: where one candidate decides
about another they are taken in order of transaction id, and each is judged whether or not
another is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from citychain import election
from citychain._native.transactions import Transaction
from citychain.consensus._ledger_before import LedgerBefore, Wanted
from citychain.consensus._offices import OfficeJudge
from citychain.consensus._poh_pop_options import PohPopOptions
from citychain.consensus._presence_judge import PresenceJudge
from citychain.consensus._stakes import StakeJudge, candidates_bytes, folded, stakes_of
from citychain.consensus._terms import (
    FORMER,
    UNSEATED,
    decode_former,
    decode_unseated,
    former_bytes,
    latest,
    unseated_bytes,
)
from citychain.crypto import poh
from citychain.crypto.keys import key_id
from citychain.genesis import Genesis
from citychain.ports import Judgement, RoundContext
from citychain.presence import presence_object
from citychain.types import Rejection, Seat

__all__ = ["RoundRules"]

ACTIONS: Final = {
    "none": frozenset(("candidacy", "withdrawal", "equivocation", "recovery")),
    "claimed": frozenset(("candidacy", "withdrawal", "equivocation", "recovery", "presence")),
    "witnessed": frozenset(
        ("candidacy", "withdrawal", "equivocation", "recovery", "presence", "witness")
    ),
}
"""Actions that have a meaning, by policy."""
MOVES: Final = frozenset(("withdrawal", "recovery"))
"""Actions for which it matters who was in office before."""
STANDING: Final = frozenset(("candidacy", "withdrawal", "equivocation", "recovery"))
"""Actions by which candidates stand, or do not."""


class RoundRules:
    """Judges rounds of a city."""

    def __init__(self, options: PohPopOptions, genesis: Genesis) -> None:
        self._options = options
        self._genesis = genesis.id
        self._actions = ACTIONS[options.policy]
        self._offices = OfficeJudge(options, genesis)
        self._presences = PresenceJudge(options, genesis.id) if options.policy != "none" else None

    def want(self, round: int, candidates: Sequence[Transaction]) -> Wanted:
        """What `judge` reads, but for `want_more`."""
        wanted = Wanted({election.CANDIDATES})
        ours = list(self._ours(candidates).values())
        self._offices.want(round, ours, wanted)
        StakeJudge.want((item for item in ours if item.stake), self._options, wanted)
        if self._presences:
            self._presences.want(round, candidates, wanted)
        if round == self._last(round) or any(item.action in MOVES for item in ours):
            wanted.objects.add(FORMER)
        if round == self._closing(round) or any(item.action in STANDING for item in ours):
            wanted.objects.add(UNSEATED)
        if round > self._closing(round):
            wanted.objects.add(election.snapshot_object(self._epoch(round)))
        return wanted

    def want_more(self, round: int, before: LedgerBefore) -> list[str]:
        """Objects that `judge` also reads, known from what `want` has named: at the closing
        of candidacy the candidates' presences."""
        if self._presences is None or round != self._closing(round):
            return []
        return [presence_object(key) for key in stakes_of(before)]

    def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], before: LedgerBefore
    ) -> Judgement:
        """Judge a round; see `citychain.ports.ConsensusStep.judge`."""
        ours = self._ours(candidates)
        committee = self._offices.committee(before)
        standing = self._standing(round.round, before)
        stakes = stakes_of(before)

        refused: dict[int, Rejection] = {}
        pops = None
        if self._presences:
            refused |= self._presences.judge(round, candidates, before)
            pops = self._presences.pops(round.round, candidates, before)
        seated = {seat.key_id for seat in committee}
        rejections, excluded = self._offices.judge_proofs(
            {index: item for index, item in ours.items() if item.action == "equivocation"},
            before,
            seated | stakes.keys(),
        )
        refused |= rejections
        refused |= StakeJudge(
            self._options,
            before,
            excluded,
            seated | {candidate.key_id for candidate in standing} | self._answerable(round, before),
        ).judge(
            {index: item for index, item in ours.items() if item.stake and index not in refused}
        )
        refused |= self._offices.judge_orders(
            round,
            {i: item for i, item in ours.items() if item.action in ("witness", "recovery")},
            before,
        )
        elected = self._elected(round, standing, committee)

        def effects(approved: Sequence[Transaction]) -> Mapping[str, bytes]:
            return self._effects(round, approved, before, committee, elected)

        return Judgement(
            committee=committee,
            next_committee=elected,
            refused=refused,
            pops=pops,
            actions=self._actions,
            effects=effects,
        )

    def _ours(self, candidates: Sequence[Transaction]) -> dict[int, Transaction]:
        """Those whose action the step gives a meaning to, by index, in order of id."""
        ours = [
            (candidate.tx_id, index)
            for index, candidate in enumerate(candidates)
            if candidate.action in self._actions
        ]
        return {index: candidates[index] for _, index in sorted(ours)}

    # --- elections

    def _epoch(self, round: int) -> int:
        return election.epoch_of(round, self._options.epoch_rounds)

    def _closing(self, round: int) -> int:
        """The round after which the candidacy of the round's epoch is closed."""
        return election.closing_round(
            self._epoch(round), self._options.epoch_rounds, self._options.seed_rounds
        )

    def _last(self, round: int) -> int:
        """The last round of the round's epoch."""
        return election.last_round(self._epoch(round), self._options.epoch_rounds)

    def _answerable(self, round: RoundContext, before: LedgerBefore) -> set[bytes]:
        """Who left office less than an epoch ago: a second vote of theirs can turn up yet, and
        would find no stake."""
        first = round.round - self._options.epoch_rounds
        return {key for key, last in decode_former(before.value(FORMER)).items() if last >= first}

    def _standing(self, round: int, before: LedgerBefore) -> tuple[election.Candidate, ...]:
        """Candidates of an election that is closed and not decided before the round."""
        if round <= self._closing(round):
            return ()
        value = before.value(election.snapshot_object(self._epoch(round)))
        return election.decode_snapshot(value).candidates if value else ()

    def _elected(
        self,
        round: RoundContext,
        standing: tuple[election.Candidate, ...],
        committee: tuple[Seat, ...],
    ) -> tuple[Seat, ...] | None:
        """The next committee, in an epoch's last round and if it is another one."""
        epoch = self._epoch(round.round)
        if not standing or round.round != self._last(round.round):
            return None
        seed = poh.extend(
            round.previous_poh,
            self._options.seed_hashes,
            election.seed_mixin(self._genesis, epoch),
        )
        elected = election.elect(standing, self._options.seats, seed, self._genesis, epoch)
        return elected if elected != tuple(sorted(committee)) else None

    # --- what the round writes

    def _effects(
        self,
        round: RoundContext,
        approved: Sequence[Transaction],
        before: LedgerBefore,
        committee: tuple[Seat, ...],
        elected: tuple[Seat, ...] | None,
    ) -> dict[str, bytes]:
        values = self._offices.writes(round.round, approved, elected)
        presences = self._presences.records(round, approved) if self._presences else {}
        values |= {presence_object(key): record.to_bytes() for key, record in presences.items()}
        excluded = {key_id(proof.public_key) for item in approved if (proof := item.equivocation)}
        stakes = stakes_of(before)
        after = folded(stakes, approved, excluded)
        if after != stakes:
            values[election.CANDIDATES] = candidates_bytes(after)
        if new := values.get(election.COMMITTEE):
            left = {seat.key_id for seat in committee}
            left -= {seat.key_id for seat in election.decode_committee(new)}
            known = decode_former(before.value(FORMER))
            former = {
                key: last
                for key, last in (known | dict.fromkeys(left, round.round)).items()
                if key in after and last + self._options.epoch_rounds > round.round
            }
            if former != known:
                values[FORMER] = former_bytes(former)
        was_unseated = decode_unseated(before.value(UNSEATED))
        unseated = self._unseated(was_unseated, committee, approved) & after.keys()
        if unseated != was_unseated:
            values[UNSEATED] = unseated_bytes(unseated)
        if round.round != self._closing(round.round):
            return values
        candidates = []
        for key, stake in after.items():
            if key in unseated:
                continue
            factor = 1_000
            if self._presences:
                record = presences.get(key) or self._presences.last(before, key)
                if record is None or not self._presences.holds(round.round, record):
                    continue
                factor = record.factor_permille
            candidates.append(election.Candidate(key, stake, election.weigh(stake, factor)))
        if candidates:
            epoch = self._epoch(round.round)
            snapshot = election.Snapshot(round.round, tuple(candidates))
            values[election.snapshot_object(epoch)] = election.encode_snapshot(snapshot)
        return values

    @staticmethod
    def _unseated(
        before: set[bytes], committee: tuple[Seat, ...], approved: Sequence[Transaction]
    ) -> set[bytes]:
        """Who does not stand after the round: who was lost with a committee, and did not lock
        more since. Elected again and again, they would stop the city in each epoch."""
        after = before - {item.author for item in approved if item.action == "candidacy"}
        if (order := latest(approved)) is not None:
            assert order.recovery is not None
            after |= {seat.key_id for seat in committee}
            after -= {seat.key_id for seat in order.recovery.seats}
        return after
