"""DAG tests: what becomes of each candidate, and what it hangs on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from citychain.testing.conformance._dag_city import REFUSAL, DagCity
from citychain.types import NodeRef, Rejection

__all__ = ["PlacementTests"]


class PlacementTests:
    """Part of `DagSuite`. Every decision is held to `LedgerModel`."""

    async def test_ordinary_traffic_is_approved(self, city: DagCity) -> None:
        batch = [city.note(number % len(city.part.authors)) for number in range(12)]
        async with city.rule() as rule:
            decision = await city.ask(rule, batch)
        rejected = {verdict for verdict in decision.verdicts if verdict is not None}
        assert not decision.held, "the rule holds ordinary transactions: nothing is missing"
        assert not rejected, (
            f"the rule rejects the suite's ordinary traffic ({rejected}): override the fixture "
            "`traffic`, and `authors` if the rule asks who signs, with what the rule approves"
        )

    async def test_an_empty_round_is_empty(self, city: DagCity) -> None:
        async with city.rule() as rule:
            for _ in range(3):
                decision = await city.seal(rule)
                assert not decision.order
                assert not decision.held
            await city.seal(rule, [city.note()])
            assert not (await city.seal(rule)).order

    @pytest.mark.parametrize("seed", range(4))
    async def test_each_candidate_is_sealed_or_held_once(self, city: DagCity, seed: int) -> None:
        traffic = city.traffic(seed)
        async with city.rule() as rule:
            for _ in range(12):
                await city.seal(rule, traffic.batch(12))

    @pytest.mark.parametrize("hold_rounds", [1, 2, 5])
    async def test_what_waits_is_sealed_within_the_hold_bound(
        self, new_city: Callable[..., DagCity], hold_rounds: int
    ) -> None:
        city = new_city(hold_rounds=hold_rounds)
        waiting = [city.note(depends_on=[bytes([number] * 32)]) for number in range(3)]
        async with city.rule() as rule:
            decision = await city.seal(rule, waiting)
            for _ in range(hold_rounds + 2):
                decision = await city.seal(rule)
        assert not decision.held
        assert not city.rounds.candidates().transactions

    @pytest.mark.parametrize("late", [0, 1, 2])
    async def test_a_late_dependency_is_waited_for_or_its_dependants_rejected(
        self, city: DagCity, late: int
    ) -> None:
        first = city.note(0)
        waiting = city.note(1, depends_on=[first.tx_id])
        further = city.note(2, depends_on=[waiting.tx_id])
        async with city.rule() as rule:
            decision = await city.seal(rule, [further, waiting])
            for _ in range(late):
                decision = await city.seal(rule)
            # The model refuses an approval without its dependency, and a hold that is too long.
            decision = await city.seal(rule, [first])
            assert city.said(decision, first) is None, "an ordinary transaction was not approved"
            for _ in range(4):
                decision = await city.seal(rule)
        assert not city.rounds.candidates().transactions
        sealed = await city.rounds.storage.find([first.tx_id, waiting.tx_id, further.tx_id])
        assert len(sealed) == 3

    async def test_refusals_of_the_consensus_step_stand(self, city: DagCity) -> None:
        notes = [city.note(number % 3) for number in range(8)]
        dependant = city.note(depends_on=[notes[1].tx_id])
        unready = city.note(depends_on=[bytes(32)])
        for number, item in enumerate((notes[1], notes[4], notes[7], unready)):
            city.refuse(item.tx_id, Rejection(f"REFUSED_{number}", "by the consensus step"))
        async with city.rule() as rule:
            decision = await city.seal(rule, [*notes, dependant, unready])
            assert city.said(decision, notes[0]) is None, "one that nobody refused is not approved"
            # A candidate that waits may be refused later.
            held = city.note(depends_on=[b"\x01" * 32])
            await city.seal(rule, [held])
            city.refuse(held.tx_id)
            if city.rounds.candidates().transactions:
                await city.seal(rule, [city.note()])

    async def test_all_candidates_may_be_refused(self, city: DagCity) -> None:
        notes = [city.note(number % 3) for number in range(5)]
        for item in notes:
            city.refuse(item.tx_id)
        async with city.rule() as rule:
            decision = await city.seal(rule, notes)
            assert set(decision.verdicts) == {REFUSAL}
            await city.seal(rule, [city.note()])

    async def test_the_first_node_hangs_on_the_genesis(self, city: DagCity) -> None:
        genesis = NodeRef(0, 0, city.rounds.genesis.id)
        async with city.rule() as rule:
            # Rounds without a linked node leave nothing to hang on.
            await city.seal(rule)
            refused = city.note()
            city.refuse(refused.tx_id)
            await city.seal(rule, [refused])
            decision = await city.seal(rule, [city.note()])
        assert [tuple(parents) for parents in decision.parents] == [(genesis,)], (
            f"the first linked node of a city has the parents {decision.parents[0]!r}: it must "
            f"hang on the genesis alone, {genesis!r}"
        )

    async def test_every_node_leads_to_the_genesis(self, city: DagCity) -> None:
        traffic = city.traffic(7)
        async with city.rule() as rule:
            for _ in range(8):
                await city.seal(rule, traffic.batch(10))
        reached = {NodeRef(0, 0, city.rounds.genesis.id)}
        for number in range(1, 9):
            for node in await city.rounds.storage.round_nodes(number):
                if node.rejection is None:
                    # What is sealed has its parents before it, so one pass is enough.
                    assert node.parents
                    assert reached.issuperset(node.parents), "a parent leads nowhere"
                    reached.add(node.ref)
        assert len(reached) > 10

    async def test_all_dependencies_that_a_transaction_may_have(self, city: DagCity) -> None:
        before = [city.note(number % 3) for number in range(4)]
        async with city.rule() as rule:
            await city.seal(rule, before)
            beside = [city.note(number % 3) for number in range(4)]
            both = [
                city.note(0, depends_on=[item.tx_id for item in before]),
                city.note(0, depends_on=[item.tx_id for item in beside]),
                city.note(0, depends_on=[item.tx_id for item in (*before[2:], *beside[2:])]),
            ]
            verdicts = await city.settle(rule, [*beside, *both])
        assert verdicts == [None] * 7, (
            "a transaction was not approved though all that it depends on was"
        )
