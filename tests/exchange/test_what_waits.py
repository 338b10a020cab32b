"""Whatever fails, and for however long: every remittance in escrow is tried again, what can arrive
arrives, the oldest first, and no more is in memory than there is room for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from citychain.between_cities import Outgoing, RemittanceState, outbox_object
from citychain.exchange import courier, waiting
from citychain.notes import COURIER, decode_courier
from citychain.testing.clock import FakeClock

T = TypeVar("T")

CITIES = [bytes([number]) * 32 for number in (1, 2, 3)]
CARRIED, AGAIN, KEPT = 4, 2, 6
LIMITS = ((waiting, "WAITING_MAX", CARRIED), (waiting, "AGAIN_MAX", AGAIN),
          (courier, "KEPT_MAX", KEPT), (courier, "ROUNDS_A_PAGE", 2))  # fmt: skip


@pytest.fixture(autouse=True)
def little_room() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in LIMITS:
            patch.setattr(module, name, value)
        patch.setattr(courier, "Lane", StandIn)
        yield


class StandIn:
    """A lane that tries when it is told to."""

    trouble = ""

    def __init__(self, *args: Any) -> None:
        self.items: dict[bytes, int] = {}

    def add(self, item: Outgoing, *, again: bool = False) -> None:
        self.items.setdefault(item.tx_id, 2 if again else 0)

    def settled(self, tx_id: bytes) -> None:
        self.items.pop(tx_id, None)

    def in_vain(self) -> list[bytes]:
        return [tx_id for tx_id, tries in self.items.items() if tries >= 3]


class Ledger:
    """Rounds of a city, and its outbox: all that a courier reads of either."""

    def __init__(self) -> None:
        self.outbox: dict[bytes, tuple[RemittanceState, bytes]] = {}
        self.writes: list[list[bytes]] = []
        self.kept: dict[str, bytes] = {}
        self.genesis = None
        self.storage = self

    def seal(self, written: Sequence[bytes]) -> SimpleNamespace:
        writes = [(outbox_object(tx_id), self.value(tx_id)) for tx_id in written]
        found = [SimpleNamespace(object=name, value=value) for name, value in writes]
        stored = SimpleNamespace(round=len(self.writes) + 1, record=Record(found))
        self.writes.append(stored)
        return stored

    def value(self, tx_id: bytes) -> bytes:
        state, city = self.outbox[tx_id]
        return bytes([state]) + bytes(32) + city + bytes(32) + bytes(8) + b"coin"

    async def notes(self, name: str) -> dict[str, bytes]:
        return self.kept

    async def keep(self, notes: dict[str, bytes]) -> None:
        self.kept |= notes

    async def objects(self, names: Sequence[str]) -> dict[str, SimpleNamespace]:
        ids = {name: bytes.fromhex(name.removeprefix("$outbox/")) for name in names}
        await asyncio.sleep(0)
        return {name: SimpleNamespace(value=self.value(ids[name])) for name in names}

    async def rounds(self, first: int, limit: int) -> Sequence[Any]:
        await asyncio.sleep(0)
        return self.writes[first - 1 : first - 1 + limit]

    async def find(self, tx_ids: Sequence[bytes]) -> dict[bytes, SimpleNamespace]:
        return {
            bytes.fromhex(write.object.removeprefix("$outbox/")): SimpleNamespace(round=it.round)
            for it in reversed(self.writes)
            for write in it.record.writes
            if bytes.fromhex(write.object.removeprefix("$outbox/")) in tx_ids
        }


class Record(bytes):
    """A round record that need not be decoded."""

    writes: Sequence[SimpleNamespace]

    def __new__(cls, writes: Sequence[SimpleNamespace]) -> Record:
        made = super().__new__(cls, b"$outbox/" if writes else b"")
        made.writes = writes
        return made


async def as_it_is(function: Any, record: Record) -> Record:
    return record


class Couriers(RuleBasedStateMachine):
    """One courier after another of a city that sends to three."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.ledger = Ledger()
        self.bad: set[bytes] = set()
        self.down: set[bytes] = set()
        self.tries: Counter[bytes] = Counter()
        self.number = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.start(CITIES[:2])

    @rule(count=st.integers(1, 3))
    def start(self, count: int | Sequence[bytes]) -> None:
        """A courier begins anew, maybe with other peers; a while later it has read all rounds."""
        cities = CITIES[:count] if isinstance(count, int) else count
        neighbours = [SimpleNamespace(genesis=SimpleNamespace(id=city)) for city in cities]
        self.courier: Any = courier.Courier(
            slug="hill",
            home=self.ledger,  # type: ignore[arg-type]
            neighbours=neighbours,  # type: ignore[arg-type]
            sign=None,  # type: ignore[arg-type]
            compute=as_it_is,  # type: ignore[arg-type]
            clock=self.clock,
        )
        self.run(self.courier._resume())
        for stored in self.ledger.writes[self.courier._position :]:
            self.run(self.courier._read(stored))
        self.fill()

    @rule(sent=st.lists(st.tuples(st.sampled_from(CITIES), st.booleans()), max_size=9))
    def send(self, sent: list[tuple[bytes, bool]]) -> None:
        """A round sends some, of which the other cities do not take all."""
        ids = []
        for city, is_bad in sent:
            self.number += 1
            ids.append(tx_id := self.number.to_bytes(32, "big"))
            self.outbox[tx_id] = RemittanceState.PENDING, city
            if is_bad:
                self.bad.add(tx_id)
        self.run(self.courier._read(self.ledger.seal(ids)))
        for city, lane in self.courier._lanes.items():
            if not lane.items.keys().isdisjoint(ids):
                older = {it for it in self.pending if self.outbox[it][1] == city and it < ids[0]}
                assert all(it in lane.items or self.tries[it] for it in older), "the oldest first"
        self.fill()

    @property
    def outbox(self) -> dict[bytes, tuple[RemittanceState, bytes]]:
        return self.ledger.outbox

    @rule(city=st.sampled_from(CITIES))
    def go_down_or_up(self, city: bytes) -> None:
        self.down ^= {city}

    @rule(most=st.integers(1, 5))
    def carry(self, most: int = 5) -> None:
        """Each lane tries some of what it has."""
        done = []
        for city, lane in self.courier._lanes.items():
            for tx_id in list(lane.items)[:most] if city not in self.down else ():
                self.tries[tx_id] += 1
                if tx_id in self.bad:
                    # To the end, so that others have their turn.
                    lane.items[tx_id] = lane.items.pop(tx_id) + 1
                else:
                    assert self.outbox[tx_id][0] is RemittanceState.PENDING, "settled twice"
                    self.outbox[tx_id] = RemittanceState.DELIVERED, city
                    lane.settled(tx_id)
                    done.append(tx_id)
        if done:
            self.run(self.courier._read(self.ledger.seal(done)))
        self.fill()

    @rule(seconds=st.sampled_from((1, 100, waiting.SWEEP_SECONDS)))
    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))
        self.fill()

    def fill(self) -> None:
        for city in self.courier._lanes:
            self.run(self.courier._fill(city, self.clock.monotonic()))

    @invariant()
    def room_is_kept(self) -> None:
        for city, lane in self.courier._lanes.items():
            held = self.courier._waiting[city]
            assert len(held.carried) <= CARRIED
            assert len(held.again) <= AGAIN
            assert lane.items.keys() == held.carried.keys() | held.again.keys()
        if note := self.ledger.kept.get(COURIER):
            assert len(decode_courier(note)[2]) <= KEPT

    @property
    def pending(self) -> set[bytes]:
        """Those in escrow for cities that are peers."""
        lanes = self.courier._lanes
        return {
            tx_id
            for tx_id, (state, city) in self.outbox.items()
            if state is RemittanceState.PENDING and city in lanes
        }

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(20 + 12 * self.number):
            if done():
                return
            self.carry()
            self.room_is_kept()
            self.wait(waiting.SWEEP_SECONDS / 4)
            self.room_is_kept()
        raise AssertionError(f"never: {sorted(map(int.from_bytes, self.pending))}")

    def teardown(self) -> None:
        try:
            self.down.clear()
            self.until(lambda: self.pending <= self.bad)
            self.start(3)
            self.until(lambda: self.pending <= self.bad)
            before = Counter(self.tries)
            self.until(lambda: all(self.tries[it] > before[it] + 1 for it in self.pending))
            self.bad.clear()
            self.until(lambda: not self.pending)
            for _ in range(10):
                self.wait(waiting.SWEEP_SECONDS)
            for held in self.courier._waiting.values():
                assert (held.left, held.parked, len(held)) == (None, None, 0)
        finally:
            self.runner.close()


Couriers.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestCouriers = pytest.mark.usefixtures("little_room")(Couriers.TestCase)
