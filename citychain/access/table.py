"""The one table from calls to the roles that they need; docs/access.md shows it to people.

A call that is not in it needs the role ``admin`` for all cities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from citychain.roles import Role

__all__ = ["NEEDS", "Need", "need_of"]


@dataclass(frozen=True, slots=True)
class Need:
    """What a call asks of its caller."""

    role: Role | None
    """``None``: anybody may, and no token is looked at."""
    of_city: bool = True
    """The role must be had for the city that the request names; else for any city."""
    everywhere: bool = False
    """It must be had for all cities, whatever the request says."""


_ANYBODY: Final = Need(None, of_city=False)
_READ: Final = Need(Role.READ)
_READ_SOMEWHERE: Final = Need(Role.READ, of_city=False)
_SUBMIT: Final = Need(Role.SUBMIT)
_ADMIN: Final = Need(Role.ADMIN)
_STORE: Final = Need(Role.STORE, of_city=False)
_FETCH: Final = Need(Role.FETCH, of_city=False)
_UNKNOWN: Final = Need(Role.ADMIN, of_city=False, everywhere=True)

_SERVICES: Final[Mapping[str, Mapping[str, Need]]] = {
    "citychain.v1.CityService": {
        "ListCities": _READ_SOMEWHERE,
        "GetCity": _READ,
        "GetObjects": _READ,
    },
    "citychain.v1.TransactionService": {
        "Submit": _SUBMIT,
        "SubmitBatch": _SUBMIT,
        "SubmitStream": _SUBMIT,
        "GetTransaction": _READ,
        "GetReceipts": _READ,
        "Watch": _READ,
    },
    "citychain.v1.DagService": {
        "GetNode": _READ,
        "ListParents": _READ,
        "ListChildren": _READ,
        "ListNodes": _READ,
        "ListRounds": _READ,
        "StreamRounds": _READ,
        "GetCheckpoint": _READ,
        "GetInclusionProof": _READ,
        "GetConsistencyProof": _READ,
        "GetPublicKeys": _READ,
    },
    "citychain.v1.VoteService": {
        "CastVotes": Need(Role.VOTE),
        "GetCommittee": _READ,
        "Recover": _ADMIN,
    },
    "citychain.v1.ExchangeService": {
        "GetRemittance": _READ,
        "GetDeliveries": _READ,
        "ListPeers": _READ,
        "GetAnchor": _READ,
    },
    "citychain.v1.AdminService": {"MoveCity": _ADMIN},
    "citychain.v1.PluginService": {"ListPlugins": _READ_SOMEWHERE},
    "citychain.v1.StorageService": {
        "StoreFragment": _STORE,
        "FetchFragment": _FETCH,
        "HasFragment": _FETCH,
        "FindFragments": _FETCH,
        "ListFragments": _FETCH,
        "DeleteFragment": _STORE,
        "GetSpace": _FETCH,
        "Challenge": _FETCH,
    },
    # What watches over a server, or balances calls between several, has no token.
    "grpc.health.v1.Health": {"Check": _ANYBODY, "List": _ANYBODY, "Watch": _ANYBODY},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": _READ_SOMEWHERE},
}

NEEDS: Final[Mapping[str, Need]] = {
    f"/{service}/{method}": need
    for service, methods in _SERVICES.items()
    for method, need in methods.items()
}
"""By the path of the call."""


def need_of(path: str) -> Need:
    """What the call of this path needs."""
    return NEEDS.get(path, _UNKNOWN)
