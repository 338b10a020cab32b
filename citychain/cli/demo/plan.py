"""What the demonstration sends, and what must come of it.

A pure function of the number of transactions and a seed. A city's transactions
are sent a chunk at a time, each after the one before is acknowledged, so that
their order, and with it every outcome, is known beforehand.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = [
    "ASSET",
    "BALANCE",
    "CITIES",
    "RESIDENTS",
    "SHARE_MIN",
    "UNKNOWN_ANSWER",
    "UNKNOWN_CITY",
    "City",
    "CityPlan",
    "Data",
    "Step",
    "Transfer",
    "plan",
]

ASSET: Final = "coin"
BALANCE: Final = 1_000_000
"""What every resident has at first: more than a run can spend, less than an overdraft."""
RESIDENTS: Final = 8
CHUNKS: Final = 12
FAULT_SHARE: Final = 40
"""One unit of each faulty kind for so many transactions."""

APPROVED: Final = "APPROVED"
SHARE_MIN: Final = 20
"""Transactions of one city; with fewer it could not have every fault."""


@dataclass(frozen=True, slots=True)
class Data:
    """Content that a city keeps."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Transfer:
    """An amount of `ASSET` for another resident."""

    to: int
    amount: int


NOTE: Final = Data("application/json", '{"district": "korinbo", "note": "金沢から"}'.encode())
ASTRAY: Final = Data("application/json", b'{"district": "atlantis"}')


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction to send."""

    number: int
    """Its own within its city; those it refers to have smaller ones."""
    purpose: str
    author: int
    """Which resident signs."""
    action: Data | Transfer
    outcome: str
    """``APPROVED``, ``REJECTED <code>`` or ``REFUSED <code>``."""
    depends_on: tuple[int, ...] = ()
    writes: tuple[tuple[str, int], ...] = ()
    """Object and the version expected of it."""
    repeats: int | None = None
    """Number of the step whose body this sends again, under a signature of its own."""
    altered: bool = False
    """A bit of the signature is flipped."""


@dataclass(frozen=True, slots=True)
class City:
    """A city of the demonstration."""

    slug: str
    distribution: str | None = None
    """The package that must bring it, if one must."""
    dag: str | None = None
    """The DAG handler to configure, instead of its plugin's choice."""
    consensus: str | None = None
    """The consensus step, likewise."""
    breach: Data | None = None
    """What its own rule rejects with the code ``RULE``, if it has one."""


CITIES: Final = (
    City("kanazawa", "citychain-kanazawa", consensus="poh-pop", breach=ASTRAY),
    City("kyoto", "citychain-kyoto", consensus="poh-pop"),
    City("osaka-jp", "citychain-world", consensus="poh-pop"),
    City("springfield", dag="dependencies-only", consensus="poh-pop"),
)
UNKNOWN_CITY: Final = "kanazwa"
UNKNOWN_ANSWER: Final = "NOT_FOUND, did you mean kanazawa?"


