"""Messages of citychain: protobuf's wire form and JSON form, each read strictly.

docs/protocol.md, "Messages".
"""

from __future__ import annotations

import base64
import json
import re

U64 = (1 << 64) - 1

# Each field as: number, JSON name, kind. * is repeated; ? is set or unset, whatever its value.
MESSAGES = {
    "Receipt": "1 genesis bytes, 2 txId bytes, 3 transaction SignedTransaction?, "
    "4 publicKey bytes, 5 node Node?, 6 rejection Rejection?, 7 round uint64, 8 seq uint32, "
    "9 leafIndex uint64, 10 inclusion bytes*, 11 checkpoint bytes, 12 certificate Certificate?, "
    "13 handovers Handover*",
    "Node": "1 nodeId bytes, 2 txId bytes, 3 parents NodeRef*, 4 round uint64, 5 seq uint32, "
    "8 pop bytes",
    "NodeRef": "3 nodeId bytes",
    "Rejection": "1 code string, 2 reason string",
    "Certificate": "1 round uint64, 2 checkpointHash bytes, 3 votes Vote*",
    "Vote": "1 keyId bytes, 2 signature bytes",
    "Handover": "1 checkpoint bytes, 2 certificate Certificate?, 3 publicKeys bytes*, "
    "4 recovery SignedTransaction?",
    "SignedTransaction": "1 body bytes, 2 scheme Scheme, 3 publicKey bytes?, 4 keyId bytes?, "
    "5 signature bytes",
    "TransactionBody": "1 genesis bytes, 2 author bytes, 3 nonce bytes, 4 createdAtMs uint64, "
    "5 validUntilMs uint64?, 6 dependsOn bytes*, 7 reads ObjectRead*, 8 writes ObjectWrite*, "
    "16 data Data?, 17 transfer Transfer?, 18 presence Presence?, 19 candidacy Candidacy?, "
    "20 withdrawal Candidacy?, 21 witness Witness?, 22 equivocation Equivocation?, "
    "23 recovery Recovery?, 24 peer Peer?, 25 remittance Remittance?, 26 delivery Delivery?, "
    "27 settlement Settlement?, 28 anchor Anchor?, 29 reward Reward?",
    "ObjectRead": "1 object string, 2 version uint64",
    "ObjectWrite": "1 object string, 2 expectedVersion uint64",
    "Data": "1 contentType string, 2 content bytes",
    "Transfer": "1 asset string, 2 to bytes, 3 amount uint64",
    "Presence": "1 latitudeE7 sint32, 2 longitudeE7 sint32, 3 accuracyM uint32, "
    "4 firstRound uint64, 5 lastRound uint64, 6 anchor bytes, 7 witnesses Vote*",
    "Candidacy": "1 asset string, 2 stake uint64",
    "Witness": "1 publicKey bytes, 2 revoked bool",
    "Equivocation": "1 publicKey bytes, 2 round uint64, 3 firstHash bytes, "
    "4 firstSignature bytes, 5 secondHash bytes, 6 secondSignature bytes",
    "Recovery": "1 fromRound uint64, 2 previous bytes, 3 seats CommitteeSeat*",
    "CommitteeSeat": "1 keyId bytes, 2 stake uint64",
    "Peer": "1 genesisFile bytes",
    "Remittance": "1 asset string, 2 city bytes, 3 to bytes, 4 amount uint64",
    "Delivery": "1 city bytes, 2 txId bytes, 3 asset string, 4 to bytes, 5 amount uint64, "
    "6 proof bytes, 7 refusalCode string, 8 refusalReason string",
    "Settlement": "1 txId bytes, 2 payer bytes, 3 city bytes, 4 asset string, 5 amount uint64, "
    "6 returned bool, 7 proof bytes",
    "Anchor": "1 city bytes, 2 checkpoint bytes, 3 proof bytes",
    "Reward": "1 epoch uint64, 2 asset string, 3 to bytes, 4 amount uint64",
}
BETWEEN_CITIES = ("peer", "remittance", "delivery", "settlement", "anchor")
# A handover has a recovery too, in another message; so it stands apart.
ACTIONS = (
    *("data", "transfer", "presence", "candidacy", "withdrawal", "witness", "equivocation"),
    *BETWEEN_CITIES,
    "reward",
)
ONE_OF = ({"publicKey", "keyId"}, {*ACTIONS, "recovery"})
SCHEMAS = {
    name: [
        (int(number), field, kind.rstrip("*?"), kind[-1] if kind[-1] in "*?" else "")
        for number, field, kind in (line.split() for line in text.split(", "))
    ]
    for name, text in MESSAGES.items()
}
DEFAULTS = {"bytes": b"", "string": "", "bool": False}


def empty(name):
    return {
        field: [] if mark == "*" else None if mark == "?" else DEFAULTS.get(kind, 0)
        for _, field, kind, mark in SCHEMAS[name]
    }


