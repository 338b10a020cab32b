"""Any history of elections and recoveries is followed, and nothing that differs from it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from history import History, Members, seats_of
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain.committee import CommitteeChain
from citychain.errors import InvalidReceipt
from citychain.types import Handover, Vote

committees = st.dictionaries(st.integers(1, 10), st.integers(1, 5), min_size=1, max_size=4)


class Change(NamedTuple):
    handover: Handover
    first_round: int
    members: Members

    def __repr__(self) -> str:
        # Hypothesis takes it for an error to show a handover's kilobytes.
        kind = "recovery" if self.handover.recovery else "election"
        return f"{kind} from round {self.first_round}: {self.members}"


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, list[Change]]:
    """A history of a few changes; checkpoints name who is in office when they are sealed."""
    first = draw(committees)
    history = History(first, draw(st.sampled_from(["two-thirds", "majority"])))
    changes = [Change(Handover(()), 1, first)]
    for members in draw(st.lists(committees, max_size=4)):
        before = changes[-1].members
        for _ in range(draw(st.integers(0, 2))):
            history.seal(before)
        if draw(st.booleans()):
            handover = history.recovery(len(history.rounds) + 1, members)
            if any(change.handover == handover for change in changes):
                continue  # A transaction stands in a history once.
            changes.append(Change(handover, len(history.rounds) + 1, members))
            if draw(st.booleans()):
                history.seal(before)
        else:
            sealed = history.seal(before, members)
            handover = history.election(sealed, list(before), members)
            changes.append(Change(handover, sealed.round + 1, members))
    history.seal(changes[-1].members)
    return history, changes


@settings(max_examples=40, deadline=None)
@given(histories(), st.data())
def test_any_history_is_followed_and_no_other(
    any_history: tuple[History, list[Change]], data: st.DataObject
) -> None:
    history, changes = any_history
    handovers = [change.handover for change in changes[1:]]
    chain = CommitteeChain(history.genesis)
    chain.follow(handovers, len(history.rounds))
    for sealed in history.rounds:
        in_office = [change for change in changes if change.first_round <= sealed.round][-1]
        office = in_office.members
        assert chain.in_office(sealed.round).seats == seats_of(office)
        chain.verify_certificate(sealed.checkpoint, history.certify(sealed, list(office)))
        others = [member for member in range(1, 11) if member not in office]
        for voters in ([*office, data.draw(st.sampled_from(others))], list(office)[:-1] or [0]):
            stake = sum(office.get(voter, 0) for voter in voters)
            if set(voters) <= set(office) and 3 * stake >= 2 * sum(office.values()):
                continue
            if (
                set(voters) <= set(office)
                and history.genesis.quorum == "majority"
                and 2 * stake > sum(office.values())
            ):
                continue
            certificate = history.certify(sealed, voters)
            with pytest.raises(InvalidReceipt) as caught:
                chain.verify_certificate(sealed.checkpoint, certificate)
            assert caught.value.check == "quorum"
    # Learnt piece by piece it is the same.
    again = CommitteeChain(history.genesis)
    for change in changes[1:]:
        again.apply(change.handover)
    assert again.terms == chain.terms


@settings(max_examples=40, deadline=None)
@given(histories(), st.data())
def test_no_byte_of_a_handover_can_be_altered(
    any_history: tuple[History, list[Change]], data: st.DataObject
) -> None:
    history, changes = any_history
    handovers = [change.handover for change in changes[1:]]
    if not handovers:
        return
    place = data.draw(st.integers(0, len(handovers) - 1))
    handover = handovers[place]
    altered = _one_byte_altered(handover, data)
    for known in (0, len(handovers)):
        chain = CommitteeChain(history.genesis)
        chain.follow(handovers[:known], 1 << 40)
        with pytest.raises(InvalidReceipt) as caught:
            chain.follow([*handovers[:place], altered, *handovers[place + 1 :]], 1 << 40)
        assert caught.value.check == "handover"


def _one_byte_altered(handover: Handover, data: st.DataObject) -> Handover:
    fields = ["keys", "recovery"] if handover.recovery else ["keys", "checkpoint", "votes", "hash"]
    field = data.draw(st.sampled_from(fields))

    def alter(value: bytes) -> bytes:
        changed = bytearray(value)
        changed[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        return bytes(changed)

    if field == "keys":
        keys = list(handover.public_keys)
        place = data.draw(st.integers(0, len(keys) - 1))
        keys[place] = alter(keys[place])
        return replace(handover, public_keys=tuple(keys))
    if field == "recovery":
        return replace(handover, recovery=alter(handover.recovery))
    if field == "checkpoint":
        return replace(handover, checkpoint=alter(handover.checkpoint))
    certificate = handover.certificate
    assert certificate is not None
    if field == "hash":
        digest = alter(certificate.checkpoint_hash)
        return replace(handover, certificate=replace(certificate, checkpoint_hash=digest))
    votes = list(certificate.votes)
    place = data.draw(st.integers(0, len(votes) - 1))
    key_id, signature = votes[place]
    if data.draw(st.booleans()):
        votes[place] = Vote(alter(key_id), signature)
    else:
        votes[place] = Vote(key_id, alter(signature))
    return replace(handover, certificate=replace(certificate, votes=tuple(votes)))
