"""citychain: many verifiable city ledgers behind one gRPC server.

All that a plugin author needs stands here by name: what a plugin offers
(`CityDefinition` and its like, `hookimpl`), what a part must do (`DagHandler`,
`StorageBackend`, `ConsensusStep`), the model they share, the bases to build on
(`SealedRounds`, `LedgerRules`), and the errors. Applications want
`citychain.client`, tests `citychain.testing`.

Names are imported when they are first used, so that importing the package,
which every run of pytest does, costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from citychain._lazy import lazy_names

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction as Transaction
    from citychain.consensus.solo import Solo as Solo
    from citychain.consensus.steps import ApprovedByVotes as ApprovedByVotes
    from citychain.consensus.steps import SealedByHistory as SealedByHistory
    from citychain.dag.rules import LedgerRules as LedgerRules
    from citychain.dag.sealed_rounds import SealedRounds as SealedRounds
    from citychain.errors import CitychainError as CitychainError
    from citychain.errors import ConfigurationError as ConfigurationError
    from citychain.errors import ConsensusError as ConsensusError
    from citychain.errors import FragmentMissing as FragmentMissing
    from citychain.errors import LeaseLost as LeaseLost
    from citychain.errors import NameTaken as NameTaken
    from citychain.errors import RoundTaken as RoundTaken
    from citychain.errors import StorageError as StorageError
    from citychain.errors import StoreFull as StoreFull
    from citychain.errors import StoreUnavailable as StoreUnavailable
    from citychain.errors import VerificationError as VerificationError
    from citychain.genesis import Genesis as Genesis
    from citychain.genesis import balance_object as balance_object
    from citychain.genesis import city_name as city_name
    from citychain.handler import CityHandler as CityHandler
    from citychain.hooks.definitions import API_VERSION as API_VERSION
    from citychain.hooks.definitions import CityDefinition as CityDefinition
    from citychain.hooks.definitions import CommandDefinition as CommandDefinition
    from citychain.hooks.definitions import ConsensusDefinition as ConsensusDefinition
    from citychain.hooks.definitions import DagDefinition as DagDefinition
    from citychain.hooks.definitions import Disc as Disc
    from citychain.hooks.definitions import FragmentStoreDefinition as FragmentStoreDefinition
    from citychain.hooks.definitions import NoOptions as NoOptions
    from citychain.hooks.definitions import StorageDefinition as StorageDefinition
    from citychain.hooks.specs import hookimpl as hookimpl
    from citychain.ports import CityContext as CityContext
    from citychain.ports import CityStorage as CityStorage
    from citychain.ports import ConsensusStep as ConsensusStep
    from citychain.ports import DagHandler as DagHandler
    from citychain.ports import FragmentKey as FragmentKey
    from citychain.ports import FragmentStore as FragmentStore
    from citychain.ports import Judgement as Judgement
    from citychain.ports import PendingPage as PendingPage
    from citychain.ports import RoundContext as RoundContext
    from citychain.ports import Space as Space
    from citychain.ports import StateView as StateView
    from citychain.ports import StorageBackend as StorageBackend
    from citychain.ports import StorageContext as StorageContext
    from citychain.ports import StoredRound as StoredRound
    from citychain.types import Anchor as Anchor
    from citychain.types import Certificate as Certificate
    from citychain.types import Decision as Decision
    from citychain.types import Delivery as Delivery
    from citychain.types import Equivocation as Equivocation
    from citychain.types import Head as Head
    from citychain.types import NodeRef as NodeRef
    from citychain.types import ObjectState as ObjectState
    from citychain.types import ObjectWrite as ObjectWrite
    from citychain.types import Peer as Peer
    from citychain.types import PohEntry as PohEntry
    from citychain.types import Presence as Presence
    from citychain.types import RawTransaction as RawTransaction
    from citychain.types import Recovery as Recovery
    from citychain.types import Rejection as Rejection
    from citychain.types import Remittance as Remittance
    from citychain.types import Reward as Reward
    from citychain.types import SealedNode as SealedNode
    from citychain.types import SealedRound as SealedRound
    from citychain.types import Seat as Seat
    from citychain.types import Settlement as Settlement
    from citychain.types import Stake as Stake
    from citychain.types import State as State
    from citychain.types import Vote as Vote
    from citychain.types import WitnessSignature as WitnessSignature

_MODULES: Final = {
    "_native.transactions": ("Transaction",),
    "consensus.solo": ("Solo",),
    "consensus.steps": ("ApprovedByVotes", "SealedByHistory"),
    "dag.rules": ("LedgerRules",),
    "dag.sealed_rounds": ("SealedRounds",),
    "errors": (
        "CitychainError",
        "ConfigurationError",
        "ConsensusError",
        "FragmentMissing",
        "LeaseLost",
        "NameTaken",
        "RoundTaken",
        "StorageError",
        "StoreFull",
        "StoreUnavailable",
        "VerificationError",
    ),
    "genesis": ("Genesis", "balance_object", "city_name"),
    "handler": ("CityHandler",),
    "hooks.definitions": (
        "API_VERSION",
        "CityDefinition",
        "CommandDefinition",
        "ConsensusDefinition",
        "DagDefinition",
        "Disc",
        "FragmentStoreDefinition",
        "NoOptions",
        "StorageDefinition",
    ),
    "hooks.specs": ("hookimpl",),
    "ports": (
        "CityContext",
        "CityStorage",
        "ConsensusStep",
        "DagHandler",
        "FragmentKey",
        "FragmentStore",
        "Judgement",
        "PendingPage",
        "RoundContext",
        "Space",
        "StateView",
        "StorageBackend",
        "StorageContext",
        "StoredRound",
    ),
    "types": (
        "Anchor",
        "Certificate",
        "Decision",
        "Delivery",
        "Equivocation",
        "Head",
        "NodeRef",
        "ObjectState",
        "ObjectWrite",
        "Peer",
        "PohEntry",
        "Presence",
        "RawTransaction",
        "Recovery",
        "Rejection",
        "Remittance",
        "Reward",
        "SealedNode",
        "SealedRound",
        "Seat",
        "Settlement",
        "Stake",
        "State",
        "Vote",
        "WitnessSignature",
    ),
}
_HOME: Final = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(globals(), _HOME)
