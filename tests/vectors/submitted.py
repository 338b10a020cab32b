"""Vectors of transactions as they are submitted: of each action, and for each rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vectors.cases import Cases
from vectors.ledger import TIME_MS, Ledger, body, digest, envelope, flipped, id_of, key, sign

from citychain import checkpoint as checkpoints
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as pb

VOTE_CONTEXT = checkpoints.VOTE_CONTEXT
U64_MAX = (1 << 64) - 1
Refuse = Callable[..., None]


def transactions(city: Ledger) -> bytes:
    """Of each action one that is admitted; for each refusal and rule one that is not."""
    genesis = city.genesis.id
    cases = Cases(
        "Submitted transactions (SignedTransaction), and the code by which a city refuses one. "
        "`known` says whether the city knows the author's key. Bad ones keep the signature of "
        "the good one (of) wherever it is not what is wrong: it is looked at last.",
        {"genesis": genesis.hex(), "now_ms": TIME_MS, "public_key": key("amy").public_key.hex()},
    )

    def by_value(content: bytes) -> pb.SignedTransaction:
        signed = envelope("amy", content)
        signed.public_key = key("amy").public_key
        return signed

    for name, fields in _actions(genesis).items():
        cases.good(name, by_value(body("amy", genesis, **fields)).SerializeToString(), known=False)
    plain = body("amy", genesis)
    cases.good("by id", envelope("amy", plain).SerializeToString(), known=True)
    full = body(
        "amy",
        genesis,
        valid_until_ms=TIME_MS + 1,
        depends_on=[digest("first"), digest("second")],
        reads=[pb.ObjectRead(object="é" * 64, version=U64_MAX)],
        writes=[pb.ObjectWrite(object="road"), pb.ObjectWrite(object="école", expected_version=7)],
        data=pb.Data(),
    )
    cases.good("full", by_value(full).SerializeToString(), known=False)
    reordered = full[34:68] + full[:34] + full[68:]
    cases.good("fields in another order", by_value(reordered).SerializeToString(), known=False)
    explicit = plain.replace(b"\x0a\x0atext/plain", b"\x0a\x00")
    explicit = _resized(plain, explicit)
    cases.good("a default that is written", by_value(explicit).SerializeToString(), known=False)

    def refuse(code: str, of: str, name: str, data: bytes, known: bool = False) -> None:
        cases.bad(f"{of}: {name}", code, of, data, known=known)

    _bad_envelopes(refuse, genesis, plain, by_value(plain), envelope("amy", plain))
    for of, name, code, fields in _bad_bodies(genesis):
        good = by_value(full if of == "full" else body("amy", genesis, **_actions(genesis)[of]))
        good.body = body("amy", genesis, **fields)
        refuse(code, of, name, good.SerializeToString())
    for name, change in _bad_bytes(plain).items():
        good = by_value(plain)
        good.body = change
        refuse("MALFORMED", "data", name, good.SerializeToString())
    return cases.to_bytes()


def _resized(old: bytes, new: bytes) -> bytes:
    """The length of the last member, data, made to fit."""
    at = old.index(b"\x82\x01") + 2
    return new[:at] + bytes((old[at] - (len(old) - len(new)),)) + new[at + 1 :]


def _actions(genesis: bytes) -> dict[str, dict[str, Any]]:
    witness = pb.WitnessSignature(key_id=id_of("wim"), signature=sign("wim", b"x", VOTE_CONTEXT))
    votes = [
        sign("ann", checkpoints.vote_message(genesis, 3, digest(name)), VOTE_CONTEXT)
        for name in ("one", "other")
    ]
    return {
        "data": {},
        "transfer": {"transfer": pb.Transfer(asset="coin-1", to=id_of("bob"), amount=U64_MAX)},
        "presence": {
            "presence": pb.Presence(
                latitude_e7=-900_000_000,
                longitude_e7=1_800_000_000,
                accuracy_m=(1 << 32) - 1,
                first_round=3,
                last_round=3,
                anchor=digest("anchor"),
                witnesses=[witness],
            )
        },
        "candidacy": {"candidacy": pb.Candidacy(asset="coin", stake=(1 << 63) - 1)},
        "withdrawal": {"withdrawal": pb.Withdrawal(asset="coin", stake=1)},
        "witness": {"witness": pb.Witness(public_key=key("wim").public_key, revoked=True)},
        "equivocation": {
            "equivocation": pb.Equivocation(
                public_key=key("ann").public_key,
                round=3,
                first_hash=digest("one"),
                first_signature=votes[0],
                second_hash=digest("other"),
                second_signature=votes[1],
            )
        },
        "recovery": {
            "recovery": pb.Recovery(
                from_round=4,
                previous=digest("three"),
                seats=[_seat("ann", 1), _seat("ben", (1 << 63) - 1)],
            )
        },
        "peer": {"peer": pb.Peer(genesis_file=b'{"network":"test","city":"nara"}')},
        "remittance": {
            "remittance": pb.Remittance(
                asset="coin", city=digest("nara"), to=id_of("bob"), amount=U64_MAX
            )
        },
        "delivery": {"delivery": _delivery()},
        "refusing delivery": {
            "delivery": _delivery(refusal_code="F" * 32, refusal_reason="é" * 127 + "!")
        },
        "settlement": {
            "settlement": pb.Settlement(
                tx_id=digest("remittance"),
                payer=id_of("ann"),
                city=digest("nara"),
                asset="coin",
                amount=1,
                returned=True,
                proof=b"proof",
            )
        },
        "anchor": {"anchor": pb.Anchor(city=digest("nara"), checkpoint=bytes(42), proof=b"proof")},
        "reward": {
            "reward": pb.Reward(epoch=U64_MAX, asset="coin", to=id_of("bob"), amount=U64_MAX)
        },
    }


def _delivery(**fields: Any) -> pb.Delivery:
    return pb.Delivery(
        city=digest("nara"),
        tx_id=digest("remittance"),
        asset="coin",
        to=id_of("bob"),
        amount=1,
        proof=b"proof",
        **fields,
    )


def _seat(owner: str, stake: int) -> pb.CommitteeSeat:
    return pb.CommitteeSeat(key_id=id_of(owner), stake=stake)


def _bad_envelopes(
    refuse: Refuse,
    genesis: bytes,
    plain: bytes,
    good: pb.SignedTransaction,
    stored: pb.SignedTransaction,
) -> None:
    def changed(of: pb.SignedTransaction, **fields: Any) -> bytes:
        message = pb.SignedTransaction()
        message.CopyFrom(of)
        for name, value in fields.items():
            if value is None:
                message.ClearField(name)
            else:
                setattr(message, name, value)
        return message.SerializeToString()

    data = good.SerializeToString()
    refuse("MALFORMED", "data", "cut", data[:-1])
    refuse("MALFORMED", "data", "an unknown field", data + b"\x30\x01")
    refuse("MALFORMED", "data", "a scheme twice", data + b"\x10\x01")
    refuse("MALFORMED", "data", "a key and its id", data + b"\x22\x20" + id_of("amy"))
    refuse(
        "MALFORMED",
        "data",
        "a scheme of two bytes",
        data.replace(b"\x10\x01\x1a", b"\x10\x81\x00\x1a", 1),
    )
    refuse(
        "MALFORMED",
        "data",
        "a scheme as bytes",
        data.replace(b"\x10\x01\x1a", b"\x12\x01\x01\x1a", 1),
    )
    refuse("MALFORMED", "data", "no scheme", changed(good, scheme=None))
    refuse("MALFORMED", "data", "no signer", changed(good, public_key=None))
    refuse("MALFORMED", "data", "a short key", changed(good, public_key=good.public_key[1:]))
    refuse("MALFORMED", "data", "a short signature", changed(good, signature=good.signature[1:]))
    refuse("SCHEME_NOT_ALLOWED", "data", "another scheme", changed(good, scheme=2))
    refuse(
        "KEY_MISMATCH", "data", "another key", changed(good, public_key=flipped(good.public_key, 9))
    )
    refuse("MALFORMED", "by id", "a short id", changed(stored, key_id=bytes(31)), known=True)
    refuse(
        "KEY_MISMATCH", "by id", "another id", changed(stored, key_id=digest("other")), known=True
    )
    refuse("UNKNOWN_KEY", "by id", "that nobody knows", changed(stored, signature=bytes(4627)))
    refuse(
        "BAD_SIGNATURE",
        "data",
        "an altered signature",
        changed(good, signature=flipped(good.signature, 9)),
    )
    other = sign("amy", plain, VOTE_CONTEXT)
    refuse("BAD_SIGNATURE", "data", "signed for another purpose", changed(good, signature=other))
    refuse(
        "WRONG_GENESIS", "data", "another city", changed(good, body=body("amy", digest("other")))
    )
    expired = body(
        "amy", genesis, valid_until_ms=TIME_MS - 1, created_at_ms=TIME_MS - 2, data=pb.Data()
    )
    refuse("EXPIRED", "full", "too late", changed(good, body=expired))


def _bad_bodies(genesis: bytes) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Of which good one, what is wrong, the code, and the body's fields."""
    actions = _actions(genesis)

    def of(action: str, **fields: Any) -> dict[str, Any]:
        [(field, known)] = actions[action].items()
        message = type(known)()
        message.CopyFrom(known)
        for name, value in fields.items():
            if isinstance(value, list):
                message.ClearField(name)
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)
        return {field: message}

    data = {"data": pb.Data()}
    witness = actions["presence"]["presence"].witnesses[0]
    short = pb.WitnessSignature(key_id=witness.key_id, signature=b"x")
    malformed: list[tuple[str, str, dict[str, Any]]] = [
        ("full", "two dependencies alike", {"depends_on": [digest("a")] * 2, **data}),
        ("full", "a short dependency", {"depends_on": [bytes(31)], **data}),
        ("full", "five dependencies", {"depends_on": [digest(f"{n}") for n in range(5)], **data}),
        ("full", "no object", {"reads": [pb.ObjectRead(version=1)], **data}),
        ("full", "an object of the ledger", {"writes": [pb.ObjectWrite(object="$x")], **data}),
        ("full", "an object twice", {"writes": [pb.ObjectWrite(object="x")] * 2, **data}),
        ("full", "valid until it was made", {"valid_until_ms": TIME_MS, **data}),
        ("transfer", "no asset", of("transfer", asset="")),
        ("transfer", "capitals", of("transfer", asset="Coin")),
        ("transfer", "a long asset", of("transfer", asset="c" * 33)),
        ("transfer", "to nobody", of("transfer", to=b"")),
        ("transfer", "nothing", of("transfer", amount=0)),
        ("presence", "too far south", of("presence", latitude_e7=-900_000_001)),
        ("presence", "too far east", of("presence", longitude_e7=1_800_000_001)),
        ("presence", "a window that ends first", of("presence", last_round=2)),
        ("presence", "a short anchor", of("presence", anchor=bytes(31))),
        ("presence", "a witness twice", of("presence", witnesses=[witness] * 2)),
        ("presence", "a short signature", of("presence", witnesses=[short])),
        ("candidacy", "no stake", of("candidacy", stake=0)),
        ("candidacy", "2^63", of("candidacy", stake=1 << 63)),
        ("candidacy", "an asset with a space", of("candidacy", asset="a b")),
        ("withdrawal", "no stake", of("withdrawal", stake=0)),
        ("witness", "a short key", of("witness", public_key=bytes(2591))),
        ("equivocation", "one hash", of("equivocation", second_hash=digest("one"))),
        ("equivocation", "a short hash", of("equivocation", first_hash=bytes(31))),
        ("equivocation", "a short key", of("equivocation", public_key=b"x")),
        ("equivocation", "a short signature", of("equivocation", second_signature=b"x")),
        ("recovery", "from round 0", of("recovery", from_round=0)),
        ("recovery", "a short hash", of("recovery", previous=bytes(31))),
        ("recovery", "no seat", of("recovery", seats=[])),
        ("recovery", "a seat twice", of("recovery", seats=[_seat("ann", 1), _seat("ann", 2)])),
        (
            "recovery",
            "a seat of a short id",
            of("recovery", seats=[pb.CommitteeSeat(key_id=b"x", stake=1)]),
        ),
        ("recovery", "a seat without stake", of("recovery", seats=[_seat("ann", 0)])),
        ("recovery", "a stake of 2^63", of("recovery", seats=[_seat("ann", 1 << 63)])),
        ("peer", "no file", of("peer", genesis_file=b"")),
        ("remittance", "no asset", of("remittance", asset="")),
        ("remittance", "a short city", of("remittance", city=bytes(31))),
        ("remittance", "to nobody", of("remittance", to=b"")),
        ("remittance", "nothing", of("remittance", amount=0)),
        ("delivery", "a long city", of("delivery", city=bytes(33))),
        ("delivery", "a short id", of("delivery", tx_id=bytes(31))),
        ("delivery", "capitals", of("delivery", asset="Coin")),
        ("delivery", "to nobody", of("delivery", to=b"")),
        ("delivery", "nothing", of("delivery", amount=0)),
        ("delivery", "no proof", of("delivery", proof=b"")),
        ("delivery", "a reason without a code", of("delivery", refusal_reason="full")),
        ("refusing delivery", "a code of 33", of("refusing delivery", refusal_code="F" * 33)),
        ("refusing delivery", "a small letter", of("refusing delivery", refusal_code="f")),
        ("settlement", "a short id", of("settlement", tx_id=bytes(31))),
        ("settlement", "no payer", of("settlement", payer=b"")),
        ("settlement", "a long city", of("settlement", city=bytes(33))),
        ("settlement", "no asset", of("settlement", asset="")),
        ("settlement", "nothing", of("settlement", amount=0)),
        ("settlement", "no proof", of("settlement", proof=b"")),
        ("anchor", "a short city", of("anchor", city=bytes(31))),
        ("anchor", "41 bytes of a checkpoint", of("anchor", checkpoint=bytes(41))),
        ("anchor", "no proof", of("anchor", proof=b"")),
        ("reward", "capitals", of("reward", asset="Coin")),
        ("reward", "a short id", of("reward", to=bytes(31))),
        ("reward", "nothing", of("reward", amount=0)),
    ]
    reads = [pb.ObjectRead(object=f"o{number}") for number in range(17)]
    too_large: list[tuple[str, str, dict[str, Any]]] = [
        ("full", "17 reads", {"reads": reads, **data}),
        ("full", "an object of 129 bytes", {"reads": [pb.ObjectRead(object="o" * 129)], **data}),
        ("full", "a type of 65 bytes", {"data": pb.Data(content_type="t" * 65)}),
        (
            "refusing delivery",
            "a reason of 256 bytes",
            of("refusing delivery", refusal_reason="é" * 128),
        ),
    ]
    return [(good, name, "MALFORMED", fields) for good, name, fields in malformed] + [
        (good, name, "TOO_LARGE", fields) for good, name, fields in too_large
    ]


