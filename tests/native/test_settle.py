"""Settling against a plain model, over universes small enough that everything collides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transaction_wire import (
    U64_MAX,
    Body,
    Candidacy,
    Data,
    Equivocation,
    Presence,
    Recovery,
    Transfer,
    Withdrawal,
    Witness,
    sha256,
    transaction,
)

from citychain._native.settle import REJECTION_CODES, Settlement, needs, settle
from citychain._native.transactions import Transaction
from citychain.genesis import balance_object, stake_account
from citychain.types import ObjectWrite, Rejection

AUTHORS = [bytes((letter,)) * 32 for letter in b"abc"]
STRANGERS = [bytes((letter,)) * 32 for letter in b"xyz"]
"""Ids of transactions of earlier rounds, or of none."""
STAKES = [sha256(b"citychain/stake/v1\0", author) for author in AUTHORS]
"""The authors' stake accounts."""
OBJECTS = ["road", "roof", "école"]
ASSETS = ["yen", "rice"]
ROUND, TIME_MS, HOLD_ROUNDS = 10, 500, 3


@dataclass
class Universe:
    """The arguments of one call of `settle`."""

    bodies: list[Body]
    held_since: list[int] = field(default_factory=list)
    refused: dict[int, Rejection] = field(default_factory=dict)
    dependencies: dict[bytes, bool] = field(default_factory=dict)
    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    round: int = ROUND

    def settle(self) -> Settlement:
        return settle(
            round=self.round,
            time_ms=TIME_MS,
            hold_rounds=HOLD_ROUNDS,
            candidates=[transaction(body) for body in self.bodies],
            held_since=self.held_since or [0] * len(self.bodies),
            refused=self.refused,
            dependencies=self.dependencies,
            objects=self.objects,
        )


def number(body: Body, nonce: int) -> Body:
    return replace(body, nonce=nonce.to_bytes(8, "big"))


def chain(*bodies: Body) -> Universe:
    """Candidates made different by their nonces."""
    return Universe([number(body, nonce) for nonce, body in enumerate(bodies)])


def balance(amount: int, version: int = 1) -> tuple[int, bytes]:
    return (version, amount.to_bytes(8, "big"))


VERSIONS = st.dictionaries(st.sampled_from(OBJECTS), st.integers(0, 2), max_size=2)
AMOUNTS = st.sampled_from([1, 2, 3, 5, 5, 15, 15, U64_MAX - 12, U64_MAX])
SHARES = st.sampled_from([1, 5, 5, 15, 15, 2**63 - 1])
PAYMENTS = st.one_of(
    st.builds(
        Transfer, st.sampled_from(ASSETS), st.sampled_from([*AUTHORS, *AUTHORS, *STAKES]), AMOUNTS
    ),
    st.builds(Candidacy, st.sampled_from(ASSETS), SHARES),
    st.builds(Withdrawal, st.sampled_from(ASSETS), SHARES),
)
ASPECTS = st.sets(
    st.sampled_from(["depends", "depends", "pays", "pays", "reads", "writes", "expires"]),
    min_size=1,
    max_size=2,
)


