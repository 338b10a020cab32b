"""The built-in kind of fragment store, offered by the same hook as anybody else's."""

from __future__ import annotations

from collections.abc import Iterable

from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.hooks.definitions import API_VERSION, FragmentStoreDefinition
from citychain.hooks.specs import hookimpl

__all__ = ["citychain_fragment_stores"]


@hookimpl
def citychain_fragment_stores() -> Iterable[FragmentStoreDefinition]:
    """``directory``."""
    yield FragmentStoreDefinition(
        "directory", DirectoryStore, DirectoryOptions, api_version=API_VERSION
    )
