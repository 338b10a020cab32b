"""What rounds say of who voted, held, was present, and was paid."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import pytest
from holding.deeds import DAY, RULES, SECOND, answered, archived, checkpoint_hash

from citychain._native.transactions import Transaction, decode_batch
from citychain.client.actions import Action, Data
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.holding.recount import CHUNKS_WEIGHED
from citychain.rewards.calculation import Role
from citychain.rewards.counting import Count, Payment
from citychain.statements import Holding, HoldingRules, Rewards, Statement
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


def rewards(budget: int, epoch: int = 0, rounds: int = 2) -> Rewards:
    return Rewards(
        epoch=epoch,
        first=epoch * rounds + 1,
        last=(epoch + 1) * rounds,
        asset="coin",
        base=1,
        full=1,
        light=1,
        absent=0,
        budget=budget,
        votes="00" * 32,
    )


class Served(NamedTuple):
    """What a key did."""

    role: Role
    done: int
    of: int
    present: bool = True
    share: Fraction | None = None


class Rounds:
    """Closes rounds of a second each."""

    def __init__(self, validity: int | None = None) -> None:
        self.count = Count(IDS[OPERATOR], validity)

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

    def services(self, first: int, last: int) -> dict[SigningKey, Served]:
        found = {it.key_id: Served(*it[1:]) for it in self.count.services(first, last)}
        return {key: found[id] for key, id in IDS.items() if id in found}


def test_votes_are_counted_in_the_rounds_in_office() -> None:
    rounds = Rounds()
    rounds.close([ANNA, BEN], [ANNA])
    rounds.close([ANNA, BEN], [ANNA, BEN])
    rounds.close([BEN, CARL], [CARL])
    assert rounds.services(1, 3) == {
        ANNA: (Role.FULL, 2, 2, True, None),
        BEN: (Role.FULL, 1, 3, True, None),
        CARL: (Role.FULL, 1, 1, True, None),
    }
    assert rounds.services(2, 2) == {
        ANNA: (Role.FULL, 1, 1, True, None),
        BEN: (Role.FULL, 1, 1, True, None),
    }
    with pytest.raises(ValueError, match="round 4 was not taken"):
        rounds.count.services(1, 4)


def test_a_presence_counts_while_it_stands() -> None:
    """Anna's is of round 1, and stands for 3 more; Ben's first one is rejected."""
    rounds = Rounds(validity=3)
    rounds.close([ANNA, BEN], [ANNA, BEN], presence(ANNA), rejected=[presence(BEN)])
    for number in range(2, 7):
        rounds.close([ANNA, BEN], [ANNA, BEN], *[presence(BEN)] * (number == 3))
    found = [{it: rounds.services(n, n)[it].present for it in (ANNA, BEN)} for n in range(1, 7)]
    assert [each[ANNA] for each in found] == [True, True, True, True, False, False]
    assert [each[BEN] for each in found] == [False, False, True, True, True, True]
    assert rounds.services(4, 6)[ANNA].present, "it stood in one round of these"


def test_of_an_epoch_the_operators_first_approved_statement_counts() -> None:
    rounds = Rounds()
    for _ in range(4):
        rounds.close()
    first = state(OPERATOR, rewards(3))
    nonsense = sign(OPERATOR, Data(b"{}", Rewards.CONTENT_TYPE))
    rejected = [state(OPERATOR, rewards(2))]
    rounds.close((), (), state(ANNA, rewards(1)), nonsense, rejected=rejected)
    assert rounds.count.stated == {}
    rounds.close((), (), first, state(OPERATOR, rewards(4)), state(OPERATOR, rewards(5, epoch=1)))
    stated = {epoch: it.parameters.budget for epoch, it in rounds.count.stated.items()}
    assert stated == {0: 3, 1: 5}
    assert rounds.count.stated[0][:2] == (first.tx_id, 6)


def test_no_round_is_paid_for_twice_nor_before_it_is_over() -> None:
    rounds = Rounds()
    early = state(OPERATOR, rewards(1))
    for _ in range(2):
        rounds.close((), (), early)
    assert rounds.count.stated == {}
    for _ in range(4):
        rounds.close()
    # Rounds 1 to 2, then 3 to 4; epoch 2 of a single round is round 3 again.
    rounds.close((), (), state(OPERATOR, rewards(1)), state(OPERATOR, rewards(2, epoch=1)))
    rounds.close((), (), state(OPERATOR, rewards(3, epoch=2, rounds=1)))
    assert set(rounds.count.stated) == {0, 1}
    clash = rounds.count.clash(4, 9)
    assert clash is not None
    assert clash.parameters.epoch == 1
    assert rounds.count.clash(5, 9) is None


def test_votes_are_one_digest_of_who_voted_in_which_round() -> None:
    def votes(*voters: Sequence[SigningKey]) -> bytes:
        rounds = Rounds()
        for each in voters:
            rounds.close([ANNA, BEN], each)
        return rounds.count.votes(2, 3)

    same = votes([], [ANNA, BEN], [ANNA])
    assert same == votes([BEN], [BEN, ANNA], [ANNA], [BEN]), "of rounds 2 and 3, in any order"
    assert len({same, votes([], [ANNA], [ANNA, BEN]), votes([], [ANNA, BEN], [BEN])}) == 3
    of_each = [
        hashlib.sha256(number.to_bytes(8, "big") + b"".join(sorted(IDS[it] for it in voters)))
        for number, voters in ((2, [ANNA, BEN]), (3, [ANNA]))
    ]
    whole = b"citychain/votes/v1\0" + b"".join(it.digest() for it in of_each)
    assert same == hashlib.sha256(whole).digest()


def test_an_epoch_is_as_stated_last_or_from_one_challenge_to_the_next() -> None:
    rounds = Rounds()
    assert rounds.count.epoch_rounds == HoldingRules().challenge_rounds
    rounds.close((), (), state(OPERATOR, RULES))
    assert rounds.count.epoch_rounds == RULES.challenge_rounds
    for _ in range(3):
        rounds.close()
    rounds.close((), (), state(OPERATOR, rewards(1, epoch=1)))
    assert rounds.count.epoch_rounds == 2


def test_approved_rewards_are_payments() -> None:
    rounds = Rounds()
    paid = sign(OPERATOR, Reward(3, "coin", IDS[ANNA], 5))
    rounds.close((), (), paid, rejected=[sign(ANNA, Reward(3, "coin", IDS[BEN], 5))])
    assert rounds.count.paid == {3: {IDS[ANNA]: Payment(paid.tx_id, 1, "coin", 5)}}


def test_who_holds_is_scored_by_its_share_and_who_votes_too_by_votes() -> None:
    """Round 5 asks Anna and Ben for three chunks each; Anna answers two, Ben all. Ben votes."""
    archive = [archived(0, CHUNKS_WEIGHED), archived(1, CHUNKS_WEIGHED)]
    keys = [key for each in archive for key in each.keys]
    proofs = {name: proof for each in archive for name, proof in each.proofs.items()}
    rounds = Rounds()
    announced = [state(OPERATOR, each.segment) for each in archive]
    rounds.close((), (), state(OPERATOR, RULES), *announced)
    mine, all_of_it = Holding.of(DAY, keys[:4]), Holding.of(DAY, keys)
    rounds.close((), (), state(ANNA, mine), state(BEN, all_of_it))
    while rounds.count.round < 5:
        rounds.close([BEN], [])
    asked = {}
    for key in (ANNA, BEN):
        [challenge] = rounds.count._recount.open(IDS[key])
        asked[key] = [state(key, it) for it in answered(5, challenge.asked, proofs)]
    rounds.close([BEN], [BEN], *asked[ANNA][:2], *asked[BEN])
    while rounds.count.round < 8:
        rounds.close([BEN], [BEN])
    # Of the six fragments Anna has four, of which she proved two in three.
    assert rounds.services(1, 8) == {
        ANNA: (Role.LIGHT, 2, 3, True, Fraction(4, 6) * Fraction(2, 3)),
        BEN: (Role.FULL, 3, 6, True, None),
    }
    # Once for both: no key has two services.
    assert [it.key_id for it in rounds.count.services(1, 8)] == sorted((IDS[ANNA], IDS[BEN]))
    # Where no challenge ended a holder has proven nothing.
    assert ANNA not in rounds.services(1, 7)
    assert rounds.services(8, 8)[ANNA][:3] == (Role.LIGHT, 2, 3)


def test_many_keys_that_share_what_one_holds_get_together_what_it_gets() -> None:
    """And for fragments of few chunks, whose answers are public, nobody gets anything."""
    large, small = archived(0, CHUNKS_WEIGHED), archived(1, CHUNKS_WEIGHED - 1)
    rounds = Rounds()
    announced = [state(OPERATOR, each.segment) for each in (large, small)]
    rounds.close((), (), state(OPERATOR, RULES), *announced)
    one, *split = [SigningKey(bytes((number,)) * 32) for number in range(10, 15)]
    parts = [large.keys, *([key] for key in large.keys), small.keys]
    holders = dict(zip((one, *split), parts, strict=True))
    claims = [state(key, Holding.of(DAY, part)) for key, part in holders.items()]
    rounds.close((), (), *claims)
    while rounds.count.round < 5:
        rounds.close()
    proofs = {**large.proofs, **small.proofs}
    given = [
        state(key, it)
        for key in holders
        for challenge in rounds.count._recount.open(key_id(key.public_key))
        for it in answered(5, challenge.asked, proofs)
    ]
    rounds.close((), (), *given)
    while rounds.count.round < 8:
        rounds.close()
    scores = {it.key_id: it.score for it in rounds.count.services(1, 8)}
    found = [scores[key_id(key.public_key)] for key in holders]
    assert found == [1, Fraction(1, 3), Fraction(1, 3), Fraction(1, 3), 0]
