"""Where points lie, and what judging presences costs."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from array import array
from collections.abc import Callable
from typing import Final

from citychain._native.transactions import Transaction, decode_batch
from citychain.city.state import MemoryState
from citychain.client.actions import Action, Data
from citychain.client.transactions import transaction_body
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.consensus.poh_pop import PohPop, PohPopOptions
from citychain.crypto.keys import SCHEME_ML_DSA_87
from citychain.crypto.places import Places
from citychain.crypto.signatures import SIGNATURE_BYTES, SigningKey
from citychain.genesis import Genesis, Representative
from citychain.ports import CityContext, RoundContext
from citychain.presence import PresenceRecord, presence_object
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.types import ObjectWrite, Presence

__all__ = ["judge_rates", "locate_rates", "measure_places"]

POINTS: Final = 200_000
SIDE: Final = 44
"""Cells of the tessellation along each side: 1,936, as many as Japan has municipalities."""
PIECES: Final = 25
"""Straight pieces of an edge between two cells."""
CELL: Final = 2_000_000
"""Width of a cell, degrees times 10^7: some 20 km."""
SOUTH_WEST: Final = (300_000_000, 1_300_000_000)
CANDIDATES: Final = 2_000


async def measure_places() -> dict[str, float]:
    """Points located, and candidates judged, a second of one core."""
    cells = await asyncio.to_thread(tessellation)
    return {**locate_rates(cells), **await judge_rates(cells[SIDE // 2 * (SIDE + 1)])}


def tessellation() -> list[list[list[list[int]]]]:
    """Cells with crooked edges that fit together, as `Places` takes them."""
    pick = random.Random(1)
    south, west = SOUTH_WEST

    def edge(x: int, y: int, across: bool) -> list[tuple[int, int]]:
        """From a corner to the next one east, or north; without the last point."""
        bend = CELL // 100
        points = [(south + y * CELL, west + x * CELL)]
        for piece in range(1, PIECES):
            along = piece * CELL // PIECES
            lat, lon = (0, along) if across else (along, 0)
            at = points[0][0] + lat, points[0][1] + lon
            points.append((at[0] + pick.randint(-bend, bend), at[1] + pick.randint(-bend, bend)))
        return points

    def corner(x: int, y: int) -> tuple[int, int]:
        return south + y * CELL, west + x * CELL

    row = range(SIDE + 1)
    across = {(x, y): edge(x, y, True) for y in row for x in row[:-1]}
    up = {(x, y): edge(x, y, False) for y in row[:-1] for x in row}
    cells = []
    for y in row[:-1]:
        for x in row[:-1]:
            ring = [
                *across[x, y],
                *up[x + 1, y],
                corner(x + 1, y + 1),
                *across[x, y + 1][:0:-1],
                corner(x, y + 1),
                *up[x, y][:0:-1],
                corner(x, y),
            ]
            cells.append([[[number for point in ring for number in point]]])
    return cells


def locate_rates(cells: list[list[list[list[int]]]]) -> dict[str, float]:
    """`Places.locate` over all cells: points a second of one core, in one call."""
    places = Places(cells)
    pick = random.Random(2)
    south, west = SOUTH_WEST
    latitudes = array("i", (south + pick.randrange(SIDE * CELL) for _ in range(POINTS)))
    longitudes = array("i", (west + pick.randrange(SIDE * CELL) for _ in range(POINTS)))
    return {"located": _per_core_second(POINTS, lambda: places.locate(latitudes, longitudes))}


async def judge_rates(cell: list[list[list[int]]]) -> dict[str, float]:
    """`judge` of ``poh-pop`` under policy ``claimed``, a round of 2,000: of presences, and of
    other transactions whose authors have shown one."""
    operator = SigningKey(secrets.token_bytes(32)).public_key.hex()
    genesis = Genesis(
        network="bench",
        city="bench",
        rule="sealed-rounds/1",
        consensus="poh-pop/1",
        operator=operator,
        committee=(Representative(public_key=operator),),
    )
    options = PohPopOptions.model_validate({"policy": "claimed", "place": {"polygons": cell}})
    ring = cell[0][0]
    latitude = (min(ring[::2]) + max(ring[::2])) // 2
    longitude = (min(ring[1::2]) + max(ring[1::2])) // 2
    claim = Presence(latitude, longitude, 20, 0, 1, genesis.id)
    seen = PresenceRecord(1, 0, latitude, longitude, 20, 1_000, bytes(32)).to_bytes()
    authors = [secrets.token_bytes(32) for _ in range(CANDIDATES)]
    state = MemoryState([ObjectWrite(presence_object(author), 1, seen) for author in authors])
    round = RoundContext(genesis.id, 1, 1_000, bytes(32), genesis.id, genesis.id)
    rates = {}
    async with Executor(1) as compute:
        step = PohPop(options, CityContext("bench", genesis, compute, SystemClock(), None))
        for name, action, ledger in (
            ("presences_judged", claim, MemoryState(())),
            ("others_judged", Data(b"x" * 200), state),
        ):
            candidates = decode_batch([_unsigned(genesis.id, it, action) for it in authors])
            rates[name] = await _judged(step, round, candidates, ledger)
    return rates


async def _judged(
    step: PohPop, round: RoundContext, candidates: list[Transaction], state: MemoryState
) -> float:
    seconds = []
    for _ in range(3):
        began = time.process_time()
        judgement = await step.judge(round, candidates, state)
        seconds.append(time.process_time() - began)
        assert not judgement.refused
    return len(candidates) / min(seconds)


def _unsigned(genesis: bytes, author: bytes, action: Action) -> bytes:
    """A transaction as stored; judging looks at no author's signature."""
    return transaction_pb2.SignedTransaction(
        body=transaction_body(author, genesis=genesis, action=action),
        scheme=transaction_pb2.Scheme.ValueType(SCHEME_ML_DSA_87),
        key_id=author,
        signature=bytes(SIGNATURE_BYTES),
    ).SerializeToString()


def _per_core_second(count: int, work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return count / min(seconds)
