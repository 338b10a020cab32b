"""A city's announced segments, with every proof there can be, and rounds to be recounted."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from citychain.compute import Executor
from citychain.fragments.layout import Shape
from citychain.fragments.memory import MemoryStore
from citychain.fragments.proving import prove
from citychain.fragments.writing import survey_object, write_fragments
from citychain.holding.recount import Recount, StatedTransaction
from citychain.ports import FragmentKey
from citychain.statements import Answer, AnsweredChunk, Holding, HoldingRules, Segment, Statement

SMALL = 4 << 10
OPERATOR = b"o" * 32
RULES = HoldingRules(challenge_rounds=5, answer_rounds=3, receipts=1)
"""Of most tests."""
SECOND = 1_000
DAY = 86_400 * SECOND


def holder(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def checkpoint_hash(round: int) -> bytes:
    return hashlib.sha256(b"checkpoint %d" % round).digest()


@dataclass(frozen=True)
class Archived:
    """An object that is announced, and the proof of each chunk of each fragment."""

    segment: Segment
    chunks: int
    proofs: Mapping[tuple[FragmentKey, int], bytes]

    @property
    def keys(self) -> list[FragmentKey]:
        return self.segment.keys


@cache
def archived(number: int, stripes: int = 5, data: int = 2, parity: int = 1) -> Archived:
    """The ``number``-th object, of rounds of that number."""
    return asyncio.run(_archived(number, stripes, Shape(data, parity, SMALL)))


async def _archived(number: int, stripes: int, shape: Shape) -> Archived:
    content = random.Random(number).randbytes(stripes * shape.stripe - 1_000)
    source, stored = io.BytesIO(content), MemoryStore()
    async with Executor(1) as compute:
        survey = await survey_object(source, shape, compute)
        await write_fragments(
            source, survey, dict.fromkeys(range(shape.fragments), stored), compute
        )
        manifest = survey.manifest
        proofs = {
            (key, chunk): (await prove(stored, key, chunk, compute)).to_bytes()
            for key in manifest.fragment_keys()
            for chunk in range(stripes)
        }
    segment = Segment(
        first=10 * number + 1,
        last=10 * number + 10,
        object=manifest.object_id.hex(),
        root=manifest.root.hex(),
        data=shape.data,
        parity=shape.parity,
        chunk=shape.chunk,
        size=len(content),
    )
    return Archived(segment, stripes, proofs)


def stated(author: bytes, *statements: Statement) -> list[StatedTransaction]:
    """Transactions of an author that state these."""
    return [
        (hashlib.sha256(author + it.encode()).digest(), author, it.CONTENT_TYPE, it.encode())
        for it in statements
    ]


def answered(
    challenge: int,
    asked: Mapping[FragmentKey, int],
    proofs: Mapping[tuple[FragmentKey, int], bytes],
) -> list[Answer]:
    """Right answers for what was asked, one a fragment."""
    return [
        Answer(challenge=challenge, answers=(AnsweredChunk.of(key, chunk, proofs[key, chunk]),))
        for key, chunk in sorted(asked.items())
    ]


@dataclass
class City:
    """Rounds of a second each, and what is recounted of them."""

    recount: Recount = field(default_factory=lambda: Recount(OPERATOR))
    archive: list[Archived] = field(default_factory=lambda: [archived(0), archived(1)])

    def __post_init__(self) -> None:
        """Round 1 has the rules and the announcements."""
        self.seal(stated(OPERATOR, RULES, *(each.segment for each in self.archive)))

    @property
    def proofs(self) -> dict[tuple[FragmentKey, int], bytes]:
        return {name: proof for each in self.archive for name, proof in each.proofs.items()}

    @property
    def keys(self) -> list[FragmentKey]:
        return [key for each in self.archive for key in each.keys]

    @property
    def next(self) -> int:
        return self.recount.round + 1

    def seal(self, transactions: Iterable[StatedTransaction] = ()) -> None:
        number = self.next
        self.recount.take(number, number * SECOND, checkpoint_hash(number), [*transactions])

    def seal_until(self, round: int) -> None:
        """Empty rounds up to this one."""
        while self.recount.round < round:
            self.seal()

    def hold(self, who: bytes, keys: Iterable[FragmentKey], until: int = DAY) -> None:
        self.seal(stated(who, Holding.of(until, [*keys])))

    def asked(self, who: bytes) -> dict[FragmentKey, int]:
        """What the one open challenge asks."""
        [challenge] = self.recount.open(who)
        return dict(challenge.asked)

    def answers(self, who: bytes, round: int) -> list[StatedTransaction]:
        """The right ones to the challenge of a round."""
        [challenge] = [it for it in self.recount.open(who) if it.round == round]
        return stated(who, *answered(round, challenge.asked, self.proofs))
