"""An independent verifier of citychain's proofs: what docs/protocol.md says, in plain Python.

It shares no code with citychain: hashlib, json, and ML-DSA-87 of pyca/cryptography.

    python verifier.py GENESIS RECEIPT...

Each line says VALID, or INVALID and the check that failed first, or UNREADABLE. Below a valid one
stands from which rounds on the operator, not an election, put the committee in office.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from primitives import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Invalid,
    be,
    genesis_id,
    key_id,
    require,
    sha256,
    signed,
    tx_id,
)
from transactions import check_envelope, parse_body
from wire import empty, from_json, load_json, parse, written_bytes

# --- fixed layouts


class Layout:
    """Reads a layout from its beginning; ValueError where it does not fit."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        self.at += length
        if self.at > len(self.data):
            raise ValueError("ends too early")
        return self.data[self.at - length : self.at]

    def number(self, length):
        return int.from_bytes(self.take(length), "big")

    def seats(self):
        count = self.number(2)
        if not 1 <= count <= 1024:
            raise ValueError("no such number of seats")
        return [(self.take(32), self.number(8)) for _ in range(count)]


def parse_checkpoint(data):
    layout = Layout(data)
    if layout.take(2) != b"\0\1":
        raise ValueError("another version")
    fields = {
        "genesis": layout.take(32),
        "round": layout.number(8),
        "previous": layout.take(32),
        "root": layout.take(32),
        "size": layout.number(8),
        "rule": layout.take(layout.number(1)).decode(),
        "record_hash": layout.take(32),
        "committee": layout.seats(),
    }
    flag = layout.number(1)
    if flag > 1:
        raise ValueError("a flag is 0 or 1")
    fields["next_committee"] = layout.seats() if flag else None
    fields["mixin"] = sha256(b"citychain/mixin/v1\0", data[: layout.at])
    fields["poh"] = (layout.take(32), layout.number(8), layout.take(32), layout.take(32))
    if layout.at != len(data):
        raise ValueError("bytes that follow")
    return fields


def checkpoint_hash(data):
    return sha256(b"citychain/checkpoint/v1\0", data)


def node_id(rule, genesis, round, seq, transaction, parents, pop=b""):
    rule = rule.encode()
    place = be(round, 8) + be(seq, 4)
    count = be(len(parents), 1)
    head = b"citychain/node/v1\0" + be(len(rule), 1) + rule
    return sha256(head, genesis, place, transaction, count, *parents, pop)


def rejected_leaf(round, seq, transaction, code, reason):
    code, reason = code.encode(), reason.encode()
    place = be(round, 8) + be(seq, 4)
    return b"\2" + place + transaction + be(len(code), 1) + code + be(len(reason), 1) + reason


# --- the log: RFC 9162, section 2.1.3.2


def check_inclusion(leaf, index, size, path, root):
    require(0 <= index < size, "inclusion", "no such leaf")
    node, last, value = index, size - 1, sha256(b"\0", leaf)
    for sibling in path:
        require(last, "inclusion", "a proof that is too long")
        if node & 1 or node == last:
            value = sha256(b"\1", sibling, value)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            value = sha256(b"\1", value, sibling)
        node, last = node >> 1, last >> 1
    require(not last, "inclusion", "a proof that is too short")
    require(value == root, "inclusion", "leads to another root")


# --- proof of history


def poh_hash(prev, num_hashes, mixin):
    for _ in range(num_hashes - 1):
        prev = hashlib.sha256(prev).digest()
    return sha256(prev, mixin)


# --- votes


def vote_message(genesis, round, checkpoint):
    return genesis + be(round, 8) + checkpoint


# --- elections


