"""Presences: which are accepted, and what they open."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
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
    SOUTH,
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
    withdrawal,
    witness,
)
from hypothesis import given
from hypothesis import strategies as st

from citychain import election
from citychain.consensus._presence_judge import travel_fault
from citychain.crypto.places import chord_squared
from citychain.presence import PresenceRecord
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as wire
from citychain.types import ObjectState, Seat

NewCity = Callable[..., ModelCity]
SMALL = {"epoch_rounds": 8, "seed_rounds": 2, "seed_hashes": 3, "seats": 3}
ANNA, BEN, CARL = PEOPLE[:3]


# --- who is heard


async def test_who_has_shown_no_presence_is_not_heard(new_city: NewCity) -> None:
    city = new_city(**CLAIMED)
    # A presence opens the rounds after its own.
    assert await city.seal(city.presence(ANNA), city.sign(ANNA, data())) == ["", "NO_PRESENCE"]
    codes = await city.seal(*(city.sign(key, data()) for key in (ANNA, BEN, ANNA)))
    assert codes == ["", "NO_PRESENCE", ""]


async def test_a_presence_holds_for_so_many_rounds(new_city: NewCity) -> None:
    city = new_city(**CLAIMED, validity_rounds=3)
    await city.seal(city.presence(ANNA))
    await city.seal_until(3)
    assert await city.seal(city.sign(ANNA, data())) == [""]
    late = city.sign(ANNA, data())
    assert await city.seal(late) == ["PRESENCE_EXPIRED"]
    assert city.reason(late) == "the presence of round 1 held to round 4"
    assert await city.seal(city.presence(ANNA)) == [""]
    assert await city.seal(city.sign(ANNA, data())) == [""]


async def test_what_needs_no_presence_and_what_does(new_city: NewCity) -> None:
    city = new_city(**WITNESSED | {"validity_rounds": 2}, **SMALL)
    codes = await city.seal(
        city.sign(OPERATOR, witness(WITNESSES[0])),
        city.sign(OPERATOR, witness(WITNESSES[1])),
        city.sign(OPERATOR, recovery(1, city.genesis.id, Seat(id_of(MEMBERS[1]), 1))),
        city.sign(BEN, equivocation(MEMBERS[0], city.genesis.id)),
        city.sign(ANNA, candidacy(10)),
        city.sign(ANNA, withdrawal(10)),
        city.sign(OPERATOR, data()),
    )
    assert codes == [*[""] * 4, "NO_PRESENCE", "NO_STAKE", "NO_PRESENCE"]
    assert await city.seal(city.presence(ANNA, by=WITNESSES[:2])) == [""]
    assert await city.seal(city.sign(ANNA, candidacy(10))) == [""]
    await city.seal()
    codes = await city.seal(city.sign(ANNA, candidacy(10)), city.sign(ANNA, withdrawal(10)))
    assert codes == ["PRESENCE_EXPIRED", ""]


@pytest.mark.parametrize(
    ("options", "action"),
    [({}, "presence"), ({}, "witness"), (CLAIMED, "witness")],
)
async def test_a_policy_without_a_use_for_an_action_knows_it_not(
    new_city: NewCity, options: Mapping[str, Any], action: str
) -> None:
    city = new_city(**options)
    made = city.presence(ANNA) if action == "presence" else city.sign(OPERATOR, witness(BEN))
    assert await city.seal(made) == ["UNSUPPORTED_ACTION"]


async def test_who_is_no_operator_registers_no_witness(new_city: NewCity) -> None:
    city = new_city(**WITNESSED)
    assert await city.seal(city.sign(ANNA, witness(ANNA))) == ["NOT_OPERATOR"]


async def test_judging_whom_everybody_knows_costs_one_look(new_city: NewCity) -> None:
    city = new_city(**CLAIMED)
    await city.seal(*map(city.presence, PEOPLE))
    calls: list[Sequence[str]] = []

    class Counted:
        async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
            calls.append(objects)
            return await city.state.objects(objects)

    candidates = [city.sign(key, data()) for key in PEOPLE for _ in range(3)]
    judgement = await city.consensus.judge(city.round_context(), candidates, Counted())  # type: ignore[arg-type]
    assert judgement.refused == {}
    assert len(calls) == 1
    assert len(calls[0]) == len(PEOPLE) + 2


# --- bounds


async def test_the_first_round_is_anchored_in_the_genesis(new_city: NewCity) -> None:
    city = new_city(**CLAIMED)
    assert await city.seal(city.presence(ANNA, first_round=0, last_round=1)) == [""]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"first_round": 5, "last_round": 9, "anchor": bytes(32)}, "this is round 5"),
        ({"first_round": 3, "last_round": 4}, "up to 4"),
        ({"first_round": 1, "last_round": 12}, "11 rounds; at most 10"),
        ({"first_round": 3, "anchor": bytes(32)}, "round 3's checkpoint"),
        ({"first_round": 0, "anchor": bytes(32)}, "round 0's checkpoint"),
    ],
)
async def test_a_window_that_does_not_fit(
    new_city: NewCity, fields: Mapping[str, Any], reason: str
) -> None:
    city = new_city(**CLAIMED, window_rounds_max=10)
    await city.seal_until(4)
    presence = city.presence(ANNA, **fields)
    assert await city.seal(presence) == ["BAD_WINDOW"]
    assert reason in city.reason(presence)


@pytest.mark.parametrize(("first", "last"), [(4, 5), (0, 10), (3, 5)])
async def test_a_window_that_just_fits(new_city: NewCity, first: int, last: int) -> None:
    city = new_city(**CLAIMED, window_rounds_max=10)
    await city.seal_until(4)
    assert await city.seal(city.presence(ANNA, first_round=first, last_round=last)) == [""]


async def test_a_position_that_is_too_vague(new_city: NewCity) -> None:
    city = new_city(**CLAIMED, accuracy_max_m=50)
    codes = await city.seal(city.presence(ANNA, accuracy_m=50), city.presence(BEN, accuracy_m=51))
    assert codes == ["", "INACCURATE"]


async def test_a_position_outside_names_the_neighbour(new_city: NewCity) -> None:
    city = new_city(**CLAIMED)
    east = city.presence(ANNA, HERE[0], EAST + 1)
    north = city.presence(BEN, NORTH + 1, HERE[1])
    assert await city.seal(east, north) == ["OUTSIDE_REGION"] * 2
    assert city.reason(east) == "the position lies in chiba"
    assert city.reason(north) == "the position lies in no region that this city knows"


@pytest.mark.parametrize("latitude", [SOUTH, SOUTH + 1, HERE[0], NORTH - 1])
@pytest.mark.parametrize("beside", [-1, 0, 1])
async def test_of_two_cities_one_has_each_point_of_their_border(
    new_city: NewCity, latitude: int, beside: int
) -> None:
    west, east = square(WEST, EAST), square(EAST, FURTHER_EAST)
    codes = []
    for region in (west, east):
        city = new_city(policy="claimed", place=region)
        codes += await city.seal(city.presence(ANNA, latitude, EAST + beside))
    assert sorted(codes) == ["", "OUTSIDE_REGION"]
    assert codes[0] == ("" if beside < 0 else "OUTSIDE_REGION")


async def test_of_one_key_a_round_takes_a_few_presences(new_city: NewCity) -> None:
    city = new_city(**CLAIMED)
    codes = await city.seal(*(city.presence(ANNA) for _ in range(6)), city.presence(BEN))
    assert sorted(codes) == [""] * 5 + ["TOO_MANY_PRESENCES"] * 2
    assert codes[-1] == ""


# --- witnesses


async def registered(city: ModelCity) -> None:
    codes = await city.seal(*(city.sign(OPERATOR, witness(key)) for key in WITNESSES[:3]))
    assert codes == [""] * 3


async def test_enough_witnesses_whatever_others_add(new_city: NewCity) -> None:
    city = new_city(**WITNESSED)
    await registered(city)
    codes = await city.seal(
        city.presence(ANNA, by=WITNESSES[:2]),
        city.presence(BEN, by=[CARL, WITNESSES[3], WITNESSES[2], WITNESSES[0]]),
    )
    assert codes == ["", ""]


async def test_who_counts_as_a_witness(new_city: NewCity) -> None:
    city = new_city(**WITNESSED)
    await registered(city)
    assert await city.seal(city.sign(OPERATOR, witness(ANNA))) == [""]
    one, two = WITNESSES[:2]
    presences = [
        city.presence(ANNA),
        city.presence(ANNA, by=[one, ANNA]),  # The subject, though a witness.
        city.presence(BEN, by=[one, WITNESSES[3]]),  # Not registered.
    ]
    assert await city.seal(*presences) == ["WITNESSES_MISSING"] * 3
    assert "0 of 2 are" in city.reason(presences[0])
    assert "1 of 2 are" in city.reason(presences[1])
    assert await city.seal(city.presence(BEN, by=[one, ANNA])) == [""]
    # Revoked, and registered again.
    assert await city.seal(city.sign(OPERATOR, witness(two, revoked=True))) == [""]
    assert await city.seal(city.presence(ANNA, by=[one, two])) == ["WITNESSES_MISSING"]
    assert await city.seal(city.sign(OPERATOR, witness(two))) == [""]
    assert await city.seal(city.presence(ANNA, by=[one, two])) == [""]


@pytest.mark.parametrize(
    "seen",
    [
        {"latitude_e7": HERE[0] + 1},
        {"longitude_e7": HERE[1] + 1},
        {"accuracy_m": 11},
        {"first_round": 0},
        {"last_round": 3},
        {"anchor": bytes(32)},
    ],
    ids=lambda seen: next(iter(seen)),
)
async def test_witnesses_sign_exactly_what_is_claimed(
    new_city: NewCity, seen: Mapping[str, Any]
) -> None:
    city = new_city(**WITNESSED)
    await registered(city)
    claim = city.presence(ANNA, by=WITNESSES[:2], seen=seen)
    assert await city.seal(claim) == ["WITNESSES_MISSING"]
    assert city.reason(claim) == "0 of 2 witnesses' signatures hold"


async def test_what_was_signed_for_one_is_not_anothers(new_city: NewCity) -> None:
    city = new_city(**WITNESSED)
    await registered(city)
    mine = city.presence(ANNA, by=WITNESSES[:2]).presence
    assert mine is not None
    fields = mine._asdict() | {
        "witnesses": [
            wire.WitnessSignature(key_id=it.key_id, signature=it.signature) for it in mine.witnesses
        ]
    }
    stolen = city.sign(BEN, {"presence": wire.Presence(**fields)})
    again = city.sign(ANNA, {"presence": wire.Presence(**fields)})
    assert await city.seal(stolen, again) == ["WITNESSES_MISSING", ""]


# --- travel

FAR = (NORTH - 1, EAST - 1)
"""From `HERE` some 7.2 km."""


async def test_a_key_is_not_at_two_places_in_one_round(new_city: NewCity) -> None:
    city = new_city(**CLAIMED)
    two = [city.presence(ANNA), city.presence(ANNA, *FAR)]
    codes = await city.seal(*two, city.presence(BEN, *FAR))
    assert sorted(codes) == ["", "", "IMPOSSIBLE_TRAVEL"]
    refused, other = two if codes[0] else reversed(two)
    reason = city.reason(refused)
    assert refused.tx_id.hex() in reason
    assert other.tx_id.hex() in reason
    # 0.05 degrees of latitude, and of longitude times cos(35.1 degrees).
    assert " 7184 m from " in reason
    assert " 0 ms apart" in reason


async def test_a_key_travels_no_faster_than_it_can(new_city: NewCity) -> None:
    city = new_city(**CLAIMED, speed_max_mps=100)
    first = city.presence(ANNA)
    await city.seal(first)
    hasty = city.presence(ANNA, *FAR)
    assert await city.seal(hasty, later_ms=71_000) == ["IMPOSSIBLE_TRAVEL"]
    assert first.tx_id.hex() in city.reason(hasty)
    assert await city.seal(city.presence(ANNA, *FAR), later_ms=1_000) == [""]


async def test_a_presence_that_waits_decides_about_no_other(new_city: NewCity) -> None:
    """Which came first no record tells, so what is held must not change what is sealed."""
    city = new_city(**CLAIMED)
    for _ in range(6):
        waiting = city.presence(ANNA, *FAR, last_round=city.head.round + 2,
                                depends_on=[city.hashes[-1]])  # fmt: skip
        codes = await city.seal(waiting, city.presence(ANNA))
        assert codes in (["HELD", "IMPOSSIBLE_TRAVEL"], ["IMPOSSIBLE_TRAVEL", ""])


places = st.tuples(
    st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000)
)


def at(place: tuple[int, int], time_ms: int, accuracy_m: int = 0) -> PresenceRecord:
    return PresenceRecord(1, time_ms, *place, accuracy_m, 1_000, bytes(32))


@given(places, places, st.integers(0, 10**7), st.integers(1, 10**4), st.integers(0, 10**5))
def test_the_travel_bound_is_the_same_either_way(
    a: tuple[int, int], b: tuple[int, int], time_ms: int, speed: int, accuracy_m: int
) -> None:
    there = travel_fault(at(a, 5, accuracy_m), at(b, 5 + time_ms), speed)
    back = travel_fault(at(b, 5), at(a, 5 + time_ms, accuracy_m), speed)
    assert (there is None) == (back is None)


@given(places, places, st.integers(1, 10**4))
def test_the_travel_bound_is_exact(a: tuple[int, int], b: tuple[int, int], speed: int) -> None:
    apart = chord_squared(a, b)
    enough = _least_time(apart, speed)
    assert travel_fault(at(a, 0), at(b, enough), speed) is None
    if enough:
        assert travel_fault(at(a, 0), at(b, enough - 1), speed) is not None


def _least_time(apart: int, speed: int) -> int:
    """Found by halving, with whole numbers of any size."""
    low, high = 0, 1 << 40
    while low < high:
        middle = (low + high) // 2
        if speed * speed * middle * middle >= apart * 1_000_000:
            high = middle
        else:
            low = middle + 1
    return low


# --- what is kept


async def test_the_ledger_keeps_the_last_presence(new_city: NewCity) -> None:
    city = new_city(**CLAIMED)
    presence = city.presence(ANNA, accuracy_m=7)
    await city.seal(presence)
    value = await city.value(f"$presence/{id_of(ANNA).hex()}")
    assert value == struct.pack(">QQiiII32s", 1, city.time_ms, *HERE, 7, 1_000, presence.tx_id)
    assert len(value) == 64
    assert PresenceRecord.from_bytes(value).to_bytes() == value


async def test_nodes_contain_how_place_was_judged(new_city: NewCity) -> None:
    city = new_city(**WITNESSED)
    await registered(city)
    await city.seal(city.presence(ANNA, by=WITNESSES[:2]))
    before = await city.value(f"$presence/{id_of(ANNA).hex()}")
    known, unknown = city.sign(ANNA, data()), city.sign(BEN, data())
    await city.seal(known, unknown)
    prefix = b"citychain/pop/v1\0" + city.genesis.id + (3).to_bytes(8, "big")
    pops = dict(zip([it.tx_id for it in city.rounds[-1].transactions],
                    city.rounds[-1].pops or (), strict=True))  # fmt: skip
    assert pops == {
        known.tx_id: hashlib.sha256(prefix + known.tx_id + b"\2" + before).digest(),
        unknown.tx_id: hashlib.sha256(prefix + unknown.tx_id + b"\2").digest(),
    }


async def test_without_a_policy_no_place_is_judged(new_city: NewCity) -> None:
    city = new_city()
    await city.seal(city.sign(ANNA, data()))
    assert city.rounds[-1].pops is None


# --- elections


async def test_a_candidates_presence_must_hold_at_the_closing(new_city: NewCity) -> None:
    city = new_city(**CLAIMED, **SMALL, validity_rounds=4)
    await city.seal(city.presence(ANNA), city.presence(BEN))
    await city.seal(city.presence(CARL))
    await city.seal(*(city.sign(key, candidacy(11)) for key in (ANNA, BEN, CARL)))
    await city.seal_until(5)
    assert await city.seal(city.presence(ANNA)) == [""]  # In the closing round itself.
    snapshot = election.decode_snapshot(await city.value("$election/0"))
    assert {it.key_id for it in snapshot.candidates} == {id_of(ANNA), id_of(CARL)}
    # Who does not stand in the election under way may leave.
    codes = await city.seal(*(city.sign(key, withdrawal(11)) for key in (ANNA, BEN, CARL)))
    assert codes == ["SERVING", "", "SERVING"]


async def test_the_greatest_factor_of_the_events_counts(new_city: NewCity) -> None:
    def event(factor: int, west: int = WEST) -> Mapping[str, Any]:
        return {
            "region": square(west, EAST),
            "from_ms": 1_001_000,
            "until_ms": 1_001_001,
            "factor_permille": factor,
        }

    city = new_city(**CLAIMED, **SMALL, events=[event(1_500), event(2_000, EAST - 10)])
    await city.seal(city.presence(ANNA), city.presence(BEN, HERE[0], EAST - 1))
    await city.seal(city.presence(CARL))
    await city.seal(*(city.sign(key, candidacy(11)) for key in (ANNA, BEN, CARL)))
    await city.seal_until(6)
    snapshot = election.decode_snapshot(await city.value("$election/0"))
    weights = {it.key_id: it.weight for it in snapshot.candidates}
    assert weights == {id_of(ANNA): 16, id_of(BEN): 22, id_of(CARL): 11}
