"""The reasons of rejections in docs/protocol.md are those that the parts give, word for word."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from consensus.model_city import (
    CLAIMED,
    EAST,
    FURTHER_EAST,
    HERE,
    MEMBERS,
    NORTH,
    OPERATOR,
    PEOPLE,
    WEST,
    WITNESSED,
    WITNESSES,
    ModelCity,
    candidacy,
    data,
    equivocation,
    id_of,
    recovery,
    square,
    transfer,
    vote,
    withdrawal,
    witness,
)
from consensus.traffic import OPTIONS, drive
from exchange.aloof import Aloof
from exchange.disbelieved import disbelieved
from exchange.towns import Town

from citychain._native import settle
from citychain.compute import Executor
from citychain.consensus import poh_pop
from citychain.exchange import judge
from citychain.genesis import balance_object, escrow_account
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as wire
from citychain.types import Rejection, Reward, Seat

DOCS = Path(__file__).parents[1] / "docs" / "protocol.md"
FORMATS = {
    "TX_ID": "[0-9a-f]{64}",
    "OTHER_TX_ID": "[0-9a-f]{64}",
    "OBJECT": ".{1,128}",
    "ASSET": "[a-z0-9-]{1,32}",
    "ACTION": "[a-z]+",
    "NEIGHBOUR": ".{1,100}",
    "FIELD": "[a-z_]+",
    "GENESIS": "[0-9a-f]{64}",
    "TERM": "[0-9a-f]{64}",
    "NETWORK": "[a-z0-9-]{1,63}",
    "CITY": "[a-z0-9-]{1,63}",
    "OUTCOME": "accepted|refused|delivered|returned",
    "CHECK": "[a-z_]+",
    "CODE": "[A-Z0-9_]{1,32}",
}
"""Of placeholders that are no integers."""
INTEGER = "(?:0|[1-9][0-9]*)"
SMALL = {"epoch_rounds": 8, "seed_rounds": 2, "seed_hashes": 3, "seats": 3, "stake_min": 10}
ANNA, BEN, CARL, DORA = PEOPLE[:4]

Row = tuple[str, str]
"""A code and the template of a reason."""
NewCity = Callable[..., ModelCity]


@pytest.fixture
async def new_city() -> AsyncIterator[NewCity]:
    async with Executor(2) as compute:
        yield partial(ModelCity, compute)


def section() -> str:
    return DOCS.read_text(encoding="utf-8").partition("\n## 16. Reasons of rejections\n")[2]


def rows() -> list[Row]:
    """In their order."""
    return re.findall(r"^\| `([A-Z0-9_]+)` \| `([^`]+)` \|", section(), re.MULTILINE)


def matching(rejection: Rejection) -> list[Row]:
    """The rows that a rejection may be of."""
    return [row for row in rows() if row[0] == rejection.code and fits(row[1], rejection.reason)]


def fits(template: str, reason: str) -> bool:
    # Names stand between literals by turns.
    parts = re.split(r"\{([A-Z_]+)\}", template)
    parts[::2] = map(re.escape, parts[::2])
    parts[1::2] = [f"(?:{FORMATS.get(name, INTEGER)})" for name in parts[1::2]]
    return re.fullmatch("".join(parts), reason) is not None


def filled(template: str, **values: object) -> str:
    """A reason as section 16 has it made."""
    whole = template.format(**values).encode()
    return whole[:255].decode(errors="ignore")


def template_of(code: str, placeholder: str) -> str:
    [template] = [it for known, it in rows() if known == code and f"{{{placeholder}}}" in it]
    return template


def rejections_of(city: ModelCity) -> list[Rejection]:
    return [verdict for sealed in city.rounds for verdict in sealed.verdicts if verdict]


# --- the table


def test_each_code_has_its_reasons() -> None:
    known = {
        *settle.REJECTION_CODES,
        *poh_pop.REJECTION_CODES,
        *judge.REJECTION_CODES,
        "UNSUPPORTED_ACTION",
    }
    assert {code for code, _ in rows()} == known
    assert len(set(rows())) == len(rows())


def test_each_placeholder_that_is_no_integer_is_explained() -> None:
    explained = re.findall(r"^\| (`\{.*?\}`) \|", section(), re.MULTILINE)
    assert set(re.findall(r"\{([A-Z_]+)\}", " ".join(explained))) == set(FORMATS)
    assert set(FORMATS) <= set(re.findall(r"\{([A-Z_]+)\}", str(rows())))


# --- what rounds say


async def places(new_city: NewCity) -> list[Rejection]:
    city = new_city(**CLAIMED, validity_rounds=1, window_rounds_max=10)
    await city.seal(city.sign(ANNA, data()), city.presence(BEN), city.sign(OPERATOR, witness(BEN)))
    await city.seal_until(4)
    await city.seal(
        city.sign(BEN, data()),
        city.presence(ANNA, first_round=3, last_round=4),
        city.presence(ANNA, first_round=0, last_round=12),
        city.presence(ANNA, first_round=0, anchor=bytes(32)),
        city.presence(ANNA, accuracy_m=101),
        city.presence(ANNA, HERE[0], EAST + 1),
        city.presence(ANNA, NORTH + 1, HERE[1]),
        *(city.presence(CARL) for _ in range(5)),
        city.presence(BEN, NORTH - 1, EAST - 1),
        city.presence(BEN),
    )
    return rejections_of(city)


async def witnesses(new_city: NewCity) -> list[Rejection]:
    city = new_city(**WITNESSED)
    await city.seal(*(city.sign(OPERATOR, witness(key)) for key in WITNESSES[:2]))
    await city.seal(
        city.presence(ANNA, by=WITNESSES[1:]),
        city.presence(ANNA, by=WITNESSES[:2], seen={"accuracy_m": 0}),
    )
    return rejections_of(city)


async def stakes(new_city: NewCity) -> list[Rejection]:
    city = new_city(**SMALL, candidates_max=1)
    await city.seal(city.sign(ANNA, candidacy(50)))
    await city.seal(
        city.sign(ANNA, withdrawal(10)),
        city.sign(ANNA, withdrawal(10)),
        city.sign(BEN, candidacy(10)),
        city.sign(CARL, candidacy(10, "coin")),
        city.sign(CARL, candidacy(9)),
        city.sign(CARL, withdrawal(9)),
    )
    await city.seal(city.sign(ANNA, withdrawal(31)))
    await city.seal_until(6)
    await city.seal(city.sign(ANNA, withdrawal(10)))
    await city.seal(city.sign(CARL, equivocation(ANNA, city.genesis.id)))
    await city.seal(city.sign(ANNA, candidacy(10)))
    return rejections_of(city)


async def offices(new_city: NewCity) -> list[Rejection]:
    city = new_city(**SMALL)
    key, id = MEMBERS[0], city.genesis.id
    other = vote(key, id, 1, b"3" * 32)
    await city.seal(
        city.sign(BEN, equivocation(CARL, id)),
        city.sign(BEN, equivocation(key, id, first_signature=other, second_signature=other)),
        city.sign(BEN, equivocation(key, id, second_signature=other)),
        *(city.sign(BEN, equivocation(key, id)) for _ in range(2)),
        city.sign(ANNA, candidacy(10)),
    )
    seats = [Seat(id_of(BEN), 1)]
    await city.seal(
        city.sign(BEN, equivocation(key, id)),
        city.sign(BEN, recovery(1, id, *seats)),
        city.sign(OPERATOR, recovery(3, id, *seats)),
        city.sign(OPERATOR, recovery(1, bytes(32), *seats)),
        city.sign(OPERATOR, recovery(2, city.hashes[1], *seats)),
    )
    await city.seal(city.sign(OPERATOR, recovery(1, id, *seats)))
    await city.seal_until(8)
    await city.seal(city.sign(OPERATOR, recovery(8, city.hashes[7], *seats)))
    return rejections_of(city)


async def beliefs(_: NewCity) -> list[Rejection]:
    async with Executor(2) as compute:
        return await disbelieved(compute)


async def settling(new_city: NewCity) -> list[Rejection]:
    most = 2**63 - 1
    city = new_city(people=most)
    [*_, bad] = payments = [
        city.sign(key, transfer(id_of(ANNA), amount)) for key, amount in ((BEN, most), (CARL, 2))
    ]
    names = ("road", "house")
    writes = {
        "writes": [wire.ObjectWrite(object=name, expected_version=0) for name in names],
    }
    ahead = {"reads": [wire.ObjectRead(object="none", version=1)]}
    await city.seal(
        *payments,
        city.sign(ANNA, transfer(id_of(BEN), 1, "yen")),
        city.sign(ANNA, data(), depends_on=[bad.tx_id]),
        city.sign(ANNA, data(), depends_on=[bytes(32)]),
        city.sign(ANNA, data() | writes),
        city.sign(ANNA, data() | writes),
        city.sign(ANNA, data() | ahead),
        city.sign(ANNA, data() | {"valid_until_ms": 2}),
    )
    await city.seal_until(4)
    return rejections_of(city)


async def between_cities(new_city: NewCity) -> list[Rejection]:
    """Settled as if it had been judged: what proofs show is another matter."""
    city = new_city()
    here, there, payer, payee = (bytes((number,)) * 32 for number in range(4))
    file = b'{"network": "net", "city": "nara"}'
    told = {"tx_id": here, "payer": payer, "city": there, "asset": "coin", "amount": 1}
    arrival = {"tx_id": here, "city": there, "asset": "coin", "to": payee, "amount": 1}
    actions: list[dict[str, Any]] = [
        {"peer": wire.Peer(genesis_file=file)},
        {"peer": wire.Peer(genesis_file=file)},
        {"peer": wire.Peer(genesis_file=file + b" ")},
        {"peer": wire.Peer(genesis_file=b"{}")},
        *({"delivery": wire.Delivery(**arrival, proof=b"p")} for _ in range(2)),
        {"settlement": wire.Settlement(**told | {"tx_id": payee}, proof=b"p")},
        {"settlement": wire.Settlement(**told | {"amount": 2}, proof=b"p")},
        *({"settlement": wire.Settlement(**told, proof=b"p")} for _ in range(2)),
        *({"anchor": wire.Anchor(city=there, checkpoint=bytes(42), proof=b"p")} for _ in range(2)),
        {"reward": wire.Reward(epoch=1, asset="coin", to=payee, amount=1)},
    ]
    paid = here + (1).to_bytes(8, "big") + b"coin"
    one = (1).to_bytes(8, "big")
    sent = b"\1" + payer + there + payee + one + b"coin"
    escrow = balance_object("coin", escrow_account(there))
    settled = settle.settle(
        round=1,
        time_ms=1,
        hold_rounds=1,
        candidates=[city.sign(OPERATOR, action) for action in actions],
        held_since=[0] * len(actions),
        refused={},
        dependencies={},
        objects={
            f"$outbox/{here.hex()}": (1, sent),
            f"$reward/{1:016x}/{payee.hex()}": (1, paid),
            escrow: (1, one),
        },
    )
    return [verdict for verdict in settled.verdicts if verdict]


async def unsettled(_: NewCity) -> list[Rejection]:
    async with Executor(2) as compute:
        town = Town("aomori", compute)
        reward = town.sign(ANNA, Reward(1, "gold", bytes(32), 1))
        verdicts = await town.close(reward)
        town.dag = Aloof(town.rounds.context())
        verdicts += await town.close(town.peer(Town("beppu", compute)))
        return [verdict for verdict in verdicts if verdict]


async def test_each_row_is_met_and_no_reason_is_unknown(new_city: NewCity) -> None:
    met: set[Row] = set()
    for scene in (places, witnesses, stakes, offices, beliefs, settling, between_cities, unsettled):
        for rejection in await scene(new_city):
            found = matching(rejection)
            assert found, rejection
            met.update(found)
    assert set(rows()) - met == set()


async def test_whatever_is_sent_no_reason_is_unknown(new_city: NewCity) -> None:
    city = new_city(**OPTIONS)
    await drive(city, 16, 20)
    rejections = rejections_of(city)
    assert len({rejection.code for rejection in rejections}) >= 8
    assert [rejection for rejection in rejections if not matching(rejection)] == []


# --- which row decides


async def test_of_many_faults_the_first_row_decides(new_city: NewCity) -> None:
    """Each transaction has the faults of those after it in its list."""
    city = new_city(**CLAIMED, **SMALL, window_rounds_max=1)
    await city.seal(*map(city.presence, (ANNA, BEN, DORA)))
    bad = city.sign(ANNA, transfer(id_of(BEN), 1, "yen"))
    await city.seal(bad, city.sign(ANNA, candidacy(50)))
    await city.seal_until(6)
    elsewhere = {"latitude_e7": NORTH + 1, "accuracy_m": 101, "depends_on": [bad.tx_id]}
    astray = elsewhere | {"anchor": bytes(32)}
    far = {"latitude_e7": NORTH - 1, "longitude_e7": EAST - 1, "depends_on": [bad.tx_id]}
    late = {"valid_until_ms": 2}
    stale = {"reads": [wire.ObjectRead(object="none", version=1)]}
    poor = transfer(id_of(BEN), 1, "yen")
    presences = [
        city.presence(ANNA, first_round=1, last_round=4, **astray),
        city.presence(ANNA, first_round=1, **astray),
        city.presence(ANNA, **astray),
        city.presence(ANNA, **elsewhere),
        city.presence(ANNA, **elsewhere | {"accuracy_m": 1}),
        city.presence(ANNA, **far),
        city.presence(ANNA, depends_on=[bad.tx_id]),
    ]
    moves = [
        city.sign(CARL, candidacy(1, "coin") | late),
        city.sign(ANNA, withdrawal(60, "coin") | late),
        city.sign(ANNA, withdrawal(60) | late),
        city.sign(ANNA, withdrawal(45) | late),
        city.sign(BEN, candidacy(1) | late),
        city.sign(DORA, candidacy(10) | late),
    ]
    orders = [
        city.sign(BEN, recovery(9, bytes(32), Seat(id_of(BEN), 1)) | late),
        city.sign(OPERATOR, recovery(9, bytes(32), Seat(id_of(BEN), 1)) | late),
        city.sign(OPERATOR, recovery(7, bytes(32), Seat(id_of(BEN), 1)) | late),
    ]
    others = [
        city.sign(CARL, data() | late),
        city.sign(ANNA, poor | stale | late, depends_on=[bad.tx_id]),
        city.sign(ANNA, poor | stale, depends_on=[bytes(32), bad.tx_id]),
        city.sign(ANNA, poor | stale),
        city.sign(ANNA, poor),
    ]
    await city.seal(*presences, *moves, *orders, *others)
    given = {
        item.tx_id: verdict
        for item, verdict in zip(
            city.rounds[-1].transactions, city.rounds[-1].verdicts, strict=True
        )
    }
    for faulty in (presences, moves, orders, others):
        places = []
        for item in faulty:
            verdict = given[item.tx_id]
            assert verdict is not None
            places.append(rows().index(matching(verdict)[0]))
        assert places == sorted(set(places))


# --- what is cut


async def test_a_long_name_is_cut_between_characters(new_city: NewCity) -> None:
    name = "x" + "鎌" * 99
    place = square(WEST, EAST) | {"neighbours": {name: square(EAST, FURTHER_EAST)}}
    city = new_city(policy="claimed", place=place)
    await city.seal(city.presence(ANNA, HERE[0], EAST + 1))
    [rejection] = rejections_of(city)
    template = template_of("OUTSIDE_REGION", "NEIGHBOUR")
    assert rejection.reason == filled(template, NEIGHBOUR=name)
    assert len(rejection.reason.encode()) == 253


async def test_a_long_object_is_cut_between_characters(new_city: NewCity) -> None:
    name, tx_id = "é" * 64, bytes(range(32))
    named = wire.ObjectWrite(object=name, expected_version=2**64 - 1)
    settled = settle.settle(
        round=1,
        time_ms=1,
        hold_rounds=1,
        candidates=[new_city().sign(ANNA, data() | {"writes": [named]})],
        held_since=[0],
        refused={},
        dependencies={},
        objects={name: (2**63 - 1, tx_id)},
    )
    [verdict] = settled.verdicts
    values = {"VERSION": 2**63 - 1, "NAMED": 2**64 - 1, "TX_ID": tx_id.hex(), "OBJECT": name}
    assert verdict is not None
    assert verdict.reason == filled(template_of("CONFLICT", "TX_ID"), **values)
    assert len(verdict.reason.encode()) in (254, 255)
