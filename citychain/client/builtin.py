"""The built-in kind of fragment store that is a client, offered by the same hook as any other."""

from __future__ import annotations

from collections.abc import Iterable

from citychain.client.fragments import RemoteOptions, RemoteStore
from citychain.hooks.definitions import API_VERSION, FragmentStoreDefinition
from citychain.hooks.specs import hookimpl

__all__ = ["citychain_fragment_stores"]


@hookimpl
def citychain_fragment_stores() -> Iterable[FragmentStoreDefinition]:
    """``remote``."""
    yield FragmentStoreDefinition("remote", RemoteStore, RemoteOptions, api_version=API_VERSION)
