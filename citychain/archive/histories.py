"""Holds segments of a city to each other: two that a committee certified may part in a round.

A city that was rebuilt without its last rounds has others in their place. Both were certified, and
how either was cut into segments says nothing of where they part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from citychain import checkpoint, notes
from citychain.archive.segment import Segment
from citychain.committee import CommitteeChain, Term
from citychain.errors import VerificationError
from citychain.genesis import Genesis
from citychain.types import Handover

__all__ = ["History", "follow_certificates", "history_of", "parted"]


@dataclass(frozen=True, slots=True)
class History:
    """Rounds in a row that committees certified."""

    hashes: Mapping[int, bytes]
    """By round, of its checkpoint; also of the round before the first."""
    times_ms: Mapping[int, int]
    """By round."""
    terms: Sequence[Term]
    """Committees up to the one that follows on the last round."""

    def moment(self, round: int) -> tuple[int, bytes]:
        """A round's place in time, which no other round has."""
        return self.times_ms[round], self.hashes[round]


def parted(one: Mapping[int, bytes], other: Mapping[int, bytes]) -> int | None:
    """The first of the rounds of both that they have differently, by hashes of checkpoints;
    ``None`` if it is none."""
    return min((it for it in one.keys() & other.keys() if one[it] != other[it]), default=None)


def history_of(genesis: Genesis, terms: Sequence[Term], segment: Segment) -> History | None:
    """The rounds of a segment; ``None`` if they are not certified.

    Args:
        terms: Committees that are known, from the genesis on. Those that were put in office by what
            the segment has itself, or later, are not believed: it may be of another history.
    """
    rounds = [archived.stored for archived in segment.rounds]
    chain, first = CommitteeChain(genesis), rounds[0].round
    try:
        for term in terms:
            earlier = term.first_round < first or (term.first_round == first and not term.recovered)
            if term.handover is not None and earlier:
                chain.apply(term.handover)
        follow_certificates(chain, segment)
    except VerificationError:
        return None
    hashes = {first - 1: checkpoint.decode(rounds[0].checkpoint).previous}
    hashes |= {stored.round: stored.checkpoint_hash for stored in rounds}
    return History(hashes, {stored.round: stored.time_ms for stored in rounds}, chain.terms)


def follow_certificates(chain: CommitteeChain, segment: Segment) -> None:
    """Hold all rounds of a segment to the committees in office.

    Raises:
        VerificationError: a certificate does not hold, or a recovery is not the operator's.
    """
    recoveries = deque(
        (notes.round_of(name), Handover(kept.public_keys, recovery=kept.envelope))
        for name, note in sorted(segment.recoveries.items())
        for kept in (notes.decode_recovery(note),)
    )
    with chain.attempt():
        for archived in segment.rounds:
            stored = archived.stored
            while recoveries and recoveries[0][0] <= stored.round:
                chain.apply(recoveries.popleft()[1])
            assert stored.certificate is not None
            chain.advance(stored.checkpoint, stored.certificate, segment.keys)
    if recoveries:
        raise VerificationError(f"a recovery from round {recoveries[0][0]} is of no round of it")
