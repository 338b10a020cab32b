"""A city is anchored where its parent takes little at a time, and sends little that is rejected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from exchange.test_steps import KEYS, Asked, another
from exchange.towns import AUTHORS, OPERATOR, Town, id_of, peered

from citychain._native.transactions import Transaction
from citychain.client.actions import Data
from citychain.compute import Executor
from citychain.crypto.signatures import SigningKey
from citychain.errors import CitychainError
from citychain.exchange import anchors
from citychain.exchange.anchors import Anchorer
from citychain.exchange.neighbour import PeerCity, Signed
from citychain.exchange.proof import encode_certified
from citychain.genesis import Genesis
from citychain.levels import NO_CERTIFICATE, LevelReceipt, verify_levels
from citychain.notes import ANCHORED, ANCHORING, AnchorNote, anchor_bytes, decode_anchor
from citychain.receipt import Receipt
from citychain.testing.clock import FakeClock
from citychain.types import Anchor, Handover


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


class Parent(Asked):
    """A town as the `PeerCity` that an `Anchorer` asks."""

    async def genesis(self) -> Genesis:
        return self.town.genesis

    async def pinned(self, network: str, slug: str) -> bytes | None:
        return self.child

    async def anchored(self, city: bytes) -> int:
        found: Any = self  # As much of a `PeerCity` as that asks.
        return await PeerCity.anchored(found, city)

    async def latest_round(self) -> int:
        return (await self.town.rounds.storage.head()).round - self.behind

    async def wait(self, tx_ids: Sequence[bytes]) -> None:
        first, self.first = self.first, []
        self.waiting = [*first, *self.waiting]
        verdicts = await self.town.close(*self.waiting, certify=self.certifies)
        self.codes += [verdict.code if verdict else "" for verdict in verdicts[len(first) :]]
        self.waiting = []

    async def receipts(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, Receipt]:
        return await self.town.proofs.receipts(list(tx_ids), 0)

    child = b""
    behind = 0
    """Rounds that it has and does not know of yet."""
    certifies = True
    """Whether its rounds are certified at once."""
    first: Sequence[Transaction] = ()
    """What others bring to its next round, before what comes from here."""


class Home:
    """As much of a city's handler."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.genesis = town.genesis
        self.storage = town.rounds.storage

    async def head(self) -> Any:
        return await self.storage.head()

    async def handovers(self, known_round: int) -> Sequence[Handover]:
        return await self.town.proofs.handovers(known_round)

    async def stream_rounds(self, first: int, *, sealed: bool) -> AsyncIterator[None]:
        yield None


class Ended(Exception):
    """The clock has been asked often enough."""


class Slept(FakeClock):
    """Notes the pauses, which take no time, until it ends the work."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) >= self.times:
            raise Ended


def anchorer(child: Town, parent: Parent, clock: FakeClock) -> Any:
    parent.child = child.id

    async def sign(genesis: bytes, actions: Sequence[Any], _: object) -> list[Signed]:
        signed = [parent.town.sign(OPERATOR, action) for action in actions]
        return [Signed(one.tx_id, one.envelope) for one in signed]

    @asynccontextmanager
    async def connect() -> AsyncIterator[Parent]:
        yield parent

    async def find() -> Any:
        return SimpleNamespace(slug="parent", genesis=parent.town.genesis, connect=connect)

    home: Any = Home(child)
    return Anchorer(
        slug="child",
        home=home,
        parent=find,
        seconds=1.0,
        operator=id_of(OPERATOR),
        sign=sign,
        compute=child.compute,
        clock=clock,
    )


async def test_a_parent_that_takes_small_bodies_is_led_along(compute: Executor) -> None:
    child, parent = Town("aomori", compute, members=KEYS[:7]), Parent(Town("beppu", compute))
    await peered(child, parent.town)
    for number in range(5):
        child.elect(another(number, 7))
        await child.close()
    last = (await child.rounds.storage.head()).certified_round
    parent.body_bytes = 110 << 10
    work = anchorer(child, parent, FakeClock())
    neighbour = await work._find()
    assert await work._anchor(neighbour, parent) == last
    assert {*parent.codes} == {""}
    assert len(parent.anchors) > 2
    assert parent.anchors[-1].anchor is not None
    await parent.town.replay()


async def test_what_a_parent_rejects_is_sent_ever_more_seldom(compute: Executor) -> None:
    child, parent = Town("aomori", compute), Parent(Town("beppu", compute))
    await child.close()
    clock = Slept(40)
    with pytest.raises(Ended):
        await anchorer(child, parent, clock).run()
    assert {*parent.codes} == {"UNKNOWN_CITY"}
    assert len(parent.anchors) == 20
    pauses = clock.pauses[1::2]
    assert pauses[1] < 1
    assert min(pauses[-5:]) >= 0.75 * 600


async def linked(child: Town) -> AnchorNote | None:
    """The anchor that receipts through levels are linked by."""
    note = (await child.rounds.storage.notes(ANCHORED)).get(ANCHORED)
    return decode_anchor(note) if note else None


async def anchor(
    child: Town, parent: Parent, round: int = 0, key: SigningKey = AUTHORS[0]
) -> Transaction:
    """One of the latest certified round, or another, by somebody else than the child's own
    anchorer: as a courier's step is."""
    number = round or (await child.rounds.storage.head()).certified_round
    [stored] = await child.rounds.storage.rounds(number, 1)
    assert stored.certificate is not None
    proof = encode_certified(child.id, stored.certificate, ())
    return parent.town.sign(key, Anchor(child.id, stored.checkpoint, proof))


@pytest.fixture
async def family(compute: Executor) -> tuple[Town, Parent, Any]:
    """A child whose latest round is not anchored, its parent, and its anchorer."""
    child, parent = Town("aomori", compute), Parent(Town("beppu", compute))
    await peered(child, parent.town)
    return child, parent, anchorer(child, parent, FakeClock())


