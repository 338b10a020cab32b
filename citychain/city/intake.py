"""From bytes that somebody sent to a durable transaction that may be acknowledged.

Calls that arrive while a batch is being checked form the next batch. Checks
run one batch after the other (native code spreads each over all cores); while
one batch is being made durable the next is checked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from citychain._native.transactions import Limits, Transaction, check_batch
from citychain._native.transactions import Refusal as NativeRefusal
from citychain.city.metering import UNMETERED, CityMeter
from citychain.city.pool import Expected, PendingPool
from citychain.crypto.signatures import KeyCache
from citychain.errors import InvalidRequest, StorageError
from citychain.exchange import judge as exchange
from citychain.handler import Received, Refusal
from citychain.ports import EXCHANGE_ACTIONS, CityStorage, Clock, Compute
from citychain.rates import Rates
from citychain.tracing import UNTRACED, Tracer
from citychain.types import RawTransaction, SealedNode, State

__all__ = ["Intake"]

BATCH_MAX: Final = 2_000
"""Transactions checked in one call."""
APPENDS_MAX: Final = 4
"""Batches on their way to storage."""
STORED_KEYS_MAX: Final = 65_536
AUTHOR_BURST: Final = timedelta(seconds=10)
"""Of so long an author's transactions may come at once."""

CLOSING: Final = StorageError("the city is closing")

Result = Received | Refusal


@dataclass(slots=True)
class _Call:
    """One `Intake.submit`, waiting."""

    envelopes: Sequence[bytes]
    done: asyncio.Future[list[Result]]
    caller: object
    """See `citychain.tracing.Tracer.caller`."""


