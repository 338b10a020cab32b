"""A holder: says which fragments of a city's archive it has, and proves it when it is asked.

It follows the city, counts as everybody does (`citychain.holding.recount`), and looks into its
stores. There is nothing that it must keep: what it has said and answered is in the city's rounds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeVar

from citychain import record
from citychain._native.transactions import decode_batch
from citychain.city.retry import pause_seconds
from citychain.client.city import CityClient
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import CitychainError, ConfigurationError, VerificationError
from citychain.genesis import Genesis
from citychain.handler import Received, TransactionEvent
from citychain.holding.deeds import Answered, Claimed, Deed, Missed, Refused, TakenBack, Unproven
from citychain.holding.parcels import due_receipts, packed, parts
from citychain.holding.reading import stated
from citychain.holding.recount import Recount
from citychain.holding.shelves import Found, NotProven, Shelves
from citychain.holding.under_way import UnderWay
from citychain.ports import Clock, Compute, FragmentKey, FragmentStore, StoredRound
from citychain.statements import (
    Answer,
    AnsweredChunk,
    Holding,
    Statement,
)
from citychain.types import Rejection, State, Verdict

__all__ = ["Holder"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS: Final = 600.0
"""How often all stores are looked into. What is announced meanwhile is looked for at once."""
KEEP_SECONDS: Final = 60.0
"""How often the recount is kept."""
AGAIN_SECONDS: Final = 5.0
"""After which what could not be submitted or proven is tried again."""
NONE: Final[Mapping[str, str]] = MappingProxyType({})
NOT_YET: Final = (0, float("-inf"), True)
"""When nothing was looked for, nor said."""
PAST: Final = 1
"""A time that is over: what is held until then is taken back."""


class Holder:
    """Holds for one city with one key.

    Args:
        stores: By name.
        closed: Those that could not be opened, and why: nothing of theirs is taken back.
        term: How long a receipt is for. It is renewed when a third of that is left.
        recount: As far as the city was followed before; at its beginning if it was not.
        keep: Keeps that for the next time; it blocks, and is called now and then.
        told: Of what was done.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        key: SigningKey,
        client: CityClient,
        stores: Mapping[str, FragmentStore],
        compute: Compute,
        clock: Clock,
        term: timedelta,
        told: Callable[[Deed], None],
        closed: Mapping[str, str] = NONE,
        recount: Recount | None = None,
        keep: Callable[[Recount], None] = lambda recount: None,
    ) -> None:
        self._genesis = genesis
        self._key = key
        self.key_id = key_id(key.public_key)
        """Id of its key."""
        self._client = client
        self._shelves = Shelves(stores, closed, compute, clock)
        self._closed = closed
        self._compute = compute
        self._clock = clock
        self._term_ms = term // timedelta(milliseconds=1)
        self._told = told
        self.recount = recount or Recount(genesis.operator_id, only=self.key_id)
        """As far as the city's rounds were followed."""
        self._keep = keep
        self._kept = (self.recount.round, clock.monotonic())
        """Up to which round it was kept, and when."""
        self._under_way = UnderWay(clock)
        self._lost: dict[FragmentKey, int] = {}
        """Fragments of which a chunk could not be proven, and which chunk."""
        self._unproven: set[Unproven] = set()
        """What was told of challenges that are open."""
        self._missed: Missed | None = None
        """What was told of challenges that are over."""
        self._found: Found | None = None
        """At the last look, of which it is known how many segments there were, and when it was."""
        self._looked = (0, float("-inf"))
        self._claimed = NOT_YET
        """Likewise, and whether that was all: rounds come faster than there is anything to say."""
        self._news = asyncio.Event()
        self._counting = asyncio.Lock()
        """Held while the recount is changed, in a thread, or read."""

    async def run(self) -> None:
        """Follow the city and do what is due, until cancelled."""
        head = await self._patiently(self._begin)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._patiently(self._follow))
            while True:
                self._news.clear()
                pause = LOOK_SECONDS
                await self._keep_sometimes()
                if self.recount.round >= head:
                    try:
                        pause = LOOK_SECONDS if await self._act() else AGAIN_SECONDS
                    except (CitychainError, TimeoutError) as error:
                        logger.warning("%s: %s; trying again", self._genesis.city, error)
                        pause = AGAIN_SECONDS
                try:
                    async with asyncio.timeout(pause):
                        await self._news.wait()
                except TimeoutError:
                    continue

    async def once(self, timeout: timedelta) -> bool:
        """Do what is due now, wait until it is in the ledger, and return whether that was all.

        Raises:
            TimeoutError: the city does not approve it in time.
        """
        self._found, self._claimed = None, NOT_YET
        head = await self._begin()
        if head > self.recount.round:
            await self._follow(head)
        await self._keep_now()
        is_all = await self._act()
        if tx_ids := self._under_way.tx_ids:
            events = await self._client.wait(tx_ids, timeout=timeout)
            self._seen({tx_id: _verdict(event) for tx_id, event in events.items()})
            is_all &= all(event.state == State.APPROVED for event in events.values())
        return is_all

    # --- following

    async def _begin(self) -> int:
        """The last certified round.

        Raises:
            ConfigurationError: the city's rounds are not those that were followed before.
        """
        head = (await self._client.info()).head.certified_round
        known = self.recount.round
        if known:
            there = (await self._client.checkpoint(known)).checkpoint_hash if known <= head else b""
            if there != self.recount.checkpoint_hash:
                raise ConfigurationError(
                    f"round {known} is not the one that was followed: the state is of another "
                    "history of the city; remove its file"
                )
        return head

    async def _keep_sometimes(self) -> None:
        round, when = self._kept
        if self.recount.round > round and self._clock.monotonic() >= when + KEEP_SECONDS:
            await self._keep_now()

    async def _keep_now(self) -> None:
        async with self._counting:
            await self._compute(self._keep, self.recount)
            self._kept = (self.recount.round, self._clock.monotonic())

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            before = self.recount.round
            try:
                return await work()
            except ConfigurationError:
                raise
            except (CitychainError, TimeoutError) as error:
                logger.warning("%s: %s; trying again", self._genesis.city, error)
            failures = 1 if self.recount.round > before else failures + 1
            await self._clock.sleep(pause_seconds(failures))

    async def _follow(self, last: int | None = None) -> None:
        """Take certified rounds as they come; up to the last one, if that is given."""
        async with aclosing(
            self._client.follow_transactions(self.recount.round + 1, sealed=False)
        ) as rounds:
            async for followed in rounds:
                async with self._counting:
                    verdicts = await self._compute(
                        _take, self.recount, followed.stored, followed.envelopes
                    )
                self._seen(verdicts)
                self._news.set()
                await self._keep_sometimes()
                if followed.stored.round == last:
                    return

    def _seen(self, verdicts: Mapping[bytes, Verdict]) -> None:
        for code, reason in self._under_way.seen(verdicts):
            self._told(Refused(code, reason))

    # --- acting

    async def _act(self) -> bool:
        """Do what is due; whether nothing is left."""
        await self._tell_missed()
        if not self._under_way.may_submit:
            return False
        is_all = await self._answer()
        number, when, was_all = self._claimed
        fragments, now = len(self.recount.fragments), self._clock.monotonic()
        if fragments > number or now >= when + AGAIN_SECONDS:
            was_all = await self._claim()
            self._claimed = (fragments, now, was_all)
        return is_all and was_all

    async def _tell_missed(self) -> None:
        async with self._counting:
            missed = self._missed_now()
        if missed is not None and missed != self._missed:
            self._told(missed)
        self._missed = missed

    def _missed_now(self) -> Missed | None:
        recount = self.recount
        held = recount.receipts(self.key_id, self._clock.time_ms())
        failed = len(recount.failed(self.key_id) & held.keys())
        silent = recount.is_silent(self.key_id)
        if not held or not (failed or silent):
            return None
        return Missed(recount.states[self.key_id].closed_in[-1], failed, silent)

    async def _answer(self) -> bool:
        async with self._counting:
            challenges = {
                challenge.round: {
                    key: chunk
                    for key, chunk in challenge.asked.items()
                    if key not in challenge.answered
                }
                for challenge in self.recount.open(self.key_id)
            }
        self._unproven = {it for it in self._unproven if it.round in challenges}
        is_all = True
        for round, asked in challenges.items():
            under_way = self._under_way.answered(round)
            proven: list[AnsweredChunk] = []
            for key, chunk in asked.items():
                if key in under_way:
                    continue
                try:
                    proof = await self._shelves.prove(key, chunk)
                except NotProven as error:
                    is_all = False
                    unproven = Unproven(round, key, chunk, str(error), error.lost)
                    if unproven not in self._unproven:
                        self._told(unproven)
                        self._unproven.add(unproven)
                    if error.lost and key not in self._lost:
                        self._lost[key] = chunk
                        self._claimed = NOT_YET
                else:
                    proven.append(AnsweredChunk.of(key, chunk, proof.to_bytes()))
                    # What fills a transaction does not wait for stores that are slow.
                    full, *others = packed(round, proven)
                    if others:
                        is_all &= await self._send(round, full)
                        proven = [*others[0]]
            for answers in packed(round, proven):
                is_all &= await self._send(round, answers)
        return is_all

    async def _send(self, round: int, answers: Sequence[AnsweredChunk]) -> bool:
        tx_id = await self._submit(Answer(challenge=round, answers=tuple(answers)))
        if tx_id is not None:
            self._under_way.answer(tx_id, round, {it.key for it in answers})
            self._told(Answered(round, len(answers)))
        return tx_id is not None

    async def _claim(self) -> bool:
        found = await self._look()
        async with self._counting:
            now = self._clock.time_ms()
            held = self.recount.receipts(self.key_id, now)
        here = found.stores.keys() - self._lost.keys()
        under_way = self._under_way.claimed
        gone = {key for key in held if key in self._lost or not (found.away or key in here)}
        due = due_receipts(here, held, now, self._term_ms) - under_way
        is_all = not found.away and found.stores.keys().isdisjoint(self._lost)
        for keys in parts(gone - under_way):
            if is_taken := await self._state(keys, PAST):
                self._told(TakenBack(len(keys)))
            is_all &= is_taken
        for keys in parts(due):
            good = [key for key in keys if key in held or await self._is_there(key)]
            is_all &= len(good) == len(keys)
            until_ms = self._clock.time_ms() + self._term_ms
            if good:
                if is_taken := await self._state(good, until_ms):
                    self._told(Claimed(len(good), until_ms))
                is_all &= is_taken
            # There may be many of them, and a challenge does not wait.
            is_all &= await self._answer()
        return is_all

    async def _is_there(self, key: FragmentKey) -> bool:
        """Whether a chunk of a fragment can be proven, before it is signed for the first time."""
        try:
            await self._shelves.prove(key, 0)
        except NotProven as error:
            if error.lost:
                self._lost[key] = 0
            self._told(Unproven(0, key, 0, str(error), error.lost))
            return False
        return True

    async def _look(self) -> Found:
        """What the stores have, as it was a while ago if nothing was announced since."""
        async with self._counting:
            announced = {*self.recount.fragments}
        number, when = self._looked
        now, found = self._clock.monotonic(), self._found
        # What could not be opened is not there the next time either.
        is_partial = found is not None and found.away.keys() - self._closed.keys()
        pause = AGAIN_SECONDS if is_partial else LOOK_SECONDS
        if found is None or len(announced) > number or now >= when + pause:
            for key, chunk in [*self._lost.items()]:
                try:
                    await self._shelves.prove(key, chunk)
                except NotProven:
                    continue
                del self._lost[key]
            found = await self._shelves.find(announced)
            self._found, self._looked = found, (len(announced), self._clock.monotonic())
        return found

    async def _state(self, keys: list[FragmentKey], until_ms: int) -> bool:
        tx_id = await self._submit(Holding.of(until_ms, keys))
        if tx_id is not None:
            self._under_way.claim(tx_id, keys)
        return tx_id is not None

    async def _submit(self, statement: Statement) -> bytes | None:
        """The transaction's id, if the city took it."""
        if not self._under_way.may_submit:
            return None
        self._under_way.submitted()
        signed: SignedTransaction = await self._compute(
            sign_transaction,
            self._key,
            genesis=self._genesis.id,
            data=statement.encode(),
            content_type=statement.CONTENT_TYPE,
        )
        [result] = await self._client.submit([signed])
        if isinstance(result, Received):
            return signed.tx_id
        self._told(Refused(result.code, result.detail))
        return None


def _take(
    recount: Recount, stored: StoredRound, envelopes: Sequence[bytes]
) -> dict[bytes, Verdict]:
    """Recount a round; what it says of the transactions that it seals."""
    decided = record.decode(stored.record)
    try:
        sealed = decode_batch(envelopes[: len(decided.tx_ids)])
        statements = stated(sealed, decided.verdicts)
        recount.take(stored.round, decided.time_ms, stored.checkpoint_hash, statements)
    except ValueError as error:
        raise VerificationError(f"round {stored.round}, as the server gives it: {error}") from None
    return dict(zip(decided.tx_ids, decided.verdicts, strict=False))


def _verdict(event: TransactionEvent) -> Verdict:
    if event.state == State.APPROVED:
        return None
    return Rejection(event.code, f"rejected in round {event.round}")
