"""A fragment store that keeps a few fragments for a moment, while a watchdog looks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from citychain.cli.doctor.attempts import Attempts, Unusable
from citychain.cli.doctor.findings import Finding, line_of
from citychain.cli.doctor.module import Offer
from citychain.cli.doctor.options import missing_options
from citychain.cli.doctor.shape import shape_findings
from citychain.cli.doctor.trial import block_findings
from citychain.cli.doctor.watchdog import Watchdog
from citychain.ports import FragmentKey, FragmentStore, StorageContext

__all__ = ["STORES", "store_findings"]

STORES: Final = "citychain_fragment_stores"
"""The hook that lists them."""
KEYS: Final = tuple(
    FragmentKey(sha256(b"object").digest(), sha256(b"root").digest(), index) for index in range(3)
)


def store_findings(offer: Offer, attempt: Attempts) -> list[Finding]:
    """What is found when a sound fragment store is put to work, with its default options."""
    definition = offer.descriptor
    if missing := missing_options(definition.options, {}):
        what = f"{definition.name} cannot be tried: it needs {missing}"
        fix = (
            "give defaults that keep to the context's directory, or try it by its "
            "FragmentStoreSuite"
        )
        return [Finding("options-needed", offer.where, what, fix)]
    what = f"fragment store {definition.name}"
    # What is left behind may still write there.
    with TemporaryDirectory(prefix="citychain-doctor-", ignore_cleanup_errors=True) as folder:
        try:
            return attempt(
                "store-failed",
                offer.where,
                f"{what}: using it",
                lambda: asyncio.run(_live(offer, what, Path(folder), attempt.package)),
            )
        except Unusable as unusable:
            return [unusable.finding]


async def _live(offer: Offer, what: str, folder: Path, package: str) -> list[Finding]:
    from citychain.clock import SystemClock
    from citychain.compute import Executor

    def failed(code: str, doing: str, error: BaseException) -> Finding:
        where = line_of(error, package) or offer.where
        told = f"{what}: {doing}: {type(error).__name__}: {error}"
        return Finding(code, where, told, "mend it there")

    async with Executor() as compute:
        context = StorageContext(folder / "trial", compute, SystemClock())
        try:
            store = offer.descriptor.factory(offer.descriptor.options(), context)
        except Exception as error:
            return [failed("factory-failed", "making it failed", error)]
        findings = list(shape_findings(store, FragmentStore, offer.where))
        if any(finding.level == "ERROR" for finding in findings):
            return findings  # It would fail by the same.
        watchdog = Watchdog(package)
        try:
            with watchdog:
                findings += [
                    Finding("store-failed", offer.where, f"{what}: {fault}", "mend it there")
                    for fault in await _use(store)
                ]
        except Exception as error:
            findings.append(failed("store-failed", "using it failed", error))
        return [*findings, *block_findings(watchdog, what)]


async def _use(manager: Any) -> list[str]:
    """Put, list, read and delete; what was answered wrongly."""
    faults = []
    content = bytes(range(256)) * 64

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 4_096):
            yield content[at : at + 4_096]

    async with manager as store:
        for key in KEYS:
            await store.put(key, len(content), parts())
        for key in KEYS:
            if await store.size(key) != len(content):
                faults.append("size() is not that of what was put")
            if await store.read(key, 0, len(content)) != content:
                faults.append("read() does not give what was put")
        if list(await store.find(KEYS[0].object_id)) != list(KEYS):
            faults.append("find() does not list what was put")
        if list(await store.keys(KEYS[0], 1)) != [KEYS[1]]:
            faults.append("keys() does not go on after a key")
        for key in KEYS:
            if not await store.delete(key):
                faults.append("delete() does not find what was put")
        if await store.size(KEYS[0]) is not None:
            faults.append("delete() leaves what it deletes")
        await store.space()
    return list(dict.fromkeys(faults))
