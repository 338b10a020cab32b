"""What every DAG handler must do: inherit `DagSuite` and name the rule.

::

    import pytest
    from citychain.testing.conformance import DagSuite
    from citychain_nara import RULE

    class TestRule(DagSuite):
        @pytest.fixture
        def definition(self):
            return RULE
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import BaseModel

from citychain.compute import Executor
from citychain.crypto.signatures import SigningKey
from citychain.hooks.definitions import DagDefinition
from citychain.testing.conformance._dag_accounts import AccountTests
from citychain.testing.conformance._dag_calls import CallTests
from citychain.testing.conformance._dag_cities import CityTests
from citychain.testing.conformance._dag_city import DagCity, Part
from citychain.testing.conformance._dag_machine import DagMachine
from citychain.testing.conformance._dag_placement import PlacementTests
from citychain.testing.conformance._dag_purity import PurityTests
from citychain.testing.conformance._rounds import AUTHORS, Ordinary, ordinary
from citychain.testing.conformance._suite import Suite

__all__ = ["DagSuite"]


# pytest runs the tests of the last base first.
class DagSuite(CallTests, PurityTests, CityTests, AccountTests, PlacementTests, Suite):
    """Inherit it as ``Test...`` and override the fixture `definition`.

    A rule that does not approve just anything says what it does approve: override the fixture
    `traffic`::

        @pytest.fixture
        def traffic(self):
            return lambda choose: Data(b'{"district": "%d"}' % choose.randrange(9))

    and `authors` if the rule asks who signs. Tests of what the rule rejects by itself, such as
    any transfer, are skipped, and say so. A rule with options is tested once with each set of them
    that matters: override `options`.
    """

    big_batch: ClassVar[int] = 100_000
    """Candidates of the largest round."""
    examples: ClassVar[int] = 25
    """Runs of the state machine, each in a city of its own."""

    @pytest.fixture
    def traffic(self) -> Ordinary:
        """Override: makes, from a `random.Random`, the action of a transaction (of
        `citychain.client`) that the rule approves."""
        return ordinary

    @pytest.fixture
    def authors(self) -> Sequence[SigningKey]:
        """Override: keys, three or more, whose transactions the rule approves."""
        return AUTHORS

    @pytest.fixture
    def part(
        self,
        definition: DagDefinition,
        validated_options: BaseModel,
        traffic: Ordinary,
        authors: Sequence[SigningKey],
    ) -> Part:
        """The rule, as the tests use it."""
        return Part(definition, validated_options, traffic, authors)

    @pytest.fixture
    async def new_city(self, part: Part) -> AsyncIterator[Callable[..., DagCity]]:
        """Makes cities of the rule; takes fields of their genesis."""
        async with Executor(2) as compute:

            def made(**fields: Any) -> DagCity:
                return DagCity(part, compute, **fields)

            yield made

    @pytest.fixture
    def city(self, new_city: Callable[..., DagCity]) -> DagCity:
        """A new city of the rule."""
        return new_city()

    def test_any_sequence_of_rounds(self, part: Part) -> None:
        """A state machine drives a city, and then repeats it."""

        class Machine(DagMachine):
            def part(self) -> Part:
                return part

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