def varint(data, at):
    """A varint of at most 64 bits in its shortest form, and where it ends."""
    value = 0
    for index in range(10):
        byte = data[at + index]  # IndexError where the message is cut.
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value > U64 or (byte == 0 and index):
                raise ValueError("a varint that is too long")
            return value, at + index + 1
    raise ValueError("a varint that is too long")


def parse(name, data, *, one_form):
    """A message; unknown and repeated fields are refused. With `one_form` also fields out of
    order and those that hold their default: then there is one way to write a message."""
    message, at, last, seen = empty(name), 0, 0, set()
    while at < len(data):
        tag, at = varint(data, at)
        found = [field for field in SCHEMAS[name] if field[0] == tag >> 3]
        if not found:
            raise ValueError(f"field {tag >> 3} is unknown")
        [(number, field, kind, mark)] = found
        slot = next((str(choice) for choice in ONE_OF if field in choice and mark), field)
        if mark != "*" and slot in seen:
            raise ValueError(f"{field} is given twice, or beside its alternative")
        if one_form and number < last:
            raise ValueError(f"{field} is out of order")
        seen.add(slot)
        last = number
        is_number = kind in NUMBERS
        if tag & 7 != (0 if is_number else 2):
            raise ValueError(f"{field} has another wire type")
        value, at = varint(data, at)
        if is_number:
            # A scheme that nobody knows is refused as one, not as a number.
            value = NUMBERS[kind](value) if one_form or kind != "Scheme" else value
        else:
            length, at = value, at + value
            if at > len(data):
                raise ValueError(f"{field} is cut")
            value = data[at - length : at]
            if kind == "string":
                value = value.decode()
            elif kind != "bytes":
                value = parse(kind, value, one_form=one_form)
        if one_form and not mark and value == DEFAULTS.get(kind, 0):
            raise ValueError(f"{field} is written though it has its default")
        if mark == "*":
            message[field].append(value)
        else:
            message[field] = value
    return message


def written_bytes(name, message):
    """Length of a message in its one form, if it has numbers and bytes alone."""
    total = 0
    for number, field, kind, mark in SCHEMAS[name]:
        value = message[field]
        if value is not None and (mark or value != DEFAULTS.get(kind, 0)):
            length = len(value) if kind == "bytes" else 0
            total += varint_bytes(number << 3) + length
            total += varint_bytes(length if kind == "bytes" else value & U64)
    return total


def varint_bytes(value):
    return max(1, (value.bit_length() + 6) // 7)


def bounded(bits):
    def number(value):
        if value >> bits:
            raise ValueError(f"a number of more than {bits} bits")
        return value

    return number


def zigzag(value):
    return bounded(32)(value) >> 1 ^ -(value & 1)


def enumeration(value):
    """Protobuf's are signed 32-bit numbers, which it writes in 64 bits."""
    if (1 << 31) <= value < (1 << 64) - (1 << 31):
        raise ValueError("no number of an enumeration")
    return value if value < 1 << 31 else value - (1 << 64)


NUMBERS = {
    "uint64": bounded(64),
    "uint32": bounded(32),
    "sint32": zigzag,
    "bool": lambda value: bool(bounded(1)(value)),
    "Scheme": enumeration,
}


# --- 3. the file form: the same messages in JSON


def from_json(name, value):
    """A message from protobuf's JSON, each member written in its one form."""
    message = empty(name)
    if not isinstance(value, dict) or not value.keys() <= message.keys():
        raise ValueError(f"{name}: no object with these members")
    for _, field, kind, mark in SCHEMAS[name]:
        if field in value:
            given = value[field]
            if mark == "*":
                if not isinstance(given, list) or not given:
                    raise ValueError(f"{field}: no list, or an empty one")
                message[field] = [member(kind, item) for item in given]
            else:
                message[field] = member(kind, given)
                if not mark and message[field] == DEFAULTS.get(kind, 0):
                    raise ValueError(f"{field}: written though it has its default")
    if any(sum(message.get(field) is not None for field in choice) > 1 for choice in ONE_OF):
        raise ValueError(f"{name}: a member beside its alternative")
    return message


def member(kind, value):
    if kind in SCHEMAS:
        return from_json(kind, value)
    if kind == "uint32" and type(value) is int and 0 <= value < 1 << 32:
        return value
    if kind == "Scheme":
        if value == "SCHEME_ML_DSA_87":
            return 1
        if type(value) is int and -(1 << 31) <= value < 1 << 31 and value not in (0, 1):
            return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no {kind}")
    if kind == "bytes":
        decoded = base64.b64decode(value, validate=True)
        if base64.b64encode(decoded).decode() != value:
            raise ValueError("base64 that is not in its one form")
        return decoded
    if kind == "string" and value.encode() is not None:
        return value
    if kind == "uint64" and re.fullmatch("0|[1-9][0-9]{0,19}", value) and int(value) <= U64:
        return int(value)
    raise ValueError(f"{value!r} is no {kind}")


def no_repeats(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def load_json(text):
    return json.loads(text, object_pairs_hook=no_repeats)
