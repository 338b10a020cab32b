"""Vectors of ids, layouts, votes, elections, acknowledgements and the log."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vectors.cases import Cases, to_file
from vectors.ledger import (
    TIME_MS,
    Ledger,
    body,
    digest,
    flipped,
    id_of,
    key,
    sign,
    tx_id,
)

from citychain import checkpoint as checkpoints
from citychain import election, node
from citychain.crypto import merkle, poh
from citychain.genesis import Genesis
from citychain.types import Rejection, Seat

VOTE_CONTEXT = checkpoints.VOTE_CONTEXT
U64_MAX = (1 << 64) - 1


def ids(city: Ledger) -> bytes:
    """Keys, transactions, stake and escrow accounts, a genesis."""
    genesis = city.genesis.to_bytes()
    content = body("amy", city.genesis.id)
    return to_file(
        {
            "about": "Ids: of keys, transactions, stake and escrow accounts and a genesis file.",
            "genesis": {"file": genesis.decode(), "id": Genesis.id_of(genesis).hex()},
            "key": {
                "seed": hashlib.sha256(b"citychain vectors: amy").hexdigest(),
                "public_key": key("amy").public_key.hex(),
                "id": id_of("amy").hex(),
            },
            "transaction": {"body": content.hex(), "id": tx_id(content).hex()},
            "stake_account": {
                "key_id": id_of("amy").hex(),
                "id": hashlib.sha256(b"citychain/stake/v1\0" + id_of("amy")).hexdigest(),
            },
            "escrow_account": {
                "city": city.genesis.id.hex(),
                "id": hashlib.sha256(b"citychain/escrow/v1\0" + city.genesis.id).hexdigest(),
            },
        }
    )


def nodes(city: Ledger) -> bytes:
    """Node ids and the leaves of the log."""
    genesis = city.genesis.id
    cases: list[dict[str, Any]] = []
    for name, round, seq, parents, pop in (
        ("the first", 1, 0, [genesis], None),
        ("the last", U64_MAX, (1 << 32) - 1, [digest(f"{n}") for n in range(8)], None),
        ("judged", 7, 3, [digest("parent")], digest("pop")),
    ):
        fields = {"round": round, "seq": seq, "tx_id": digest(name)}
        made = node.node_id(
            rule="sealed-rounds/1", genesis=genesis, parents=parents, pop=pop, **fields
        )
        leaf = node.log_leaf(node_id=made, rejection=None, **fields)
        cases.append(
            {
                "name": name,
                "rule": "sealed-rounds/1",
                "genesis": genesis.hex(),
                "round": round,
                "seq": seq,
                "tx_id": digest(name).hex(),
                "parents": [parent.hex() for parent in parents],
                "pop": pop.hex() if pop else None,
                "node_id": made.hex(),
                "leaf": leaf.hex(),
                "leaf_hash": merkle.hash_leaf(leaf).hex(),
            }
        )
    for name, code, reason in (
        ("refused", "CONFLICT", "at version 1, not 0: école"),
        ("briefly", "R", ""),
    ):
        fields = {"round": 7, "seq": 4, "tx_id": digest(name)}
        leaf = node.log_leaf(node_id=None, rejection=Rejection(code, reason), **fields)
        cases.append(
            {
                "name": name,
                "round": 7,
                "seq": 4,
                "tx_id": digest(name).hex(),
                "code": code,
                "reason": reason,
                "leaf": leaf.hex(),
                "leaf_hash": merkle.hash_leaf(leaf).hex(),
            }
        )
    return to_file({"about": "Nodes and rejections: their ids, and their leaves.", "cases": cases})


def log() -> bytes:
    """Inclusion proofs in logs of some sizes."""
    cases: list[dict[str, Any]] = []
    for size in (1, 2, 3, 7, 8):
        leaves = [bytes((number,)) for number in range(size)]
        hashes = merkle.leaf_hashes(leaves)
        tree = merkle.Tree()
        tree.append(hashes)
        for index in range(size):
            path = merkle.round_inclusions(b"", 0, hashes, [index])[0]
            cases.append(_proof(f"leaf {index} of {size}", index, size, path, tree.root(), None))
            if size == 7 and index in (2, 6):
                root = tree.root()
                for name, *changed in (
                    ("another leaf", index - 1, size, path),
                    ("another size", index, 4 if index == 2 else 8, path),
                    ("a hash less", index, size, path[:-1]),
                    ("a hash more", index, size, [*path, bytes(32)]),
                    ("no such leaf", 7, size, path),
                    ("another hash", index, size, [bytes(32), *path[1:]]),
                ):
                    place, count, proof = changed
                    name = f"leaf {index} of 7: {name}"
                    cases.append(
                        _proof(name, place, count, proof, root, "inclusion")
                        | {"leaf": f"{index:02x}"}
                    )
    return to_file({"about": "RFC 6962 inclusion proofs; leaf n is the byte n.", "cases": cases})


def _proof(
    name: str, index: int, size: int, path: list[bytes], root: bytes, check: str | None
) -> dict[str, Any]:
    return {
        "name": name,
        "leaf": f"{index:02x}",
        "index": index,
        "size": size,
        "path": [one.hex() for one in path],
        "root": root.hex(),
        "check": check,
    }


def layouts(city: Ledger) -> bytes:
    """Checkpoints: one with a next committee, one without, and none."""
    cases = Cases("Checkpoints in their layout, and what is none.")
    for name, made in (("plain", city.rounds[0]), ("electing", city.rounds[1])):
        fields = {
            field: value.hex()
            if isinstance(value, bytes)
            else _seats(value)
            if isinstance(value, tuple)
            else value
            for field, value in made.fields.items()
        }
        mixin = checkpoints.mixin(checkpoints.without_poh(made.checkpoint))
        cases.good(name, made.checkpoint, fields=fields, mixin=mixin.hex(), hash=made.hash.hex())
        data = made.checkpoint
        for what, bad in (
            ("another version", b"\0\2" + data[2:]),
            ("cut", data[:-1]),
            ("longer", data + b"\0"),
            ("a rule that is no text", data.replace(b"sealed", b"\xffealed")),
        ):
            cases.bad(f"{name}: {what}", "checkpoint", name, bad)
        flag = len(checkpoints.without_poh(data)) - (1 if name == "plain" else 1 + 2 + 2 * 40)
        cases.bad(
            f"{name}: a flag of 2", "checkpoint", name, data[:flag] + b"\2" + data[flag + 1 :]
        )
        seats_at = data.index(b"sealed-rounds/1") + 15 + 32
        cases.bad(
            f"{name}: no seat", "checkpoint", name, data[:seats_at] + b"\0\0" + data[seats_at + 2 :]
        )
    return cases.to_bytes()


def _seats(committee: tuple[Seat, ...]) -> list[list[Any]]:
    return [[key_id.hex(), stake] for key_id, stake in committee]


def elections(city: Ledger) -> bytes:
    """Drawings of committees."""
    genesis = city.genesis.id
    cases = []
    for name, weights, places in (
        ("nobody", [], 3),
        ("one", [5], 3),
        ("all", [1, 2, 3], 3),
        ("some", [1, 10, 100, 1_000, 10_000], 3),
        ("alike", [7] * 9, 4),
        ("the heaviest there are", [U64_MAX] * 5, 4),
    ):
        candidates = [
            election.Candidate(digest(f"{name} {number}"), 3 * number + 1, weight)
            for number, weight in enumerate(weights)
        ]
        for epoch in (0, 1, 1 << 40):
            previous = digest(f"poh {epoch}")
            seed = poh.extend(previous, 3, election.seed_mixin(genesis, epoch))
            cases.append(
                {
                    "name": f"{name}, epoch {epoch}",
                    "epoch": epoch,
                    "previous_poh": previous.hex(),
                    "num_hashes": 3,
                    "seed": seed.hex(),
                    "candidates": [[one.hex(), stake, weight] for one, stake, weight in candidates],
                    "seats": places,
                    "elected": _seats(election.elect(candidates, places, seed, genesis, epoch)),
                }
            )
    about = "Elections: candidates are key id, stake, weight; seats are key id, stake."
    return to_file({"about": about, "genesis": genesis.hex(), "cases": cases})


def certificates(city: Ledger, market: Ledger) -> bytes:
    """Certificates of two checkpoints, by committees with either quorum."""
    cases = Cases(
        "Certificates (citychain.v1.Certificate) of the first checkpoint of each city.",
        {
            "cities": {
                one.genesis.city: {
                    "genesis": one.genesis.to_bytes().decode(),
                    "checkpoint": one.rounds[0].checkpoint.hex(),
                }
                for one in (city, market)
            }
        },
    )

    def add(name: str, of: str, ledger: Ledger, voters: tuple[str, ...], check: str | None) -> None:
        checkpoint = ledger.rounds[0].checkpoint
        data = ledger.certificate(checkpoint, 1, voters).SerializeToString()
        where = ledger.genesis.city
        if check is None:
            cases.good(name, data, city=where)
        else:
            cases.bad(f"{of}: {name}", check, of, data, city=where)

    add("all", "", city, ("ann", "ben", "cho"), None)
    add("three of four", "", city, ("ann", "ben"), None)
    add("three of five", "", market, ("ann",), None)
    add("two of four", "three of four", city, ("ann",), "quorum")
    add("by nobody", "three of four", city, (), "quorum")
    add("twice the same", "three of four", city, ("ann", "ann"), "quorum")
    add("with a stranger", "all", city, ("ann", "ben", "zoe"), "quorum")
    add("two of five", "three of five", market, ("ben",), "quorum")
    return cases.to_bytes()


def signed_messages(city: Ledger) -> bytes:
    """What is signed beside transactions: votes, objections, presence, and a judgement's hash."""
    genesis, hash = city.genesis.id, digest("checkpoint")
    check, detail = "verdict", "transaction 3: approuvée"
    objection = b"".join(
        (
            checkpoints.vote_message(genesis, 9, hash),
            bytes((len(check),)),
            check.encode(),
            len(detail.encode()).to_bytes(2, "big"),
            detail.encode(),
        )
    )
    place = {
        "latitudeE7": -123_456_789,
        "longitudeE7": 1_234_567_890,
        "accuracyM": 25,
        "firstRound": 4,
        "lastRound": 8,
        "anchor": digest("anchor").hex(),
    }
    claim = b"".join(
        (
            genesis,
            id_of("amy"),
            (-123_456_789).to_bytes(4, "big", signed=True),
            (1_234_567_890).to_bytes(4, "big", signed=True),
            (25).to_bytes(4, "big"),
            (4).to_bytes(8, "big"),
            (8).to_bytes(8, "big"),
            digest("anchor"),
        )
    )
    messages = []
    for name, owner, message, context, fields in (
        (
            "vote",
            "ann",
            checkpoints.vote_message(genesis, 9, hash),
            VOTE_CONTEXT,
            {"round": 9, "checkpoint_hash": hash.hex()},
        ),
        (
            "objection",
            "ann",
            objection,
            b"citychain/objection/v1",
            {"round": 9, "checkpoint_hash": hash.hex(), "check": check, "detail": detail},
        ),
        (
            "presence",
            "wim",
            claim,
            b"citychain/presence/v1",
            {"subject": id_of("amy").hex(), "presence": place},
        ),
    ):
        messages.append(
            {
                "name": name,
                "context": context.decode(),
                "public_key": key(owner).public_key.hex(),
                "fields": fields,
                "message": message.hex(),
                "signature": sign(owner, message, context).hex(),
            }
        )
    standing = digest("standing") * 2
    pops = [
        {
            "round": 9,
            "tx_id": digest("tx").hex(),
            "policy": policy,
            "standing": before.hex(),
            "pop": hashlib.sha256(
                b"citychain/pop/v1\0"
                + genesis
                + (9).to_bytes(8, "big")
                + digest("tx")
                + bytes((policy,))
                + before
            ).hexdigest(),
        }
        for policy, before in ((1, b""), (1, standing), (2, standing))
    ]
    about = "Votes, objections and presence: what is signed. Judgements of place: their hash."
    return to_file({"about": about, "genesis": genesis.hex(), "messages": messages, "pops": pops})