def elect(candidates, seats, seed, genesis, epoch):
    """`candidates` as (key id, stake, weight); returns the seats in order of key id."""
    left, elected, counter = sorted(candidates), [], 0
    while left and len(elected) < seats:
        total = sum(weight for _, _, weight in left)
        while True:
            drawn = sha256(b"citychain/election/v1\0", seed, genesis, be(epoch, 8), be(counter, 8))
            counter += 1
            if int.from_bytes(drawn, "big") < (1 << 256) // total * total:
                break
        point = int.from_bytes(drawn, "big") % total
        for chosen in left:
            if point < chosen[2]:
                break
            point -= chosen[2]
        left.remove(chosen)
        elected.append(chosen[:2])
    return sorted(elected)


def election_seed(previous_poh, num_hashes, genesis, epoch):
    return poh_hash(previous_poh, num_hashes, sha256(b"citychain/seed/v1\0", genesis, be(epoch, 8)))


# --- receipts


class Genesis:
    """What a genesis file says that proofs rest upon."""

    def __init__(self, file):
        self.id = genesis_id(file)
        fields = load_json(file.decode())
        self.rule = fields["rule"]
        self.num_hashes = fields.get("num_hashes", 10_000)
        self.quorum = fields.get("quorum", "two-thirds")
        self.operator = bytes.fromhex(fields["operator"])
        members = [
            (bytes.fromhex(member["public_key"]), member.get("stake", 1))
            for member in fields["committee"]
        ]
        self.keys = {key_id(key): key for key, _ in members}
        self.seats = [(key_id(key), stake) for key, stake in members]


def parse_receipt(data):
    """A receipt from its wire form."""
    try:
        return parse("Receipt", data, one_form=True)
    except (ValueError, IndexError) as error:
        raise Invalid("form", str(error)) from None


def load_receipt(text):
    """A receipt from its file form, in bytes."""
    try:
        return from_json("Receipt", load_json(text.decode()))
    except (ValueError, RecursionError) as error:
        raise Invalid("form", str(error)) from None


def verify_receipt(genesis, receipt):
    """Check a receipt as `parse_receipt` or `load_receipt` gives it; Invalid names what fails.

    Returns the first rounds of the committees that the operator put in office, up to its round.
    """
    check_form(receipt)
    require(receipt["genesis"] == genesis.id, "genesis", "another city's")
    check_transaction(receipt)
    terms = committee_of(genesis, receipt["handovers"], receipt["round"])
    require(receipt["certificate"]["round"] == receipt["round"], "checkpoint", "of another round")
    checkpoint = certified(genesis, terms, receipt["checkpoint"], receipt["certificate"])
    check_poh(genesis, checkpoint)
    node, rejection = receipt["node"], receipt["rejection"]
    place = (receipt["round"], receipt["seq"], receipt["txId"])
    if node is not None:
        parents = [parent["nodeId"] for parent in node["parents"]]
        expected = node_id(checkpoint["rule"], genesis.id, *place, parents, node["pop"])
        require(expected == node["nodeId"], "node", "does not follow from its parts")
        leaf = b"\1" + expected
    else:
        leaf = rejected_leaf(*place, rejection["code"], rejection["reason"])
    index, path = receipt["leafIndex"], receipt["inclusion"]
    check_inclusion(leaf, index, checkpoint["size"], path, checkpoint["root"])
    return [term.first_round for term in terms if term.recovery]


