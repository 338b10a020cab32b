"""The strict parser, against an encoder and parsers that are not ours."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from signed_transactions import (
    AUTHOR,
    BODY,
    GENESIS,
    admitted,
    as_body,
    by_id,
    by_value,
    check,
    refusal,
)
from strict_reader import Refused, strict_body
from transaction_wire import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Action,
    Anchor,
    Body,
    Candidacy,
    Data,
    Delivery,
    Equivocation,
    Peer,
    Presence,
    Recovery,
    Remittance,
    Reward,
    Settlement,
    Transfer,
    Withdrawal,
    Witness,
    bodies,
    chunk,
    disturbed,
    fields_of,
    integer,
    mutated,
    stored_form,
    transaction,
    tx_id_of,
    varint,
)

from citychain import types
from citychain._native import transactions
from citychain._native.transactions import Limits, Refusal, decode_batch
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as pb

AS_THEY_ARE = {
    "peer": Peer,
    "remittance": Remittance,
    "delivery": Delivery,
    "settlement": Settlement,
    "anchor": Anchor,
    "reward": Reward,
}

# --- reading ----------------------------------------------------------------


@given(bodies(), st.randoms(use_true_random=False))
def test_every_field_is_read_in_any_order(body: Body, random: Any) -> None:
    fields = body.fields()
    random.shuffle(fields)
    # Elements of a list keep their order among themselves.
    for number in (6, 7, 8):
        tag = varint(number << 3 | 2)
        places = [place for place, encoded in enumerate(fields) if encoded.startswith(tag)]
        originals = [encoded for encoded in body.fields() if encoded.startswith(tag)]
        for place, encoded in zip(places, originals, strict=True):
            fields[place] = encoded
    encoded = b"".join(fields)
    [decoded] = decode_batch([stored_form(encoded, body.author)])
    assert as_body(decoded) == body
    assert decoded.body == encoded
    assert decoded.tx_id == tx_id_of(encoded) == transactions.tx_id(encoded)


def protobuf_body(encoded: bytes) -> Body:
    """The body as protobuf's own parser reads it."""
    message = pb.TransactionBody.FromString(encoded)
    return Body(
        message.genesis,
        message.author,
        message.nonce,
        message.created_at_ms,
        message.valid_until_ms if message.HasField("valid_until_ms") else None,
        tuple(message.depends_on),
        tuple((read.object, read.version) for read in message.reads),
        tuple((write.object, write.expected_version) for write in message.writes),
        protobuf_action(message),
    )


def protobuf_action(message: pb.TransactionBody) -> Action:
    match message.WhichOneof("action"):
        case "data":
            return Data(message.data.content_type, message.data.content)
        case "transfer":
            return Transfer(message.transfer.asset, message.transfer.to, message.transfer.amount)
        case "presence":
            claim = message.presence
            return Presence(
                claim.latitude_e7,
                claim.longitude_e7,
                claim.accuracy_m,
                claim.first_round,
                claim.last_round,
                claim.anchor,
                tuple((witness.key_id, witness.signature) for witness in claim.witnesses),
            )
        case "candidacy":
            return Candidacy(message.candidacy.asset, message.candidacy.stake)
        case "withdrawal":
            return Withdrawal(message.withdrawal.asset, message.withdrawal.stake)
        case "witness":
            return Witness(message.witness.public_key, message.witness.revoked)
        case "equivocation":
            votes = message.equivocation
            return Equivocation(
                votes.public_key,
                votes.round,
                votes.first_hash,
                votes.first_signature,
                votes.second_hash,
                votes.second_signature,
            )
        case "recovery":
            recovery = message.recovery
            seats = tuple((seat.key_id, seat.stake) for seat in recovery.seats)
            return Recovery(recovery.from_round, recovery.previous, seats)
        case action:
            assert action in AS_THEY_ARE
            kind = AS_THEY_ARE[action]
            said = getattr(message, action)
            return kind(**{field.name: getattr(said, field.name) for field in fields(kind)})


def protobuf_message(action: Action) -> dict[str, Any]:
    """The action as the argument of a `TransactionBody`."""
    fields = vars(action)
    match action:
        case Presence():
            witnesses = [pb.WitnessSignature(key_id=k, signature=s) for k, s in action.witnesses]
            return {"presence": pb.Presence(**fields | {"witnesses": witnesses})}
        case Recovery():
            seats = [pb.CommitteeSeat(key_id=key, stake=stake) for key, stake in action.seats]
            return {"recovery": pb.Recovery(**fields | {"seats": seats})}
    name = type(action).__name__
    return {name.lower(): getattr(pb, name)(**fields)}


