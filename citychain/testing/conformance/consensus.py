"""What every consensus step must do: inherit `ConsensusSuite` and name the step's definition.

::

    import pytest
    from citychain.testing.conformance import ConsensusSuite
    from citychain_nara import STEP

    class TestStep(ConsensusSuite):
        @pytest.fixture
        def definition(self):
            return STEP

The tests build the step by its factory, as a server does, in a city without a server: rounds
of real transactions are judged, sealed by the rule ``sealed-rounds``, committed to memory and
approved. Fixtures to override, where the defaults do not fit:

=================== ==========================================================================
`definition`        the `ConsensusDefinition` that the plugin's hook yields
`options`           its options, as in citychain.toml
`committee`         signing keys and stakes of the first committee
`representatives`   keys that vote inside the server; with them rounds are approved
`traffic`           makes actions that the step lets pass
`authors`           keys that sign transactions, three or more
`batches`           makes the transactions of one round after the other, all of them
`codes`             the codes with which it refuses, all of them
=================== ==========================================================================

A step that takes votes (`citychain.ports.takes_votes`) is also held to that; for others those
tests are skipped. `OPERATOR`, `MEMBERS` and `AUTHORS` are keys, `ASSET` is what authors have, and
`every_action` makes the default batches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import BaseModel

from citychain.crypto.signatures import SigningKey
from citychain.hooks.definitions import ConsensusDefinition
from citychain.testing.conformance._consensus_approve import ApproveTests
from citychain.testing.conformance._consensus_judge import JudgeTests
from citychain.testing.conformance._consensus_machine import VoteMachine
from citychain.testing.conformance._consensus_office import OfficeTests
from citychain.testing.conformance._consensus_seal import EffectTests, SealTests
from citychain.testing.conformance._consensus_town import Batches, Committee, Town, every_action
from citychain.testing.conformance._consensus_votes import VoteTests
from citychain.testing.conformance._rounds import (
    ASSET,
    AUTHORS,
    MEMBERS,
    OPERATOR,
    Ordinary,
    Rounds,
    ordinary,
)
from citychain.testing.conformance._suite import Suite

__all__ = ["ASSET", "AUTHORS", "MEMBERS", "OPERATOR", "ConsensusSuite", "Rounds", "every_action"]


class ConsensusSuite(
    JudgeTests, EffectTests, SealTests, ApproveTests, VoteTests, OfficeTests, Suite
):
    """Inherit it as ``Test...`` and override the fixture `definition`; see the module."""

    rounds: ClassVar[int] = 10
    """Rounds that a city lives through; for a step with epochs, more than two of them."""
    big_batch: ClassVar[int] = 100_000
    """Candidates of the largest round."""
    many_votes: ClassVar[int] = 10_000
    """Votes that must leave nothing behind."""
    examples: ClassVar[int] = 30
    """Runs of the state machine, each in a city of its own."""

    @pytest.fixture
    def committee(self, definition: ConsensusDefinition, validated_options: BaseModel) -> Committee:
        """Signing keys and stakes of the first committee: four with a stake of 1, or the operator
        alone for a step that refuses four. Override it where neither fits."""
        four: Committee = [(key, 1) for key in MEMBERS]
        alone: Committee = [(OPERATOR, 1)]
        for seats in (four, alone):
            if Town(definition, validated_options, seats).fits():
                return seats
        pytest.fail(
            "the step takes neither four members with a stake of 1 nor the operator alone: "
            "override the fixture `committee`, returning keys and stakes that it takes",
            pytrace=False,
        )

    @pytest.fixture
    def representatives(
        self, committee: Committee, authors: Sequence[SigningKey]
    ) -> Sequence[SigningKey]:
        """Keys that vote inside the server: those of the committee, and the authors, who can come
        into office by the default batches. Override it where others can."""
        return [*dict.fromkeys((*(key for key, _ in committee), *authors))]

    @pytest.fixture
    def traffic(self) -> Ordinary:
        """Makes the action of a transaction that the step lets pass, given a `random.Random`:
        data of a few bytes. Override it for a step that refuses this."""
        return ordinary

    @pytest.fixture
    def authors(self) -> Sequence[SigningKey]:
        """Three keys or more that sign transactions. Override it for a step that asks who."""
        return AUTHORS

    @pytest.fixture
    def batches(self, traffic: Ordinary) -> Batches:
        """Yields the new transactions of one round after the other, given the `Rounds` that they
        are for: all kinds, many wrong. Override it for a step that refuses nearly all of these::

            @pytest.fixture
            def batches(self):
                def stones(rounds):
                    while True:
                        yield [rounds.sign(author, Data(b"a stone")) for author in AUTHORS]

                return stones

        The same must come in every process: no `set`, no clock, no seed of the moment.
        """
        return lambda rounds: every_action(rounds, traffic)

    @pytest.fixture
    def codes(self) -> Collection[str] | None:
        """The codes of refusals that the step's documentation lists. Override it to have the
        step held to them."""
        return None

    @pytest.fixture
    def new_town(
        self,
        definition: ConsensusDefinition,
        validated_options: BaseModel,
        committee: Committee,
        representatives: Sequence[SigningKey],
        authors: Sequence[SigningKey],
    ) -> Callable[..., Town]:
        """Founds a city for the step, with another committee if one is given."""

        def made(seats: Committee | None = None, **options: Any) -> Town:
            return Town(
                definition,
                validated_options,
                seats or committee,
                representatives,
                authors,
                **options,
            )

        return made

    @pytest.fixture
    def town(self, new_town: Callable[..., Town]) -> Town:
        """A city for the step."""
        return new_town()

    def test_any_sequence_of_votes(self, new_town: Callable[..., Town]) -> None:
        """A state machine casts votes, and compares with plain counting after each."""

        class Machine(VoteMachine):
            def town(self) -> Town:
                return new_town()

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
