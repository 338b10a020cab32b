"""The step does what every consensus step must."""

from __future__ import annotations

import citychain_council
import pytest

from citychain import ConsensusDefinition
from citychain.testing.conformance import ConsensusSuite


class TestCouncil(ConsensusSuite):
    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        [step] = citychain_council.citychain_consensus_steps()
        return step
