"""The consensus step ``council``: fixed members, one vote each, a plain majority."""

from __future__ import annotations

from collections.abc import Iterable

from citychain import ConsensusDefinition, hookimpl
from citychain_council.step import Council, CouncilOptions

__all__ = ["citychain_consensus_steps"]


@hookimpl
def citychain_consensus_steps() -> Iterable[ConsensusDefinition]:
    """``council``."""
    yield ConsensusDefinition("council", Council, CouncilOptions, quorum="majority", api_version=2)
