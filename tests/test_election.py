"""A committee is drawn by weight, the same by everybody."""

from __future__ import annotations

import hashlib
import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain import election
from citychain.crypto import poh
from citychain.election import Candidate, Snapshot, elect
from citychain.errors import VerificationError
from citychain.types import Seat

GENESIS = hashlib.sha256(b"genesis").digest()
KEYS = [hashlib.sha256(b"key %d" % number).digest() for number in range(256)]

weights = st.integers(1, (1 << 64) - 1)
candidates = st.lists(
    st.builds(Candidate, st.sampled_from(KEYS), st.integers(1, (1 << 63) - 1), weights),
    max_size=30,
    unique_by=lambda candidate: candidate.key_id,
)
seeds = st.binary(min_size=32, max_size=32)
epochs = st.integers(0, (1 << 64) - 1)


class Drawing:
    """An independent drawing: a lottery drum of intervals, and what it threw away."""

    def __init__(self, stand: list[Candidate], seed: bytes, epoch: int) -> None:
        self.drum = sorted(stand, key=lambda candidate: candidate.key_id)
        self.message = seed + GENESIS + epoch.to_bytes(8, "big")
        self.numbers = 0
        self.refused = 0

    def number(self) -> int:
        text = b"citychain/election/v1\x00" + self.message + self.numbers.to_bytes(8, "big")
        self.numbers += 1
        return int(hashlib.sha256(text).hexdigest(), 16)

    def draw(self) -> Candidate:
        ends = list(accumulate(candidate.weight for candidate in self.drum))
        while True:
            number = self.number()
            if number < 2**256 - 2**256 % ends[-1]:
                break
            self.refused += 1
        point = number - number // ends[-1] * ends[-1]
        [place] = [
            place
            for place, end in enumerate(ends)
            if (ends[place - 1] if place else 0) <= point < end
        ]
        return self.drum.pop(place)

    def committee(self, seats: int) -> tuple[Seat, ...]:
        drawn = [self.draw() for _ in range(min(seats, len(self.drum)))]
        drawn.sort(key=lambda candidate: candidate.key_id)
        return tuple(Seat(candidate.key_id, candidate.stake) for candidate in drawn)


@settings(deadline=None)
@given(candidates, st.integers(0, 40), seeds, epochs)
def test_an_independent_drawing_elects_the_same(
    stand: list[Candidate], seats: int, seed: bytes, epoch: int
) -> None:
    expected = Drawing(stand, seed, epoch).committee(seats)
    assert elect(stand, seats, seed, GENESIS, epoch) == expected


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.integers((1 << 253) + 1, 1 << 255), min_size=1, max_size=6
    ),  # Sums of these leave a large rest of 2^256, so numbers are refused all the time.
    seeds,
)
def test_numbers_past_the_last_whole_multiple_are_refused(huge: list[int], seed: bytes) -> None:
    stand = [Candidate(key, 1, weight) for key, weight in zip(KEYS, huge, strict=False)]
    if sum(huge) > 1 << 256:
        stand = stand[:1]
    assert elect(stand, 3, seed, GENESIS, 0) == Drawing(stand, seed, 0).committee(3)


def test_refusing_numbers_is_what_happened() -> None:
    # 2^255 + 1 fits once into 2^256: nearly every second number is refused.
    stand = [Candidate(KEYS[0], 5, 1 << 254), Candidate(KEYS[1], 6, (1 << 254) + 1)]
    refused = 0
    for number in range(64):
        seed = number.to_bytes(32, "big")
        drawing = Drawing(stand, seed, 7)
        assert elect(stand, 1, seed, GENESIS, 7) == drawing.committee(1)
        refused += drawing.refused
    assert refused > 20


@settings(deadline=None)
@given(candidates, st.integers(1, 40), seeds, st.randoms(use_true_random=False))
def test_the_order_of_candidates_changes_nothing(
    stand: list[Candidate], seats: int, seed: bytes, shuffler: random.Random
) -> None:
    shuffled = list(stand)
    shuffler.shuffle(shuffled)
    assert elect(shuffled, seats, seed, GENESIS, 1) == elect(stand, seats, seed, GENESIS, 1)


@settings(deadline=None)
@given(candidates, st.integers(0, 40), seeds, epochs)
def test_the_elected_stood_each_once_with_their_stake(
    stand: list[Candidate], seats: int, seed: bytes, epoch: int
) -> None:
    elected = elect(stand, seats, seed, GENESIS, epoch)
    assert len(elected) == min(seats, len(stand))
    assert set(elected) <= {Seat(candidate.key_id, candidate.stake) for candidate in stand}
    assert [seat.key_id for seat in elected] == sorted({seat.key_id for seat in elected})