@st.composite
def universes(draw: st.DrawFn) -> Universe:
    bodies: list[Body] = []
    for nonce in range(draw(st.integers(1, 10))):
        body = Body(author=draw(st.sampled_from(AUTHORS)))
        aspects = draw(ASPECTS)
        if "depends" in aspects:
            known = st.sampled_from([*STRANGERS, *(body.tx_id for body in bodies)])
            depends_on = draw(st.lists(known, max_size=2, unique=True))
            body = replace(body, depends_on=tuple(depends_on))
        if "reads" in aspects:
            body = replace(body, reads=tuple(draw(VERSIONS).items()))
        if "writes" in aspects:
            body = replace(body, writes=tuple(draw(VERSIONS).items()))
        if "pays" in aspects:
            body = replace(body, action=draw(PAYMENTS))
        if "expires" in aspects:
            body = replace(body, valid_until_ms=TIME_MS + draw(st.integers(-1, 1)))
        bodies.append(number(body, nonce))
    if draw(st.booleans()):
        # Some before those that they depend on.
        bodies = draw(st.permutations(bodies))
    count = len(bodies)
    objects = {
        name: (draw(st.integers(0, 2)), STRANGERS[0])
        for name in draw(st.lists(st.sampled_from(OBJECTS), unique=True))
    }
    for asset in ASSETS:
        for owner in (*AUTHORS, *STAKES):
            amount = draw(st.sampled_from([0, 5, 20, 20, U64_MAX - 10]))
            version = draw(st.sampled_from([1, 1, 2, 0]))
            objects[balance_object(asset, owner)] = balance(amount, version)
    return Universe(
        bodies,
        draw(st.lists(st.integers(0, ROUND - 1), min_size=count, max_size=count)),
        {draw(st.integers(0, count - 1)): Rejection("RULE", "no")} if draw(st.booleans()) else {},
        draw(st.dictionaries(st.sampled_from(STRANGERS), st.booleans())),
        objects,
    )


# --- the model --------------------------------------------------------------


@dataclass
class Expected:
    codes: dict[int, str | None]
    """Of those that are sealed, by index; ``None``: approved."""
    named: dict[int, Sequence[str]]
    """What the reasons must tell."""
    writes: Mapping[str, tuple[int, bytes]]


def model(universe: Universe) -> Expected:
    state = dict(universe.objects)
    written: set[str] = set()
    expected = Expected({}, {}, {})
    standing: dict[bytes, bool] = dict(universe.dependencies)
    held_since = universe.held_since or [0] * len(universe.bodies)
    for body in universe.bodies:
        # What this round has not decided yet is not known from an earlier one either.
        assert body.tx_id not in standing

    for index, body in enumerate(universe.bodies):
        code, named = verdict(universe, index, body, held_since[index], standing, state)
        if code == "held":
            continue
        expected.codes[index] = code or None
        expected.named[index] = named
        standing[body.tx_id] = not code
        if code:
            continue
        changes: list[tuple[str, bytes]] = [(name, body.tx_id) for name, _ in body.writes]
        if (paid := payment(body)) is not None:
            payer, payee, amount = paid
            left = amount_of(state, payer) - amount
            state[payer] = (state[payer][0] + 1, left.to_bytes(8, "big"))
            written.add(payer)
            total = amount_of(state, payee) + amount
            changes.append((payee, total.to_bytes(8, "big")))
        for name, value in changes:
            state[name] = (state.get(name, (0, b""))[0] + 1, value)
            written.add(name)
    expected.writes = {name: state[name] for name in written}
    return expected


def payment(body: Body) -> tuple[str, str, int] | None:
    """The balances of payer and payee, and the amount."""
    mine = stake_account(body.author)
    match body.action:
        case Transfer(asset, to, amount):
            payer, payee = body.author, to
        case Candidacy(asset, amount):
            payer, payee = body.author, mine
        case Withdrawal(asset, amount):
            payer, payee = mine, body.author
        case _:
            return None
    return balance_object(asset, payer), balance_object(asset, payee), amount


def amount_of(state: Mapping[str, tuple[int, bytes]], name: str) -> int:
    version, value = state.get(name, (0, b""))
    return int.from_bytes(value, "big") if version else 0