def check_form(receipt):
    def form(holds, what):
        require(holds, "form", what)

    def length(value, expected, what):
        form(len(value) == expected, f"{what} has {len(value)} bytes, not {expected}")

    for name in ("genesis", "txId"):
        length(receipt[name], 32, name)
    node, rejection, key = receipt["node"], receipt["rejection"], receipt["publicKey"]
    form((receipt["transaction"] is None) == (key == b""), "transaction and key come together")
    form(receipt["transaction"] != empty("SignedTransaction"), "an empty transaction")
    form(len(key) in (0, PUBLIC_KEY_BYTES), "publicKey")
    form(receipt["round"] > 0, "round")
    form((node is None) != (rejection is None), "either a node or a rejection")
    if node is not None:
        length(node["nodeId"], 32, "nodeId")
        form(len(node["pop"]) in (0, 32), "pop")
        parents = [parent["nodeId"] for parent in node["parents"]]
        form(1 <= len(parents) <= 8 and len(set(parents)) == len(parents), "parents")
        for parent in parents:
            length(parent, 32, "parent")
        for name in ("txId", "round", "seq"):
            form(node[name] == receipt[name], f"the node's {name}")
    else:
        form(re.fullmatch("[A-Z0-9_]{1,32}", rejection["code"]), "code")
        form(len(rejection["reason"].encode()) <= 255, "reason")
    form(len(receipt["inclusion"]) <= 64, "inclusion")
    for sibling in receipt["inclusion"]:
        length(sibling, 32, "inclusion")
    form(len(receipt["checkpoint"]) <= 128 << 10, "checkpoint")
    check_certificate_form(receipt["certificate"], form, length)
    form(len(receipt["handovers"]) <= 1024, "handovers")
    for handover in receipt["handovers"]:
        check_handover_form(handover, form, length)


def check_handover_form(handover, form, length):
    form(len(handover["checkpoint"]) <= 128 << 10, "checkpoint")
    form(len(handover["publicKeys"]) <= 1024, "publicKeys")
    for key in handover["publicKeys"]:
        length(key, PUBLIC_KEY_BYTES, "publicKeys")
    elected, recovery = handover["certificate"] is not None, handover["recovery"] is not None
    form(elected != recovery, "either an election or a recovery")
    if recovery:
        form(1 <= written_bytes("SignedTransaction", handover["recovery"]) <= 64 << 10, "recovery")
    form(elected == bool(handover["checkpoint"]), "an election's checkpoint")
    if elected:
        check_certificate_form(handover["certificate"], form, length)


def check_certificate_form(certificate, form, length):
    form(certificate is not None, "certificate")
    length(certificate["checkpointHash"], 32, "checkpointHash")
    form(len(certificate["votes"]) <= 1024, "votes")
    for vote in certificate["votes"]:
        length(vote["keyId"], 32, "keyId")
        length(vote["signature"], SIGNATURE_BYTES, "signature")


def check_transaction(receipt):
    envelope, key = receipt["transaction"], receipt["publicKey"]
    if envelope is None:
        return
    try:
        check_envelope(envelope)
        body = parse_body(envelope["body"])
    except Invalid as error:
        raise Invalid("tx_id", str(error)) from None
    require(envelope["keyId"] == body["author"], "tx_id", "not in its stored form")
    require(tx_id(envelope["body"]) == receipt["txId"], "tx_id", "not the hash of the body")
    require(body["genesis"] == receipt["genesis"], "genesis", "the body is another city's")
    require(key_id(key) == body["author"], "key", "not the author's")
    holds = signed(key, envelope["body"], b"citychain/tx/v1", envelope["signature"])
    require(holds, "signature", "the author's does not hold")


# --- committees


class Term:
    """A committee's time in office."""

    def __init__(self, first_round, seats, keys, previous, recovery=None):
        self.first_round = first_round
        self.seats = seats  # (key id, stake) in order
        self.keys = keys  # by key id
        self.previous = previous  # hash of the checkpoint of the round before the first
        self.recovery = recovery  # id of the transaction by which the operator put it in office


def committee_of(genesis, handovers, round):
    """The terms up to the one in office in a round, by handovers that lead there."""
    terms = [Term(1, genesis.seats, genesis.keys, genesis.id)]
    for handover in handovers:
        try:
            term = handed_over(genesis, terms, handover)
        except Invalid as error:
            raise Invalid("handover", str(error)) from None
        terms.append(term)
    require(terms[-1].first_round <= round, "handover", "one that has no part in it")
    return terms


