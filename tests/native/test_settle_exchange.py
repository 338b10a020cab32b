"""Settling what is between cities, and rewards, against a model, where everything collides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transaction_wire import (
    U64_MAX,
    Anchor,
    Body,
    Delivery,
    Peer,
    Remittance,
    Reward,
    Settlement,
    Transfer,
    sha256,
    transaction,
)

from citychain._native import settle as native
from citychain._native.settle import REJECTION_CODES, needs
from citychain.genesis import balance_object, escrow_account
from citychain.types import Rejection

State = dict[str, tuple[int, bytes]]

AUTHORS = [bytes((letter,)) * 32 for letter in b"ab"]
CITIES = [bytes((letter,)) * 32 for letter in b"KN"]
PAST = [bytes((letter,)) * 32 for letter in b"xyz"]
"""Ids of transactions of earlier rounds, here or elsewhere."""
ESCROWS = [sha256(b"citychain/escrow/v1\0", city) for city in CITIES]
ASSETS = ["yen", "rice"]


def genesis_file(network: str, city: str, size: int = 0) -> bytes:
    return json.dumps({"network": network, "pad": "x" * size, "city": city}).encode()


FILES = [
    genesis_file("net", "kana"),
    genesis_file("net", "kana", 1),
    genesis_file("net", "nara", 40_000),
    genesis_file("other", "kana", 16_384),
    genesis_file("Net", "kana"),
    genesis_file("net", ""),
    genesis_file("net", "x" * 64),
    b'{"network": "net", "city": 7}',
    b'{"network": "net"}',
    b'{"network": "net", "city": "nara"} ',
    b"not json",
]
NAMES = [("net", "kana"), ("net", "kana"), ("net", "nara"), ("other", "kana")]
NAMED = dict(zip(FILES, NAMES, strict=False)) | {FILES[9]: ("net", "nara")}
"""Those that can be read."""


def genesis_id(file: bytes) -> bytes:
    return sha256(b"citychain/genesis/v1\0", file)


def anchored(round: int, rest: bytes = b"") -> bytes:
    return b"\0\1" + bytes(32) + round.to_bytes(8, "big") + rest


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def outbox(
    status: int, payer: bytes, city: bytes, amount: int, asset: str, to: bytes = PAST[0]
) -> bytes:
    return bytes((status,)) + payer + city + to + u64(amount) + asset.encode()


@dataclass
class Round:
    bodies: list[Body]
    objects: State = field(default_factory=dict)
    refused: dict[int, Rejection] = field(default_factory=dict)

    def settle(self) -> native.Settlement:
        return native.settle(
            round=7,
            time_ms=1,
            hold_rounds=3,
            candidates=[transaction(body) for body in self.bodies],
            held_since=[0] * len(self.bodies),
            refused=self.refused,
            dependencies={},
            objects=self.objects,
        )

    def verdicts(self) -> list[tuple[str, str] | None]:
        return [verdict and tuple(verdict) for verdict in self.settle().verdicts]

    def after(self) -> State:
        return self.objects | {name: (at, value) for name, at, value in self.settle().writes}


def reward_object(epoch: int, to: bytes) -> str:
    return f"$reward/{u64(epoch).hex()}/{to.hex()}"


EPOCHS = [0, 16, U64_MAX]
AMOUNTS = st.sampled_from([1, 5, 5, 5, 20, U64_MAX - 9])
IDS = st.sampled_from([*AUTHORS, *ESCROWS[:1]])
OF_CITY = st.sampled_from(CITIES)
OF_ASSET = st.sampled_from(ASSETS)
CHANGES: list[dict[str, Any]] = [
    *({} for _ in range(12)),
    {"payer": AUTHORS[1]},
    {"city": CITIES[1]},
    {"asset": "rice"},
    {"amount": 20},
]
"""Of what a settlement says."""


@st.composite
def rounds(draw: st.DrawFn) -> Round:
    bodies: list[Body] = []
    sent: list[tuple[bytes, bytes, bytes, str, int]] = []
    objects: State = {}
    for tx_id in draw(st.lists(st.sampled_from(PAST), unique=True)):
        payer, city = draw(st.sampled_from(AUTHORS)), draw(OF_CITY)
        amount, asset = draw(AMOUNTS), draw(OF_ASSET)
        status = draw(st.sampled_from([1, 1, 1, 2, 3]))
        version = draw(st.sampled_from([1, 1, 2, 0]))
        objects[f"$outbox/{tx_id.hex()}"] = (version, outbox(status, payer, city, amount, asset))
        sent.append((tx_id, payer, city, asset, amount))
    for city in CITIES:
        for tx_id in draw(st.lists(st.sampled_from(PAST), max_size=1)):
            outcome = draw(st.sampled_from([1, 2]))
            name = f"$inbox/{city.hex()}/{tx_id.hex()}"
            objects[name] = (draw(st.integers(0, 1)), bytes((outcome,)) + PAST[2])
        if draw(st.booleans()):
            value = u64(draw(st.integers(0, 3))) + bytes(32)
            objects[f"$anchor/{city.hex()}"] = (draw(st.integers(0, 3)), value)
    for file in draw(st.lists(st.sampled_from(FILES[:4]), max_size=2)):
        network, city_name = NAMED[file]
        objects[f"$peer/{genesis_id(file).hex()}/0"] = (1, file[:16_384])
        objects[f"$peer-name/{network}/{city_name}"] = (1, genesis_id(file))
    for epoch in EPOCHS:
        if draw(st.booleans()):
            value = PAST[1] + u64(draw(AMOUNTS)) + b"yen"
            objects[reward_object(epoch, AUTHORS[0])] = (draw(st.integers(0, 1)), value)
    for asset in ASSETS:
        for owner in (*AUTHORS, *ESCROWS):
            amount = draw(st.sampled_from([0, 5, 20, 20, U64_MAX - 10]))
            version = draw(st.sampled_from([1, 1, 2, 0]))
            objects[balance_object(asset, owner)] = (version, u64(amount))

    kinds = ["remittance", "delivery", "delivery", "settlement", "settlement"]
    kinds += ["peer", "anchor", "transfer", "reward", "reward"]
    for nonce in range(draw(st.integers(1, 8))):
        author = draw(st.sampled_from(AUTHORS))
        body = Body(author=author, nonce=u64(nonce))
        match draw(st.sampled_from(kinds)):
            case "remittance":
                action = Remittance(draw(OF_ASSET), draw(OF_CITY), PAST[0], draw(AMOUNTS))
                body = replace(body, action=action)
                sent.append((body.tx_id, author, action.city, action.asset, action.amount))
            case "delivery":
                tx_id = draw(st.sampled_from(PAST))
                refusal = draw(st.sampled_from([("", ""), ("", ""), ("NO", "full")]))
                arrival = Delivery(
                    draw(OF_CITY), tx_id, draw(OF_ASSET), draw(IDS), draw(AMOUNTS), b"p", *refusal
                )
                body = replace(body, action=arrival)
            case "settlement":
                unknown = (PAST[0], author, CITIES[0], "yen", 5)
                told = draw(st.sampled_from([*sent, *sent, unknown]))
                answer = Settlement(*told, draw(st.booleans()), b"p")
                changed = draw(st.sampled_from(CHANGES))
                body = replace(body, action=replace(answer, **changed))
            case "peer":
                body = replace(body, action=Peer(draw(st.sampled_from(FILES))))
            case "anchor":
                checkpoint = anchored(draw(st.integers(0, 4)), draw(st.binary(max_size=2)))
                body = replace(body, action=Anchor(draw(OF_CITY), checkpoint))
            case "reward":
                epoch = draw(st.sampled_from(EPOCHS))
                due = Reward(epoch, draw(OF_ASSET), draw(IDS), draw(AMOUNTS))
                body = replace(body, action=due)
            case _:
                action_ = Transfer(draw(OF_ASSET), draw(IDS), draw(AMOUNTS))
                body = replace(body, action=action_)
        if draw(st.sampled_from([False, False, False, True])):
            body = replace(body, writes=(("road", draw(st.integers(0, 1))),))
        bodies.append(body)
    refused = {draw(st.integers(0, len(bodies) - 1)): Rejection("RULE", "no")}
    return Round(bodies, objects, refused if draw(st.integers(0, 3)) == 0 else {})


# --- the model --------------------------------------------------------------


class Rejected(Exception):
    """Its code, and what the reason must tell."""


class Ledger:
    """Objects, and what was written over them; a transaction works on a copy."""

    def __init__(self, objects: State) -> None:
        self.objects = dict(objects)
        self.written: set[str] = set()

    def value(self, name: str) -> bytes | None:
        version, value = self.objects.get(name, (0, b""))
        return value if version else None

    def write(self, name: str, value: bytes) -> None:
        self.objects[name] = (self.objects.get(name, (0, b""))[0] + 1, value)
        self.written.add(name)

    def move(self, asset: str, owner: bytes, change: int) -> None:
        name = balance_object(asset, owner)
        has = int.from_bytes(self.value(name) or b"", "big")
        if has + change < 0:
            raise Rejected("OVERDRAFT", f"has {has} {asset}", f"needs {-change}")
        if has + change > U64_MAX:
            raise Rejected("OVERFLOW", str(has), str(change))
        self.write(name, u64(has + change))

    def apply(self, body: Body) -> None:
        for name, version in body.writes:
            if self.objects.get(name, (0, b""))[0] != version:
                raise Rejected("CONFLICT", name)
        match body.action:
            case Transfer(asset, to, amount):
                self.move(asset, body.author, -amount)
                self.move(asset, to, amount)
            case Remittance(asset, city, to, amount):
                self.move(asset, body.author, -amount)
                self.move(asset, ESCROWS[CITIES.index(city)], amount)
                value = outbox(1, body.author, city, amount, asset, to)
                self.write(f"$outbox/{body.tx_id.hex()}", value)
            case Delivery():
                self.deliver(body.action, body.tx_id)
            case Settlement():
                self.settle(body.action)
            case Peer(file):
                self.pin(file)
            case Anchor(city, checkpoint, _):
                kept = self.value(f"$anchor/{city.hex()}")
                round = int.from_bytes(checkpoint[34:42], "big")
                if kept is not None and round <= int.from_bytes(kept[:8], "big"):
                    last = int.from_bytes(kept[:8], "big")
                    raise Rejected("ANCHORED", f"round {round} ", f"round {last}")
                digest = sha256(b"citychain/checkpoint/v1\0", checkpoint)
                self.write(f"$anchor/{city.hex()}", u64(round) + digest)
            case Reward(epoch, asset, to, amount):
                name = reward_object(epoch, to)
                paid = self.value(name)
                if paid is not None:
                    before = f"{int.from_bytes(paid[32:40], 'big')} {paid[40:].decode()}"
                    raise Rejected("REWARDED", f"epoch {epoch} ", before, paid[:32].hex())
                self.move(asset, body.author, -amount)
                self.move(asset, to, amount)
                self.write(name, body.tx_id + u64(amount) + asset.encode())
        for name, _ in body.writes:
            self.write(name, body.tx_id)

    def deliver(self, delivery: Delivery, tx_id: bytes) -> None:
        name = f"$inbox/{delivery.city.hex()}/{delivery.tx_id.hex()}"
        known = self.value(name)
        if known is not None:
            outcome = {1: "accepted", 2: "refused"}[known[0]]
            raise Rejected("DELIVERED", delivery.tx_id.hex(), outcome, known[1:].hex())
        if not delivery.refusal_code:
            self.move(delivery.asset, delivery.to, delivery.amount)
        self.write(name, bytes((2 if delivery.refusal_code else 1,)) + tx_id)

    def settle(self, told: Settlement) -> None:
        name = f"$outbox/{told.tx_id.hex()}"
        value = self.value(name)
        if value is None:
            raise Rejected("MISMATCH", told.tx_id.hex())
        if value[0] != 1:
            outcome = {2: "delivered", 3: "returned"}[value[0]]
            raise Rejected("SETTLED", told.tx_id.hex(), outcome)
        to = value[65:97]
        if value != outbox(1, told.payer, told.city, told.amount, told.asset, to):
            raise Rejected("MISMATCH", told.tx_id.hex(), "another")
        self.move(told.asset, ESCROWS[CITIES.index(told.city)], -told.amount)
        if told.returned:
            self.move(told.asset, told.payer, told.amount)
        self.write(name, bytes((3 if told.returned else 2,)) + value[1:])

    def pin(self, file: bytes) -> None:
        id = genesis_id(file)
        if self.value(f"$peer/{id.hex()}/0") is not None:
            raise Rejected("PEER_KNOWN", id.hex())
        if file not in NAMED:
            raise Rejected("BAD_GENESIS")
        name = "/".join(("$peer-name", *NAMED[file]))
        known = self.value(name)
        if known is not None:
            raise Rejected("PEER_CHANGED", known.hex(), "/".join(NAMED[file]))
        for at in range(0, len(file), 16_384):
            self.write(f"$peer/{id.hex()}/{at // 16_384}", file[at : at + 16_384])
        self.write(name, id)


# --- properties -------------------------------------------------------------


@settings(max_examples=400)
@given(rounds())
def test_it_settles_as_the_model_does(round: Round) -> None:
    settlement = round.settle()
    assert settlement.order == list(range(len(round.bodies)))
    ledger = Ledger(round.objects)
    for index, (body, verdict) in enumerate(zip(round.bodies, settlement.verdicts, strict=True)):
        if index in round.refused:
            assert verdict is round.refused[index]
            continue
        trial = Ledger(ledger.objects)
        try:
            trial.apply(body)
        except Rejected as rejected:
            code, *named = rejected.args
            assert verdict is not None
            assert verdict.code == code
            assert all(name in verdict.reason for name in named), verdict
            assert len(verdict.reason.encode()) <= 255
            assert code in REJECTION_CODES
            continue
        assert verdict is None
        ledger.objects = trial.objects
        ledger.written |= trial.written
    assert {write.object: write[1:] for write in settlement.writes} == {
        name: ledger.objects[name] for name in ledger.written
    }
    names = [write.object for write in settlement.writes]
    assert names == sorted(names)
    assert all(len(write.value) <= 16_384 for write in settlement.writes)


@settings(max_examples=400)
@given(rounds())
def test_it_needs_to_know_what_it_looks_at(round: Round) -> None:
    """And nothing else changes what it decides."""
    _, objects = needs([transaction(body) for body in round.bodies])
    assert objects == sorted(set(objects))
    known = {name: state for name, state in round.objects.items() if name in objects}
    less, full = Round(round.bodies, known, round.refused).settle(), round.settle()
    assert less.verdicts == full.verdicts
    assert less.writes == full.writes
    # What it writes without having asked is new: a remittance's own, and a new peer's pieces.
    unasked = {write.object: write.version for write in full.writes if write.object not in objects}
    assert set(unasked.values()) <= {1}
    mine = {f"$outbox/{body.tx_id.hex()}" for body in round.bodies}
    assert all(name in mine or name.startswith("$peer/") for name in unasked)


def total(objects: Mapping[str, tuple[int, bytes]], asset: str) -> int:
    return sum(
        int.from_bytes(value, "big")
        for name, (version, value) in objects.items()
        if version and name.startswith(f"$balance/{asset}/")
    )


@given(rounds())
def test_only_deliveries_make_and_only_settlements_end_amounts(round: Round) -> None:
    after = round.after()
    change = dict.fromkeys(ASSETS, 0)
    for body, verdict in zip(round.bodies, round.settle().verdicts, strict=True):
        match body.action:
            case Delivery(asset=asset, amount=amount, refusal_code="") if verdict is None:
                change[asset] += amount
            case Settlement(asset=asset, amount=amount, returned=False) if verdict is None:
                change[asset] -= amount
    for asset in ASSETS:
        assert total(after, asset) == total(round.objects, asset) + change[asset]


# --- examples ---------------------------------------------------------------


def test_the_escrow_account_is_no_key_and_differs_by_city() -> None:
    assert [escrow_account(city) for city in CITIES] == ESCROWS
    assert len({*ESCROWS, *CITIES}) == 4


SENT = Body(author=AUTHORS[0], action=Remittance("yen", CITIES[0], PAST[1], 5))
ANSWER = Settlement(SENT.tx_id, AUTHORS[0], CITIES[0], "yen", 5)
PAYER, ESCROW = balance_object("yen", AUTHORS[0]), balance_object("yen", ESCROWS[0])


def test_a_remittance_waits_in_escrow() -> None:
    after = Round([SENT], {PAYER: (1, u64(7))}).after()
    assert after == {
        PAYER: (2, u64(2)),
        ESCROW: (1, u64(5)),
        f"$outbox/{SENT.tx_id.hex()}": (1, outbox(1, AUTHORS[0], CITIES[0], 5, "yen", PAST[1])),
    }


@pytest.mark.parametrize(("returned", "left"), [(False, 2), (True, 7)])
def test_a_settlement_ends_it_once(returned: bool, left: int) -> None:
    before = Round([SENT], {PAYER: (1, u64(7))}).after()
    told = Body(action=replace(ANSWER, returned=returned))
    after = Round([told], before).after()
    assert after[PAYER][1] == u64(left)
    assert after[ESCROW] == (2, u64(0))
    at, value = after[f"$outbox/{SENT.tx_id.hex()}"]
    assert (at, value[0]) == (2, 3 if returned else 2)
    assert value[1:] == before[f"$outbox/{SENT.tx_id.hex()}"][1][1:]
    # In the same round, and in a later one.
    again = [replace(told, nonce=u64(n)) for n in (1, 2)]
    how = "returned" if returned else "delivered"
    refused = ("SETTLED", f"{SENT.tx_id.hex()} was {how}")
    assert Round([told, *again], before).verdicts() == [None, refused, refused]
    assert Round(again, after).verdicts() == [refused, refused]


def test_a_settlement_finds_a_remittance_of_its_own_round() -> None:
    told = Body(action=ANSWER)
    assert Round([SENT, told], {PAYER: (1, u64(7))}).verdicts() == [None, None]
    missing = ("MISMATCH", f"this city sent no {SENT.tx_id.hex()}")
    assert Round([told, SENT], {PAYER: (1, u64(7))}).verdicts() == [missing, None]


@pytest.mark.parametrize(
    ("field", "value"),
    [("payer", AUTHORS[1]), ("city", CITIES[1]), ("asset", "yens"), ("asset", "ye"), ("amount", 4)],
)
def test_a_settlement_says_what_the_remittance_said(field: str, value: object) -> None:
    before = Round([SENT], {PAYER: (1, u64(7))}).after()
    told = Body(action=replace(ANSWER, **{field: value}))  # type: ignore[arg-type]
    mismatch = ("MISMATCH", f"{SENT.tx_id.hex()} has another {field}")
    assert Round([told], before).verdicts() == [mismatch]


def test_a_return_that_does_not_fit_waits_for_another_settlement() -> None:
    before = Round([SENT], {PAYER: (1, u64(7))}).after()
    before[PAYER] = (5, u64(U64_MAX - 4))
    round = Round([Body(action=replace(ANSWER, returned=True))], before)
    [verdict] = round.verdicts()
    assert verdict is not None
    assert verdict[0] == "OVERFLOW"
    assert round.settle().writes == []


def test_a_delivery_counts_once_and_a_refused_one_too() -> None:
    arrival = Body(action=Delivery(CITIES[0], PAST[0], "yen", AUTHORS[0], 5))
    assert isinstance(arrival.action, Delivery)
    refusing = Body(action=replace(arrival.action, refusal_code="NO"), nonce=u64(1))
    told = f"{PAST[0].hex()} was"
    late = ("DELIVERED", f"{told} accepted by {arrival.tx_id.hex()}")
    assert Round([arrival, refusing]).verdicts() == [None, late]
    late = ("DELIVERED", f"{told} refused by {refusing.tx_id.hex()}")
    assert Round([refusing, arrival]).verdicts() == [None, late]
    after = Round([refusing]).after()
    assert after == {f"$inbox/{CITIES[0].hex()}/{PAST[0].hex()}": (1, b"\2" + refusing.tx_id)}
    assert Round([arrival], after).verdicts() == [late]
    # The same id in another city is another remittance.
    other = Body(action=replace(arrival.action, city=CITIES[1]))
    assert Round([other], after).verdicts() == [None]


def test_a_delivery_that_overflows_can_be_refused_afterwards() -> None:
    arrival = Delivery(CITIES[0], PAST[0], "yen", AUTHORS[0], 5)
    refusing = Body(action=replace(arrival, refusal_code="OVERFLOW"), nonce=u64(1))
    full = Round([Body(action=arrival), refusing], {PAYER: (1, u64(U64_MAX))})
    assert [verdict and verdict[0] for verdict in full.verdicts()] == ["OVERFLOW", None]


def test_a_peer_is_pinned_in_pieces_once_by_genesis_and_name() -> None:
    file, other = FILES[2], FILES[9]
    id = genesis_id(file).hex()
    bodies = [Body(action=Peer(it), nonce=u64(n)) for n, it in enumerate((file, file, other))]
    round = Round(bodies)
    assert round.verdicts() == [
        None,
        ("PEER_KNOWN", f"{id} is a peer already"),
        ("PEER_CHANGED", f"net/nara is a peer with the genesis {id}"),
    ]
    after = round.after()
    pieces = [after.pop(f"$peer/{id}/{n}") for n in range(3)]
    assert b"".join(value for _, value in pieces) == file
    assert after == {"$peer-name/net/nara": (1, genesis_id(file))}


def test_a_file_that_names_no_city_is_no_peer() -> None:
    for file in FILES[4:9] + FILES[10:]:
        assert Round([Body(action=Peer(file))]).verdicts() == [
            ("BAD_GENESIS", "the file is no genesis")
        ]
    # Names as JSON may write them, beside whatever else.
    odd = b'{"deep": ' + b"[" * 500 + b"]" * 500 + rb', "network": "\u006eet", "city": "nara"}'
    assert "$peer-name/net/nara" in Round([Body(action=Peer(odd))]).after()


@pytest.mark.parametrize(
    ("body", "name", "value", "message"),
    [
        (Body(action=ANSWER), f"$outbox/{SENT.tx_id.hex()}", b"\1", "more than 105 bytes"),
        (
            Body(action=Delivery(CITIES[0], PAST[0])),
            f"$inbox/{CITIES[0].hex()}/{PAST[0].hex()}",
            bytes(32),
            "must be 33 bytes",
        ),
        (
            Body(action=Anchor(CITIES[0], anchored(1))),
            f"$anchor/{CITIES[0].hex()}",
            bytes(39),
            "must be 40 bytes",
        ),
        (Body(action=Peer(FILES[0])), "$peer-name/net/kana", b"", "must be 32 bytes"),
    ],
)
def test_a_state_that_cannot_be_is_named(body: Body, name: str, value: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Round([body], {name: (1, value)}).settle()