def verdict(
    universe: Universe,
    index: int,
    body: Body,
    held_since: int,
    standing: Mapping[bytes, bool],
    state: Mapping[str, tuple[int, bytes]],
) -> tuple[str, Sequence[str]]:
    if index in universe.refused:
        return universe.refused[index]
    if body.valid_until_ms is not None and body.valid_until_ms < TIME_MS:
        return "EXPIRED", [str(body.valid_until_ms), str(TIME_MS)]
    for tx_id in body.depends_on:
        if standing.get(tx_id) is False:
            return "DEPENDENCY_REJECTED", [tx_id.hex()]
    for tx_id in body.depends_on:
        if tx_id not in standing:
            if held_since and universe.round - held_since >= HOLD_ROUNDS:
                return "DEPENDENCY_MISSING", [tx_id.hex(), str(HOLD_ROUNDS)]
            return "held", []
    for name, version in (*body.reads, *body.writes):
        present, value = state.get(name, (0, b""))
        if present != version:
            winner = [value.hex()] if present else []
            return "CONFLICT", [name, str(present), str(version), *winner]
    if (paid := payment(body)) is not None:
        payer, payee, amount = paid
        has = amount_of(state, payer)
        if has < amount:
            return "OVERDRAFT", [f"has {has} ", f"needs {amount}"]
        if payee != payer:
            has = amount_of(state, payee)
            if has + amount > U64_MAX:
                return "OVERFLOW", [str(has), str(amount)]
    return "", []


# --- properties -------------------------------------------------------------


@settings(max_examples=400)
@given(universes())
def test_it_settles_as_the_model_does(universe: Universe) -> None:
    settlement = universe.settle()
    expected = model(universe)
    assert settlement.order == sorted(expected.codes)
    assert settlement.held == sorted(set(range(len(universe.bodies))) - set(expected.codes))
    for index, verdict in zip(settlement.order, settlement.verdicts, strict=True):
        assert (verdict and verdict.code) == expected.codes[index]
        if verdict is None:
            continue
        assert isinstance(verdict, Rejection)
        if verdict.code == "RULE":
            assert verdict is universe.refused[index]
        else:
            assert verdict.code in REJECTION_CODES
            assert all(name in verdict.reason for name in expected.named[index])
            assert len(verdict.reason.encode()) <= 255
    assert all(isinstance(write, ObjectWrite) for write in settlement.writes)
    assert [write.object for write in settlement.writes] == sorted(expected.writes)
    assert {write.object: write[1:] for write in settlement.writes} == expected.writes


@given(universes(), st.randoms(use_true_random=False))
def test_the_order_in_which_the_state_is_told_does_not_matter(
    universe: Universe, random: object
) -> None:
    once = universe.settle()
    for mapping in (universe.objects, universe.dependencies, universe.refused):
        items = list(mapping.items())
        random.shuffle(items)  # type: ignore[attr-defined]
        mapping.clear()
        mapping.update(items)  # type: ignore[arg-type]
    again = universe.settle()
    for part in ("order", "verdicts", "held", "writes"):
        assert getattr(once, part) == getattr(again, part)


@given(universes())
def test_no_amount_is_made_or_lost(universe: Universe) -> None:
    after = universe.objects | {name: (v, value) for name, v, value in universe.settle().writes}
    for asset in ASSETS:
        prefix = f"$balance/{asset}/"

        def total(state: Mapping[str, tuple[int, bytes]], prefix: str = prefix) -> int:
            return sum(amount_of(state, name) for name in state if name.startswith(prefix))

        assert total(after) == total(universe.objects)


@given(universes())
def test_it_needs_to_know_what_it_looks_at(universe: Universe) -> None:
    """And nothing else changes what it decides."""
    ids, objects = needs([transaction(body) for body in universe.bodies])
    assert ids == sorted({tx_id for body in universe.bodies for tx_id in body.depends_on})
    assert objects == sorted(set(objects))
    less = replace(
        universe,
        dependencies={k: v for k, v in universe.dependencies.items() if k in ids},
        objects={k: v for k, v in universe.objects.items() if k in objects},
    ).settle()
    full = universe.settle()
    assert (less.order, less.verdicts) == (full.order, full.verdicts)
    assert less.writes == full.writes
    assert {write.object for write in full.writes} <= set(objects)


