"""Elections: who is drawn into the next committee, which anybody can repeat.

Epoch e, from 0, has the rounds ``e * epoch_rounds + 1`` to ``(e + 1) * epoch_rounds``.
Candidacy closes so many rounds before its last one: what the candidates then are is
kept as the snapshot, and the seed is hashed when nobody can enter or leave any more.

Drawing, by stake and without replacement, over the candidates sorted by key id::

    seed    = proof of history from the last but one round's hash, which mixes in
              SHA-256("citychain/seed/v1\\0" | genesis 32 | epoch 8)
    counter = 0; for each seat:
        total = sum of the weights of those that are left
        repeat x = SHA-256("citychain/election/v1\\0" | seed 32 | genesis 32 | epoch 8
                           | counter 8) as an integer; counter += 1
        until x < floor(2^256 / total) * total
        elected is the first whose running sum of weights exceeds x mod total

Objects of the ledger, integers big-endian::

    $committee        seats 2, each key id 32, stake 8
    $candidates       count 2, each key id 32, stake 8
    $election/EPOCH   closing round 8, count 2, each key id 32, stake 8, weight 8
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from citychain.errors import VerificationError
from citychain.layout import Reader, seats_bytes
from citychain.types import Seat

__all__ = [
    "CANDIDATES",
    "CANDIDATES_MAX",
    "COMMITTEE",
    "Candidate",
    "Snapshot",
    "closing_round",
    "decode_candidates",
    "decode_committee",
    "decode_snapshot",
    "elect",
    "encode_candidates",
    "encode_committee",
    "encode_snapshot",
    "epoch_of",
    "last_round",
    "seed_mixin",
    "snapshot_object",
    "weigh",
]

COMMITTEE: Final = "$committee"
"""Object with the seats in office from the next round on."""
CANDIDATES: Final = "$candidates"
"""Object with those who stand for election."""
CANDIDATES_MAX: Final = 256
"""So that a list of them fits into an object's value."""
_WEIGHT_MAX: Final = (1 << 64) - 1


class Candidate(NamedTuple):
    """Somebody who stands for election."""

    key_id: bytes
    stake: int
    weight: int
    """At least 1: the chance to be drawn is in proportion to it."""


class Snapshot(NamedTuple):
    """Who could be elected in an epoch."""

    closing_round: int
    candidates: tuple[Candidate, ...]
    """In order of key id."""


# --- epochs


def epoch_of(round: int, epoch_rounds: int) -> int:
    """The epoch that a round, from 1, belongs to."""
    return (round - 1) // epoch_rounds


def last_round(epoch: int, epoch_rounds: int) -> int:
    """The round that names the committee of the next epoch."""
    return (epoch + 1) * epoch_rounds


def closing_round(epoch: int, epoch_rounds: int, seed_rounds: int) -> int:
    """The round after which candidacy is closed, ``seed_rounds`` (at least 1, less than
    ``epoch_rounds``) before the last one."""
    return last_round(epoch, epoch_rounds) - seed_rounds


# --- drawing


