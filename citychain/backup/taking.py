"""Takes a city's certified rounds into a copy of its ledger, and recomputes each on the way.

The rounds come from a server or from a storage, as an audit's do, and none is believed. What is in
the copy was checked before, so a backup that is taken again goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from citychain import checkpoint, notes
from citychain.archive.announced import announced_segments
from citychain.city.handovers import Handovers
from citychain.city.replay import PublishedRound, Replay
from citychain.city.state import LedgerState
from citychain.committee import CommitteeChain
from citychain.errors import InvalidRequest, InvalidRound, VerificationError
from citychain.following.audit import PATIENCE_SECONDS, Audit, AuditResult
from citychain.following.source import RoundSource
from citychain.genesis import Genesis
from citychain.moving.mark import UNFINISHED
from citychain.ports import CityStorage, Compute, StoredRound
from citychain.types import RawTransaction, SealedRound

__all__ = ["Backup", "beyond", "keep_round", "notes_of"]

Told = Callable[[int, int], None]
"""Told how many rounds are there, and of how many."""


class Backup:
    """Takes one city's rounds, as far as they are certified.

    Args:
        copy: Nobody else's to write to.
        state: Over ``copy``.
        replay: Resumed from ``copy``.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        source: RoundSource,
        copy: CityStorage,
        state: LedgerState,
        replay: Replay,
        compute: Compute,
        told: Told = lambda done, of: None,
    ) -> None:
        self._genesis = genesis
        self._source = source
        self._copy = copy
        self._state = state
        self._replay = replay
        self._compute = compute
        self._told = told
        self._chain = CommitteeChain(genesis)
        self._last = 0

    async def run(self, up_to: int | None = None) -> AuditResult:
        """Take the rounds that are certified by now; what was found of those that are new.

        Args:
            up_to: Take none after this one.

        Raises:
            InvalidRequest: there is no certified round ``up_to``, or the backup is beyond it.
            InvalidRound: the first thing that does not hold; the rounds before it are taken.
            VerificationError: the source is behind the copy.
        """
        _, self._last = await self._source.last_round()
        there = (await self._copy.head()).round
        if self._last < there:
            raise VerificationError(
                f"the city's last certified round is {self._last}, and the backup has round "
                f"{there}: what is served is an older copy, or the backup is another city's"
            )
        await self._begin(self._last)
        if up_to is not None:
            _check_up_to(up_to, there, self._last)
            self._last = up_to
        for handover in await Handovers(self._copy).after(0):
            await self._compute(self._chain.apply, handover)
        await self._keep_recoveries()
        await self._take_up(there)
        audit = Audit(
            replay=self._replay,
            state=self._state,
            chain=self._chain,
            source=self._source,
            compute=self._compute,
            keep=self._keep,
        )
        return await audit.run(self._last)

    async def _begin(self, certified: int) -> None:
        """Note what is to be known of the backup wherever it ends: that no server opens it, and
        which round the city had. That round is the source's word, and only keeps a city that lacks
        it from living on."""
        kept = {notes.HOME: UNFINISHED}
        if certified:
            try:
                async with (
                    asyncio.timeout(PATIENCE_SECONDS),
                    aclosing(self._source.rounds(certified)) as rounds,
                ):
                    stored, _ = await anext(rounds)
            except (TimeoutError, StopAsyncIteration):
                raise InvalidRound(certified, "round", "the city does not give it") from None
            kept[notes.round_name(notes.KNOWN, certified)] = stored.checkpoint_hash
        await self._copy.keep(kept)

    async def _keep_recoveries(self) -> None:
        """Keep what put committees in office that no election did.

        Raises:
            InvalidReceipt: one is not the operator's word; it is not kept.
        """
        counted: dict[int, int] = {}
        kept = {}
        for since, handover in await self._source.recoveries():
            number = counted.get(since, 0)
            counted[since] = number + 1
            if since <= self._last:
                await self._compute(self._chain.apply, handover)
                note = notes.RecoveryNote(handover.recovery, handover.public_keys)
                kept[notes.recovery_name(since, number)] = notes.recovery_bytes(note)
        if kept:
            await self._copy.keep(kept)

    async def _take_up(self, there: int) -> None:
        """Hold the last rounds of the copy to the source's, and bring a certificate that it lacks
        since taking was broken off.

        Raises:
            InvalidRound: the source has another round, or another committee's certificate.
        """
        if not there:
            return
        certified = (await self._copy.head()).certified_round
        async with aclosing(self._source.rounds(max(1, certified))) as rounds:
            async for stored, _ in rounds:
                kept = await self._copy.checkpoint_hashes([stored.round])
                if kept.get(stored.round) != stored.checkpoint_hash:
                    raise InvalidRound(
                        stored.round, "checkpoint", "it is not the one that the backup has"
                    )
                if stored.round > certified:
                    await self._certify(stored)
                if stored.round == there:
                    return

    async def _certify(self, stored: StoredRound) -> None:
        if stored.certificate is None:
            raise InvalidRound(stored.round, "certificate", "it is not given")
        elected = checkpoint.decode(stored.checkpoint).next_committee or ()
        keys = await self._copy.keys([seat.key_id for seat in elected])
        advance = partial(self._chain.advance, stored.checkpoint, stored.certificate, keys)
        try:
            await self._compute(advance)
        except VerificationError as error:
            raise InvalidRound(stored.round, "certificate", str(error)) from error
        await self._copy.certify([stored.certificate])

    async def _keep(self, published: PublishedRound, sealed: SealedRound) -> None:
        """Take a round that holds: what belongs to it first, its certificate last."""
        stored = published.stored
        if stored.certificate is None:
            raise InvalidRound(stored.round, "certificate", "it is not given")
        await keep_round(self._genesis, self._copy, self._source, published, sealed)
        await self._copy.certify([stored.certificate])
        self._told(stored.round, self._last)