@given(st.lists(universes(), min_size=1, max_size=4))
def test_over_rounds_each_candidate_is_sealed_once_and_in_time(rounds: list[Universe]) -> None:
    """Held ones come first in the next round, as the sequencer does it."""
    waiting: list[tuple[Body, int]] = []
    objects = rounds[0].objects
    sealed: dict[bytes, bool] = {}
    first_seen: dict[bytes, int] = {}
    arrivals: list[list[Body]] = [
        [number(body, 100 * at + nonce) for nonce, body in enumerate(universe.bodies)]
        for at, universe in enumerate(rounds)
    ] + [[]] * (HOLD_ROUNDS + 1)
    for round, arrived in enumerate(arrivals, 1):
        new = [(body, 0) for body in arrived if body.tx_id not in first_seen]
        candidates = waiting + new
        universe = Universe(
            [body for body, _ in candidates],
            [since for _, since in candidates],
            dependencies=dict(sealed),
            objects=objects,
            round=round,
        )
        settlement = universe.settle()
        for body, _ in new:
            first_seen[body.tx_id] = round
        for index, verdict in zip(settlement.order, settlement.verdicts, strict=True):
            tx_id = candidates[index][0].tx_id
            assert tx_id not in sealed
            assert round <= first_seen[tx_id] + HOLD_ROUNDS
            sealed[tx_id] = verdict is None
        waiting = [(candidates[i][0], candidates[i][1] or round) for i in settlement.held]
        objects = objects | {name: (v, value) for name, v, value in settlement.writes}
    assert not waiting
    assert set(sealed) == set(first_seen)


# --- single rules -----------------------------------------------------------


def codes(universe: Universe) -> dict[int, str]:
    settlement = universe.settle()
    verdicts = zip(settlement.order, settlement.verdicts, strict=True)
    return {index: verdict.code if verdict else "" for index, verdict in verdicts}


def test_the_first_writer_wins_and_the_loser_is_told_who_won() -> None:
    universe = chain(*[Body(writes=(("road", 0),))] * 2)
    settlement = universe.settle()
    winner = universe.bodies[0].tx_id
    assert settlement.writes == [("road", 1, winner)]
    assert settlement.verdicts == [
        None,
        ("CONFLICT", f"at version 1, not 0, written by {winner.hex()}: road"),
    ]


def test_writes_in_sequence_follow_one_another() -> None:
    universe = chain(
        Body(writes=(("road", 0),)), Body(reads=(("road", 1),)), Body(writes=(("road", 1),))
    )
    assert codes(universe) == {0: "", 1: "", 2: ""}
    assert universe.settle().writes == [("road", 2, universe.bodies[2].tx_id)]


def test_a_rejected_transaction_writes_nothing() -> None:
    pays = Body(author=AUTHORS[0], writes=(("road", 0),), action=Transfer("yen", AUTHORS[1], 5))
    universe = chain(pays, Body(writes=(("road", 0),)))
    universe.objects = {balance_object("yen", AUTHORS[0]): balance(4)}
    assert codes(universe) == {0: "OVERDRAFT", 1: ""}
    assert universe.settle().verdicts[0] == ("OVERDRAFT", "has 4 yen, needs 5")
    assert universe.settle().writes == [("road", 1, universe.bodies[1].tx_id)]


def test_a_popular_payee_is_no_conflict() -> None:
    universe = chain(
        *[Body(author=author, action=Transfer("yen", AUTHORS[2], 5)) for author in AUTHORS[:2]]
    )
    universe.objects = {balance_object("yen", author): balance(5, 7) for author in AUTHORS[:2]}
    assert codes(universe) == {0: "", 1: ""}
    assert universe.settle().writes == [
        (balance_object("yen", AUTHORS[0]), *balance(0, 8)),
        (balance_object("yen", AUTHORS[1]), *balance(0, 8)),
        (balance_object("yen", AUTHORS[2]), *balance(10, 2)),
    ]