@given(bodies())
def test_what_protobuf_writes_is_read(body: Body) -> None:
    message = pb.TransactionBody(
        genesis=body.genesis,
        author=body.author,
        nonce=body.nonce,
        created_at_ms=body.created_at_ms,
        valid_until_ms=body.valid_until_ms,
        depends_on=body.depends_on,
        reads=[pb.ObjectRead(object=name, version=version) for name, version in body.reads],
        writes=[pb.ObjectWrite(object=name, expected_version=at) for name, at in body.writes],
        **protobuf_message(body.action),
    )
    signed = pb.SignedTransaction(
        body=message.SerializeToString(),
        scheme=pb.SCHEME_ML_DSA_87,
        key_id=body.author,
        signature=bytes(SIGNATURE_BYTES),
    )
    [decoded] = decode_batch([signed.SerializeToString()])
    assert as_body(decoded) == body


def test_actions_are_named_tuples() -> None:
    def read(action: Action) -> Any:
        return transaction(replace(BODY, action=action))

    claim = read(Presence(-1, 2, 3, 4, 5, GENESIS, ((AUTHOR, bytes(SIGNATURE_BYTES)),))).presence
    assert isinstance(claim, types.Presence)
    assert claim[:6] == (-1, 2, 3, 4, 5, GENESIS)
    [witness] = claim.witnesses
    assert isinstance(witness, types.WitnessSignature)
    assert witness == (AUTHOR, bytes(SIGNATURE_BYTES))
    for kind in (Candidacy, Withdrawal):
        stake = read(kind("yen", 7)).stake
        assert isinstance(stake, types.Stake)
        assert stake == ("yen", 7)
    votes = read(Equivocation(round=9)).equivocation
    assert isinstance(votes, types.Equivocation)
    assert (votes.round, votes.second_hash) == (9, b"\1" * 32)
    for name, kind in AS_THEY_ARE.items():
        said = getattr(read(kind()), name)
        assert isinstance(said, getattr(types, name.title()))
        assert said._asdict() == vars(kind())
    recovery = read(Recovery(3, GENESIS, ((AUTHOR, 5),))).recovery
    assert isinstance(recovery, types.Recovery)
    assert recovery[:2] == (3, GENESIS)
    [seat] = recovery.seats
    assert isinstance(seat, types.Seat)
    assert seat == (AUTHOR, 5)


# --- a second strict parser -------------------------------------------------


@st.composite
def rearranged(draw: st.DrawFn) -> bytes:
    """Whole fields left out, repeated, moved, or of another body."""
    pool = draw(bodies()).fields() + draw(bodies()).fields()
    kept = draw(st.lists(st.sampled_from(pool), min_size=4, max_size=12))
    whole = draw(bodies()).fields()
    return b"".join(draw(st.permutations(whole + kept[: draw(st.integers(0, 2))])))


@settings(max_examples=800)
@given(
    mutated(bodies().map(Body.encode))
    | disturbed(bodies().map(Body.encode))
    | rearranged()
    | st.binary(max_size=300)
)
@example(Body().encode() + b"\x20\x81\x00")
def test_the_parser_accepts_what_a_second_one_accepts(encoded: bytes) -> None:
    """And both read the same out of it, as does protobuf's own."""
    try:
        expected = strict_body(encoded)
    except Refused:
        author = bytes(32)
        with pytest.raises(ValueError, match=r"^envelopes\[0\]: "):
            decode_batch([stored_form(encoded, author)])
        return
    [decoded] = decode_batch([stored_form(encoded, expected.author)])
    assert as_body(decoded) == expected == protobuf_body(encoded)


# --- refusals, each with its field ------------------------------------------


def edited(old: bytes, new: bytes) -> bytes:
    encoded = BODY.encode()
    assert encoded.count(old) == 1
    return encoded.replace(old, new)


def with_entry(number: int, entry: bytes) -> bytes:
    return BODY.encode() + chunk(number, entry)


