"""A city that lives with a plugin's parts for a moment, while a watchdog looks on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from citychain.cli.doctor.attempts import Attempts, Unusable
from citychain.cli.doctor.findings import Finding, line_of
from citychain.cli.doctor.shape import shape_findings, votes_findings
from citychain.cli.doctor.watchdog import BLOCKED_SECONDS, Watchdog
from citychain.hooks.definitions import ConsensusDefinition, DagDefinition, StorageDefinition
from citychain.hooks.registry import Registry
from citychain.ports import CityStorage, ConsensusStep, DagHandler, StorageBackend

__all__ = ["FINAL_SECONDS", "Trial", "block_findings", "noting"]

FINAL_SECONDS: Final = 10.0
"""For the transactions of a city to become final."""
TRANSACTIONS: Final = 20

PORTS: Final[Mapping[type, type]] = {
    StorageDefinition: StorageBackend,
    DagDefinition: DagHandler,
    ConsensusDefinition: ConsensusStep,
}

Made = Callable[[Any, Any], None]
"""Told of each part that a factory made: the definition and the part."""


class FactoryFailed(Exception):
    """Raised instead of what a factory raised, which is its cause."""


def noting(definition: Any, made: Made) -> Any:
    """The same definition, whose factory tells of what it makes."""

    def factory(options: Any, context: Any) -> Any:
        try:
            part = definition.factory(options, context)
        except Exception as error:
            raise FactoryFailed(str(error)) from error
        made(definition, part)
        return part

    return replace(definition, factory=factory)


class Trial:
    """Opens one city, has transactions sealed and approved in it, reads them back, closes it.

    Args:
        registry: With the parts.
        city: Its slug, and its table in the configuration.
        what: The part or city that is tried, for people.
        where: The line that offers it.
        made: The definitions of the plugin's own, and the parts that were made of them.
        members: Of the city's committee, who all vote inside the server; 0 for the operator alone.
    """

    def __init__(
        self,
        registry: Registry,
        city: tuple[str, Mapping[str, Any]],
        what: str,
        where: str,
        made: Callable[[], list[tuple[Any, Any]]],
        members: int = 0,
    ) -> None:
        self._registry = registry
        self._slug, self._table = city
        self._what = what
        self._where = where
        self._made = made
        self._members = members
        self.refused = False
        """A part did not take a city like this one."""

    def run(self, attempt: Attempts) -> list[Finding]:
        """What was found; ends when the city does, or is overdue."""
        package = attempt.package
        with (
            # What is left behind may still write there.
            TemporaryDirectory(prefix="citychain-doctor-", ignore_cleanup_errors=True) as folder,
            _heard() as raised,
        ):
            try:
                findings = attempt(
                    "city-failed",
                    self._where,
                    f"{self._what}: using a city",
                    lambda: asyncio.run(self._live(Path(folder), package)),
                )
            except Unusable as unusable:
                findings = [unusable.finding]
        told = {(finding.where, finding.what.rpartition(" failed: ")[2]) for finding in findings}
        for error in raised:
            if (origin := _origin(error, package)) is not None:
                finding = self._failed("part-failed", "it raised an error", origin, package)
                if (finding.where, finding.what.partition(" error: ")[2]) not in told:
                    findings.append(finding)
        for definition, part in self._made():
            port = next(port for kind, port in PORTS.items() if isinstance(definition, kind))
            findings += shape_findings(part, port, self._where)
            if port is ConsensusStep:
                findings += votes_findings(part, self._where)
        return findings

    async def _live(self, folder: Path, package: str) -> list[Finding]:
        from citychain.client.keys import create_key
        from citychain.config import Settings
        from citychain.containers import CoreContainer, open_directory
        from citychain.errors import CityUnavailable, ConfigurationError

        create_key(folder / "operator.key")
        table = dict(self._table)
        if self._members:
            files = [folder / f"member{number}.key" for number in range(self._members)]
            keys = [create_key(file).public_key.hex() for file in files]
            table |= {"committee": [{"public_key": key} for key in keys], "representatives": files}
        settings = Settings.model_validate(
            {
                "data_dir": folder / "data",
                "operator_key": folder / "operator.key",
                "pacer": {"min_seconds": 0.01, "max_seconds": 0.05},
                "cities": {self._slug: table},
            }
        )
        core = CoreContainer(settings=settings)
        core.registry.override(self._registry)
        findings: list[Finding] = []
        watchdog = Watchdog(package)
        try:
            with watchdog:
                async with open_directory(core) as directory:
                    handler = await directory.handler(self._slug)
                    findings += shape_findings(handler.storage, CityStorage, self._where)
                    findings += await self._use(handler)
        except CityUnavailable as error:
            cause = error.__cause__ or error
            if isinstance(cause, FactoryFailed):
                inner = cause.__cause__ or cause
                self.refused = isinstance(inner, ConfigurationError)
                findings.append(self._failed("factory-failed", "making it failed", inner, package))
            else:
                findings.append(self._failed("city-failed", "opening it failed", cause, package))
        except Exception as error:
            findings.append(self._failed("city-failed", "using a city failed", error, package))
        return [*findings, *block_findings(watchdog, self._what)]

    async def _use(self, handler: Any) -> list[Finding]:
        from citychain.client.transactions import sign_transaction
        from citychain.crypto.signatures import SigningKey
        from citychain.types import State

        key = SigningKey(bytes(range(32)))
        signed = [
            sign_transaction(
                key, genesis=handler.genesis.id, with_public_key=True, data=b"trial %d" % number
            )
            for number in range(TRANSACTIONS)
        ]
        await handler.submit([it.envelope for it in signed])
        ids = [it.tx_id for it in signed]
        try:
            async with asyncio.timeout(FINAL_SECONDS):
                async for _ in handler.watch_transactions(ids, State.APPROVED):
                    pass
        except TimeoutError:
            what = (
                f"{self._what}: {TRANSACTIONS} transactions were not final in {FINAL_SECONDS:g} s"
            )
            fix = "mend what else is told; if it waits for votes from elsewhere, all is well"
            return [Finding("not-final", self._where, what, fix)]
        await handler.receipts(ids)
        await handler.head()
        return []

    def _failed(self, code: str, what: str, error: BaseException, package: str) -> Finding:
        where = line_of(error, package) or self._where
        what = f"{self._what}: {what}: {type(error).__name__}: {error}"
        return Finding(code, where, what, "mend it there")


def block_findings(watchdog: Watchdog, tried: str) -> Iterator[Finding]:
    """Where the event loop stood still while ``tried`` was."""
    for block in watchdog.blocks:
        what = (
            f"{tried}: the event loop stood still for {block.seconds * 1000:.0f} ms here; "
            f"{BLOCKED_SECONDS * 1000:.0f} ms are too long"
        )
        fix = (
            "await what has to wait, and do what blocks or computes by "
            "await context.compute(function, ...)"
        )
        yield Finding("blocks-loop", block.place, what, fix)


def _origin(error: BaseException | None, package: str) -> BaseException | None:
    """The error behind this one that came from a package."""
    while error is not None and not line_of(error, package):
        error = error.__cause__ or error.__context__
    return None if isinstance(error, FactoryFailed) else error


@contextmanager
def _heard() -> Iterator[list[BaseException]]:
    """Keep the log to ourselves, and take out of it what was raised: the pipeline of a city tells
    it there, and goes on."""
    log = logging.getLogger("citychain")
    listener = _Listener(logging.WARNING)
    before = log.level, log.propagate
    log.setLevel(logging.WARNING)
    log.propagate = False
    log.addHandler(listener)
    try:
        yield listener.raised
    finally:
        log.removeHandler(listener)
        log.level, log.propagate = before


class _Listener(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.raised: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if record.exc_info and record.exc_info[1] is not None:
            self.raised.append(record.exc_info[1])