def _bad_bytes(plain: bytes) -> dict[str, bytes]:
    """Bodies that no writer of protobuf makes."""
    action = plain[plain.index(b"\x82\x01") :]
    bare = plain.removesuffix(action)
    return {
        "an empty body": b"",
        "a body with field 9": plain + b"\x48\x01",
        "a genesis twice": plain + plain[:34],
        "a short genesis": b"\x0a\x1f" + plain[3:],
        "a short author": plain[:34] + b"\x12\x1f" + plain[37:],
        "a nonce of 7": plain[:68] + b"\x1a\x07" + plain[71:],
        "never made": bare.replace(plain[78:85], b"\x20\x00") + action,
        "no action": bare,
        "two actions": plain + b"\x82\x01\x00",
        "another action too": plain + b"\x8a\x01\x00",
        "data that is cut": plain[:-1],
        "text that is none": plain.replace(b"text/", b"text\xff"),
        "an action with an unknown field": bare + b"\x82\x01\x02\x18\x01",
        "a number as long": bare + b"\x98\x01\x01",
        "32 bits and more": bare + b"\x92\x01\x06\x18\x80\x80\x80\x80\x10",
        "a flag of 2": bare + b"\xaa\x01\x02\x10\x02",
        "65 bits": bare.replace(plain[78:85], b"\x20" + b"\xff" * 9 + b"\x02") + action,
    }