def presence(*changed: bytes, without: int = 0) -> bytes:
    """A claim with other fields, or without one."""
    taken = {without, *(number for field in changed for number, _ in fields_of(field))}
    [(_, claim)] = fields_of(Presence().field())
    kept = (
        chunk(number, value) if isinstance(value, bytes) else integer(number, value)
        for number, value in fields_of(claim)
        if number not in taken
    )
    return chunk(18, b"".join((*kept, *changed)))


SIGNATURE = chunk(2, bytes(SIGNATURE_BYTES))
SEAT = chunk(1, AUTHOR) + integer(2, 1)
KEYS = [bytes((high, low)) * 16 for high in range(2) for low in range(256)]
BAD_ACTIONS: dict[str, dict[str, bytes]] = {
    "presence": {"as varint": integer(18, 1), "unknown field": presence(integer(8, 1))},
    "presence.latitude_e7": {
        "too far north": Presence(latitude_e7=900_000_001).field(),
        "too far south": Presence(latitude_e7=-900_000_001).field(),
        "of 33 bits": presence(integer(1, 1 << 32)),
        # The low half of -1 as an int32, and of 1 with rubbish above.
        "of 64 bits": presence(integer(1, 2**64 - 1)),
        "as bytes": presence(chunk(1, b"")),
        "twice": presence(integer(1, 0), integer(1, 0)),
    },
    "presence.longitude_e7": {
        "too far east": Presence(longitude_e7=1_800_000_001).field(),
        "too far west": Presence(longitude_e7=-1_800_000_001).field(),
        "the least of 32 bits": presence(integer(2, 2**32 - 1)),
    },
    "presence.accuracy_m": {"of 33 bits": Presence(accuracy_m=1 << 32).field()},
    "presence.last_round": {"before the first": Presence(first_round=2, last_round=1).field()},
    "presence.anchor": {
        "missing": presence(without=6),
        "short": Presence(anchor=bytes(31)).field(),
    },
    "presence.witnesses[0].key_id": {
        "missing": presence(chunk(7, SIGNATURE)),
        "long": presence(chunk(7, chunk(1, bytes(33)) + SIGNATURE)),
    },
    "presence.witnesses[0].signature": {
        "short": presence(chunk(7, chunk(1, AUTHOR) + chunk(2, bytes(SIGNATURE_BYTES - 1)))),
    },
    "presence.witnesses[1]": {
        "unknown field": presence(
            chunk(7, chunk(1, AUTHOR) + SIGNATURE), chunk(7, chunk(1, KEYS[0]) + integer(3, 1))
        ),
    },
    "presence.witnesses[1].key_id": {
        "the first's": presence(*2 * [chunk(7, chunk(1, AUTHOR) + SIGNATURE)]),
    },
    "candidacy.asset": {"empty": Candidacy("", 1).field(), "capitals": Candidacy("Y", 1).field()},
    "candidacy.stake": {"0": Candidacy("y", 0).field(), "2^63": Candidacy("y", 1 << 63).field()},
    "withdrawal.asset": {"not ASCII": Withdrawal("円", 1).field()},
    "withdrawal.stake": {"0": Withdrawal("y", 0).field(), "2^63": Withdrawal("y", 1 << 63).field()},
    "witness.public_key": {
        "missing": chunk(21, integer(2, 1)),
        "short": Witness(bytes(PUBLIC_KEY_BYTES - 1)).field(),
    },
    "witness.revoked": {
        "2": chunk(21, chunk(1, bytes(PUBLIC_KEY_BYTES)) + integer(2, 2)),
        "as bytes": chunk(21, chunk(1, bytes(PUBLIC_KEY_BYTES)) + chunk(2, b"\x01")),
    },
    "equivocation.public_key": {"long": Equivocation(bytes(PUBLIC_KEY_BYTES + 1)).field()},
    "equivocation.first_hash": {"short": Equivocation(first_hash=bytes(31)).field()},
    "equivocation.first_signature": {"empty": Equivocation(first_signature=b"").field()},
    "equivocation.second_hash": {
        "long": Equivocation(second_hash=bytes(33)).field(),
        "the first": Equivocation(first_hash=GENESIS, second_hash=GENESIS).field(),
    },
    "equivocation.second_signature": {
        "long": Equivocation(second_signature=bytes(SIGNATURE_BYTES + 1)).field(),
    },
    "recovery.from_round": {"0": Recovery(from_round=0).field()},
    "recovery.previous": {"short": Recovery(previous=bytes(31)).field()},
    "recovery.seats": {"none": Recovery(seats=()).field()},
    "recovery.seats[0].key_id": {"short": Recovery(seats=((AUTHOR[1:], 1),)).field()},
    "recovery.seats[1].key_id": {
        "the first's": chunk(23, integer(1, 1) + chunk(2, GENESIS) + 2 * chunk(3, SEAT)),
    },
    "recovery.seats[0].stake": {
        "missing": Recovery(seats=((AUTHOR, 0),)).field(),
        "2^63": Recovery(seats=((AUTHOR, 1 << 63),)).field(),
    },
    "peer.genesis_file": {"missing": chunk(24, b""), "as number": chunk(24, integer(1, 1))},
    "remittance.asset": {"long": Remittance("y" * 33).field()},
    "remittance.city": {"short": Remittance(city=bytes(31)).field()},
    "remittance.to": {"long": Remittance(to=bytes(33)).field()},
    "remittance.amount": {"0": Remittance(amount=0).field()},
    "delivery.city": {"long": Delivery(city=bytes(33)).field()},
    "delivery.tx_id": {"short": Delivery(tx_id=bytes(31)).field()},
    "delivery.asset": {"empty": Delivery(asset="").field()},
    "delivery.to": {"empty": Delivery(to=b"").field()},
    "delivery.amount": {"0": Delivery(amount=0).field()},
    "delivery.proof": {"empty": Delivery(proof=b"").field()},
    "delivery.refusal_code": {
        "small letters": Delivery(refusal_code="no").field(),
        "33": Delivery(refusal_code="N" * 33).field(),
    },
    "delivery.refusal_reason": {
        "without a code": Delivery(refusal_reason="no").field(),
        "no UTF-8": chunk(26, Delivery(refusal_code="N").field()[3:-2] + chunk(8, b"\xff")),
    },
    "settlement.tx_id": {"short": Settlement(tx_id=bytes(31)).field()},
    "settlement.payer": {"empty": Settlement(payer=b"").field()},
    "settlement.city": {"long": Settlement(city=bytes(33)).field()},
    "settlement.asset": {"capitals": Settlement(asset="Y").field()},
    "settlement.amount": {"0": Settlement(amount=0).field()},
    "settlement.returned": {"2": Settlement(returned=2).field()},  # type: ignore[arg-type]
    "settlement.proof": {"empty": Settlement(proof=b"").field()},
    "anchor.city": {"short": Anchor(city=bytes(31)).field()},
    "anchor.checkpoint": {"41": Anchor(checkpoint=bytes(41)).field()},
    "anchor.proof": {"empty": Anchor(proof=b"").field()},
    "reward.asset": {"capital": Reward(asset="Yen").field()},
    "reward.to": {"short": Reward(to=bytes(31)).field()},
    "reward.amount": {"0": Reward(amount=0).field()},
    "recovery.seats[256]": {"257": Recovery(seats=tuple((k, 1) for k in KEYS[:257])).field()},
}
BOUNDS: dict[str, Action] = {
    "north-east": Presence(900_000_000, 1_800_000_000, 2**32 - 1, 2**64 - 1, 2**64 - 1),
    "south-west": Presence(-900_000_000, -1_800_000_000),
    "least candidacy": Candidacy("y" * 32, 1),
    "largest candidacy": Candidacy("y", 2**63 - 1),
    "largest withdrawal": Withdrawal("y", 2**63 - 1),
    "largest remittance": Remittance("y" * 32, amount=2**64 - 1),
    "longest refusal": Delivery(refusal_code="N" * 32, refusal_reason="é" * 127 + "e"),
    "largest settlement": Settlement(amount=2**64 - 1, returned=True),
    "largest reward": Reward(2**64 - 1, "y" * 32, amount=2**64 - 1),
    "256 seats": Recovery(2**64 - 1, GENESIS, tuple((key, 2**63 - 1) for key in KEYS[:256])),
}


