"""The fragments of one manifest: brought where they belong, step by step.

After each step it may be killed: the next time all is planned from what stores have, so there is
nothing to remember.

- What is nowhere is made first, of any k good chunks of each stripe.
- A fragment moves by being copied: its old copy goes once the new one is durable.
- No copy is removed before another one of the same fragment was written just now, or read whole and
  put once more.
  The only other removal is of a wrong one, whose store would not take the right one beside it: then
  k other fragments were read whole, and else the right one comes to another store first.
- Whose store failed to answer when it was read is not wrong: it stays, and counts where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from citychain.errors import (
    CitychainError,
    NotOwned,
    StoreFull,
    StoreUnavailable,
    VerificationError,
)
from citychain.fragments.checking import OTHER_PART, Checked
from citychain.fragments.making import is_of_object, is_whole, make_fragments
from citychain.fragments.manifest import Manifest, fragment_bytes
from citychain.fragments.pacing import Pace, PacedReads
from citychain.fragments.patience import Patient
from citychain.fragments.placement import Place
from citychain.fragments.planning import Move, Plan, plan_object
from citychain.fragments.sources import Group, NotEnough, Source, told
from citychain.ports import Compute, FragmentKey, FragmentStore

__all__ = ["Copy", "Means", "Outcome", "Relocation", "Trouble"]


class Copy(NamedTuple):
    """A fragment in a store."""

    index: int  # type: ignore[assignment]  # a tuple's method of this name is not needed
    store: str


class Trouble(NamedTuple):
    """Something that could not be done."""

    fragment: int
    store: str
    detail: str


@dataclass(slots=True)
class Outcome:
    """What became of the fragments of one manifest; of a dry run, what would."""

    object_id: bytes
    root: bytes
    manifest: Manifest | None
    """``None`` if no fragment has it."""
    made: dict[int, str] = field(default_factory=dict)
    """The stores of those that were made from others, by index."""
    moved: dict[int, Move] = field(default_factory=dict)
    removed: list[Copy] = field(default_factory=list)
    """Wrong copies, and those that were too many, each with its store."""
    troubles: list[Trouble] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    """Those that are in no store that answers, and are not presumed in another."""
    unanswered: list[Copy] = field(default_factory=list)
    """Those whose stores failed when they were read, as `troubles` and `Means.failed` say too: what
    they are is not known, and a loss may be none."""
    loss: str = ""
    """Why none can be made from the others; empty if any can, or none had to be."""

    @property
    def is_settled(self) -> bool:
        """Whether all is where it belongs, as far as the stores that answer can tell: nothing is
        left to do."""
        return not (self.troubles or self.missing or self.loss or self.unanswered)

    @property
    def is_changed(self) -> bool:
        """Whether something was done."""
        return bool(self.made or self.moved or self.removed)


@dataclass(frozen=True, slots=True)
class Means:
    """What there is to work with."""

    stores: Mapping[str, FragmentStore]
    """Those that answer, by name."""
    places: Sequence[Place]
    """All that there should be."""
    away: Collection[str]
    """Names of those that do not answer; more may come to it. What they have is left to them."""
    compute: Compute
    pace: Pace
    """At which stores are read and written."""
    dry_run: bool = False
    """Nothing is changed."""
    room: dict[str, int] = field(default_factory=dict)
    """Of a dry run: bytes that stores with a limit would still take, after all that it foretold."""
    moves: bool = True
    """Fragments move where they belong, and copies that are too many go; else only what is lost or
    wrong is made anew."""
    unproven: Collection[tuple[str, FragmentKey]] = frozenset()
    """Fragments of stores that are to be taken as missing, whether the store answers or not: they
    are made anew in other stores, and left where they are."""
    told: Callable[[int, int], None] = lambda done, more: None
    """Told of bytes that were done, and of bytes that are found to be to do."""
    failed: dict[str, str] = field(default_factory=dict)
    """Stores that failed meanwhile, and why: they are given no more."""
    full: set[str] = field(default_factory=set)
    """Stores that were full, where nothing moves and so nothing is freed: they are given no more.
    Each refusal costs the reading of what was to be made."""
    _reads: dict[str, PacedReads] = field(default_factory=dict)

    @property
    def silent(self) -> Collection[str]:
        """Stores of `places` that do not answer."""
        names = {place.name for place in self.places}
        return {name for name in names if name not in self.stores or name in self.away}

    def source(self, name: str, key: FragmentKey) -> Source:
        """A fragment of which nothing is known yet."""
        return Source(name, self.reads(name), key, self.compute)

    def reads(self, name: str) -> PacedReads:
        """A store, to be read."""
        if name not in self._reads:
            self._reads[name] = PacedReads(Patient(self.stores[name]), self.pace)
        return self._reads[name]


class Relocation:
    """What is known of the fragments of one manifest, and what is done about it."""

    def __init__(self, means: Means, group: Group, *, is_doubtful: bool) -> None:
        manifest = group.manifest
        self._means = means
        self._manifest = manifest
        self._keys = manifest.fragment_keys()
        self._is_doubtful = is_doubtful
        self._there: dict[int, set[str]] = {index: set() for index in range(len(self._keys))}
        """The stores of copies that count."""
        self._wrong: set[Copy] = set()
        self._found_wrong: set[int] = set()
        """Those of which there was a wrong copy, also where it is removed by now."""
        self._whole: set[Copy] = set()
        """What was read or written just now."""
        self._unproven: set[Copy] = set()
        self._stuck: set[Copy] = set()
        """What cannot be made in a store, or removed from it."""
        self._closed: set[str] = set()
        """Stores that are given nothing more of this object."""
        self._secured: set[Copy] = set()
        """What is durable and ours: put just now."""
        self._foreign: set[Copy] = set()
        """What another owner put, and was not ours to remove."""
        self._origins: set[Copy] = set()
        self._changes = 0
        """Grows with whatever is learned or done, so that it is planned anew."""
        self._outcome = Outcome(manifest.object_id, self._keys[0].root, manifest)
        self._seen = {Copy(source.key.index, source.name): source for source in group.sources}
        for source in group.sources:
            if (source.name, source.key) in means.unproven:
                self._unproven.add(Copy(source.key.index, source.name))
            else:
                self._there[source.key.index].add(source.name)

    async def run(self, checked: Checked | None) -> Outcome:
        self._listen(self._seen.values())
        if checked is not None:
            await self._learn(checked)
        plan = self._plan()
        if not self._outcome.loss:
            size = fragment_bytes(self._manifest.layout)
            self._means.told(0, size * (len(plan.make) + len(plan.move)))
            if self._means.dry_run:
                self._foretell(self._plan_that_fits(size))
                self._take_room(size)
                return self._outcome
            await self._do_all()
            plan = self._plan()
        self._outcome.missing = sorted((*plan.nowhere, *plan.make))
        return self._outcome

    async def _do_all(self) -> None:
        acts = [self._make, self._clear]
        if self._means.moves:
            acts += [self._move, self._thin]
        while not self._is_given_up:
            plan, before = self._plan(), self._changes
            for act in acts:
                await act(plan)
                if self._changes > before:
                    break
            else:
                return

    @property
    def _is_given_up(self) -> bool:
        return self._is_doubtful and bool(self._outcome.loss)

    def _plan_that_fits(self, size: int) -> Plan:
        """What would be done once stores that are full have refused."""
        while True:
            plan = self._plan()
            targets = {**plan.make, **{index: it.target for index, it in plan.move.items()}}
            room, full = dict(self._means.room), False
            for copy in sorted(map(Copy._make, targets.items())):
                if copy.store not in room or copy in self._wrong:
                    continue  # A right one replaces a wrong one.
                if room[copy.store] >= size:
                    room[copy.store] -= size
                    continue
                left = f"its limit leaves {room[copy.store]:,} bytes, and {size:,} are needed"
                self._outcome.troubles.append(Trouble(copy.index, copy.store, f"is full: {left}"))
                self._closed.add(copy.store)
                full = True
            if not full:
                return plan

    def _take_room(self, size: int) -> None:
        """Count what is foretold, as it would be for the objects that come later."""
        outcome, room = self._outcome, self._means.room
        come = [*outcome.made.values(), *(move.target for move in outcome.moved.values())]
        gone = [move.origin for move in outcome.moved.values()]
        gone += [copy.store for copy in outcome.removed]
        for names, change in ((come, -size), (gone, size)):
            for name in names:
                if name in room:
                    room[name] += change

    def _foretell(self, plan: Plan) -> None:
        """Say what would be done."""
        outcome, needed = self._outcome, self._manifest.layout.shape.data
        have = {copy.index for copy in self._copies()}
        outcome.missing = list(plan.nowhere)
        if (plan.make or self._is_doubtful) and len(have) < needed:
            outcome.loss = f"{len(have)} of {needed} fragments"
            outcome.missing = sorted((*plan.nowhere, *plan.make))
        else:
            outcome.made = dict(plan.make)
        if self._means.moves and not self._is_given_up:
            outcome.moved = dict(plan.move)
            spare = {index: set(names) for index, names in plan.spare.items()} | {
                index: self._there[index] - {move.origin} for index, move in plan.move.items()
            }
            outcome.removed = sorted(Copy(i, name) for i, names in spare.items() for name in names)

    # What is known

    async def _learn(self, checked: Checked) -> None:
        """Take over what a check has read."""
        details = {fault.detail for fault in checked.faults}
        if checked.loss or OTHER_PART in details:
            self._outcome.loss = checked.loss or OTHER_PART
            return
        self._is_doubtful = False
        faulty = {(it.key.index, it.store) for it in checked.faults if it.key is not None}
        for index, names in self._there.items():
            for name in sorted(names):
                copy = Copy(index, name)
                if copy in faulty:
                    await self._suspect(self._seen[copy])
                else:
                    self._whole.add(copy)

    def _listen(self, sources: Iterable[Source]) -> None:
        """Take over which stores failed to answer."""
        for source in sources:
            if source.unanswered:
                self._leave(Copy(source.key.index, source.name), source.unanswered)

    def _leave(self, copy: Copy, why: str) -> None:
        """A store did not give what it may well have: that stays, and counts where it is."""
        if copy not in self._outcome.unanswered:
            self._outcome.unanswered.append(copy)
            self._outcome.troubles.append(Trouble(copy.index, copy.store, why))
            self._means.failed.setdefault(copy.store, why)
            self._changes += 1

    async def _suspect(self, source: Source) -> None:
        """A copy could not be read as it should be: it is wrong, gone, or its store failed."""
        copy = Copy(source.key.index, source.name)
        if source.unanswered:
            self._leave(copy, source.unanswered)
            return
        try:
            is_there = await self._means.reads(copy.store).size(source.key) is not None
        except Exception as error:
            self._leave(copy, told(error))
            return
        if is_there and source.missed:
            self._leave(copy, f"it is there, and when it was read: {source.missed}")
            return
        self._there[copy.index].discard(copy.store)
        if is_there:
            self._wrong.add(copy)
            self._found_wrong.add(copy.index)
        self._changes += 1

    def _plan(self) -> Plan:
        means = self._means
        silent = means.silent
        gone = {
            Copy(key.index, name)
            for name in silent
            for key in self._keys
            if (name, key) in means.unproven
        }
        closed = {
            *means.failed,
            *means.full,
            *self._closed,
            *(it.store for it in (*self._unproven, *gone)),
        }
        return plan_object(
            self._manifest.object_id,
            means.places,
            len(self._keys),
            self._there,
            silent,
            closed,
            {*self._found_wrong, *(copy.index for copy in self._unproven)},
            gone,
        )

    def _copies(self) -> list[Copy]:
        """All of which there may be chunks, the best first."""
        counted = [Copy(index, name) for index, names in self._there.items() for name in names]
        return [*sorted(counted), *sorted(self._unproven), *sorted(self._wrong)]

    def _group(self) -> Group:
        means = self._means
        sources = [means.source(it.store, self._keys[it.index]) for it in self._copies()]
        return Group(self._manifest, sources, means.compute)

    async def _is_real(self) -> bool:
        """Whether it is the object that it says, where there is doubt."""
        if self._is_doubtful and not self._outcome.loss:
            group = self._group()
            try:
                if await is_of_object(group, self._means.compute):
                    self._is_doubtful = False
                else:
                    self._outcome.loss = "it is of other content"
            except NotEnough as error:
                self._outcome.loss = str(error)
            self._listen(group.sources)
            self._changes += 1
        return not self._is_doubtful

    async def _is_whole(self, copy: Copy) -> bool:
        if copy in self._outcome.unanswered:
            return False
        if copy not in self._whole:
            source = self._means.source(copy.store, self._keys[copy.index])
            if not await is_whole(source, self._manifest):
                await self._suspect(source)
                return False
            self._whole.add(copy)
        return True

    async def _whole_copy(self, index: int) -> Copy | None:
        """A whole copy of a fragment, if some store has one."""
        copies = [Copy(index, name) for name in sorted(self._there[index])]
        for copy in sorted(copies, key=lambda it: it not in self._whole):
            if await self._is_whole(copy):
                return copy
        return None

    async def _needs(self, index: int) -> bool:
        """Whether the chunks of a wrong fragment may be needed: fewer than k others are whole."""
        number = self._manifest.layout.shape.data
        for other in self._there:
            if number and other != index and await self._whole_copy(other):
                number -= 1
        return number > 0

    # What is done

    async def _make(self, plan: Plan) -> None:
        todo = [copy for copy in map(Copy._make, plan.make.items()) if copy not in self._stuck]
        if not todo or not await self._is_real():
            return
        beside = [copy for copy in todo if copy not in self._wrong]
        if beside:
            for copy in await self._copy(beside):
                self._outcome.made[copy.index] = copy.store
            return
        # The wrong one is in the way of the right one.
        copy = todo[0]
        if await self._needs(copy.index) or not await self._remove(copy):
            self._closed.add(copy.store)
        else:
            self._wrong.discard(copy)
        self._changes += 1

    async def _clear(self, plan: Plan) -> None:
        """Remove wrong copies of what is whole elsewhere."""
        for copy in sorted(self._wrong - self._stuck):
            whole = await self._whole_copy(copy.index)
            if whole is None:
                continue
            if not await self._secure(whole):
                self._stuck.add(copy)
            elif await self._remove(copy):
                self._wrong.discard(copy)
                self._closed.discard(copy.store)
                if copy.index not in self._outcome.made and copy not in self._foreign:
                    self._outcome.removed.append(copy)

    async def _move(self, plan: Plan) -> None:
        moves = {Copy(index, move.target): move for index, move in plan.move.items()}
        todo = sorted(moves.keys() - self._stuck - self._wrong)
        if not todo or not await self._is_real():
            return
        for copy in await self._copy(todo):
            self._origins.add(Copy(copy.index, moves[copy].origin))
            if copy.index in self._outcome.made:
                self._outcome.made[copy.index] = copy.store
            else:
                self._outcome.moved[copy.index] = moves[copy]

    async def _thin(self, plan: Plan) -> None:
        """Remove copies of what is where it belongs."""
        for index, names in plan.spare.items():
            spare = {Copy(index, name) for name in names}
            for copy in sorted(spare - self._stuck):
                kept = Copy(index, plan.keep[index])
                if not await self._is_whole(kept):
                    break
                if not await self._secure(kept):
                    self._stuck |= spare
                    break
                if await self._remove(copy):
                    self._there[index].discard(copy.store)
                    if copy not in self._origins | self._foreign:
                        self._outcome.removed.append(copy)

    async def _secure(self, copy: Copy) -> bool:
        """Have the store of a whole copy put it once more, before others go: who put it may have
        ended before it was durable, or be another owner, who may delete it at any time."""
        if copy not in self._secured:
            await self._copy([copy])
        return copy in self._secured

    async def _copy(self, copies: Sequence[Copy]) -> list[Copy]:
        """Make copies; those that are durable now."""
        means = self._means
        stores = {copy.index: means.stores[copy.store] for copy in copies}
        group = self._group()
        self._changes += 1
        try:
            written = await make_fragments(
                group,
                stores,
                means.compute,
                means.pace,
                lambda count: means.told(count, 0),
            )
        except (NotEnough, VerificationError) as error:
            self._outcome.loss = str(error)
            self._stuck.update(copies)
            return []
        finally:
            self._listen(group.sources)
        done = []
        for copy in copies:
            if refusal := written.failed.get(copy.index):
                self._trouble(copy, refusal)
                # A store that does not take it is not asked again; what cannot be made, nobody is.
                if isinstance(refusal, VerificationError):
                    self._stuck.add(copy)
                else:
                    self._closed.add(copy.store)
                    if isinstance(refusal, StoreFull) and not means.moves:
                        means.full.add(copy.store)
            else:
                self._there[copy.index].add(copy.store)
                self._secured.add(copy)
                if copy.index in written.stored:  # Else somebody else put it there meanwhile.
                    self._whole.add(copy)
                    done.append(copy)
        return done

    async def _remove(self, copy: Copy) -> bool:
        self._changes += 1
        if copy in self._outcome.unanswered:
            self._stuck.add(copy)
            return False
        try:
            await self._means.stores[copy.store].delete(self._keys[copy.index])
        except NotOwned:
            # It is none of ours, and what we put is kept beside it.
            self._foreign.add(copy)
        except Exception as error:
            self._trouble(copy, error)
            self._stuck.add(copy)
            return False
        return True

    def _trouble(self, copy: Copy, error: Exception) -> None:
        self._outcome.troubles.append(Trouble(copy.index, copy.store, told(error)))
        if not isinstance(error, CitychainError) or isinstance(error, StoreUnavailable):
            self._means.failed.setdefault(copy.store, told(error))
