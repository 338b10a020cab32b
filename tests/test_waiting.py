"""What a city waits for, in words."""

from __future__ import annotations

from citychain.ports import CommitteeStatus, RepresentativeStatus
from citychain.types import Objection
from citychain.waiting import objection_in_words, wait_in_words


def member(
    number: int, last_round: int, objection: Objection | None = None
) -> RepresentativeStatus:
    return RepresentativeStatus(bytes([number]) * 32, 1, last_round, objection)


def stakes(signed: int, needed: int) -> dict[str, int]:
    return {"stake_for": signed, "stake_needed": needed, "sealed_round": 12, "approved_round": 0}


def test_the_silent_and_those_who_object_are_named() -> None:
    objection = Objection(12, bytes(32), "replay", "seq 3", bytes([3]) * 32, b"")
    members = [member(1, 12), member(2, 11), member(3, 11, objection)]
    assert wait_in_words(CommitteeStatus(12, members, **stakes(1, 2))) == (
        "round 12 waits for its certificate: stake 1 of 3 signed, 2 needed; "
        "silent: 020202020202…; 030303030303… objects to round 12: replay: seq 3"
    )


def test_of_many_silent_ones_some_are_named() -> None:
    members = [member(number, 0) for number in range(20)]
    words = wait_in_words(CommitteeStatus(1, members, **stakes(0, 14)))
    assert words.endswith("030303030303… and 16 more")


def test_a_strangers_words_stay_on_their_line() -> None:
    objection = Objection(1, bytes(32), "a\nb", "\x1b[2J\r\n金沢\u202e", bytes(32), b"")
    assert objection_in_words(objection) == "000000000000… objects to round 1: a b: [2J  金沢"