def acknowledgements(city: Ledger) -> bytes:
    """Signed acknowledgements as files; bad ones are a good one with some members set otherwise."""
    genesis = city.genesis.id
    good: dict[str, dict[str, Any]] = {}
    for name, count, index in (("alone", 1, 0), ("one of three", 3, 1)):
        ids = [digest(f"{name} {number}") for number in range(count)]
        hashes = merkle.leaf_hashes(ids)
        tree = merkle.Tree()
        tree.append(hashes)
        received, final_by = TIME_MS, TIME_MS + 60_000
        message = b"".join(
            (
                genesis,
                tree.root(),
                count.to_bytes(4, "big"),
                received.to_bytes(8, "big"),
                final_by.to_bytes(8, "big"),
            )
        )
        good[name] = {
            "format": 1,
            "genesis": genesis.hex(),
            "tx_id": ids[index].hex(),
            "leaf_index": index,
            "path": [one.hex() for one in merkle.round_inclusions(b"", 0, hashes, [index])[0]],
            "root": tree.root().hex(),
            "size": count,
            "received_ms": received,
            "final_by_ms": final_by,
            "signature": sign("operator", message, b"citychain/acknowledgement/v1").hex(),
        }
    cases: list[dict[str, Any]] = [
        {"name": name, "file": json.dumps(file, indent=1) + "\n", "check": None}
        for name, file in good.items()
    ]
    signature = bytes.fromhex(good["alone"]["signature"])
    bad: list[tuple[str, str, str, dict[str, Any]]] = [
        ("alone", "another format", "form", {"format": 2}),
        ("alone", "a member more", "form", {"more": 1}),
        ("alone", "a short id", "form", {"tx_id": "00" * 31}),
        ("alone", "capitals", "form", {"tx_id": "AA" * 32}),
        ("alone", "a number as text", "form", {"size": "1"}),
        ("alone", "no such leaf", "form", {"leaf_index": 1}),
        ("alone", "final before it came", "form", {"final_by_ms": TIME_MS - 1}),
        ("alone", "another city", "genesis", {"genesis": "00" * 32}),
        ("alone", "another time", "signature", {"final_by_ms": TIME_MS + 60_001}),
        ("alone", "an altered signature", "signature", {"signature": flipped(signature, 0).hex()}),
        ("alone", "another size", "signature", {"size": 2}),
        ("alone", "another transaction", "inclusion", {"tx_id": "00" * 32}),
        ("alone", "a path", "inclusion", {"path": ["00" * 32]}),
        ("one of three", "another leaf", "inclusion", {"leaf_index": 2}),
        ("one of three", "no path", "inclusion", {"path": []}),
    ]
    for of, name, check, members in bad:
        cases.append({"name": f"{of}: {name}", "of": of, "set": members, "check": check})
    return to_file(
        {
            "about": "A transaction's place under a signed acknowledgement, as a file. Bad ones "
            "are a good one (of) with some members set.",
            "genesis": city.genesis.to_bytes().decode(),
            "cases": cases,
        }
    )