@dataclass(frozen=True, slots=True)
class CityPlan:
    """All that is sent to one city."""

    city: City
    chunks: tuple[tuple[Step, ...], ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in order of number, in which they can be signed."""
        return tuple(sorted((s for chunk in self.chunks for s in chunk), key=lambda s: s.number))

    @property
    def middle(self) -> int:
        """Index of the chunk during which the server is killed."""
        return len(self.chunks) // 2

    @property
    def work(self) -> int:
        """Answers, final states and receipts to come."""
        stored = sum(step.repeats is None and not step.altered for step in self.steps)
        return len(self.steps) + 2 * stored

    @property
    def expected(self) -> Counter[str]:
        """How many transactions must have each outcome, ``DUPLICATE`` among them."""
        return Counter(
            "DUPLICATE" if step.repeats is not None else step.outcome for step in self.steps
        )


def plan(transactions: int, seed: int, cities: Sequence[City] = CITIES) -> tuple[CityPlan, ...]:
    """Share ``transactions`` out over the cities."""
    shares = [transactions // len(cities)] * len(cities)
    shares[0] += transactions - sum(shares)
    return tuple(
        _City(city, share, random.Random(f"{seed} {city.slug}")).plan()
        for city, share in zip(cities, shares, strict=True)
    )


class _City:
    """Fills one city's chunks, a unit (of transactions that belong together) at a time."""

    def __init__(self, city: City, transactions: int, rng: random.Random) -> None:
        self._city = city
        self._transactions = transactions
        self._rng = rng
        self._number = 0
        self._chunks: list[list[Step]] = [[] for _ in range(CHUNKS)]

    def plan(self) -> CityPlan:
        units = [
            self._altered,
            self._repeated,
            self._conflict,
            self._overdraft,
            self._dependency,
            self._dependency_comes_later,
            self._dependency_is_rejected,
        ]
        if self._city.breach is not None:
            units.append(self._breach)
        for _ in range(max(1, self._transactions // FAULT_SHARE)):
            for unit in units:
                unit()
        self._add(CHUNKS // 2, self._ordinary())
        while self._number < self._transactions:
            self._add(self._rng.randrange(CHUNKS), self._ordinary())
        for chunk in self._chunks:
            self._rng.shuffle(chunk)
        return CityPlan(self._city, tuple(map(tuple, self._chunks)))

    # --- units

    def _altered(self) -> None:
        step = self._ordinary()
        self._add(
            self._rng.randrange(CHUNKS),
            replace(step, purpose="altered", altered=True, outcome="REFUSED BAD_SIGNATURE"),
        )

    def _repeated(self) -> None:
        first, later = self._two_chunks()
        original = self._add(first, self._ordinary())
        self._add(later, replace(original, purpose="repeat", repeats=original.number))

    def _conflict(self) -> None:
        first, later = self._two_chunks()
        write = ((f"seat-{self._number}", 0),)
        self._add(first, replace(self._ordinary(data=True), purpose="write", writes=write))
        self._add(
            later,
            replace(
                self._ordinary(data=True),
                purpose="conflict",
                writes=write,
                outcome="REJECTED CONFLICT",
            ),
        )

    def _overdraft(self) -> None:
        self._add(self._rng.randrange(CHUNKS), self._too_much())

    def _breach(self) -> None:
        assert self._city.breach is not None
        self._add(
            self._rng.randrange(CHUNKS),
            replace(
                self._ordinary(),
                purpose="breach",
                action=self._city.breach,
                outcome="REJECTED RULE",
            ),
        )

    def _dependency(self) -> None:
        first, later = self._two_chunks()
        parent = self._add(first, self._ordinary())
        self._add(later, self._dependant(parent))

    def _dependency_comes_later(self) -> None:
        # Held for some rounds only: not while the server is away.
        middle = CHUNKS // 2
        first = self._rng.choice([*range(middle - 1), *range(middle + 1, CHUNKS - 1)])
        parent = self._add(first + 1, self._ordinary())
        self._add(first, self._dependant(parent))

    def _dependency_is_rejected(self) -> None:
        first, later = self._two_chunks()
        parent = self._add(first, self._too_much())
        self._add(later, replace(self._dependant(parent), outcome="REJECTED DEPENDENCY_REJECTED"))

    # --- single transactions

    def _ordinary(self, *, data: bool = False) -> Step:
        if data or self._rng.random() < 0.7:
            return Step(0, "data", self._author(), NOTE, APPROVED)
        transfer = Transfer(self._author(), self._rng.randint(1, 9))
        return Step(0, "transfer", self._author(), transfer, APPROVED)

    def _too_much(self) -> Step:
        transfer = Transfer(self._author(), RESIDENTS * BALANCE + 1)
        return Step(0, "overdraft", self._author(), transfer, "REJECTED OVERDRAFT")

    def _dependant(self, parent: Step) -> Step:
        return replace(self._ordinary(), purpose="dependant", depends_on=(parent.number,))

    def _author(self) -> int:
        return self._rng.randrange(RESIDENTS)

    def _two_chunks(self) -> tuple[int, int]:
        first, later = sorted(self._rng.sample(range(CHUNKS), 2))
        return first, later

    def _add(self, chunk: int, step: Step) -> Step:
        step = replace(step, number=self._number)
        self._number += 1
        self._chunks[chunk].append(step)
        return step
