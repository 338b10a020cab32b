"""The three seams of a city: storage backend, DAG handler, consensus step.

A city's pipeline calls them in this order::

    intake     storage.append(batch)                        durable, then acknowledged
    sequencer  consensus.judge  -> refusals, judgements     pure
               dag.decide       -> order, verdicts, parents pure
               consensus.seal   -> proof-of-history entry
               storage.commit(round)                        once per (city, round)
    approver   consensus.approve(checkpoint) -> certificate
               storage.certify([certificate])

Every call is about a batch. What is *pure* may depend on its arguments and on
what it reads through `StateView` alone: anybody repeats it and must get the same.

All methods run on one event loop and must not block it: CPU work goes through
`CityContext.compute`. Any call may be cancelled at any await; a cancelled
write has happened or has not, and its caller assumes neither. An exception
other than those named means the same and is answered by trying again.

Apart from cities stands the store of fragments, in which anything is kept for years: `fragments`.

The contract is read by subject: `context`, `storage`, `dag`, `consensus`, `fragments`. All its
names are imported from here.
"""

from __future__ import annotations

from citychain.ports.consensus import (
    CommitteeStatus,
    ConsensusStep,
    Judgement,
    RepresentativeStatus,
    SupportsVotes,
    resumes,
    takes_votes,
)
from citychain.ports.context import (
    CityContext,
    Clock,
    Compute,
    RoundContext,
    StateView,
    StorageContext,
    StorageMeter,
)
from citychain.ports.dag import EXCHANGE_ACTIONS, SETTLED_ACTIONS, DagHandler, settled_actions
from citychain.ports.fragments import FragmentKey, FragmentStore, Space
from citychain.ports.storage import (
    CityStorage,
    PendingPage,
    StorageBackend,
    StoredRound,
    SupportsRetention,
    SupportsServers,
    can_prune,
    knows_servers,
)

__all__ = [
    "EXCHANGE_ACTIONS",
    "SETTLED_ACTIONS",
    "CityContext",
    "CityStorage",
    "Clock",
    "CommitteeStatus",
    "Compute",
    "ConsensusStep",
    "DagHandler",
    "FragmentKey",
    "FragmentStore",
    "Judgement",
    "PendingPage",
    "RepresentativeStatus",
    "RoundContext",
    "Space",
    "StateView",
    "StorageBackend",
    "StorageContext",
    "StorageMeter",
    "StoredRound",
    "SupportsRetention",
    "SupportsServers",
    "SupportsVotes",
    "can_prune",
    "knows_servers",
    "resumes",
    "settled_actions",
    "takes_votes",
]
