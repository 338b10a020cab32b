"""Who is in office follows from the genesis and from nothing that anybody else says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from history import OPERATOR, History, Members, Sealed, envelope, key, keys_of, member_id, seats_of

from citychain.committee import HANDOVERS_MAX, CommitteeChain
from citychain.errors import InvalidReceipt
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.types import Handover, Vote

FIRST: Members = {1: 1, 2: 1, 3: 1}
SECOND: Members = {3: 2, 4: 2, 5: 2}
THIRD: Members = {6: 5}
FOURTH: Members = {7: 1, 8: 1}


class Told(NamedTuple):
    """A city of which the committee changed by election, recovery and election."""

    history: History
    handovers: tuple[Handover, ...]
    lost: Sealed
    """Sealed in the name of the second committee, which the third replaced."""
    new: Sealed
    """Sealed once the third was in office."""


@pytest.fixture(scope="module")
def told() -> Told:
    history = History(FIRST)
    history.seal(FIRST)
    elects = history.seal(FIRST, SECOND)  # Round 2
    history.seal(SECOND)
    lost = history.seal(SECOND)  # Round 4, which nobody certified before the recovery.
    new = history.seal(THIRD)
    last = history.seal(THIRD, FOURTH)  # Round 6
    history.seal(FOURTH)
    handovers = (
        history.election(elects, [1, 2], SECOND),
        history.recovery(4, THIRD),
        history.election(last, [6], FOURTH),
    )
    return Told(history, handovers, lost, new)


def refused(check: str, match: str, act: Callable[[], Any]) -> None:
    with pytest.raises(InvalidReceipt, match=match) as caught:
        act()
    assert caught.value.check == check


def chain_of(told: Told, count: int = 3) -> CommitteeChain:
    chain = CommitteeChain(told.history.genesis)
    for handover in told.handovers[:count]:
        chain.apply(handover)
    return chain


# --- what holds


def test_committees_follow_by_election_and_recovery(told: Told) -> None:
    chain = chain_of(told)
    assert [term.first_round for term in chain.terms] == [1, 3, 4, 7]
    assert [term.recovered for term in chain.terms] == [False, False, True, False]
    for round, members in {1: FIRST, 2: FIRST, 3: SECOND, 4: THIRD, 6: THIRD, 7: FOURTH}.items():
        assert chain.in_office(round).seats == seats_of(members)
    assert chain.in_office(99).seats == seats_of(FOURTH)
    assert chain.recovered_rounds(3) == []
    assert chain.recovered_rounds(4) == chain.recovered_rounds(99) == [4]
    assert chain.known_round == 7


def test_each_certifies_the_rounds_of_its_term_and_no_other(told: Told) -> None:
    chain, history = chain_of(told), told.history
    members = [FIRST, FIRST, SECOND, THIRD, THIRD, THIRD, FOURTH]
    for sealed, office in zip(history.rounds, members, strict=True):
        for voters in (FIRST, SECOND, THIRD, FOURTH):
            certificate = history.certify(sealed, list(voters))
            if voters == office:
                decoded = chain.verify_certificate(sealed.checkpoint, certificate)
                assert decoded.round == sealed.round
            else:
                refused(
                    "quorum",
                    "without a seat",
                    lambda sealed=sealed, certificate=certificate: chain.verify_certificate(
                        sealed.checkpoint, certificate
                    ),
                )


def test_a_city_without_handovers_knows_its_first_committee_alone(told: Told) -> None:
    chain, history = CommitteeChain(told.history.genesis), told.history
    assert chain.known_round == 0
    first = history.rounds[0]
    chain.verify_certificate(first.checkpoint, history.certify(first, [2, 3]))
    third = history.rounds[2]
    refused(
        "handover",
        "a handover is missing",
        lambda: chain.verify_certificate(third.checkpoint, history.certify(third, [3, 4])),
    )


@pytest.mark.parametrize("round", [4, 5])
def test_rounds_from_a_recovery_on_may_name_either_committee_and_no_third(
    told: Told, round: int
) -> None:
    chain, history = chain_of(told, 2), told.history
    for members in (SECOND, THIRD):
        fork = history.seal(members, round=round)
        chain.verify_certificate(fork.checkpoint, history.certify(fork, [6]))
    for members in (FIRST, FOURTH):
        fork = history.seal(members, round=round)
        refused(
            "handover",
            "names a committee that is not in office",
            lambda fork=fork: chain.verify_certificate(fork.checkpoint, history.certify(fork, [6])),
        )


def test_a_committee_that_never_signed_anything_is_replaced_from_its_first_round(
    told: Told,
) -> None:
    history = told.history
    chain = chain_of(told, 1)
    chain.apply(history.recovery(3, THIRD))
    assert [term.first_round for term in chain.terms] == [1, 3, 3]
    third = history.rounds[2]
    chain.verify_certificate(third.checkpoint, history.certify(third, [6]))
    # And replaced again, by another signature of the operator.
    chain.apply(history.recovery(3, FOURTH))
    chain.verify_certificate(third.checkpoint, history.certify(third, [7, 8]))
    refused(
        "quorum",
        "without a seat",
        lambda: chain.verify_certificate(third.checkpoint, history.certify(third, [6])),
    )


def test_the_first_round_of_all_can_be_recovered() -> None:
    history = History(FIRST)
    first = history.seal(FIRST)
    chain = CommitteeChain(history.genesis)
    refused("handover", "was another one", lambda: chain.apply(
        history.recovery(1, THIRD, previous=bytes(32))
    ))  # fmt: skip
    chain.apply(history.recovery(1, THIRD))
    chain.verify_certificate(first.checkpoint, history.certify(first, [6]))


def test_an_audit_advances_round_by_round(told: Told) -> None:
    chain, history = CommitteeChain(told.history.genesis), told.history
    public_keys = {member_id(member): key(member).public_key for member in range(1, 9)}
    voters = [[1, 2, 3], [2, 3], [4, 5], [6], [6], [6], [7, 8]]
    for sealed, by in zip(history.rounds, voters, strict=True):
        if sealed.round == 4:
            chain.apply(told.handovers[1])
        chain.advance(sealed.checkpoint, history.certify(sealed, by), public_keys)
    assert [term.seats for term in chain.terms] == [
        seats_of(members) for members in (FIRST, SECOND, THIRD, FOURTH)
    ]
    # The same handovers, told again, are the same.
    for handover in told.handovers:
        chain.apply(handover)
    assert len(chain.terms) == 4


def test_an_audit_that_lacks_a_key_says_whose(told: Told) -> None:
    chain, history = CommitteeChain(told.history.genesis), told.history
    sealed = history.rounds[1]
    certificate = history.certify(sealed, [1, 2])
    keys = {member_id(member): key(member).public_key for member in (3, 4)}
    refused(
        "handover",
        member_id(5).hex()[:16],
        lambda: chain.advance(sealed.checkpoint, certificate, keys),
    )
    assert len(chain.terms) == 1


def test_an_audit_notices_a_round_that_does_not_follow(told: Told) -> None:
    chain, history = CommitteeChain(told.history.genesis), told.history
    other = History(FIRST)
    other.seal(FIRST, root=b"\1" * 32)
    sealed = history.rounds[0]
    chain.advance(sealed.checkpoint, history.certify(sealed, [1, 2]), {})
    fork = other.seal(FIRST)
    refused(
        "checkpoint",
        "does not follow",
        lambda: chain.advance(fork.checkpoint, other.certify(fork, [1, 2]), {}),
    )


# --- certificates that are none


def test_a_quorum_is_what_the_genesis_says() -> None:
    members = {1: 1, 2: 1, 3: 1, 4: 1}
    for quorum, needed in (("two-thirds", 3), ("majority", 3)):
        history = History(members, quorum)  # type: ignore[arg-type]
        sealed = history.seal(members)
        chain = CommitteeChain(history.genesis)
        for votes in range(5):
            certificate = history.certify(sealed, range(1, votes + 1))
            if votes >= needed:
                chain.verify_certificate(sealed.checkpoint, certificate)
            else:
                with pytest.raises(InvalidReceipt, match=f"quorum: stake {votes} of 4"):
                    chain.verify_certificate(sealed.checkpoint, certificate)
    members = {1: 3, 2: 2}
    for quorum, enough in (("two-thirds", False), ("majority", True)):
        history = History(members, quorum)  # type: ignore[arg-type]
        sealed = history.seal(members)
        chain = CommitteeChain(history.genesis)
        certificate = history.certify(sealed, [1])
        if enough:
            chain.verify_certificate(sealed.checkpoint, certificate)
        else:
            with pytest.raises(InvalidReceipt, match="quorum: stake 3 of 5"):
                chain.verify_certificate(sealed.checkpoint, certificate)


def test_every_vote_of_a_certificate_must_hold_also_those_past_the_quorum(told: Told) -> None:
    history = told.history
    sealed = history.rounds[0]
    good = history.certify(sealed, [1, 2, 3])
    for chain in (CommitteeChain(history.genesis), chain_of(told)):
        for _ in range(2):  # By the batch at first, then by prepared keys.
            chain.verify_certificate(sealed.checkpoint, good)
            for place in range(3):
                votes = list(good.votes)
                votes[place] = Vote(votes[place].key_id, bytes(4627))
                refused(
                    "quorum",
                    "does not hold",
                    lambda chain=chain, votes=votes: chain.verify_certificate(
                        sealed.checkpoint, replace(good, votes=tuple(votes))
                    ),
                )
            for votes in (good.votes + good.votes[:1], good.votes[:1] * 3):
                refused(
                    "quorum",
                    "a second one",
                    lambda chain=chain, votes=votes: chain.verify_certificate(
                        sealed.checkpoint, replace(good, votes=votes)
                    ),
                )


def test_a_bad_vote_is_noticed_at_first_sight(told: Told) -> None:
    history = told.history
    sealed = history.rounds[0]
    good = history.certify(sealed, [1, 2, 3])
    votes = (*good.votes[:2], Vote(good.votes[2].key_id, good.votes[1].signature))
    refused(
        "quorum",
        "does not hold",
        lambda: CommitteeChain(history.genesis).verify_certificate(
            sealed.checkpoint, replace(good, votes=votes)
        ),
    )


def test_a_certificate_is_for_this_checkpoint_and_round(told: Told) -> None:
    chain, history = chain_of(told), told.history
    first, second = history.rounds[:2]
    good = history.certify(first, [1, 2])
    refused("checkpoint", "for another one", lambda: chain.verify_certificate(
        second.checkpoint, good
    ))  # fmt: skip
    refused("checkpoint", "another round", lambda: chain.verify_certificate(
        first.checkpoint, replace(good, round=2)
    ))  # fmt: skip
    elsewhere = History(FIRST, city="nanao")
    sealed = elsewhere.seal(FIRST)
    refused("genesis", "another city", lambda: chain.verify_certificate(
        sealed.checkpoint, elsewhere.certify(sealed, [1, 2])
    ))  # fmt: skip


# --- handovers that are none


def _altered(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _replaced(data: bytes, member: int, other: int) -> bytes:
    return data.replace(member_id(member), member_id(other))


LIES: dict[str, tuple[int, str, Callable[[Told], Handover]]] = {
    # Name: after so many true handovers, what is said, the lie.
    "too few votes": (0, "quorum: stake 1 of 3", lambda told: told.history.election(
        told.history.rounds[1], [1], SECOND)),
    "by those who are elected": (0, "without a seat", lambda told: told.history.election(
        told.history.rounds[1], [4, 5], SECOND)),
    "an altered vote": (0, "does not hold", lambda told: replace(
        told.handovers[0], certificate=replace(
            told.handovers[0].certificate,  # type: ignore[type-var]
            votes=tuple(Vote(v.key_id, _altered(v.signature))
                        for v in told.handovers[0].certificate.votes)))),  # type: ignore[union-attr]
    "another certificate": (0, "for another one", lambda told: replace(
        told.handovers[0], certificate=told.handovers[2].certificate)),
    "no certificate": (0, "neither", lambda told: replace(told.handovers[0], certificate=None)),
    "nothing": (0, "neither", lambda told: Handover(())),
    "both at once": (1, "both", lambda told: replace(
        told.handovers[0], recovery=told.handovers[1].recovery)),
    "a round that elects nobody": (0, "elects nobody", lambda told: told.history.election(
        told.history.rounds[0], [1, 2], FIRST)),
    "a key too few": (0, "2 keys for 3 seats", lambda told: replace(
        told.handovers[0], public_keys=keys_of(SECOND)[:2])),
    "a key too many": (0, "4 keys for 3 seats", lambda told: replace(
        told.handovers[0], public_keys=(*keys_of(SECOND), key(9).public_key))),
    "keys in another order": (0, "is not that of", lambda told: replace(
        told.handovers[0], public_keys=keys_of(SECOND)[::-1])),
    "the key of somebody else": (0, "is not that of", lambda told: replace(
        told.handovers[0], public_keys=(key(9).public_key, *keys_of(SECOND)[1:]))),
    "an altered key": (0, "is not that of", lambda told: replace(
        told.handovers[0], public_keys=(_altered(keys_of(SECOND)[0]), *keys_of(SECOND)[1:]))),
    "an altered checkpoint": (0, "for another one", lambda told: replace(
        told.handovers[0], checkpoint=_altered(told.handovers[0].checkpoint))),
    "a link that is missing": (0, "handover is missing", lambda told: told.handovers[2]),
    "a committee after its term": (1, "without a seat", lambda told: told.history.election(
        told.history.seal(SECOND, FOURTH, round=4), [1, 2], FOURTH)),
    "another election of the same round": (1, "another committee", lambda told:
        told.history.election(told.history.seal(FIRST, FOURTH, round=2), [1, 2], FOURTH)),
    "an election of an earlier round": (2, "another committee", lambda told:
        told.history.election(told.history.seal(FIRST, FOURTH, round=1), [1, 2], FOURTH)),
    "an election in the midst": (3, "another committee", lambda told: told.history.election(
        told.history.seal(THIRD, SECOND, round=5), [6], SECOND)),
    "a replaced committee's election": (2, "without a seat", lambda told: told.history.election(
        told.history.seal(SECOND, FOURTH, round=5), [3, 4], FOURTH)),
    "a recovery by a representative": (1, "not the operator's", lambda told:
        told.history.recovery(4, THIRD, signer=1)),
    "a recovery in the operator's name": (1, "not signed by the operator", lambda told:
        told.history.recovery(4, THIRD, signer=1, author=OPERATOR)),
    "a recovery of another city": (1, "another city", lambda told:
        told.history.recovery(4, THIRD, genesis=bytes(32))),
    "a recovery of an election's round that was another": (1, "was another one", lambda told:
        told.history.recovery(3, THIRD, previous=bytes(32))),
    "a recovery of earlier rounds": (1, "another committee", lambda told:
        told.history.recovery(2, THIRD)),
    "a recovery with its key by value": (1, "envelopes are stored", lambda told:
        told.history.recovery(4, THIRD, by_value=True)),
    "a recovery with another's key": (1, "is not that of", lambda told: replace(
        told.handovers[1], public_keys=(key(9).public_key,))),
    "a recovery with an altered seat": (1, "is not that of", lambda told: replace(
        told.handovers[1], recovery=_replaced(told.handovers[1].recovery, 6, 7))),
    "another action of the operator's": (1, "no recovery", lambda told: Handover(
        keys_of(THIRD), recovery=_data(told))),
    "junk": (1, "cannot be read", lambda told: Handover(keys_of(THIRD), recovery=b"junk")),
}  # fmt: skip


def _data(told: Told) -> bytes:
    body = transaction_pb2.TransactionBody(
        genesis=told.history.genesis.id,
        author=member_id(OPERATOR),
        nonce=bytes(8),
        created_at_ms=1,
        data=transaction_pb2.Data(content=b"x"),
    )
    return envelope(body.SerializeToString(), OPERATOR)


@pytest.mark.parametrize("lie", LIES)
def test_a_false_handover_puts_nobody_in_office(told: Told, lie: str) -> None:
    count, match, make = LIES[lie]
    chain, handover = chain_of(told, count), make(told)
    before = chain.terms
    refused("handover", match, lambda: chain.apply(handover))
    assert chain.terms is before
    # It is refused for what it is, not for where it comes from.
    for true in told.handovers[count:]:
        chain.apply(true)


@pytest.mark.parametrize("seats", [((1, 1), (1, 1)), ((1, 0),)], ids=["twice", "no stake"])
def test_seats_are_distinct_and_have_a_stake(seats: tuple[tuple[int, int], ...]) -> None:
    class Listed(dict[int, int]):
        def items(self) -> Any:
            return list(seats)

    history = History(FIRST)
    sealed = history.seal(FIRST, Listed({1: 1}))
    handover = Handover(
        tuple(key(member).public_key for member, _ in seats),
        sealed.checkpoint,
        history.certify(sealed, [1, 2]),
    )
    refused("handover", "without stake, or two of one key", lambda: CommitteeChain(
        history.genesis).apply(handover))  # fmt: skip


def test_a_committee_out_of_office_can_still_be_shown_what_it_did_by_other_votes(
    told: Told,
) -> None:
    chain, history = chain_of(told), told.history
    before = chain.terms
    chain.apply(history.election(history.rounds[1], [1, 2, 3], SECOND))
    assert chain.terms == before
    refused("handover", "quorum", lambda: chain.apply(
        history.election(history.rounds[1], [3], SECOND)
    ))  # fmt: skip


# --- the handovers of a proof


def test_a_proof_brings_all_handovers_or_those_that_are_not_known(told: Told) -> None:
    for start in range(4):
        chain = chain_of(told, start)
        for count in range(start + 1):
            chain.follow(told.handovers[count:], 7)
            assert len(chain.terms) == 4
            chain.follow(told.handovers[count:2], 6)


@pytest.mark.parametrize(
    ("handovers", "round", "match"),
    [
        ((1,), 4, "was another|names a committee|missing"),
        ((0, 2), 7, "missing"),
        ((1, 0), 7, "follow"),
        ((0, 0), 3, "follow"),
        ((0, 1, 1), 6, "follow"),
        ((0, 1, 2), 6, "has no part in it"),
        ((0,), 2, "has no part in it"),
    ],
)
def test_handovers_follow_one_on_the_other_and_lead_to_the_round(
    told: Told, handovers: tuple[int, ...], round: int, match: str
) -> None:
    chain = CommitteeChain(told.history.genesis)
    given = [told.handovers[index] for index in handovers]
    if handovers == (1,):
        # A recovery is the operator's word, so it may be followed on the first committee;
        # what was sealed in the second one's name then says that one is missing.
        chain.follow(given, round)
        sealed = told.lost
        refused("handover", match, lambda: chain.verify_certificate(
            sealed.checkpoint, told.history.certify(sealed, [6])
        ))  # fmt: skip
        return
    refused("handover", match, lambda: chain.follow(given, round))


def test_what_is_known_past_the_handovers_of_a_proof_counts(told: Told) -> None:
    chain = chain_of(told)
    refused("handover", "none to the committee in office", lambda: chain.follow(
        told.handovers[:1], 5
    ))  # fmt: skip
    refused("handover", "does not follow", lambda: chain.follow(
        [told.handovers[0], told.handovers[2]], 7
    ))  # fmt: skip


def test_too_many_handovers_are_refused_unread(told: Told) -> None:
    chain = CommitteeChain(told.history.genesis)
    junk = [Handover((b"",), b"junk")] * (HANDOVERS_MAX + 1)
    refused("handover", f"at most {HANDOVERS_MAX}", lambda: chain.follow(junk, 9))


@pytest.mark.parametrize("from_round", [3, 4, 6])
def test_whom_a_recovery_replaced_can_be_told_of_later(told: Told, from_round: int) -> None:
    history = told.history
    recovery = history.recovery(from_round, THIRD)
    chain = CommitteeChain(history.genesis)
    chain.apply(recovery)
    chain.follow([told.handovers[0], recovery], from_round)
    assert [term.recovered for term in chain.terms] == [False, False, True]
    fork = history.seal(SECOND, round=from_round)
    chain.verify_certificate(fork.checkpoint, history.certify(fork, [6]))
    other = history.election(history.seal(FIRST, FOURTH, round=2), [1, 2], FOURTH)
    refused("handover", "another committee", lambda: chain.follow([other, recovery], from_round))


def test_who_was_replaced_elects_nobody_later(told: Told) -> None:
    history, chain = told.history, chain_of(told, 2)
    fork = history.seal(SECOND, FOURTH, round=3)
    refused("handover", "was another one", lambda: chain.apply(
        history.election(fork, [3, 4], FOURTH)
    ))  # fmt: skip


def test_an_attempt_that_fails_leaves_nothing(told: Told) -> None:
    chain = CommitteeChain(told.history.genesis)

    def fail() -> None:
        with chain.attempt():
            chain.follow(told.handovers, 7)
            assert len(chain.terms) == 4
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(chain.terms) == 1
