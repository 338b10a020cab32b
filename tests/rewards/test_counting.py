"""What rounds say of who voted, held, was present, and was paid."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from holding.deeds import DAY, RULES, SECOND, answered, archived, checkpoint_hash

from citychain._native.transactions import Transaction, decode_batch
from citychain.client.actions import Action, Data
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.rewards.calculation import Role, Service
from citychain.rewards.counting import Count, Payment
from citychain.statements import Holding, Rewards, Statement
from citychain.types import Presence, Rejection, Reward

OPERATOR, ANNA, BEN, CARL = (SigningKey(bytes((number,)) * 32) for number in range(4))
IDS = {key: key_id(key.public_key) for key in (OPERATOR, ANNA, BEN, CARL)}
NO = Rejection("RULE", "no")


def sign(key: SigningKey, action: Action) -> Transaction:
    signed = sign_transaction(key, genesis=bytes(32), action=action)
    return decode_batch([signed.envelope])[0]


def state(key: SigningKey, statement: Statement) -> Transaction:
    return sign(key, Data(statement.encode(), statement.CONTENT_TYPE))


def presence(key: SigningKey) -> Transaction:
    return sign(key, Presence(0, 0, 1, 0, 9, bytes(32), ()))


def rewards(budget: int, epoch: int = 0) -> Rewards:
    return Rewards(
        epoch=epoch,
        first=1,
        last=9,
        asset="coin",
        base=1,
        full=1,
        light=1,
        absent=0,
        budget=budget,
    )


class Rounds:
    """Closes rounds of a second each."""

    def __init__(self) -> None:
        self.count = Count(IDS[OPERATOR])

    def close(
        self,
        office: Sequence[SigningKey] = (),
        voters: Sequence[SigningKey] = (),
        *new: Transaction,
        rejected: Sequence[Transaction] = (),
    ) -> None:
        number = self.count.round + 1
        self.count.take(
            number,
            number * SECOND,
            checkpoint_hash(number),
            [IDS[key] for key in office],
            [IDS[key] for key in voters],
            [*new, *rejected],
            [None] * len(new) + [NO] * len(rejected),
        )

    def services(self, first: int, last: int) -> dict[SigningKey, tuple[Role, int, int, bool]]:
        found = {it.key_id: it[1:] for it in self.count.services(first, last)}
        return {key: found[id] for key, id in IDS.items() if id in found}


def test_votes_are_counted_in_the_rounds_in_office() -> None:
    rounds = Rounds()
    rounds.close([ANNA, BEN], [ANNA])
    rounds.close([ANNA, BEN], [ANNA, BEN])
    rounds.close([BEN, CARL], [CARL])
    assert rounds.services(1, 3) == {
        ANNA: (Role.FULL, 2, 2, False),
        BEN: (Role.FULL, 1, 3, False),
        CARL: (Role.FULL, 1, 1, False),
    }
    assert rounds.services(2, 2) == {
        ANNA: (Role.FULL, 1, 1, False),
        BEN: (Role.FULL, 1, 1, False),
    }
    with pytest.raises(ValueError, match="round 4 was not taken"):
        rounds.count.services(1, 4)


def test_a_presence_counts_in_the_epoch_that_approved_it() -> None:
    rounds = Rounds()
    rounds.close([ANNA, BEN], [ANNA, BEN], presence(ANNA), rejected=[presence(BEN)])
    rounds.close([ANNA, BEN], [ANNA, BEN], presence(BEN))
    present = [{it: rounds.services(n, n)[it][3] for it in (ANNA, BEN)} for n in (1, 2)]
    assert present == [{ANNA: True, BEN: False}, {ANNA: False, BEN: True}]


def test_of_an_epoch_the_operators_first_approved_statement_counts() -> None:
    rounds = Rounds()
    first = state(OPERATOR, rewards(3))
    nonsense = sign(OPERATOR, Data(b"{}", Rewards.CONTENT_TYPE))
    rejected = [state(OPERATOR, rewards(2))]
    rounds.close((), (), state(ANNA, rewards(1)), nonsense, rejected=rejected)
    assert rounds.count.stated == {}
    rounds.close((), (), first, state(OPERATOR, rewards(4)), state(OPERATOR, rewards(5, epoch=1)))
    stated = {epoch: it.parameters.budget for epoch, it in rounds.count.stated.items()}
    assert stated == {0: 3, 1: 5}
    assert rounds.count.stated[0][:2] == (first.tx_id, 2)


def test_approved_rewards_are_payments() -> None:
    rounds = Rounds()
    paid = sign(OPERATOR, Reward(3, "coin", IDS[ANNA], 5))
    rounds.close((), (), paid, rejected=[sign(ANNA, Reward(3, "coin", IDS[BEN], 5))])
    assert rounds.count.paid == {3: {IDS[ANNA]: Payment(paid.tx_id, 1, "coin", 5)}}


def test_who_holds_is_scored_by_the_recount_and_who_votes_too_by_votes() -> None:
    """Round 5 asks Anna and Ben for three chunks each; Anna answers two, Ben all. Ben votes."""
    archive = [archived(0), archived(1)]
    keys = [key for each in archive for key in each.keys]
    proofs = {name: proof for each in archive for name, proof in each.proofs.items()}
    rounds = Rounds()
    announced = [state(OPERATOR, each.segment) for each in archive]
    rounds.close((), (), state(OPERATOR, RULES), *announced)
    held = Holding.of(DAY, keys)
    rounds.close((), (), state(ANNA, held), state(BEN, held))
    while rounds.count.round < 5:
        rounds.close([BEN], [])
    asked = {}
    for key in (ANNA, BEN):
        [challenge] = rounds.count._recount.open(IDS[key])
        asked[key] = [state(key, it) for it in answered(5, challenge.asked, proofs)]
    rounds.close([BEN], [BEN], *asked[ANNA][:2], *asked[BEN])
    while rounds.count.round < 8:
        rounds.close([BEN], [BEN])
    assert rounds.services(1, 8) == {
        ANNA: (Role.LIGHT, 2, 3, False),
        BEN: (Role.FULL, 3, 6, False),
    }
    # Once for both: no key has two services.
    assert [it.key_id for it in rounds.count.services(1, 8)] == sorted((IDS[ANNA], IDS[BEN]))
    # Where no challenge ended a holder has proven nothing.
    assert ANNA not in rounds.services(1, 7)
    assert Service(IDS[ANNA], Role.LIGHT, 2, 3, False) in rounds.count.services(8, 8)