def handed_over(genesis, terms, handover):
    """The term that a handover begins."""
    last = terms[-1]
    if handover["recovery"] is not None:
        recovery, term = recovered(genesis, handover)
        require(term.first_round >= last.first_round, "handover", "not a later one")
        known = [earlier.recovery for earlier in terms]
        require(term.recovery not in known, "handover", "given twice")
        if term.first_round == last.first_round:
            require(term.previous == last.previous, "handover", "another round before it")
        operator_signed = signed(
            genesis.operator, recovery["body"], b"citychain/tx/v1", recovery["signature"]
        )
        require(operator_signed, "handover", "not signed by the operator")
        return term
    checkpoint = certified(genesis, terms, handover["checkpoint"], handover["certificate"])
    seats = checkpoint["next_committee"]
    require(seats is not None, "handover", "elects nobody")
    require(checkpoint["round"] >= last.first_round, "handover", "not a later one")
    digest = checkpoint_hash(handover["checkpoint"])
    return Term(checkpoint["round"] + 1, seats, keys_of(seats, handover), digest)


def recovered(genesis, handover):
    envelope = handover["recovery"]
    check_envelope(envelope)
    body = parse_body(envelope["body"])
    recovery = body["recovery"]
    require(recovery is not None, "handover", "no recovery")
    require(body["genesis"] == genesis.id, "handover", "another city's")
    author = body["author"]
    require(
        envelope["keyId"] == author == key_id(genesis.operator), "handover", "not the operator's"
    )
    seats = [(seat["keyId"], seat["stake"]) for seat in recovery["seats"]]
    keys = keys_of(seats, handover)
    first_round, previous = recovery["fromRound"], recovery["previous"]
    return envelope, Term(first_round, seats, keys, previous, tx_id(envelope["body"]))


def keys_of(seats, handover):
    """Public keys by key id, given in order of the seats."""
    keys = {key_id(key): key for key in handover["publicKeys"]}
    ids = [key_id(key) for key in handover["publicKeys"]]
    require(ids == [seat for seat, _ in seats], "handover", "keys of other seats")
    require(len(keys) == len(seats), "handover", "two seats of one key")
    require(all(stake >= 1 for _, stake in seats), "handover", "a seat without stake")
    return keys


def certified(genesis, terms, encoded, certificate):
    """A checkpoint, decoded, that the last of these committees certified."""
    digest = checkpoint_hash(encoded)
    require(certificate["checkpointHash"] == digest, "checkpoint", "another is certified")
    try:
        checkpoint = parse_checkpoint(encoded)
    except ValueError as error:
        raise Invalid("checkpoint", str(error)) from None
    require(checkpoint["genesis"] == genesis.id, "genesis", "the checkpoint is another city's")
    require(checkpoint["rule"] == genesis.rule, "checkpoint", "of another rule")
    round, term = checkpoint["round"], terms[-1]
    require(round >= 1 and certificate["round"] == round, "checkpoint", "of another round")
    if round == term.first_round:
        require(checkpoint["previous"] == term.previous, "checkpoint", "does not follow")
    # Rounds that were sealed before a recovery name the committee that it replaced.
    index = len(terms) - 1
    nameable = [terms[index].seats]
    while terms[index].recovery:
        index -= 1
        nameable.append(terms[index].seats)
    named = sorted(checkpoint["committee"])
    require(named in map(sorted, nameable), "handover", "names a committee that is not in office")
    stakes, votes = dict(term.seats), certificate["votes"]
    voters = [vote["keyId"] for vote in votes]
    require(len(set(voters)) == len(voters), "quorum", "two votes of one key")
    require(set(voters) <= stakes.keys(), "quorum", "a vote without a seat")
    voted, total = sum(stakes[voter] for voter in voters), sum(stakes.values())
    enough = 2 * voted > total if genesis.quorum == "majority" else 3 * voted >= 2 * total
    require(enough, "quorum", f"{voted} of {total} signed")
    message = vote_message(genesis.id, round, digest)
    for vote in votes:
        holds = signed(term.keys[vote["keyId"]], message, b"citychain/vote/v1", vote["signature"])
        require(holds, "quorum", "a vote's signature does not hold")
    return checkpoint


