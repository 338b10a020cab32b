"""What a plugin may offer (`specs`) and how plugins are found (`registry`)."""

from citychain.hooks.definitions import (
    API_VERSION,
    CityDefinition,
    CommandDefinition,
    ConsensusDefinition,
    DagDefinition,
    Disc,
    FragmentStoreDefinition,
    StorageDefinition,
)
from citychain.hooks.specs import hookimpl

__all__ = [
    "API_VERSION",
    "CityDefinition",
    "CommandDefinition",
    "ConsensusDefinition",
    "DagDefinition",
    "Disc",
    "FragmentStoreDefinition",
    "StorageDefinition",
    "hookimpl",
]
