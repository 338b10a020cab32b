"""What rounds say of a promise, against the definition written as one sentence."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.acknowledgement import sign
from citychain.crypto.signatures import SigningKey
from citychain.errors import VerificationError
from citychain.ports import StoredRound
from citychain.promise import PromiseCheck, PromiseState
from citychain.record import RoundRecord
from citychain.types import Certificate, PohEntry, Vote

GENESIS = hashlib.sha256(b"genesis").digest()
TX = hashlib.sha256(b"tx").digest()
DEADLINE = 100
[PROMISE] = sign(SigningKey(b"o" * 32), GENESIS, [TX], 50, DEADLINE)


def make_round(
    number: int, time_ms: int, tx_ids: list[bytes], genesis: bytes = GENESIS
) -> tuple[StoredRound, RoundRecord]:
    digest = hashlib.sha256(b"%d" % number).digest()
    stored = StoredRound(
        round=number,
        time_ms=time_ms,
        first_index=0,
        size=0,
        record=b"",
        checkpoint=b"checkpoint %d" % number,
        checkpoint_hash=digest,
        peaks=b"",
        certificate=Certificate(number, digest, (Vote(bytes(32), bytes(4627)),)),
    )
    record = RoundRecord(
        genesis=genesis,
        round=number,
        time_ms=time_ms,
        epoch=1,
        tx_ids=tx_ids,
        verdicts=[None] * len(tx_ids),
        held=[],
        held_places=[],
        writes=[],
        poh=PohEntry(bytes(32), 1, bytes(32), bytes(32)),
    )
    return stored, record


@given(
    times=st.lists(st.integers(0, 200), max_size=8).map(sorted),
    sealed=st.integers(0, 9),
    certified=st.lists(st.booleans(), min_size=8, max_size=8),
    now=st.integers(0, 200),
)
def test_the_verdict_is_the_definition(
    times: list[int], sealed: int, certified: list[bool], now: int
) -> None:
    check = PromiseCheck(PROMISE)
    for number, time_ms in enumerate(times, 1):
        tx_ids = [bytes(32), TX] if number == sealed else [bytes(32)]
        check.see(*make_round(number, time_ms, tx_ids), certified[number - 1])
    verdict = check.verdict(now)

    final = max((n for n in range(1, len(times) + 1) if certified[n - 1]), default=0)
    known = times[:final]
    if any(time_ms <= DEADLINE and number == sealed for number, time_ms in enumerate(known, 1)):
        expected = PromiseState.KEPT
    elif known and known[-1] > DEADLINE:
        expected = PromiseState.BROKEN
    else:
        expected = PromiseState.OPEN if now <= DEADLINE else PromiseState.DUE
    assert verdict.state is expected
    assert verdict.round == (sealed if sealed <= len(times) else 0)

    assert (verdict.proof is not None) == (expected is PromiseState.BROKEN)
    if verdict.proof is not None:
        first = next(number for number, time_ms in enumerate(times, 1) if time_ms > DEADLINE)
        assert (verdict.proof.round, verdict.proof.time_ms) == (first, times[first - 1])
        assert certified[verdict.proof.certificate.round - 1]
        assert verdict.proof.certificate.round >= first
        assert verdict.proof.checkpoint == b"checkpoint %d" % verdict.proof.certificate.round
        assert TX.hex() in verdict.proof.statement


def test_nothing_seen_is_told_with_what_is_known() -> None:
    check = PromiseCheck(PROMISE)
    assert check.verdict(DEADLINE).state is PromiseState.OPEN
    assert "no round is certified" in check.verdict(DEADLINE + 1).detail
    check.see(*make_round(1, 90, []), True)
    assert "round, 1, is of 1970-01-01T00:00:00.090+00:00" in check.verdict(DEADLINE + 1).detail


def test_time_that_goes_back_keeps_no_promise() -> None:
    check = PromiseCheck(PROMISE)
    check.see(*make_round(1, 101, []), True)
    check.see(*make_round(2, 100, [TX]), True)
    assert check.verdict(0).state is PromiseState.BROKEN


@pytest.mark.parametrize(
    ("number", "genesis"), [(1, GENESIS), (3, GENESIS), (2, bytes(32))], ids=str
)
def test_a_round_that_is_left_out_repeated_or_foreign_is_told(number: int, genesis: bytes) -> None:
    check = PromiseCheck(PROMISE)
    check.see(*make_round(1, 90, []), True)
    with pytest.raises(VerificationError, match=f"round {number} of city .* is not round 2"):
        check.see(*make_round(number, 101, [], genesis), True)


def test_a_time_beyond_the_calendar_is_told_as_a_number() -> None:
    check = PromiseCheck(PROMISE)
    check.see(*make_round(1, (1 << 63) - 1, []), True)
    assert f"{(1 << 63) - 1} ms" in check.verdict(0).proof.statement  # type: ignore[union-attr]