@settings(deadline=None)
@given(candidates, seeds)
def test_a_smaller_committee_is_a_part_of_a_larger_one(stand: list[Candidate], seed: bytes) -> None:
    committees = [set(elect(stand, seats, seed, GENESIS, 0)) for seats in range(len(stand) + 1)]
    assert all(
        len(small) == seats and small < large
        for seats, (small, large) in enumerate(pairwise(committees))
    )


@settings(deadline=None)
@given(candidates, st.integers(1, 10), seeds, st.integers(1, 1_000_000))
def test_the_stake_is_not_the_weight(
    stand: list[Candidate], seats: int, seed: bytes, stake: int
) -> None:
    other = [candidate._replace(stake=stake) for candidate in stand]
    assert [seat.key_id for seat in elect(stand, seats, seed, GENESIS, 0)] == [
        seat.key_id for seat in elect(other, seats, seed, GENESIS, 0)
    ]


def test_nobody_or_one_alone_can_stand() -> None:
    assert elect([], 5, bytes(32), GENESIS, 0) == ()
    alone = Candidate(KEYS[3], 9, (1 << 63) - 1)
    assert elect([alone], 5, bytes(32), GENESIS, 0) == (Seat(KEYS[3], 9),)
    assert elect([alone], 0, bytes(32), GENESIS, 0) == ()


def test_weights_near_the_largest_sum_up_past_64_bits() -> None:
    stand = [Candidate(key, 1, (1 << 63) - 1 - place) for place, key in enumerate(KEYS)]
    expected = Drawing(stand, bytes(32), 2).committee(100)
    assert elect(stand, 100, bytes(32), GENESIS, 2) == expected


def test_who_is_drawn_follows_city_epoch_and_seed() -> None:
    stand = [Candidate(key, 1, 1) for key in KEYS]
    same = elect(stand, 8, bytes(32), GENESIS, 0)
    assert elect(stand, 8, bytes(32), GENESIS, 0) == same
    assert elect(stand, 8, bytes(32), bytes(32), 0) != same
    assert elect(stand, 8, bytes(32), GENESIS, 1) != same
    assert elect(stand, 8, b"\1" * 32, GENESIS, 0) != same


def test_the_first_seat_goes_by_weight() -> None:
    shares = [1, 2, 3, 4, 10]
    stand = [Candidate(key, 1, share << 40) for key, share in zip(KEYS, shares, strict=False)]
    draws = 20_000
    counts = dict.fromkeys(KEYS[: len(shares)], 0)
    for number in range(draws):
        seed = hashlib.sha256(b"draw %d" % number).digest()
        [seat] = elect(stand, 1, seed, GENESIS, 0)
        counts[seat.key_id] += 1
    expected = [draws * share / sum(shares) for share in shares]
    squares = sum(
        (count - mean) ** 2 / mean for count, mean in zip(counts.values(), expected, strict=True)
    )
    # Four degrees of freedom: above 18.47 in one of a thousand series of draws. The seeds
    # are fixed, so this one is always the same.
    assert squares < 18.47


def test_the_second_seat_goes_by_weight_among_those_left() -> None:
    stand = [Candidate(KEYS[0], 1, 6), Candidate(KEYS[1], 1, 3), Candidate(KEYS[2], 1, 1)]
    draws, without = 20_000, [0, 0, 0]
    for number in range(draws):
        seed = hashlib.sha256(b"pair %d" % number).digest()
        elected = {seat.key_id for seat in elect(stand, 2, seed, GENESIS, 0)}
        [out] = [place for place in range(3) if KEYS[place] not in elected]
        without[out] += 1
    # P(pair) = sum over both orders of p1 * p2 / (1 - p1).
    chance = [
        0.3 * 0.1 / 0.7 + 0.1 * 0.3 / 0.9,
        0.6 * 0.1 / 0.4 + 0.1 * 0.6 / 0.9,
        0.6 * 0.3 / 0.4 + 0.3 * 0.6 / 0.7,
    ]
    squares = sum(
        (count - draws * p) ** 2 / (draws * p) for count, p in zip(without, chance, strict=True)
    )
    assert squares < 13.82


def test_the_seed_mixes_in_city_and_epoch() -> None:
    mixin = election.seed_mixin(GENESIS, 258)
    text = b"citychain/seed/v1\0" + GENESIS + bytes((0, 0, 0, 0, 0, 0, 1, 2))
    assert mixin == hashlib.sha256(text).digest()
    assert len(poh.extend(bytes(32), 3, mixin)) == 32