def check_poh(genesis, checkpoint):
    prev, num_hashes, mixin, poh = checkpoint["poh"]
    require(num_hashes == genesis.num_hashes, "poh", "another number of hashes")
    require(mixin == checkpoint["mixin"], "poh", "mixes in another checkpoint")
    require(poh == poh_hash(prev, num_hashes, mixin), "poh", "the hash is wrong")


# --- acknowledgements


def load_promise(text):
    """A transaction's place under a signed acknowledgement, from its file."""
    lengths = {"genesis": 32, "tx_id": 32, "root": 32, "signature": SIGNATURE_BYTES}
    numbers = {"format", "leaf_index", "size", "received_ms", "final_by_ms"}
    try:
        promise = load_json(text.decode())
        require(promise.keys() == {*lengths, *numbers, "path"}, "form", "other members")
        require(all(type(promise[name]) is int for name in numbers), "form", "no number")
        require(promise["format"] == 1, "form", "another format")
        for name, length in lengths.items():
            promise[name] = from_hex(promise[name], length)
        promise["path"] = [from_hex(sibling, 32) for sibling in promise["path"]]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid("form", str(error)) from None
    return promise


def from_hex(text, length):
    if not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text):
        raise ValueError(f"not {length} bytes in hexadecimal")
    return bytes.fromhex(text)


def verify_promise(genesis, promise):
    size, received, final_by = (promise[n] for n in ("size", "received_ms", "final_by_ms"))
    require(0 <= promise["leaf_index"] < size < 1 << 32, "form", "no such place")
    require(len(promise["path"]) <= 32, "form", "a longer path than any")
    require(0 <= received <= final_by < 1 << 63, "form", "no such times")
    require(promise["genesis"] == genesis.id, "genesis", "another city's")
    message = genesis.id + promise["root"] + be(size, 4) + be(received, 8) + be(final_by, 8)
    context = b"citychain/acknowledgement/v1"
    holds = signed(genesis.operator, message, context, promise["signature"])
    require(holds, "signature", "the operator's does not hold")
    check_inclusion(promise["tx_id"], promise["leaf_index"], size, promise["path"], promise["root"])


# --- presence


def presence_message(genesis, author, presence):
    """What a witness signs, context `citychain/presence/v1`."""
    return b"".join(
        (
            genesis,
            author,
            presence["latitudeE7"].to_bytes(4, "big", signed=True),
            presence["longitudeE7"].to_bytes(4, "big", signed=True),
            be(presence["accuracyM"], 4),
            be(presence["firstRound"], 8),
            be(presence["lastRound"], 8),
            presence["anchor"],
        )
    )


def objection_message(genesis, round, checkpoint, check, detail):
    """What a representative that does not vote signs, context `citychain/objection/v1`."""
    check, detail = check.encode(), detail.encode()
    counted = be(len(check), 1) + check + be(len(detail), 2) + detail
    return vote_message(genesis, round, checkpoint) + counted


def pop_hash(genesis, round, transaction, policy, standing=b""):
    """`policy` 0 none, 1 claimed, 2 witnessed; `standing` is the author's $presence object."""
    place = be(round, 8) + transaction + be(policy, 1)
    return sha256(b"citychain/pop/v1\0", genesis, place, standing)


def main(arguments):
    if len(arguments) < 2:
        print("usage: python verifier.py GENESIS RECEIPT...", file=sys.stderr)
        return 2
    try:
        genesis = Genesis(Path(arguments[0]).read_bytes())
    except (OSError, ValueError, KeyError) as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    worst = 0
    for path in arguments[1:]:
        try:
            replaced = verify_receipt(genesis, load_receipt(Path(path).read_bytes()))
        except OSError as error:
            print(f"UNREADABLE  {path}  {error.strerror}")
            worst = 2
        except Invalid as error:
            print(f"INVALID  {path}  {error}")
            worst = max(worst, 1)
        else:
            print(f"VALID    {path}")
            for round in replaced:
                print(f"         the operator replaced the committee from round {round} on")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
