"""DAG tests: who may write what, pay what, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from citychain._native.transactions import Transaction
from citychain.client.actions import Candidacy, Transfer, Withdrawal
from citychain.genesis import balance_object, stake_account
from citychain.testing.conformance._dag_city import HELD, DagCity
from citychain.testing.conformance._rounds import ASSET, FUNDS, id_of
from citychain.types import Decision

__all__ = ["AccountTests"]


class AccountTests:
    """Part of `DagSuite`. Tests of what the rule rejects by itself are skipped."""

    # --- objects

    async def test_of_two_writers_the_first_wins_and_is_named(self, city: DagCity) -> None:
        await city.needs(city.note(writes={"plan": 0}), "a transaction that writes an object")
        rivals = [city.note(author, writes={"plan": 0}) for author in (0, 1, 2)]
        async with city.rule() as rule:
            decision = await city.seal(rule, rivals)
            first = decision.order[0]
            assert city.said(decision, first) is None, (
                "the first in `order` of those that write an object at the same version was "
                "rejected: the first wins"
            )
            self._check_losers(city, decision, rivals, winner=first)
            late = city.note(1, writes={"plan": 0})
            decision = await city.seal(rule, [late])
            self._check_losers(city, decision, [late], winner=first)

    async def test_who_reads_what_was_written_meanwhile_loses(self, city: DagCity) -> None:
        await city.needs(city.note(writes={"plan": 0}), "a transaction that writes an object")
        await city.needs(city.note(reads={"plan": 0}), "a transaction that reads an object")
        writer = city.note(0, writes={"plan": 0})
        async with city.rule() as rule:
            await city.seal(rule, [writer])
            stale, fresh = city.note(1, reads={"plan": 0}), city.note(1, reads={"plan": 1})
            decision = await city.seal(rule, [stale, fresh])
        self._check_losers(city, decision, [stale], winner=writer)
        assert city.said(decision, fresh) is None, "a read of the current version was rejected"

    def _check_losers(
        self,
        city: DagCity,
        decision: Decision,
        rivals: Sequence[Transaction],
        winner: Transaction,
    ) -> None:
        for loser in rivals:
            if loser == winner:
                continue
            said = city.said(decision, loser)
            assert said is not None
            assert said is not HELD, "the rule holds what lost a conflict: it cannot be valid again"
            assert winner.tx_id.hex() in said.reason, (
                f"the loser of a conflict is told {said.reason!r}: the reason must name the "
                f"transaction that won, {winner.tx_id.hex()}"
            )

    async def test_versions_follow_each_other(self, city: DagCity) -> None:
        await city.needs(city.note(writes={"plan": 0}), "a transaction that writes an object")
        async with city.rule() as rule:
            for version in range(4):
                writer = city.note(version % 3, writes={"plan": version, f"other {version}": 0})
                ahead = city.note(writes={"plan": version + 2})
                decision = await city.seal(rule, [ahead, writer])
                assert city.said(decision, writer) is None, (
                    "one that writes an object at the version at which it stands was rejected"
                )
                states = await city.rounds.storage.objects(["plan"])
                assert states == {"plan": (version + 1, writer.tx_id)}
            # Several in one round: which are approved is the rule's to say, within the model.
            await city.seal(rule, [city.note(writes={"plan": version}) for version in range(3, 9)])

    # --- dependencies

    async def test_a_rejected_dependency_rejects_its_dependants(self, city: DagCity) -> None:
        expired = city.note(valid_until_ms=city.rounds.time_ms - 1)
        fine = city.note(1)
        chain = [city.note(1, depends_on=[fine.tx_id, expired.tx_id])]
        for _ in range(2):
            chain.append(city.note(2, depends_on=[chain[-1].tx_id]))
        async with city.rule() as rule:
            verdicts = await city.settle(rule, [expired, fine, *chain])
            assert verdicts[1] is None, "an ordinary transaction was not approved"
            assert None not in (verdicts[0], *verdicts[2:])
            late = [city.note(0, depends_on=[item.tx_id]) for item in (expired, *chain)]
            decision = await city.seal(rule, late)
        for item in late:
            said = city.said(decision, item)
            assert said not in (None, HELD), (
                "the rule holds a transaction whose dependency was rejected in an earlier round: "
                "it cannot be valid again, and must be rejected at once"
            )

    async def test_what_depends_on_the_approved_is_approved(self, city: DagCity) -> None:
        first = city.note(0)
        second = city.note(1, depends_on=[first.tx_id])
        third = city.note(2, depends_on=[second.tx_id, first.tx_id])
        async with city.rule() as rule:
            verdicts = await city.settle(rule, [first, second, third])
            assert verdicts == [None] * 3, (
                "transactions that came behind all that they depend on were not approved"
            )
            decision = await city.seal(rule, [city.note(0, depends_on=[third.tx_id])])
            assert list(decision.verdicts) == [None], (
                "a transaction was not approved at once whose dependency an earlier round approved"
            )

    # --- time

    async def test_validity_ends_by_the_round_s_time(self, city: DagCity) -> None:
        now = city.rounds.time_ms
        ended, last, long = (city.note(valid_until_ms=now + more) for more in (-1, 0, 60_000))
        async with city.rule() as rule:
            decision = await city.seal(rule, [ended, last, long])
        assert city.said(decision, ended) not in (None, HELD), (
            f"valid until {now - 1} ms, the round at {now} ms: it must be rejected"
        )
        assert [city.said(decision, item) for item in (last, long)] == [None] * 2, (
            f"the round is at {now} ms: what is valid until then, or longer, has not expired"
        )

    # --- balances

    def _pay(self, city: DagCity, payer: int, payee: int, amount: int) -> Transaction:
        keys = city.part.authors
        return city.rounds.sign(keys[payer], Transfer(ASSET, id_of(keys[payee]), amount))

    async def test_nobody_spends_more_than_he_has(self, city: DagCity) -> None:
        await city.needs(self._pay(city, 0, 1, 1), "a transfer")
        batch = [self._pay(city, 0, 1, 30) for _ in range(5)]
        batch += [self._pay(city, 1, 2, FUNDS + 60), self._pay(city, 0, 1, FUNDS * 1_000)]
        async with city.rule() as rule:
            decision = await city.seal(rule, batch)
            paid = sum(city.said(decision, item) is None for item in batch[:5])
            assert 1 <= paid <= 3, f"{paid} payments of 30 were approved of one who has {FUNDS}"
            await city.seal(rule, [self._pay(city, 0, 2, 11), self._pay(city, 0, 2, 10)])
            await city.seal(rule, [self._pay(city, 0, 2, 1)])
        await self._check_total(city)

    async def test_paying_oneself_creates_nothing(self, city: DagCity) -> None:
        await city.needs(self._pay(city, 0, 0, 1), "a transfer to oneself")
        amounts = (FUNDS, 1, FUNDS + 1, (1 << 64) - 1)
        async with city.rule() as rule:
            for _ in range(2):
                await city.seal(rule, [self._pay(city, 0, 0, amount) for amount in amounts])
        await self._check_total(city)

    async def test_money_that_arrives_in_a_round_can_be_spent_in_it_once(
        self, city: DagCity
    ) -> None:
        await city.needs(self._pay(city, 0, 1, 1), "a transfer")
        round_trip = [
            self._pay(city, 0, 1, FUNDS),
            self._pay(city, 1, 2, 2 * FUNDS),
            self._pay(city, 1, 2, 1),
            self._pay(city, 2, 0, 3 * FUNDS),
            self._pay(city, 2, 0, 1),
        ]
        async with city.rule() as rule:
            await city.seal(rule, round_trip)
        await self._check_total(city)

    async def test_a_stake_is_locked_and_freed_like_a_payment(self, city: DagCity) -> None:
        key = city.part.authors[0]
        candidacy = city.rounds.sign(key, Candidacy(ASSET, 60))
        await city.needs(candidacy, "a candidacy")
        again, more = (city.rounds.sign(key, Candidacy(ASSET, stake)) for stake in (60, 40))
        back = [city.rounds.sign(key, Withdrawal(ASSET, stake)) for stake in (101, 99, 2)]
        async with city.rule() as rule:
            await city.seal(rule, [candidacy, again, more, self._pay(city, 0, 1, 1)])
            await city.seal(rule, back)
        await self._check_total(city)

    async def _check_total(self, city: DagCity) -> None:
        owners = [id_of(key) for key in city.part.authors]
        names = [
            balance_object(ASSET, account)
            for owner in owners
            for account in (owner, stake_account(owner))
        ]
        states = await city.rounds.storage.objects(names)
        total = sum(int.from_bytes(state.value) for state in states.values())
        assert total == FUNDS * len(owners), "money was made or lost"

    @pytest.mark.parametrize("seed", range(3))
    async def test_random_payments_keep_the_total(self, city: DagCity, seed: int) -> None:
        await city.needs(self._pay(city, 0, 1, 1), "a transfer")
        choose = city.traffic(seed)
        async with city.rule() as rule:
            for _ in range(8):
                await city.seal(rule, choose.batch(20))
        await self._check_total(city)