WIDE = Limits(body_bytes_max=300 << 10)


@pytest.mark.parametrize(
    ("largest", "longer"),
    [
        (Peer(bytes(262_144)), Peer(bytes(262_145))),
        (Anchor(checkpoint=bytes(131_072)), Anchor(checkpoint=bytes(131_073))),
        (
            Delivery(refusal_code="N", refusal_reason="x" * 255),
            Delivery(refusal_code="N", refusal_reason="x" * 256),
        ),
    ],
)
def test_what_cities_say_is_bounded(largest: Action, longer: Action) -> None:
    body = replace(BODY, action=largest)
    assert as_body(admitted(by_value(body.encode()), limits=WIDE)) == body
    refusal = check(by_value(replace(BODY, action=longer).encode()), limits=WIDE)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "TOO_LARGE"


def test_a_proof_is_bounded_by_the_body() -> None:
    body = replace(BODY, action=Delivery(proof=bytes(290 << 10)))
    assert as_body(admitted(by_value(body.encode()), limits=WIDE)) == body


@pytest.mark.parametrize("action", BOUNDS.values(), ids=list(BOUNDS))
def test_an_action_is_read_up_to_its_bounds(action: Action) -> None:
    body = replace(BODY, action=action)
    assert as_body(admitted(by_value(body.encode()))) == body


