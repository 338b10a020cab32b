"""The vectors say the same to citychain and to the verifier that is no part of it.

Each file of tests/vectors is read by both; a bad case fails in both by the check that it names.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import primitives
import pytest
import transactions as plain_transactions
import verifier
from vectors import generate
from vectors.cases import bytes_of

from citychain import acknowledgement, election, node, presence, receipt
from citychain import checkpoint as checkpoints
from citychain._native.transactions import Limits, Refusal, Transaction, check_batch, decode_batch
from citychain.crypto import merkle, poh, signatures
from citychain.crypto.keys import key_id
from citychain.errors import (
    ConfigurationError,
    InvalidAcknowledgement,
    InvalidProof,
    InvalidReceipt,
    VerificationError,
)
from citychain.genesis import Genesis, escrow_account, stake_account
from citychain.receipt import ReceiptVerifier
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages import parse_receipt
from citychain.types import PohEntry, Presence, Rejection, Seat

FOLDER = Path(generate.__file__).parent
SIZE_MAX = 3 << 20


@cache
def content(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@cache
def case_bytes(name: str) -> dict[str, bytes]:
    return bytes_of(content(name)["cases"])


def each(name: str, items: str = "cases") -> Any:
    """A parameter for each case of a file."""
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.get("name")) for case in content(name)[items]]
    )


def hexed(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def test_the_vectors_are_made_again_byte_for_byte() -> None:
    files = generate.files()
    assert set(files) == {path.name for path in FOLDER.glob("*.json")}
    for name, made in files.items():
        assert (FOLDER / name).read_bytes() == made, name
    assert sum(map(len, files.values())) < SIZE_MAX


def test_the_protocols_worked_example_works() -> None:
    text = (FOLDER.parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^([a-z][a-z ]*[a-z]) +([0-9a-f]{64})$", text, re.MULTILINE))
    genesis, tx_id, author = b"\1" * 32, b"\2" * 32, key_id(bytes(2592))
    content = b"\x82\x01\x04\x12\x02hi"
    body = b"\x0a\x20" + genesis + b"\x12\x20" + author
    body += b"\x1a\x08" + bytes(range(8)) + b"\x20\x01" + content
    fields = {"round": 1, "tx_id": tx_id}
    node_id = node.node_id(
        rule="sealed-rounds/1", genesis=genesis, seq=0, parents=[genesis], **fields
    )
    conflict = Rejection("CONFLICT", "")
    leaves = merkle.leaf_hashes(
        [
            node.log_leaf(seq=0, node_id=node_id, rejection=None, **fields),
            node.log_leaf(seq=1, node_id=None, rejection=conflict, **fields),
        ]
    )
    tree = merkle.Tree()
    tree.append(leaves)
    written = checkpoints.body_bytes(
        genesis=genesis,
        round=1,
        previous=genesis,
        root=tree.root(),
        size=2,
        rule="sealed-rounds/1",
        record_hash=b"\3" * 32,
        committee=(Seat(author, 1),),
        next_committee=None,
    )
    mixin = checkpoints.mixin(written)
    entry = PohEntry(genesis, 3, mixin, poh.extend(genesis, 3, mixin))
    made = {
        "key id": author,
        "transaction id": primitives.tx_id(body),
        "node id": node_id,
        "leaf hash": leaves[:32],
        "its hash": leaves[32:],
        "log root": tree.root(),
        "mixin": mixin,
        "entry hash": entry.hash,
        "checkpoint": checkpoints.checkpoint_hash(checkpoints.with_poh(written, entry)),
    }
    assert {name: digest.hex() for name, digest in made.items()} == told


# --- ids and layouts


def test_ids() -> None:
    ids = content("ids")
    genesis, key, transaction = ids["genesis"], ids["key"], ids["transaction"]
    file, public_key = genesis["file"].encode(), bytes.fromhex(key["public_key"])
    assert signatures.SigningKey(bytes.fromhex(key["seed"])).public_key == public_key
    for made in (Genesis.id_of(file), Genesis.from_bytes(file).id, verifier.Genesis(file).id):
        assert made.hex() == genesis["id"]
    for made in (key_id(public_key), primitives.key_id(public_key)):
        assert made.hex() == key["id"]
    assert primitives.tx_id(bytes.fromhex(transaction["body"])).hex() == transaction["id"]
    account = ids["stake_account"]
    owner = bytes.fromhex(account["key_id"])
    assert primitives.sha256(b"citychain/stake/v1\0", owner).hex() == account["id"]
    assert stake_account(owner).hex() == account["id"]
    account = ids["escrow_account"]
    city = bytes.fromhex(account["city"])
    assert primitives.sha256(b"citychain/escrow/v1\0", city).hex() == account["id"]
    assert escrow_account(city).hex() == account["id"]


@each("nodes")
def test_nodes(case: dict[str, Any]) -> None:
    place = (case["round"], case["seq"], bytes.fromhex(case["tx_id"]))
    fields = dict(zip(("round", "seq", "tx_id"), place, strict=True))
    if "code" in case:
        leaf = verifier.rejected_leaf(*place, case["code"], case["reason"])
        rejection = Rejection(case["code"], case["reason"])
        assert node.log_leaf(node_id=None, rejection=rejection, **fields) == leaf
    else:
        parents = [bytes.fromhex(parent) for parent in case["parents"]]
        pop, genesis = bytes.fromhex(case["pop"] or ""), bytes.fromhex(case["genesis"])
        made = verifier.node_id(case["rule"], genesis, *place, parents, pop)
        assert made.hex() == case["node_id"]
        assert made == node.node_id(
            rule=case["rule"], genesis=genesis, parents=parents, pop=pop, **fields
        )
        leaf = b"\1" + made
    assert leaf.hex() == case["leaf"]
    for digest in (merkle.hash_leaf(leaf), primitives.sha256(b"\0", leaf)):
        assert digest.hex() == case["leaf_hash"]


@each("log")
def test_log(case: dict[str, Any]) -> None:
    leaf, root = hexed(case, "leaf", "root")
    path = [bytes.fromhex(one) for one in case["path"]]
    place = case["index"], case["size"], path, root

    def ours() -> None:
        merkle.verify_inclusion(merkle.hash_leaf(leaf), *place)

    if case["check"] is None:
        ours()
        verifier.check_inclusion(leaf, *place)
        return
    with pytest.raises(InvalidProof):
        ours()
    with pytest.raises(primitives.Invalid, match=case["check"]):
        verifier.check_inclusion(leaf, *place)


@each("checkpoints")
def test_checkpoints(case: dict[str, Any]) -> None:
    data = case_bytes("checkpoints")[case["name"]]
    if case["check"] is not None:
        with pytest.raises(VerificationError):
            checkpoints.decode(data)
        with pytest.raises(ValueError):  # noqa: PT011
            verifier.parse_checkpoint(data)
        return
    ours, plain = checkpoints.decode(data), verifier.parse_checkpoint(data)
    for name, value in case["fields"].items():
        for found in (getattr(ours, name), plain[name]):
            assert _plain(found) == value
    assert tuple(ours.poh) == plain["poh"]
    for mixin in (checkpoints.mixin(checkpoints.without_poh(data)), plain["mixin"]):
        assert mixin.hex() == case["mixin"]
    for digest in (checkpoints.checkpoint_hash(data), verifier.checkpoint_hash(data)):
        assert digest.hex() == case["hash"]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return (
        [[key.hex(), stake] for key, stake in value] if isinstance(value, tuple | list) else value
    )


# --- transactions


@each("transactions")
def test_transactions(case: dict[str, Any]) -> None:
    file, envelope = content("transactions"), case_bytes("transactions")[case["name"]]
    genesis, public_key = hexed(file, "genesis", "public_key")
    author, keys = key_id(public_key), signatures.KeyCache()
    if case["known"]:
        keys.add_public_key(author, public_key)
    [ours] = check_batch([envelope], genesis, keys, Limits(), file["now_ms"])
    known = {author: public_key} if case["known"] else {}
    try:
        plain = plain_transactions.admit(envelope, genesis, file["now_ms"], known)
    except primitives.Invalid as error:
        plain = error.check
    if case["check"] is None:
        assert isinstance(ours, Transaction)
        assert ours.tx_id == plain
        # Stored, it is read again.
        [stored] = decode_batch([ours.envelope])
        assert stored.tx_id == plain
    else:
        assert isinstance(ours, Refusal)
        assert (ours.code, plain) == (case["check"], case["check"])


# --- elections, and what is signed


@each("elections")
def test_elections(case: dict[str, Any]) -> None:
    genesis = bytes.fromhex(content("elections")["genesis"])
    previous, seed = hexed(case, "previous_poh", "seed")
    epoch, hashes = case["epoch"], case["num_hashes"]
    assert poh.extend(previous, hashes, election.seed_mixin(genesis, epoch)) == seed
    assert verifier.election_seed(previous, hashes, genesis, epoch) == seed
    candidates = [(bytes.fromhex(key), stake, weight) for key, stake, weight in case["candidates"]]
    ours = election.elect(
        [election.Candidate(*one) for one in candidates], case["seats"], seed, genesis, epoch
    )
    plain = verifier.elect(candidates, case["seats"], seed, genesis, epoch)
    assert _plain(ours) == _plain([tuple(seat) for seat in plain]) == case["elected"]


@each("signed", "messages")
def test_signed_messages(case: dict[str, Any]) -> None:
    genesis = bytes.fromhex(content("signed")["genesis"])
    message, signature, public_key = hexed(case, "message", "signature", "public_key")
    fields, context = case["fields"], case["context"].encode()
    if case["name"] == "presence":
        subject, claim = bytes.fromhex(fields["subject"]), dict(fields["presence"])
        claim["anchor"] = bytes.fromhex(claim["anchor"])
        assert verifier.presence_message(genesis, subject, claim) == message
        assert presence.witness_message(genesis, subject, Presence(*claim.values(), ())) == message
        assert context == presence.WITNESS_CONTEXT
    else:
        place = genesis, fields["round"], bytes.fromhex(fields["checkpoint_hash"])
        start = checkpoints.vote_message(*place)
        if case["name"] == "vote":
            assert message == start == verifier.vote_message(*place)
            assert context == checkpoints.VOTE_CONTEXT
        else:
            plain = verifier.objection_message(*place, fields["check"], fields["detail"])
            assert plain == message
            assert message.startswith(start)
    signatures.verify(public_key, message, context, signature)
    assert primitives.signed(public_key, message, context, signature)
    for other in (message[:-1] + b"x", message + b"x"):
        assert not primitives.signed(public_key, other, context, signature)
        with pytest.raises(VerificationError):
            signatures.verify(public_key, other, context, signature)


@each("signed", "pops")
def test_judgements(case: dict[str, Any]) -> None:
    genesis = bytes.fromhex(content("signed")["genesis"])
    tx_id, standing = hexed(case, "tx_id", "standing")
    policy = presence.POLICIES[case["policy"]]
    for pop in (
        presence.pop_hash(genesis, case["round"], tx_id, policy, standing),
        verifier.pop_hash(genesis, case["round"], tx_id, case["policy"], standing),
    ):
        assert pop.hex() == case["pop"]


@each("acknowledgements")
def test_acknowledgements(case: dict[str, Any]) -> None:
    file = content("acknowledgements")
    genesis = file["genesis"].encode()
    good = {one["name"]: one["file"] for one in file["cases"] if "file" in one}
    text = (
        json.dumps(json.loads(good[case["of"]]) | case["set"]) if "of" in case else case["file"]
    ).encode()
    ours = plain = None
    try:
        promise = acknowledgement.from_json(text)
        acknowledgement.verify(Genesis.from_bytes(genesis), promise)
        assert text.decode() == acknowledgement.to_json(promise)
    except InvalidAcknowledgement as error:
        ours = error.check
    try:
        verifier.verify_promise(verifier.Genesis(genesis), verifier.load_promise(text))
    except primitives.Invalid as error:
        plain = error.check
    assert (ours, plain) == (case["check"], case["check"])


@pytest.mark.parametrize("name", ["genesis", "acknowledgement"])
def test_a_file_with_a_member_twice_is_refused_by_both(name: str) -> None:
    file = content("acknowledgements")
    genesis, promise = file["genesis"].encode(), file["cases"][0]["file"].encode()
    if name == "genesis":
        twice = genesis.replace(
            b'"quorum": "two-thirds"', b'"quorum": "majority",\n"quorum": "two-thirds"'
        )
        assert twice != genesis
        with pytest.raises(ConfigurationError, match="'quorum' is given twice"):
            Genesis.from_bytes(twice)
        with pytest.raises(ValueError, match="twice"):
            verifier.Genesis(twice)
    else:
        twice = promise.replace(b'"size": 1', b'"size": 2,\n"size": 1')
        assert twice != promise
        with pytest.raises(InvalidAcknowledgement, match="form: member 'size' is given twice"):
            acknowledgement.from_json(twice)
        with pytest.raises(primitives.Invalid, match="form"):
            verifier.load_promise(twice)


@pytest.mark.parametrize("other", ['"3"', "3.0", "true", "[3]"])
def test_a_genesis_of_other_types_is_none(other: str) -> None:
    file = content("ids")["genesis"]["file"].replace('"num_hashes": 3', f'"num_hashes": {other}')
    with pytest.raises(ConfigurationError, match="num_hashes"):
        Genesis.from_bytes(file.encode())


# --- receipts


@cache
def cities() -> dict[str, tuple[Genesis, Any]]:
    return {
        city: (Genesis.from_bytes(file.encode()), verifier.Genesis(file.encode()))
        for city, file in content("receipts")["genesis"].items()
    }


def our_verdict(genesis: Genesis, data: bytes) -> str | None:
    """The check that fails in citychain, or none."""
    try:
        ReceiptVerifier(genesis).verify(parse_receipt(data))
    except InvalidReceipt as error:
        return error.check
    return None


def plain_verdict(genesis: Any, data: bytes) -> str | None:
    """The check that fails in the independent verifier, or none."""
    try:
        verifier.verify_receipt(genesis, verifier.parse_receipt(data))
    except primitives.Invalid as error:
        return str(error.check)
    return None


@each("receipts")
def test_receipts(case: dict[str, Any]) -> None:
    data = case_bytes("receipts")[case["name"]]
    genesis, plain = cities()[case["city"]]
    assert plain_verdict(plain, data) == case["check"]
    assert our_verdict(genesis, data) == case["check"]


@pytest.mark.parametrize(("more", "check"), [(0, "handover"), (1, "form")])
def test_a_recovery_has_at_most_64_kib(more: int, check: str) -> None:
    message = ledger_pb2.Receipt.FromString(case_bytes("receipts")["recovered"])
    recovery = message.handovers[2].recovery
    recovery.body = bytes((64 << 10) - 4_670 + more)
    assert len(recovery.SerializeToString()) == (64 << 10) + more
    genesis, plain = cities()["harbour"]
    data = message.SerializeToString()
    assert (our_verdict(genesis, data), plain_verdict(plain, data)) == (check, check)


def test_each_check_of_receipts_has_one_that_fails_by_it() -> None:
    _, table, _ = (receipt.__doc__ or "").split("========== ", 2)[0:3]
    named = {line.split()[0] for line in table.splitlines() if line[:1].isalpha()}
    assert named == {case["check"] for case in content("receipts")["cases"]} - {None}