class Intake:
    """Checks, stores and acknowledges one city's transactions.

    Args:
        operator: Id of the operator's key.
        state_of: The present state of a sealed transaction.
        refuses: Why a new transaction is not let in, if it is not; must not block.
        recovers: As `citychain.ports.SupportsVotes.recovers`; ``None`` where nobody votes.
        retry_after: How long an overloaded caller should wait.
        shared: Other servers receive transactions of the city too.
        author_per_second: New transactions of each author but the operator, on average.
        meter: Told how long checks and appends take.
        tracer: Told which call brought what.
    """

    def __init__(
        self,
        *,
        genesis: bytes,
        operator: bytes,
        storage: CityStorage,
        pool: PendingPool,
        keys: KeyCache,
        limits: Limits,
        compute: Compute,
        clock: Clock,
        state_of: Callable[[SealedNode], State],
        refuses: Callable[[Transaction], Refusal | None],
        recovers: Callable[[bytes], Awaitable[bool]] | None,
        retry_after: Callable[[], timedelta],
        shared: bool,
        author_per_second: float | None = None,
        meter: CityMeter = UNMETERED,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._genesis = genesis
        self._operator = operator
        self._storage = storage
        self._pool = pool
        self._keys = keys
        self._limits = limits
        self._compute = compute
        self._clock = clock
        self._state_of = state_of
        self._refuses = refuses
        self._recovers = recovers
        self._retry_after = retry_after
        self._meter = meter
        self._tracer = tracer
        self._shared = shared
        self._authors: Rates | None = None
        if author_per_second is not None:
            self._authors = Rates(author_per_second, AUTHOR_BURST, clock.monotonic)
        self._calls: deque[_Call] = deque()
        self._closed = False
        self._unanswered: set[asyncio.Future[list[Result]]] = set()
        self._arrived = asyncio.Event()
        self._appends = asyncio.Semaphore(APPENDS_MAX)
        # Transactions on their way to storage: a repeat may be acknowledged only with them.
        self._storing: dict[bytes, asyncio.Future[None]] = {}
        self._stored_keys: OrderedDict[bytes, None] = OrderedDict()

    async def submit(self, envelopes: Sequence[bytes]) -> list[Result]:
        """See `citychain.handler.CityHandler.submit`."""
        if not envelopes:
            return []
        if self._closed:
            raise CLOSING
        if len(envelopes) > BATCH_MAX:
            raise InvalidRequest("transactions", f"more than {BATCH_MAX} in one call")
        size = sum(map(len, envelopes))
        self._pool.reserve(len(envelopes), size, self._retry_after())
        done = asyncio.get_running_loop().create_future()
        call = _Call(envelopes, done, self._tracer.caller())
        self._unanswered.add(call.done)

        def answered(done: asyncio.Future[list[Result]]) -> None:
            self._unanswered.discard(done)
            self._pool.release(len(envelopes), size)

        call.done.add_done_callback(answered)
        self._calls.append(call)
        self._arrived.set()
        # A caller that leaves does not undo the work on its batch, nor free its room early.
        return await asyncio.shield(call.done)

    async def run(self) -> None:
        """Work until cancelled; then whoever waits is told that the city closes."""
        try:
            await self._work()
        finally:
            self._closed = True
            _fail(self._calls, CLOSING)
            self._calls.clear()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as appends:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._calls:
                    await self._appends.acquire()
                    await self._batch(self._next_calls(), appends)

    async def drain(self) -> None:
        """Wait until every call so far has its answer."""
        while self._unanswered:
            await asyncio.wait(self._unanswered)

    def _next_calls(self) -> list[_Call]:
        calls = [self._calls.popleft()]
        count = len(calls[0].envelopes)
        while self._calls and count + len(self._calls[0].envelopes) <= BATCH_MAX:
            calls.append(self._calls.popleft())
            count += len(calls[-1].envelopes)
        return calls

    async def _batch(self, calls: list[_Call], appends: asyncio.TaskGroup) -> None:
        """Check a batch; its storing goes on in the background."""
        try:
            with self._meter.timed("check"):
                checked = await self._check([item for call in calls for item in call.envelopes])
            ids = [_known_as(item) for item in checked]
            # Before it is asked what is sealed: what is sealed after that must not be added.
            expected = self._pool.expect([tx_id for tx_id in ids if tx_id is not None])
            try:
                results, new, repeats = await self._sort_out(checked, ids)
            except BaseException:
                self._pool.forget(expected)
                raise
        except BaseException as error:
            self._appends.release()
            _fail(calls, error)
            if not isinstance(error, Exception):
                raise
            return
        stored = asyncio.get_running_loop().create_future()
        # Nobody may be waiting for it, and then its exception is nobody's.
        stored.add_done_callback(lambda future: future.cancelled() or future.exception())
        for transaction in new:
            self._storing[transaction.tx_id] = stored
        appends.create_task(self._store(calls, results, new, repeats, stored, expected))

    async def _check(self, envelopes: Sequence[bytes]) -> list[Transaction | NativeRefusal]:
        checked = await self._native_check(envelopes)
        unknown = {
            index: item.key_id
            for index, item in enumerate(checked)
            if isinstance(item, NativeRefusal) and item.key_id is not None
        }
        if not unknown:
            return checked
        found = await self._storage.keys(list(set(unknown.values())))
        for key, public_key in found.items():
            self._keys.add_public_key(key, public_key)
            self._remember_stored(key)
        again = [index for index, key in unknown.items() if key in found]
        rechecked = await self._native_check([envelopes[index] for index in again])
        for index, item in zip(again, rechecked, strict=True):
            checked[index] = item
        return checked

    async def _native_check(self, envelopes: Sequence[bytes]) -> list[Transaction | NativeRefusal]:
        return await self._compute(
            check_batch,
            envelopes,
            self._genesis,
            self._keys,
            self._limits,
            self._clock.time_ms(),
        )

    async def _sort_out(
        self, checked: Sequence[Transaction | NativeRefusal], ids: Sequence[bytes | None]
    ) -> tuple[list[Result], list[Transaction], list[asyncio.Future[None]]]:
        """Tell new transactions from repeats and refusals.

        Args:
            ids: Under which they may have been received before.

        Returns the results as they will be once the new ones are stored, the
        new ones, and what repeats of transactions being stored wait for.
        """
        # Before the first await: meanwhile a pending one can be sealed, and one
        # being stored become pending.
        repeats = {
            tx_id: self._storing.get(tx_id)
            for tx_id in ids
            if tx_id is not None and (tx_id in self._pool or tx_id in self._storing)
        }
        sealed, elsewhere = await self._stored(
            [tx_id for tx_id in ids if tx_id is not None and tx_id not in repeats]
        )
        unknown = await self._unknown_recoveries(checked)
        unproven = await self._unproven(checked)
        results: list[Result] = []
        new: dict[bytes, Transaction] = {}
        for item, tx_id in zip(checked, ids, strict=True):
            if tx_id is not None and (tx_id in repeats or tx_id in new):
                results.append(Received(tx_id, State.RECEIVED, True))
            elif tx_id is not None and tx_id in sealed:
                results.append(Received(tx_id, self._state_of(sealed[tx_id]), True))
            elif isinstance(item, NativeRefusal) and tx_id is not None and tx_id in elsewhere:
                results.append(Received(tx_id, State.RECEIVED, True))
            elif isinstance(item, NativeRefusal):
                results.append(Refusal(item.code, item.field, item.detail, item.key_id, item.tx_id))
            elif item.tx_id in unproven:
                field, detail = unproven[item.tx_id]
                results.append(Refusal("UNPROVEN", field, detail, tx_id=item.tx_id))
            elif (refusal := self._refuses(item)) is not None:
                results.append(refusal)
            elif item.tx_id in unknown:
                results.append(
                    Refusal(
                        "RECOVERY_UNKNOWN",
                        "body.recovery",
                        "is not in force: use citychain recover, which also submits it",
                        tx_id=item.tx_id,
                    )
                )
            elif self._is_too_fast(item.author):
                results.append(
                    Refusal("AUTHOR_QUOTA", "body.author", "sends too fast", tx_id=item.tx_id)
                )
            elif self._pool.claim(item.author):
                # Stored again where another server did it: our answer is not to rest on its.
                new[item.tx_id] = item
                results.append(Received(item.tx_id, State.RECEIVED, item.tx_id in elsewhere))
            else:
                results.append(
                    Refusal("AUTHOR_QUOTA", "body.author", "too many are pending", tx_id=item.tx_id)
                )
        return (
            results,
            list(new.values()),
            [storing for storing in repeats.values() if storing is not None],
        )

    def _is_too_fast(self, author: bytes) -> bool:
        """Whether an author must wait; else one more is counted. Signatures are checked by now: in
        the name of another nobody uses up what that one may send."""
        if self._authors is None or author == self._operator:
            return False
        return bool(self._authors.take(author))

    async def _stored(
        self, tx_ids: Sequence[bytes]
    ) -> tuple[Mapping[bytes, SealedNode], Collection[bytes]]:
        """Those that are sealed, and ids of those that another server received."""
        if not self._shared:
            return await self._storage.find(tx_ids), ()
        return await asyncio.gather(self._storage.find(tx_ids), self._storage.raw(tx_ids))

    async def _unknown_recoveries(
        self, checked: Iterable[Transaction | NativeRefusal]
    ) -> set[bytes]:
        """Ids of recoveries that put nobody in office: sealed, they would name a committee
        whose handover no receipt could bring."""
        if self._recovers is None:
            return set()
        return {
            item.tx_id
            for item in checked
            if isinstance(item, Transaction)
            and item.action == "recovery"
            and not await self._recovers(item.tx_id)
        }

    async def _unproven(
        self, checked: Iterable[Transaction | NativeRefusal]
    ) -> Mapping[bytes, tuple[str, str]]:
        """What is wrong with those that can be seen not to prove what they say of other cities.

        Those that are too small to prove anything are for a round to reject.
        """
        about_others = [
            item
            for item in checked
            if isinstance(item, Transaction)
            and item.size >= exchange.PROVEN_BYTES_MIN
            and item.action in EXCHANGE_ACTIONS
        ]
        if not about_others:
            return {}
        return await self._compute(exchange.unproven, self._genesis, self._operator, about_others)

    async def _store(
        self,
        calls: list[_Call],
        results: list[Result],
        new: list[Transaction],
        repeats: list[asyncio.Future[None]],
        stored: asyncio.Future[None],
        expected: Expected,
    ) -> None:
        try:
            if new:
                keys = self._keys_to_store(new)
                raw = [RawTransaction(item.tx_id, item.author, item.envelope) for item in new]
                with self._meter.timed("append"):
                    await self._storage.append(raw, keys)
                for key in keys:
                    self._remember_stored(key)
                # Before a round can have them.
                for call, answers in _by_call(calls, results):
                    self._tracer.received(call.caller, _brought(answers))
                self._pool.add(new, expected)
            stored.set_result(None)
            for repeat in repeats:
                await repeat
        except BaseException as error:
            if not stored.done():
                for transaction in new:
                    self._pool.disclaim(transaction.author)
                stored.set_exception(error if isinstance(error, Exception) else CLOSING)
            _fail(calls, error)
            if not isinstance(error, Exception):
                raise
        else:
            for call, answers in _by_call(calls, results):
                if not call.done.done():
                    call.done.set_result(answers)
        finally:
            for transaction in new:
                self._storing.pop(transaction.tx_id, None)
            self._pool.forget(expected)
            self._appends.release()

    def _keys_to_store(self, new: Sequence[Transaction]) -> dict[bytes, bytes]:
        """Public keys that this city may not have yet, whichever way they came.

        A key given by id may be known from another city: the cache is shared.
        """
        keys: dict[bytes, bytes] = {}
        for transaction in new:
            author = transaction.author
            if author in self._stored_keys or author in keys:
                continue
            if (public_key := transaction.public_key) is None:
                if (prepared := self._keys.get(author)) is None:
                    raise StorageError("a public key left the cache before it was stored")
                public_key = prepared.public_key
            keys[author] = public_key
        return keys

    def _remember_stored(self, key: bytes) -> None:
        self._stored_keys[key] = None
        if len(self._stored_keys) > STORED_KEYS_MAX:
            self._stored_keys.popitem(last=False)


def _by_call(calls: Iterable[_Call], results: list[Result]) -> Iterator[tuple[_Call, list[Result]]]:
    at = 0
    for call in calls:
        end = at + len(call.envelopes)
        yield call, results[at:end]
        at = end


def _brought(answers: Iterable[Result]) -> Iterator[bytes]:
    """Ids of what has not been received before."""
    return (it.tx_id for it in answers if isinstance(it, Received) and not it.duplicate)


def _known_as(item: Transaction | NativeRefusal) -> bytes | None:
    """The id under which an item may have been received before.

    Also of one that is too late by now: it had its answer, and gets it again.
    """
    if isinstance(item, Transaction) or item.code == "EXPIRED":
        return item.tx_id
    return None


def _fail(calls: Iterable[_Call], error: BaseException) -> None:
    for call in calls:
        if not call.done.done():
            call.done.set_exception(error if isinstance(error, Exception) else CLOSING)
            # Its caller may have left; then the exception is nobody's.
            call.done.exception()
