"""The built-in kinds of fragment store, offered by the same hook as anybody else's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from citychain.errors import StoreUnavailable
from citychain.fragments._ipfs_options import IpfsOptions
from citychain.fragments._s3_options import S3Options
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.hooks.definitions import API_VERSION, FragmentStoreDefinition
from citychain.hooks.specs import hookimpl

if TYPE_CHECKING:
    from citychain.ports import FragmentStore, StorageContext

__all__ = ["citychain_fragment_stores"]


@hookimpl
def citychain_fragment_stores() -> Iterable[FragmentStoreDefinition]:
    """``directory``, ``s3`` and ``ipfs``."""
    yield FragmentStoreDefinition(
        "directory", DirectoryStore, DirectoryOptions, api_version=API_VERSION
    )
    yield FragmentStoreDefinition("s3", _s3, S3Options, api_version=API_VERSION)
    yield FragmentStoreDefinition("ipfs", _ipfs, IpfsOptions, api_version=API_VERSION)


def _s3(options: S3Options, context: StorageContext) -> FragmentStore:
    """Its driver is an extra, and takes time to import."""
    try:
        from citychain.fragments.s3 import S3Store
    except ModuleNotFoundError as error:
        raise _needs("s3", error) from None
    return S3Store(options, context)


def _ipfs(options: IpfsOptions, context: StorageContext) -> FragmentStore:
    """Its client is an extra, too."""
    try:
        from citychain.fragments.ipfs import IpfsStore
    except ModuleNotFoundError as error:
        raise _needs("ipfs", error) from None
    return IpfsStore(options, context)


def _needs(kind: str, error: ModuleNotFoundError) -> StoreUnavailable:
    return StoreUnavailable(
        f"the fragment store {kind} needs the module {error.name}: pip install 'citychain[{kind}]'"
    )