def test_a_claim_has_up_to_16_witnesses() -> None:
    def claim(count: int) -> bytes:
        witnesses = tuple((key, bytes(SIGNATURE_BYTES)) for key in KEYS[:count])
        return by_value(replace(BODY, action=Presence(witnesses=witnesses)).encode())

    # More than the default lets through, which is a bound on the whole.
    limits = Limits(body_bytes_max=100_000)
    presence = admitted(claim(16), limits=limits).presence
    assert presence is not None
    assert len(presence.witnesses) == 16
    assert refusal(claim(17), limits=limits) == ("MALFORMED", "body.presence.witnesses[16]")


DATA = BODY.action.field()
BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "unknown field": (BODY.encode() + integer(30, 1), "body"),
    "field 9, which was never in use": (BODY.encode() + chunk(9, b""), "body"),
    "field number zero": (BODY.encode() + b"\0\0", "body"),
    "tag cut off": (BODY.encode() + b"\x82", "body"),
    "non-minimal tag": (BODY.encode() + b"\xa8\x00\x02", "body"),
    "value cut off": (BODY.encode() + b"\x28\x80", "body.valid_until_ms"),
    "repeated genesis": (BODY.encode() + chunk(1, GENESIS), "body.genesis"),
    "repeated created_at_ms": (BODY.encode() + integer(4, 1), "body.created_at_ms"),
    "short genesis": (edited(chunk(1, GENESIS), chunk(1, GENESIS[1:])), "body.genesis"),
    "no author": (edited(chunk(2, AUTHOR), b""), "body.author"),
    "long author": (edited(chunk(2, AUTHOR), chunk(2, AUTHOR + b"x")), "body.author"),
    "no nonce": (edited(chunk(3, bytes(8)), b""), "body.nonce"),
    "nonce of 9 bytes": (edited(chunk(3, bytes(8)), chunk(3, bytes(9))), "body.nonce"),
    "nonce as varint": (edited(chunk(3, bytes(8)), integer(3, 0)), "body.nonce"),
    "genesis as group": (edited(chunk(1, GENESIS), b"\x0b\x0c"), "body.genesis"),
    "created_at_ms as fixed64": (
        edited(integer(4, 1), varint(4 << 3 | 1) + bytes(8)),
        "body.created_at_ms",
    ),
    "no created_at_ms": (edited(integer(4, 1), b""), "body.created_at_ms"),
    "created_at_ms of 0": (edited(integer(4, 1), integer(4, 0)), "body.created_at_ms"),
    "non-minimal created_at_ms": (edited(integer(4, 1), b"\x20\x81\x00"), "body.created_at_ms"),
    "created_at_ms of 65 bits": (
        edited(integer(4, 1), b"\x20\x81" + b"\x80" * 8 + b"\x02"),
        "body.created_at_ms",
    ),
    "created_at_ms of 11 bytes": (
        edited(integer(4, 1), b"\x20\x81" + b"\x80" * 9 + b"\x01"),
        "body.created_at_ms",
    ),
    "valid_until_ms of 0": (BODY.encode() + integer(5, 0), "body.valid_until_ms"),
    "valid_until_ms not later": (BODY.encode() + integer(5, 1), "body.valid_until_ms"),
    "short dependency": (BODY.encode() + chunk(6, bytes(31)), "body.depends_on[0]"),
    "repeated dependency": (BODY.encode() + 2 * chunk(6, bytes(32)), "body.depends_on[1]"),
    "5 dependencies": (
        BODY.encode() + b"".join(chunk(6, bytes((i,)) * 32) for i in range(5)),
        "body.depends_on[4]",
    ),
    "read of nothing": (with_entry(7, integer(2, 1)), "body.reads[0].object"),
    "read of a reserved object": (with_entry(7, chunk(1, "$balance/x")), "body.reads[0].object"),
    "read of invalid UTF-8": (with_entry(7, chunk(1, b"\xff")), "body.reads[0].object"),
    "surrogate in UTF-8": (with_entry(7, chunk(1, b"\xed\xa0\x80")), "body.reads[0].object"),
    "overlong UTF-8": (with_entry(7, chunk(1, b"\xc0\x80")), "body.reads[0].object"),
    "repeated version": (
        with_entry(7, chunk(1, "a") + integer(2, 1) * 2),
        "body.reads[0].version",
    ),
    "unknown field in a read": (with_entry(7, chunk(1, "a") + integer(3, 1)), "body.reads[0]"),
    "object read twice": (
        BODY.encode() + chunk(7, chunk(1, "a")) + chunk(7, chunk(1, "a") + integer(2, 1)),
        "body.reads[1].object",
    ),
    "object written twice": (
        BODY.encode() + b"".join(chunk(8, chunk(1, name)) for name in "aba"),
        "body.writes[2].object",
    ),
    "expected_version as bytes": (
        with_entry(8, chunk(1, "a") + chunk(2, b"")),
        "body.writes[0].expected_version",
    ),
    "write of a reserved object": (with_entry(8, chunk(1, "$")), "body.writes[0].object"),
    "write cut off": (with_entry(8, chunk(1, "abc")[:-1]), "body.writes[0].object"),
    "no action": (edited(DATA, b""), "body.action"),
    "action twice": (BODY.encode() + DATA, "body.data"),
    "both actions": (BODY.encode() + Transfer("yen", AUTHOR, 1).field(), "body.transfer"),
    "data and recovery": (BODY.encode() + Recovery().field(), "body.recovery"),
    "content_type of invalid UTF-8": (
        edited(DATA, chunk(16, chunk(1, b"\x80"))),
        "body.data.content_type",
    ),
    "content twice": (edited(DATA, chunk(16, chunk(2, b"a") * 2)), "body.data.content"),
    "unknown field in data": (edited(DATA, chunk(16, integer(3, 0))), "body.data"),
    "empty asset": (edited(DATA, Transfer("", AUTHOR, 1).field()), "body.transfer.asset"),
    "asset in capitals": (edited(DATA, Transfer("YEN", AUTHOR, 1).field()), "body.transfer.asset"),
    "asset not ASCII": (edited(DATA, Transfer("円", AUTHOR, 1).field()), "body.transfer.asset"),
    "asset of 33": (edited(DATA, Transfer("y" * 33, AUTHOR, 1).field()), "body.transfer.asset"),
    "short payee": (edited(DATA, Transfer("y", AUTHOR[1:], 1).field()), "body.transfer.to"),
    "amount of 0": (edited(DATA, Transfer("y", AUTHOR, 0).field()), "body.transfer.amount"),
    "amount as bytes": (edited(DATA, chunk(17, chunk(3, b"\x01"))), "body.transfer.amount"),
    "empty body": (b"", "body.created_at_ms"),
} | {
    f"{field}: {name}": (edited(DATA, wrong), f"body.{field}")
    for field, cases in BAD_ACTIONS.items()
    for name, wrong in cases.items()
}


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=list(BAD_BODIES))
def test_a_malformed_body_is_refused_by_its_field(body: bytes, field: str) -> None:
    assert refusal(by_value(body)) == ("MALFORMED", field)
    with pytest.raises(ValueError, match=re.escape(f"envelopes[1]: MALFORMED: {field} ")):
        decode_batch([by_id(BODY.encode()), stored_form(body, AUTHOR)])


def test_a_refusal_tells_the_bound_and_nothing_of_the_content() -> None:
    result = check(by_value(with_entry(7, chunk(1, "$secret"))))
    assert isinstance(result, Refusal)
    assert "must not start with $" in result.detail
    assert "secret" not in repr(result)
    assert "body.reads[0].object" in repr(result)