def weigh(stake: int, factor_permille: int) -> int:
    """A stake with its factor for presence: at least 1, and at most what 8 bytes hold."""
    return min(max(stake * factor_permille // 1_000, 1), _WEIGHT_MAX)


def seed_mixin(genesis: bytes, epoch: int) -> bytes:
    """What the seed's proof of history mixes in, 32 bytes."""
    return hashlib.sha256(b"citychain/seed/v1\0" + genesis + epoch.to_bytes(8, "big")).digest()


def elect(
    candidates: Iterable[Candidate], seats: int, seed: bytes, genesis: bytes, epoch: int
) -> tuple[Seat, ...]:
    """Draw a committee.

    Args:
        candidates: In any order, each key id once.
        seats: How many to draw; all, where fewer stand.
        seed: 32 bytes.

    Returns:
        The elected in order of key id, each with its stake; nobody where nobody stands.
    """
    left = sorted(candidates)
    total = sum(candidate.weight for candidate in left)
    prefix = b"citychain/election/v1\0" + seed + genesis + epoch.to_bytes(8, "big")
    elected: list[Seat] = []
    counter = 0
    while left and len(elected) < seats:
        # Without refusing the rest of the division the first would be drawn more often.
        limit = (1 << 256) // total * total
        drawn = limit
        while drawn >= limit:
            digest = hashlib.sha256(prefix + counter.to_bytes(8, "big")).digest()
            drawn = int.from_bytes(digest, "big")
            counter += 1
        candidate = left.pop(_place(left, drawn % total))
        total -= candidate.weight
        elected.append(Seat(candidate.key_id, candidate.stake))
    return tuple(sorted(elected))


def _place(candidates: Sequence[Candidate], point: int) -> int:
    """Index of the first whose running sum of weights exceeds ``point``."""
    sums = accumulate(candidate.weight for candidate in candidates)
    return next(index for index, end in enumerate(sums) if end > point)


# --- objects


def snapshot_object(epoch: int) -> str:
    """Object with an epoch's `Snapshot`."""
    return f"$election/{epoch}"


def encode_committee(seats: tuple[Seat, ...]) -> bytes:
    """Value of `COMMITTEE`."""
    return seats_bytes(seats)


def decode_committee(value: bytes) -> tuple[Seat, ...]:
    """Value of `COMMITTEE`, read.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(value, COMMITTEE)
    seats = reader.seats()
    reader.end()
    return seats


def encode_candidates(candidates: Iterable[Seat]) -> bytes:
    """Value of `CANDIDATES`, given them in any order; at most `CANDIDATES_MAX`."""
    ordered = sorted(candidates)
    return _count_bytes(ordered) + b"".join(
        key_id + stake.to_bytes(8, "big") for key_id, stake in ordered
    )


def decode_candidates(value: bytes) -> tuple[Seat, ...]:
    """Value of `CANDIDATES`, read; in order of key id.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(value, CANDIDATES)
    candidates = tuple(
        Seat(reader.take(32), reader.integer(8)) for _ in range(_count(reader, CANDIDATES))
    )
    reader.end()
    _check_order(candidates, CANDIDATES)
    return candidates


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Value of `snapshot_object`; the candidates may be in any order."""
    ordered = sorted(snapshot.candidates)
    return (
        snapshot.closing_round.to_bytes(8, "big")
        + _count_bytes(ordered)
        + b"".join(
            key_id + stake.to_bytes(8, "big") + weight.to_bytes(8, "big")
            for key_id, stake, weight in ordered
        )
    )


def decode_snapshot(value: bytes) -> Snapshot:
    """Value of `snapshot_object`, read.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(value, "$election")
    closing = reader.integer(8)
    candidates = tuple(
        Candidate(reader.take(32), reader.integer(8), reader.integer(8))
        for _ in range(_count(reader, "$election"))
    )
    reader.end()
    _check_order(candidates, "$election")
    if any(candidate.weight < 1 for candidate in candidates):
        raise VerificationError("$election: a candidate without weight")
    return Snapshot(closing, candidates)


def _count_bytes(ordered: Sequence[object]) -> bytes:
    assert len(ordered) <= CANDIDATES_MAX
    return len(ordered).to_bytes(2, "big")


def _count(reader: Reader, what: str) -> int:
    if (count := reader.integer(2)) > CANDIDATES_MAX:
        raise VerificationError(f"{what}: {count} candidates; at most {CANDIDATES_MAX} can stand")
    return count


def _check_order(candidates: Sequence[Seat] | Sequence[Candidate], what: str) -> None:
    """Each once, in order of key id, and with a stake: there is one value for one list."""
    key_ids = [candidate.key_id for candidate in candidates]
    if any(first >= second for first, second in pairwise(key_ids)):
        raise VerificationError(f"{what}: not in order of key id, or one stands twice")
    if any(candidate.stake < 1 for candidate in candidates):
        raise VerificationError(f"{what}: a candidate without stake")
