"""The built-in consensus steps, offered by the same hook as anybody else's."""

from __future__ import annotations

from collections.abc import Iterable

from citychain.consensus.poh_pop import PohPop, PohPopOptions
from citychain.consensus.solo import Solo, SoloOptions
from citychain.hooks.definitions import API_VERSION, ConsensusDefinition
from citychain.hooks.specs import hookimpl

__all__ = ["citychain_consensus_steps"]


@hookimpl
def citychain_consensus_steps() -> Iterable[ConsensusDefinition]:
    """``solo`` and ``poh-pop``."""
    yield ConsensusDefinition("solo", Solo, SoloOptions, api_version=API_VERSION)
    yield ConsensusDefinition("poh-pop", PohPop, PohPopOptions, api_version=API_VERSION)
