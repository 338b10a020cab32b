"""Transactions of citychain: their form, and what a city checks before it answers for one.

docs/protocol.md, "Transactions".
"""

from __future__ import annotations

import re

from primitives import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Invalid,
    key_id,
    require,
    signed,
    tx_id,
)
from wire import ACTIONS, BETWEEN_CITIES, U64, parse


def parse_envelope(data):
    """A SignedTransaction as it is submitted: its form alone."""
    try:
        envelope = parse("SignedTransaction", data, one_form=False)
    except (ValueError, IndexError) as error:
        raise Invalid("MALFORMED", str(error)) from None
    check_envelope(envelope)
    return envelope


def check_envelope(envelope):
    require(envelope["scheme"] != 0, "MALFORMED", "no scheme")
    require(envelope["scheme"] == 1, "SCHEME_NOT_ALLOWED", "not ML-DSA-87")
    key, signer = envelope["publicKey"], envelope["keyId"]
    require((key is None) != (signer is None), "MALFORMED", "no signer")
    require(key is None or len(key) == PUBLIC_KEY_BYTES, "MALFORMED", "public_key")
    require(signer is None or len(signer) == 32, "MALFORMED", "key_id")
    require(len(envelope["signature"]) == SIGNATURE_BYTES, "MALFORMED", "signature")


def parse_body(data):
    """A TransactionBody that keeps every rule of the format."""
    try:
        body = parse("TransactionBody", data, one_form=False)
    except (ValueError, IndexError) as error:
        raise Invalid("MALFORMED", str(error)) from None

    def rule(holds, field):
        require(holds, "MALFORMED", field)

    for field in ("reads", "writes"):
        names = [entry["object"] for entry in body[field]]
        require(len(names) <= 16, "TOO_LARGE", field)
        for name in names:
            require(len(name.encode()) <= 128, "TOO_LARGE", field)
            rule(name and name[0] != "$", field)
        rule(len(set(names)) == len(names), field)
    rule(len(body["dependsOn"]) <= 4, "depends_on")
    rule(len(set(body["dependsOn"])) == len(body["dependsOn"]), "depends_on")
    rule(all(len(one) == 32 for one in body["dependsOn"]), "depends_on")
    rule(body["createdAtMs"] >= 1, "created_at_ms")
    until = body["validUntilMs"]
    rule(until is None or until > body["createdAtMs"], "valid_until_ms")
    rule(len(body["genesis"]) == len(body["author"]) == 32, "genesis or author")
    rule(len(body["nonce"]) == 8, "nonce")
    actions = [name for name in (*ACTIONS, "recovery") if body[name] is not None]
    rule(len(actions) == 1, "action")
    check_action(actions[0], body[actions[0]], rule)
    return body


def check_action(name, action, rule):
    if "asset" in action:
        rule(re.fullmatch("[a-z0-9-]{1,32}", action["asset"]), "asset")
    if name == "data":
        require(len(action["contentType"].encode()) <= 64, "TOO_LARGE", "content_type")
    elif name in ("transfer", "reward"):
        rule(len(action["to"]) == 32 and action["amount"] >= 1, name)
    elif name in ("candidacy", "withdrawal"):
        rule(1 <= action["stake"] < 1 << 63, "stake")
    elif name == "presence":
        rule(abs(action["latitudeE7"]) <= 900_000_000, "latitude_e7")
        rule(abs(action["longitudeE7"]) <= 1_800_000_000, "longitude_e7")
        rule(action["firstRound"] <= action["lastRound"], "last_round")
        rule(len(action["anchor"]) == 32, "anchor")
        keyed(action["witnesses"], 16, rule)
        rule(all(len(w["signature"]) == SIGNATURE_BYTES for w in action["witnesses"]), "witnesses")
    elif name == "witness":
        rule(len(action["publicKey"]) == PUBLIC_KEY_BYTES, "public_key")
    elif name == "equivocation":
        rule(len(action["publicKey"]) == PUBLIC_KEY_BYTES, "public_key")
        rule(len(action["firstHash"]) == len(action["secondHash"]) == 32, "hash")
        for which in ("firstSignature", "secondSignature"):
            rule(len(action[which]) == SIGNATURE_BYTES, "signature")
        rule(action["firstHash"] != action["secondHash"], "second_hash")
    elif name in BETWEEN_CITIES:
        check_between_cities(action, rule)
    else:
        rule(action["fromRound"] >= 1, "from_round")
        rule(len(action["previous"]) == 32 and action["seats"], "recovery")
        keyed(action["seats"], 256, rule)
        rule(all(1 <= seat["stake"] < 1 << 63 for seat in action["seats"]), "stake")


def check_between_cities(action, rule):
    """Of a field of one name the rule is the same in each of them."""
    for field, value in action.items():
        if field in ("city", "to", "txId", "payer"):
            rule(len(value) == 32, field)
        elif field in ("proof", "genesisFile"):
            rule(len(value) >= 1, field)
        elif field == "amount":
            rule(value >= 1, field)
    require(len(action.get("genesisFile", b"")) <= 256 << 10, "TOO_LARGE", "genesis_file")
    if "checkpoint" in action:
        rule(len(action["checkpoint"]) >= 42, "checkpoint")
        require(len(action["checkpoint"]) <= 128 << 10, "TOO_LARGE", "checkpoint")
    if "refusalCode" in action:
        code, reason = action["refusalCode"], action["refusalReason"]
        rule(re.fullmatch("[A-Z0-9_]{0,32}", code), "refusal_code")
        rule(code or not reason, "refusal_reason")
        require(len(reason.encode()) <= 255, "TOO_LARGE", "refusal_reason")


def keyed(entries, most, rule):
    ids = [entry["keyId"] for entry in entries]
    rule(len(ids) <= most and all(len(one) == 32 for one in ids), "key_id")
    rule(len(set(ids)) == len(ids), "key_id")


def admit(data, genesis, now_ms, known=()):
    """What a city checks of a transaction before it answers for it; returns its id.

    `known` are public keys by id that the city has seen."""
    envelope = parse_envelope(data)
    body = parse_body(envelope["body"])
    require(body["genesis"] == genesis, "WRONG_GENESIS", "another city's")
    require((body["validUntilMs"] or U64) >= now_ms, "EXPIRED", "too late")
    key = envelope["publicKey"]
    signer = envelope["keyId"] if key is None else key_id(key)
    require(signer == body["author"], "KEY_MISMATCH", "not the author's key")
    require(key is not None or signer in known, "UNKNOWN_KEY", "send the key by value")
    holds = signed(
        key or known[signer], envelope["body"], b"citychain/tx/v1", envelope["signature"]
    )
    require(holds, "BAD_SIGNATURE", "does not hold")
    return tx_id(envelope["body"])