@pytest.mark.parametrize(("amount", "code"), [(5, ""), (6, "OVERDRAFT")])
def test_a_transfer_to_oneself_needs_the_balance_and_keeps_it(amount: int, code: str) -> None:
    universe = chain(Body(author=AUTHORS[0], action=Transfer("yen", AUTHORS[0], amount)))
    mine = balance_object("yen", AUTHORS[0])
    universe.objects = {mine: balance(5, 3)}
    assert codes(universe) == {0: code}
    assert universe.settle().writes == ([] if code else [(mine, *balance(5, 5))])


@pytest.mark.parametrize(("amount", "code"), [(10, ""), (11, "OVERFLOW")])
def test_a_balance_ends_at_64_bits(amount: int, code: str) -> None:
    universe = chain(Body(author=AUTHORS[0], action=Transfer("yen", AUTHORS[1], amount)))
    mine, theirs = (balance_object("yen", author) for author in AUTHORS[:2])
    universe.objects = {mine: balance(20), theirs: balance(U64_MAX - 10)}
    assert codes(universe) == {0: code}
    after = [(mine, *balance(10, 2)), (theirs, *balance(U64_MAX, 2))]
    assert universe.settle().writes == ([] if code else after)


def test_a_stake_account_is_the_hash_of_its_owner() -> None:
    assert [stake_account(author) for author in AUTHORS] == STAKES
    assert stake_account(bytes(32)).hex() == (
        "8eb089bb57d9ab8a3567a5be2be2ee3738ea82102ad7511f36f1fd20df3fd202"
    )


def test_a_stake_comes_from_the_balance_and_goes_back_there() -> None:
    mine, stake = (balance_object("yen", owner) for owner in (AUTHORS[0], STAKES[0]))
    author = Body(author=AUTHORS[0])
    universe = chain(
        replace(author, action=Candidacy("yen", 7)),
        replace(author, action=Withdrawal("yen", 8)),
        replace(author, action=Withdrawal("yen", 3)),
        replace(author, action=Candidacy("yen", 7)),
    )
    universe.objects = {mine: balance(10)}
    settlement = universe.settle()
    assert settlement.verdicts == [
        None,
        ("OVERDRAFT", "has 7 yen, needs 8"),
        None,
        ("OVERDRAFT", "has 6 yen, needs 7"),
    ]
    assert settlement.writes == sorted([(mine, *balance(6, 3)), (stake, *balance(4, 2))])


def test_nobody_withdraws_anothers_stake() -> None:
    universe = chain(Body(author=AUTHORS[1], action=Withdrawal("yen", 1)))
    universe.objects = {balance_object("yen", STAKES[0]): balance(5)}
    assert codes(universe) == {0: "OVERDRAFT"}


def test_a_withdrawal_ends_at_64_bits() -> None:
    universe = chain(Body(author=AUTHORS[0], action=Withdrawal("yen", 11)))
    universe.objects = {
        balance_object("yen", AUTHORS[0]): balance(U64_MAX - 10),
        balance_object("yen", STAKES[0]): balance(20),
    }
    assert codes(universe) == {0: "OVERFLOW"}


@pytest.mark.parametrize(
    "action",
    [Data(), Presence(), Witness(bytes(2592)), Equivocation(), Recovery()],
    ids=lambda action: type(action).__name__,
)
def test_other_actions_move_nothing(
    action: Data | Presence | Witness | Equivocation | Recovery,
) -> None:
    universe = chain(Body(action=action, writes=(("road", 0),)))
    assert codes(universe) == {0: ""}
    assert universe.settle().writes == [("road", 1, universe.bodies[0].tx_id)]
    assert needs([transaction(body) for body in universe.bodies]) == ([], ["road"])


def test_a_rejected_dependency_decides_before_a_missing_one() -> None:
    universe = chain(Body(depends_on=(STRANGERS[0], STRANGERS[1])))
    universe.dependencies = {STRANGERS[1]: False}
    reason = f"depends on {STRANGERS[1].hex()}, which was rejected"
    assert universe.settle().verdicts == [("DEPENDENCY_REJECTED", reason)]


