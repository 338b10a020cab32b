"""Vectors of receipts: for each check of docs/protocol.md, what must fail by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vectors.cases import Cases
from vectors.ledger import (
    TRANSACTION_CONTEXT,
    Ledger,
    Sealed,
    body,
    envelope,
    flipped,
    id_of,
    key,
    public_keys,
    seats,
    sign,
    tx_id,
)

from citychain import checkpoint as checkpoints
from citychain.crypto import poh
from citychain.rpc._generated.citychain.v1 import ledger_pb2, transaction_pb2
from citychain.types import Rejection, Seat

Receipt = ledger_pb2.Receipt
ELECTED = {"dov": 3, "eve": 1}
SECOND = {"fay": 1}
RECOVERED = {"gus": 2, "hal": 1}


def harbour() -> Ledger:
    """A city with two elections, a recovery, and another election."""
    city = Ledger("harbour", {"ann": 2, "ben": 1, "cho": 1})
    genesis = city.genesis.id
    first = Sealed("amy", body("amy", genesis, 1), [genesis])
    refused = Sealed(
        "bob", body("bob", genesis, 2), Rejection("CONFLICT", "at version 1, not 0: quai é")
    )
    one = city.seal(first, refused, voters=("ann", "ben"))
    transfer = transaction_pb2.Transfer(asset="coin", to=id_of("bob"), amount=5)
    second = Sealed(
        "amy", body("amy", genesis, 3, transfer=transfer), [_node(one)], bytes(range(32))
    )
    two = city.seal(second, _more("bob", 4, one), voters=("ann", "cho"), elects=ELECTED)
    three = city.seal(_more("amy", 5, two), voters=("dov",), committee=ELECTED)
    four = city.seal(_more("amy", 6, three), voters=("dov",), committee=ELECTED, elects=SECOND)
    five = city.seal(_more("amy", 7, four), voters=("fay",), committee=SECOND)
    # Sealed while the second committee was in office, which was lost before it approved it.
    six = city.seal(_more("amy", 8, five), voters=("gus",), committee=SECOND)
    seven = city.seal(_more("amy", 9, six), voters=("gus",), committee=RECOVERED, elects={"ann": 1})
    city.seal(_more("amy", 10, seven), voters=("ann",), committee={"ann": 1})
    return city


def market() -> Ledger:
    """A city where a majority is enough, and three of five is no more than that."""
    city = Ledger("market", {"ann": 3, "ben": 2}, "majority")
    city.seal(Sealed("amy", body("amy", city.genesis.id), [city.genesis.id]), voters=("ann",))
    return city


def _node(made: Any, seq: int = 0) -> bytes:
    node_id = made.node_ids[seq]
    assert node_id is not None
    return bytes(node_id)


def _more(author: str, number: int, before: Any) -> Sealed:
    return Sealed(author, body(author, before.fields["genesis"], number), [_node(before)])


def wire(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


class Bad:
    """Spoils one good receipt in many ways."""

    def __init__(self, cases: Cases, city: Ledger, of: str, good: Receipt) -> None:
        self.cases, self.city, self.of, self.good = cases, city, of, good

    def raw(self, check: str | None, name: str, data: bytes) -> None:
        self.cases.bad(f"{self.of}: {name}", check, self.of, data, city=self.city.genesis.city)

    def __call__(self, check: str | None, name: str, change: Callable[[Receipt], object]) -> None:
        message = Receipt()
        message.CopyFrom(self.good)
        change(message)
        self.raw(check, name, wire(message))

    def checkpoint(
        self,
        check: str,
        name: str,
        voters: Sequence[str],
        poh: Callable[[bytes], bytes] = bytes,
        **fields: Any,
    ) -> None:
        """Another checkpoint, certified as the good one is."""
        made = self.city.rounds[self.good.round - 1]
        encoded, _ = self.city.complete({**made.fields, **fields}, made.poh.prev)
        encoded = poh(encoded)

        def change(message: Receipt) -> None:
            message.checkpoint = encoded
            message.certificate.CopyFrom(self.city.certificate(encoded, self.good.round, voters))

        self(check, name, change)


def file() -> tuple[Cases, dict[str, Ledger]]:
    """All of them, and the cities that they are of."""
    city, other = harbour(), market()
    cases = Cases(
        "Receipts in their wire form. Bad ones are a good one (of) with so many bytes (cut) at a "
        "place (at) replaced by others (put).",
        {"genesis": {one.genesis.city: one.genesis.to_bytes().decode() for one in (city, other)}},
    )
    elections = [city.election(2, ELECTED), city.election(4, SECOND)]
    recovery = city.recovery(6, RECOVERED)
    last = city.election(7, {"ann": 1})
    good: dict[str, tuple[Ledger, Receipt]] = {
        "approved": (city, city.receipt(1, 0)),
        "rejected": (city, city.receipt(1, 1)),
        "judged": (city, city.receipt(2, 0)),
        "elected": (city, city.receipt(3, 0, elections[:1])),
        "elected twice": (city, city.receipt(5, 0, elections)),
        "recovered": (city, city.receipt(6, 0, [*elections, recovery])),
        "recovered later": (city, city.receipt(7, 0, [*elections, recovery])),
        "elected again": (city, city.receipt(8, 0, [*elections, recovery, last])),
        "by majority": (other, other.receipt(1, 0)),
    }
    removed = Receipt()
    removed.CopyFrom(good["approved"][1])
    removed.ClearField("transaction")
    removed.ClearField("public_key")
    good["removed"] = (city, removed)
    for name, (ledger, receipt) in good.items():
        cases.good(name, wire(receipt), city=ledger.genesis.city)
    bad = {name: Bad(cases, ledger, name, receipt) for name, (ledger, receipt) in good.items()}
    _form(bad["approved"], bad["rejected"], bad["removed"])
    _transaction(bad["approved"])
    _checkpoint(bad["approved"], bad["by majority"])
    _place(bad["approved"], bad["rejected"], bad["judged"])
    _elections(bad["elected"], bad["elected twice"])
    _recoveries(bad["recovered"], bad["recovered later"], bad["elected again"])
    return cases, {"harbour": city, "market": other}


def _form(approved: Bad, rejected: Bad, removed: Bad) -> None:
    data = wire(approved.good)
    approved.raw("form", "cut", data[:-1])
    approved.raw("form", "an unknown field", data + b"\x78\x01")
    approved.raw("form", "a default", data + b"\x68\x00")
    approved.raw("form", "a field twice", data[:34] + data)
    approved.raw("form", "fields out of order", data[34:68] + data[:34] + data[68:])
    approved.raw("form", "a longer varint", data[:1] + b"\xa0\x00" + data[2:])
    approved.raw("form", "a longer tag", b"\x8a\x00" + data[1:])
    approved.raw("form", "another wire type", b"\x08\x20" + data[34:])
    approved("form", "a short genesis", lambda r: setattr(r, "genesis", bytes(31)))
    approved("form", "a short id", lambda r: setattr(r, "tx_id", bytes(31)))
    approved("form", "a node of another id", lambda r: setattr(r.node, "tx_id", bytes(32)))
    approved("form", "a node of another round", lambda r: setattr(r.node, "round", 2))
    approved("form", "a node of another seq", lambda r: setattr(r.node, "seq", 1))
    approved("form", "a node with its author", lambda r: setattr(r.node, "author", bytes(32)))
    approved("form", "a node with its rule", lambda r: setattr(r.node, "rule", "sealed-rounds/1"))
    approved("form", "a node with its time", lambda r: setattr(r.node, "time_ms", 1))
    approved("form", "a node with its poh", lambda r: setattr(r.node, "poh", bytes(32)))
    approved("form", "a parent with its round", lambda r: setattr(r.node.parents[0], "round", 1))
    approved("form", "a parent with its seq", lambda r: setattr(r.node.parents[0], "seq", 1))
    approved("form", "a short node id", lambda r: setattr(r.node, "node_id", bytes(31)))
    approved("form", "a short judgement", lambda r: setattr(r.node, "pop", bytes(31)))
    approved("form", "a short parent", lambda r: setattr(r.node.parents[0], "node_id", b"x"))
    approved("form", "no parent", lambda r: r.node.ClearField("parents"))
    approved("form", "a parent twice", lambda r: r.node.parents.add(node_id=r.genesis))
    approved(
        "form",
        "nine parents",
        lambda r: [r.node.parents.add(node_id=bytes([n] * 32)) for n in range(8)],
    )
    approved("form", "a node and a rejection", lambda r: setattr(r.rejection, "code", "RULE"))
    approved("form", "neither", lambda r: r.ClearField("node"))
    approved("form", "round 0", lambda r: (setattr(r, "round", 0), setattr(r.node, "round", 0)))
    approved("form", "no key", lambda r: r.ClearField("public_key"))
    approved("form", "no transaction", lambda r: r.ClearField("transaction"))
    approved("form", "a short key", lambda r: setattr(r, "public_key", r.public_key[1:]))
    approved("form", "a short sibling", lambda r: r.inclusion.__setitem__(0, bytes(31)))
    approved("form", "65 siblings", lambda r: r.inclusion.extend([bytes(32)] * 64))
    approved("form", "no certificate", lambda r: r.ClearField("certificate"))
    approved("form", "a short hash", lambda r: setattr(r.certificate, "checkpoint_hash", b"x"))
    approved("form", "a short voter", lambda r: setattr(r.certificate.votes[0], "key_id", b"x"))
    approved("form", "a short vote", lambda r: setattr(r.certificate.votes[0], "signature", b"x"))
    approved("form", "an empty handover", lambda r: r.handovers.add())
    rejected("form", "no code", lambda r: setattr(r.rejection, "code", ""))
    rejected("form", "small letters", lambda r: setattr(r.rejection, "code", "conflict"))
    rejected("form", "a long code", lambda r: setattr(r.rejection, "code", "C" * 33))
    rejected("form", "a long reason", lambda r: setattr(r.rejection, "reason", "é" * 128))
    removed("genesis", "another city", lambda r: setattr(r, "genesis", bytes(32)))
    removed("form", "its key", lambda r: setattr(r, "public_key", key("amy").public_key))


def _transaction(approved: Bad) -> None:
    city = approved.city
    other = body("amy", city.genesis.id, 99)

    def signed(author: str, content: bytes) -> Callable[[Receipt], object]:
        def change(message: Receipt) -> None:
            message.transaction.CopyFrom(envelope(author, content))
            message.public_key = key(author).public_key
            message.tx_id = message.node.tx_id = tx_id(content)

        return change

    def by_value(message: Receipt) -> None:
        message.transaction.public_key = message.public_key

    def foreign_context(message: Receipt) -> None:
        message.transaction.signature = sign(
            "amy", message.transaction.body, checkpoints.VOTE_CONTEXT
        )

    def more(message: Receipt) -> None:
        message.transaction.MergeFromString(b"\x30\x01")

    approved("form", "a transaction with an unknown field", more)
    approved("form", "an empty transaction", lambda r: r.transaction.Clear())
    approved("genesis", "another city", lambda r: setattr(r, "genesis", bytes(32)))
    approved("genesis", "signed for another city", signed("amy", body("amy", bytes(32), 1)))
    approved(
        "tx_id",
        "another id",
        lambda r: (setattr(r, "tx_id", bytes(32)), setattr(r.node, "tx_id", bytes(32))),
    )
    approved(
        "tx_id", "another transaction", lambda r: r.transaction.CopyFrom(envelope("amy", other))
    )
    approved("tx_id", "a body that breaks a rule", signed("amy", other + b"\x48\x01"))
    approved("tx_id", "the key by value", by_value)
    approved("tx_id", "another signer", lambda r: setattr(r.transaction, "key_id", bytes(32)))
    approved("tx_id", "no signer", lambda r: r.transaction.ClearField("key_id"))
    approved("tx_id", "another scheme", lambda r: setattr(r.transaction, "scheme", 2))
    approved("tx_id", "no scheme", lambda r: r.transaction.ClearField("scheme"))
    approved("tx_id", "a cut signature", lambda r: setattr(r.transaction, "signature", b"x"))
    approved("key", "another key", lambda r: setattr(r, "public_key", key("bob").public_key))
    approved(
        "signature",
        "an altered signature",
        lambda r: setattr(r.transaction, "signature", flipped(r.transaction.signature, 99)),
    )
    approved("signature", "signed for another purpose", foreign_context)


def _checkpoint(approved: Bad, majority: Bad) -> None:
    city, voters = approved.city, ("ann", "ben")
    second = city.rounds[1]

    def certify(voters: Sequence[str], number: int = 1) -> Callable[[Receipt], object]:
        return lambda r: r.certificate.CopyFrom(city.certificate(r.checkpoint, number, voters))

    def later(message: Receipt) -> None:
        message.checkpoint = second.checkpoint
        message.certificate.CopyFrom(second.certificate)

    approved(
        "checkpoint", "another checkpoint", lambda r: setattr(r, "checkpoint", second.checkpoint)
    )
    approved("checkpoint", "of a later round", later)
    approved("checkpoint", "certified for another round", certify(voters, 2))
    for name, encode in (
        ("another version", lambda c: b"\0\2" + c[2:]),
        ("a byte more", lambda c: c + b"\0"),
        ("a byte less", lambda c: c[:-1]),
        ("a rule that is no text", lambda c: c.replace(b"sealed", b"\xffealed")),
    ):
        approved.checkpoint("checkpoint", name, voters, encode)
    approved.checkpoint("checkpoint", "another rule", voters, rule="sealed-rounds/2")
    approved.checkpoint("checkpoint", "numbered otherwise", voters, round=2)
    approved.checkpoint("checkpoint", "after another beginning", voters, previous=bytes(32))
    approved.checkpoint("genesis", "a checkpoint of another city", voters, genesis=bytes(32))
    strangers = seats({"ann": 2, "ben": 1, "zoe": 1})
    approved.checkpoint("handover", "another committee", voters, committee=strangers)
    more = seats({"ann": 3, "ben": 1, "cho": 1})
    approved.checkpoint("handover", "other stakes", voters, committee=more)
    approved("quorum", "no vote", certify(()))
    approved("quorum", "too little stake", certify(("ben", "cho")))
    approved("quorum", "a vote twice", certify(("ann", "ann")))
    approved("quorum", "a stranger's vote", certify(("ann", "ben", "zoe")))
    approved("quorum", "a vote for another round", lambda r: _foreign_vote(city, r, 2))
    approved(
        "quorum",
        "an altered vote",
        lambda r: setattr(
            r.certificate.votes[1], "signature", flipped(r.certificate.votes[1].signature, 7)
        ),
    )
    majority(
        "quorum",
        "less than half",
        lambda r: r.certificate.CopyFrom(majority.city.certificate(r.checkpoint, 1, ("ben",))),
    )
    # The entry, at the end: prev 32, num_hashes 8, mixin 32, hash 32.
    for name, at in (("another prev", 104), ("another hash", 1)):
        approved.checkpoint("poh", name, voters, lambda c, at=at: flipped(c, len(c) - at))
    approved.checkpoint("poh", "fewer hashes", voters, lambda c: _entered(c, num_hashes=2))
    approved.checkpoint("poh", "more hashes", voters, lambda c: _entered(c, num_hashes=4))
    approved.checkpoint("poh", "another mixin", voters, lambda c: _entered(c, mixin=bytes(32)))


def _entered(checkpoint: bytes, **fields: Any) -> bytes:
    """The checkpoint with another entry, which is right in itself."""
    entry = checkpoints.decode(checkpoint).poh._replace(**fields)
    hash = poh.extend(entry.prev, entry.num_hashes, entry.mixin)
    return checkpoints.with_poh(checkpoints.without_poh(checkpoint), entry._replace(hash=hash))


def _foreign_vote(city: Ledger, message: Receipt, number: int) -> None:
    votes = city.certificate(message.checkpoint, number, ("ann", "ben")).votes
    message.certificate.ClearField("votes")
    message.certificate.votes.extend(votes)


def _place(approved: Bad, rejected: Bad, judged: Bad) -> None:
    approved("node", "another node id", lambda r: setattr(r.node, "node_id", bytes(32)))
    approved("node", "another seq", lambda r: (setattr(r, "seq", 1), setattr(r.node, "seq", 1)))
    approved("node", "another parent", lambda r: setattr(r.node.parents[0], "node_id", bytes(32)))
    approved("node", "one parent more", lambda r: r.node.parents.add(node_id=bytes(32)))
    approved("node", "a judgement", lambda r: setattr(r.node, "pop", bytes(32)))
    judged("node", "no judgement", lambda r: r.node.ClearField("pop"))
    judged("node", "another judgement", lambda r: setattr(r.node, "pop", bytes(32)))
    for bad in (approved, rejected):
        bad("inclusion", "another leaf", lambda r: setattr(r, "leaf_index", 1 - r.leaf_index))
        bad("inclusion", "no such leaf", lambda r: setattr(r, "leaf_index", 2))
        bad("inclusion", "another sibling", lambda r: r.inclusion.__setitem__(0, bytes(32)))
        bad("inclusion", "no sibling", lambda r: r.ClearField("inclusion"))
        bad("inclusion", "a sibling more", lambda r: r.inclusion.append(bytes(32)))
    rejected("inclusion", "another code", lambda r: setattr(r.rejection, "code", "EXPIRED"))
    rejected("inclusion", "another reason", lambda r: setattr(r.rejection, "reason", ""))
    rejected("inclusion", "another seq", lambda r: setattr(r, "seq", 2))


def _elections(elected: Bad, twice: Bad) -> None:
    city = elected.city

    def handover(change: Callable[[Any], object], at: int = 0) -> Callable[[Receipt], object]:
        return lambda r: change(r.handovers[at])

    def again(votes: Sequence[str], **fields: Any) -> Callable[[Receipt], object]:
        """The election by another checkpoint."""

        def change(message: Receipt) -> None:
            made = city.rounds[1]
            encoded, _ = city.complete({**made.fields, **fields}, made.poh.prev)
            given = message.handovers[0]
            given.checkpoint = encoded
            given.certificate.CopyFrom(city.certificate(encoded, 2, votes))

        return change

    elected("handover", "missing", lambda r: r.ClearField("handovers"))
    elected("handover", "twice", lambda r: r.handovers.append(r.handovers[0]))
    elected("handover", "one too many", lambda r: r.handovers.append(twice.good.handovers[1]))
    elected("handover", "too little stake", again(("ben", "cho")))
    elected("handover", "by itself", again(("dov", "eve")))
    elected("handover", "elects nobody", again(("ann", "ben"), next_committee=None))
    elected("handover", "elects others", again(("ann", "ben"), next_committee=seats({"zoe": 1})))
    no_stake = tuple(Seat(key_id, 0) for key_id, _ in seats(ELECTED))
    elected("handover", "seats without stake", again(("ann", "ben"), next_committee=no_stake))
    elected("handover", "by another rule", again(("ann", "ben"), rule="other/1"))
    elected("handover", "in another city", again(("ann", "ben"), genesis=bytes(32)))
    elected("handover", "by another committee", again(("ann", "ben"), committee=seats({"ann": 2})))
    elected(
        "handover",
        "another hash",
        handover(lambda h: setattr(h.certificate, "checkpoint_hash", bytes(32))),
    )
    elected("handover", "another round", handover(lambda h: setattr(h.certificate, "round", 3)))
    elected(
        "handover",
        "an altered vote",
        handover(
            lambda h: setattr(
                h.certificate.votes[0], "signature", flipped(h.certificate.votes[0].signature, 0)
            )
        ),
    )
    elected("handover", "a key less", handover(lambda h: h.public_keys.pop()))
    elected("handover", "other keys", handover(lambda h: h.public_keys.reverse()))
    elected(
        "handover",
        "a checkpoint of another layout",
        handover(lambda h: setattr(h, "checkpoint", h.checkpoint[1:])),
    )
    elected("form", "without a certificate", handover(lambda h: h.ClearField("certificate")))
    elected("form", "without a checkpoint", handover(lambda h: h.ClearField("checkpoint")))
    elected("form", "a short key", handover(lambda h: h.public_keys.__setitem__(0, b"x")))
    elected(
        "quorum",
        "approved by the old committee",
        lambda r: r.certificate.CopyFrom(city.certificate(r.checkpoint, 3, ("ann", "ben"))),
    )
    _election_to(elected, "two seats of one key", 2, (Seat(id_of("dov"), 3), Seat(id_of("dov"), 1)))
    twice("handover", "without the first", lambda r: r.handovers.pop(0))
    twice("handover", "without the last", lambda r: r.handovers.pop())
    twice("handover", "in another order", lambda r: r.handovers.append(r.handovers.pop(0)))
    elected.checkpoint("checkpoint", "after another election", ("dov",), previous=bytes(32))
    elected.checkpoint(
        "handover", "names the old committee", ("dov",), committee=city.genesis.seats
    )


def _election_to(bad: Bad, name: str, number: int, elected: tuple[Seat, ...]) -> None:
    """A handover by another checkpoint of a round, and one of the receipt's that goes on from it,
    by key "dov": all fits, but that such an election must not be."""
    city, made = bad.city, bad.city.rounds[bad.good.round - 1]
    before = city.rounds[number - 1]
    voters = ["gus"] if number == 5 else ["ann", "ben"]

    def change(message: Receipt) -> None:
        electing, _ = city.complete({**before.fields, "next_committee": elected}, before.poh.prev)
        given = message.handovers[0] if len(message.handovers) == 1 else message.handovers.add()
        given.CopyFrom(
            ledger_pb2.Handover(
                checkpoint=electing,
                certificate=city.certificate(electing, number, voters),
                public_keys=[key("dov").public_key for _ in elected],
            )
        )
        fields = {"committee": elected, "previous": checkpoints.checkpoint_hash(electing)}
        encoded, _ = city.complete({**made.fields, **fields}, made.poh.prev)
        message.checkpoint = encoded
        message.certificate.CopyFrom(city.certificate(encoded, made.number, ["dov"]))

    bad("handover", name, change)


def _recoveries(recovered: Bad, later: Bad, again: Bad) -> None:
    city = recovered.city

    def replaced(handover: Any, at: int = 2) -> Callable[[Receipt], object]:
        return lambda r: r.handovers[at].CopyFrom(handover)

    first = city.recovery(6, {"ike": 1})

    def altered(message: Receipt) -> None:
        envelope = message.handovers[2].recovery
        envelope.signature = flipped(envelope.signature, 0)

    def strange(message: Receipt) -> None:
        message.handovers[2].CopyFrom(city.recovery(6, RECOVERED, operator="zoe"))
        given = message.handovers[2].recovery
        given.signature = sign("operator", given.body, TRANSACTION_CONTEXT)

    def no_recovery(message: Receipt) -> None:
        content = body("operator", city.genesis.id)
        message.handovers[2].recovery.CopyFrom(envelope("operator", content))

    def by_value(message: Receipt) -> None:
        message.handovers[2].recovery.public_key = key("operator").public_key

    recovered(None, "by a second recovery", lambda r: r.handovers.insert(2, first))
    recovered("quorum", "missing", lambda r: r.handovers.pop())
    recovered("form", "an empty recovery", lambda r: r.handovers[2].recovery.Clear())
    recovered("handover", "twice", lambda r: r.handovers.append(r.handovers[2]))
    recovered("handover", "by a stranger", replaced(city.recovery(6, RECOVERED, operator="zoe")))
    recovered(
        "handover", "in another city", replaced(city.recovery(6, RECOVERED, genesis=bytes(32)))
    )
    recovered("handover", "from a later round", replaced(city.recovery(7, RECOVERED)))
    recovered("handover", "from an earlier round", replaced(city.recovery(4, RECOVERED)))
    recovered(
        "checkpoint",
        "after another round",
        replaced(city.recovery(6, RECOVERED, previous=bytes(32))),
    )
    recovered(
        "handover",
        "instead of an election, after another round",
        replaced(city.recovery(5, RECOVERED, previous=bytes(32))),
    )
    recovered("handover", "an altered signature", altered)
    recovered("handover", "a stranger's, signed by the operator", strange)
    # By the new committee, of a round before it was in office.
    _election_to(recovered, "and an election before it", 5, seats({"dov": 1}))
    recovered("handover", "another action", no_recovery)
    recovered("handover", "the key by value", by_value)
    recovered("handover", "keys of others", lambda r: r.handovers[2].ClearField("public_keys"))
    recovered("form", "and an election", lambda r: r.handovers[2].MergeFrom(r.handovers[0]))
    recovered(
        "quorum",
        "approved by the lost committee",
        lambda r: r.certificate.CopyFrom(city.certificate(r.checkpoint, 6, ("fay",))),
    )
    later.checkpoint(
        "handover", "names a committee from before the lost one", ("gus",), committee=seats(ELECTED)
    )
    again("handover", "without the recovery", lambda r: r.handovers.pop(2))
    again.checkpoint("handover", "names the lost committee", ("ann",), committee=seats(SECOND))
    again(
        "handover",
        "the lost one votes for it",
        lambda r: r.handovers[3].certificate.CopyFrom(
            city.certificate(r.handovers[3].checkpoint, 7, ("fay",))
        ),
    )
    assert public_keys(RECOVERED)
