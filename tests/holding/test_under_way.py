"""After a rejection a holder tries one thing at a time, each later than the one before."""

from __future__ import annotations

from citychain.clock import SystemClock
from citychain.holding.under_way import UnderWay
from citychain.ports import FragmentKey
from citychain.types import Rejection

REJECTED = Rejection("NO_PRESENCE", "none stands")
KEYS = [FragmentKey(b"o" * 32, b"r" * 32, index) for index in range(3)]


class SetClock(SystemClock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def tried(under_way: UnderWay, clock: SetClock, until: int) -> list[float]:
    """When each of many things was submitted, where all are rejected at once."""
    times: list[float] = []
    for second in range(until):
        clock.now = float(second)
        while under_way.may_submit:
            under_way.submitted()
            tx_id = len(times).to_bytes(32, "big")
            under_way.claim(tx_id, KEYS)
            assert under_way.seen({tx_id: REJECTED, b"another's": REJECTED}) == [REJECTED]
            times.append(clock.now)
    return times


def test_each_is_tried_later_than_the_one_before_until_one_is_approved() -> None:
    clock = SetClock()
    under_way = UnderWay(clock)
    assert tried(under_way, clock, 1_000) == [0, 5, 15, 35, 75, 155, 315, 615, 915]
    clock.now = 5_000.0
    under_way.submitted()
    under_way.answer(b"a", 12, KEYS[:1])
    assert not under_way.may_submit, "one at a time"
    assert under_way.seen({b"another's": None}) == []
    assert not under_way.may_submit
    assert under_way.seen({b"a": None}) == []
    assert under_way.may_submit


def test_several_may_be_under_way_if_none_was_rejected() -> None:
    under_way = UnderWay(SetClock())
    under_way.submitted()
    under_way.answer(b"a", 12, KEYS[:1])
    under_way.submitted()
    under_way.claim(b"b", KEYS[1:])
    assert under_way.may_submit
    assert under_way.tx_ids == [b"b", b"a"]
    assert under_way.claimed == {*KEYS[1:]}
    assert (under_way.answered(12), under_way.answered(24)) == ({KEYS[0]}, set())
    assert under_way.seen({b"a": REJECTED, b"b": None}) == [REJECTED]
    assert under_way.tx_ids == []
    assert not under_way.may_submit