# --- epochs


@settings(deadline=None)
@given(st.integers(2, 1_000), st.data())
def test_each_round_is_of_one_epoch_which_ends_by_its_last_round(
    length: int, data: st.DataObject
) -> None:
    round = data.draw(st.integers(1, 1 << 40))
    seed_rounds = data.draw(st.integers(1, length - 1))
    epoch = election.epoch_of(round, length)
    last = election.last_round(epoch, length)
    assert last - length < round <= last
    assert election.epoch_of(last, length) == epoch
    assert election.epoch_of(last + 1, length) == epoch + 1
    closing = election.closing_round(epoch, length, seed_rounds)
    assert election.epoch_of(closing, length) == epoch
    assert closing == last - seed_rounds


def test_the_first_epoch() -> None:
    assert [election.epoch_of(round, 10) for round in (1, 10, 11, 20, 21)] == [0, 0, 1, 1, 2]
    assert election.last_round(0, 10) == 10
    assert election.closing_round(0, 10, 3) == 7


@pytest.mark.parametrize(
    ("stake", "permille", "weight"),
    [
        (1_000, 1_000, 1_000),
        (3, 1_500, 4),
        (1, 999, 1),
        (5, 0, 1),
        ((1 << 63) - 1, 1_000, (1 << 63) - 1),
        ((1 << 63) - 1, 10_000, (1 << 64) - 1),
    ],
)
def test_a_weight_is_a_stake_by_its_factor(stake: int, permille: int, weight: int) -> None:
    assert election.weigh(stake, permille) == weight


# --- objects


@settings(deadline=None)
@given(candidates)
def test_candidates_are_read_as_written_in_order(stand: list[Candidate]) -> None:
    seats = [Seat(candidate.key_id, candidate.stake) for candidate in stand]
    value = election.encode_candidates(seats)
    assert len(value) == 2 + 40 * len(seats)
    assert election.decode_candidates(value) == tuple(sorted(seats))


@settings(deadline=None)
@given(candidates, st.integers(1, (1 << 63) - 1))
def test_a_snapshot_is_read_as_written(stand: list[Candidate], closing: int) -> None:
    value = election.encode_snapshot(Snapshot(closing, tuple(stand)))
    assert len(value) == 10 + 48 * len(stand)
    assert election.decode_snapshot(value) == Snapshot(closing, tuple(sorted(stand)))


def test_layouts_are_those_of_the_protocol() -> None:
    first, second = sorted(KEYS[:2])
    assert election.encode_candidates([Seat(second, 258), Seat(first, 1)]) == (
        b"\0\2" + first + bytes(7) + b"\1" + second + bytes(6) + b"\1\2"
    )
    assert election.encode_snapshot(Snapshot(7, (Candidate(first, 1, 3),))) == (
        bytes(7) + b"\7" + b"\0\1" + first + bytes(7) + b"\1" + bytes(7) + b"\3"
    )
    assert election.encode_committee((Seat(first, 1),)) == b"\0\1" + first + bytes(7) + b"\1"
    assert election.decode_committee(b"\0\1" + first + bytes(7) + b"\1") == (Seat(first, 1),)
    assert election.snapshot_object(12) == "$election/12"


def test_the_most_candidates_fit_into_an_object() -> None:
    stand = tuple(Candidate(key, 1, 1) for key in KEYS)
    assert len(election.encode_snapshot(Snapshot(1, stand))) <= 16_384
    assert len(election.decode_snapshot(election.encode_snapshot(Snapshot(1, stand)))[1]) == 256


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0\1" + bytes(39),
        b"\0\1" + bytes(32) + bytes(7) + b"\1" + b"x",
        b"\0\1" + bytes(40),
        b"\0\2" + 2 * (bytes(32) + bytes(7) + b"\1"),
        b"\0\2" + b"\2" * 32 + bytes(7) + b"\1" + b"\1" * 32 + bytes(7) + b"\1",
        b"\1\1" + bytes(257 * 40),
    ],
    ids=["empty", "short", "long", "no stake", "twice", "disorder", "too many"],
)
def test_candidates_in_another_layout_are_refused(value: bytes) -> None:
    with pytest.raises(VerificationError, match=r"\$candidates"):
        election.decode_candidates(value)


def test_a_snapshot_in_another_layout_is_refused() -> None:
    good = election.encode_snapshot(Snapshot(3, (Candidate(KEYS[0], 1, 1),)))
    for bad in (good[:-1], good + b"x", good[:-8] + bytes(8)):
        with pytest.raises(VerificationError, match=r"\$election"):
            election.decode_snapshot(bad)