async def keep_round(
    genesis: Genesis,
    target: CityStorage,
    source: RoundSource,
    published: PublishedRound,
    sealed: SealedRound,
) -> None:
    """Keep a round that holds, after what belongs to it; its certificate is for the caller.

    Args:
        source: Is asked for public keys that the target lacks.
    """
    claimed = published.checkpoint
    named = {item.author for item in published.transactions}
    for committee in (claimed.committee, claimed.next_committee or ()):
        named.update(seat.key_id for seat in committee)
    known = await target.keys(sorted(named))
    missing = sorted(named - known.keys())
    await target.append(
        [RawTransaction(it.tx_id, it.author, it.envelope) for it in published.transactions],
        await source.public_keys(missing) if missing else {},
    )
    if kept := notes_of(genesis, published):
        await target.keep(kept)
    await target.commit(sealed)


async def beyond(copy: CityStorage) -> dict[int, bytes]:
    """Rounds that were certified when a backup was taken and that it lacks, and the hashes of
    their checkpoints: taking it was broken off, or was to end before them. Nobody's but the
    backup's word."""
    last = (await copy.head()).round
    known = {notes.round_of(name): it for name, it in (await copy.notes(notes.KNOWN)).items()}
    return {round: digest for round, digest in known.items() if round > last}


def _check_up_to(up_to: int, there: int, certified: int) -> None:
    if up_to > certified:
        raise InvalidRequest("--up-to", f"is {up_to}, and the last certified round is {certified}")
    if up_to < there:
        raise InvalidRequest(
            "--up-to",
            f"is {up_to}, and the backup has round {there} already: give another folder with "
            "--output, and this one with --from",
        )


def notes_of(genesis: Genesis, published: PublishedRound) -> dict[str, bytes]:
    """The notes that stand beside a round that holds: segments that it announces, an election."""
    verdicts = published.record.verdicts
    kept = announced_segments(
        genesis.operator_id,
        [
            item
            for item, verdict in zip(published.transactions, verdicts, strict=False)
            if verdict is None
        ],
    )
    if published.checkpoint.next_committee is not None:
        kept[notes.round_name(notes.HANDOVER, published.stored.round)] = b""
    return kept