async def test_an_anchor_that_somebody_else_brought_links_receipts_as_well(
    family: tuple[Town, Parent, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    child, parent, work = family
    monkeypatch.setattr(anchors, "READ_TOGETHER", 1)
    deed = child.sign(AUTHORS[1], Data(b"deed"))
    assert await child.codes(deed) == [""]
    step = await anchor(child, parent)
    # In the midst of a round, among others and one that comes too late, and not in the last one.
    before, after = (parent.town.sign(AUTHORS[1], Data(bytes([n]))) for n in range(2))
    late = await anchor(child, parent, key=AUTHORS[1])
    assert await parent.town.codes(before, step, late, after) == ["", "", "ANCHORED", ""]
    await parent.town.close(parent.town.sign(AUTHORS[1], Data(b"later")))

    last = await work._anchor(await work._find(), parent)
    assert parent.anchors == []
    assert last == (await child.rounds.storage.head()).certified_round
    [stored] = await child.rounds.storage.rounds(last, 1)
    assert await linked(child) == AnchorNote(parent.town.id, last, stored.size, step.tx_id)
    receipt = await child.receipt(deed.tx_id)
    proof = await child.proofs.inclusion(receipt.leaf_index, stored.size)
    level = replace(
        receipt,
        inclusion=tuple(proof.proof),
        checkpoint=b"",
        certificate=NO_CERTIFICATE,
        handovers=(),
    )
    top = await parent.town.receipt(step.tx_id)
    verify_levels(LevelReceipt((level,), top), parent.town.genesis)


async def test_who_is_first_in_the_round_links_them(family: tuple[Town, Parent, Any]) -> None:
    child, parent, work = family
    step = await anchor(child, parent)
    parent.first = [step]
    last = await work._anchor(await work._find(), parent)
    assert parent.codes == ["ANCHORED"]
    note = await linked(child)
    assert note is not None
    assert (note.round, note.tx_id) == (last, step.tx_id)


@pytest.mark.parametrize("own", [True, False])
async def test_one_that_is_sealed_and_not_certified_links_them_later(
    family: tuple[Town, Parent, Any], own: bool
) -> None:
    """Its server may have been killed meanwhile."""
    child, parent, work = family
    neighbour = await work._find()
    parent.certifies = False
    if own:
        with pytest.raises(CitychainError, match="not final"):
            await work._anchor(neighbour, parent)
        [sent] = parent.anchors
    else:
        sent = await anchor(child, parent)
        await parent.town.close(sent, certify=False)
    work = anchorer(child, parent, FakeClock())
    for _ in range(2):
        with pytest.raises(CitychainError, match="not final"):
            await work._anchor(neighbour, parent)
    assert await linked(child) is None
    await parent.town.certify()
    last = await work._anchor(neighbour, parent)
    note = await linked(child)
    assert note is not None
    assert (note.round, note.tx_id) == (last, sent.tx_id)
    assert len(parent.anchors) == own


async def test_an_older_one_takes_nothing_back(
    family: tuple[Town, Parent, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    child, parent, work = family
    neighbour = await work._find()
    await work._anchor(neighbour, parent)
    await child.close(child.sign(AUTHORS[1], Data(b"more")))
    step = await anchor(child, parent)
    assert await parent.town.codes(step) == [""]
    # What was submitted last is the older one.
    for look_back in (9, 0):
        monkeypatch.setattr(anchors, "LOOK_BACK", look_back)
        await work._anchor(neighbour, parent)
        note = await linked(child)
        assert note is not None
        assert note.tx_id == step.tx_id
    assert len(parent.anchors) == 1


@pytest.mark.parametrize("behind", [1, 40])
async def test_one_that_the_parent_has_and_is_behind_with_links_them(
    family: tuple[Town, Parent, Any], behind: int
) -> None:
    """Such as a server that follows a parent which is led elsewhere."""
    child, parent, work = family
    step = await anchor(child, parent)
    assert await parent.town.codes(step) == [""]
    for number in range(behind - 1):
        await parent.town.close(parent.town.sign(AUTHORS[1], Data(b"%d" % number)))
    parent.behind = behind
    await work._anchor(await work._find(), parent)
    note = await linked(child)
    assert note is not None
    assert note.tx_id == step.tx_id


async def test_one_that_is_too_far_back_is_let_be(
    family: tuple[Town, Parent, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next change is anchored as any."""
    child, parent, work = family
    neighbour = await work._find()
    assert await parent.town.codes(await anchor(child, parent)) == [""]
    for number in range(3):
        await parent.town.close(parent.town.sign(AUTHORS[1], Data(bytes([number]))))
    monkeypatch.setattr(anchors, "LOOK_BACK", 3)
    head = (await child.rounds.storage.head()).certified_round
    assert await work._anchor(neighbour, parent) == head
    assert await linked(child) is None
    read = parent.read
    assert await work._anchor(neighbour, parent) == head
    assert parent.read == read, "it is not looked for again"
    await child.close(child.sign(AUTHORS[1], Data(b"more")))
    await work._anchor(neighbour, parent)
    note = await linked(child)
    assert note is not None
    assert note.round == head + 1


async def test_another_parents_note_does_not_count(family: tuple[Town, Parent, Any]) -> None:
    child, parent, work = family
    step = await anchor(child, parent)
    assert await parent.town.codes(step) == [""]
    other = anchor_bytes(AnchorNote(bytes(32), 99, 99, bytes(32)))
    await child.rounds.storage.keep({ANCHORED: other, ANCHORING: other})
    await work._anchor(await work._find(), parent)
    note = await linked(child)
    assert note is not None
    assert note.tx_id == step.tx_id