def test_dependants_of_a_held_one_are_held() -> None:
    first = Body(depends_on=(STRANGERS[0],))
    universe = Universe([first, number(Body(depends_on=(first.tx_id,)), 1)])
    assert universe.settle().held == [0, 1]


def test_a_dependency_that_comes_later_in_the_round_is_not_there_yet() -> None:
    late = number(Body(), 1)
    universe = Universe([Body(depends_on=(late.tx_id,)), late])
    settlement = universe.settle()
    assert (settlement.held, settlement.order) == ([0], [1])


@pytest.mark.parametrize(
    ("held_since", "code"),
    [(0, None), (ROUND - HOLD_ROUNDS + 1, None), (ROUND - HOLD_ROUNDS, "DEPENDENCY_MISSING")],
)
def test_a_hold_ends_after_its_rounds(held_since: int, code: str | None) -> None:
    universe = Universe([Body(depends_on=(STRANGERS[0],))], [held_since])
    assert codes(universe) == ({0: code} if code else {})


def test_a_reason_is_cut_to_what_the_record_holds() -> None:
    name = "é" * 64
    wanted = U64_MAX
    universe = chain(Body(writes=((name, wanted),)))
    universe.objects = {name: (2**63 - 1, bytes(32))}
    [verdict] = universe.settle().verdicts
    assert verdict is not None
    assert 254 <= len(verdict.reason.encode()) <= 255
    assert (
        f"at version {2**63 - 1}, not {wanted}, written by {bytes(32).hex()}: éé" in verdict.reason
    )


def test_version_0_is_absent_whatever_its_value() -> None:
    universe = chain(Body(author=AUTHORS[0], action=Transfer("yen", AUTHORS[1], 1)))
    universe.objects = {balance_object("yen", AUTHORS[0]): (0, b"")}
    assert codes(universe) == {0: "OVERDRAFT"}


def test_each_rejection_code_is_explained() -> None:
    assert set(REJECTION_CODES) == {
        "EXPIRED",
        "DEPENDENCY_REJECTED",
        "DEPENDENCY_MISSING",
        "CONFLICT",
        "OVERDRAFT",
        "OVERFLOW",
        "BAD_GENESIS",
        "PEER_KNOWN",
        "PEER_CHANGED",
        "DELIVERED",
        "SETTLED",
        "MISMATCH",
        "ANCHORED",
        "REWARDED",
    }
    assert all(meaning.endswith(".") for meaning in REJECTION_CODES.values())


# --- wrong calls ------------------------------------------------------------

PAYS = Body(author=AUTHORS[0], action=Transfer("yen", AUTHORS[1], 1))
MINE = balance_object("yen", AUTHORS[0])


@pytest.mark.parametrize(
    ("universe", "message"),
    [
        (Universe([PAYS, PAYS]), r"^candidates\[1\] repeats"),
        (Universe([PAYS], [0, 0]), "^held_since has 2 items, candidates has 1$"),
        (Universe([PAYS], refused={1: Rejection("NO", "")}), r"^refused\[1\] is of no candidate"),
        (Universe([PAYS], dependencies={b"short": True}), "^dependencies: an id must have 32"),
        (Universe([PAYS], objects={MINE: (1, b"1234567")}), "must be 8 bytes$"),
        (Universe([PAYS], objects={"road": (2**63, b"")}), r'"road" must be below 2\^63$'),
    ],
)
def test_a_wrong_argument_is_named(universe: Universe, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        universe.settle()


def test_candidates_are_transactions() -> None:
    with pytest.raises(TypeError, match="candidates"):
        settle(
            round=1,
            time_ms=1,
            hold_rounds=1,
            candidates=[b"bytes"],  # type: ignore[list-item]
            held_since=[0],
            refused={},
            dependencies={},
            objects={},
        )
    assert needs(list[Transaction]()) == ([], [])
