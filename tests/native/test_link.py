"""Parents, node ids and log leaves against hashlib and against the readable twin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transaction_wire import Body, sha256, transaction

from citychain._native.link import PARENTS_MAX, leaf_hashes, node_ids, sealed_rounds_parents
from citychain.node import log_leaf, node_id
from citychain.types import NodeRef, Parent, Rejection

GENESIS = b"G" * 32
ROOT = b"R" * 32
ROUND = 9
RULE = "sealed-rounds/1"
AUTHORS = [bytes((letter,)) * 32 for letter in b"abc"]
EARLIER = [NodeRef(1 + at // 4, at, bytes((at,)) * 32) for at in range(12)]
"""Nodes of earlier rounds; their transactions have the same ids."""


@dataclass
class Round:
    """The arguments of `sealed_rounds_parents`."""

    bodies: Sequence[Body]
    approved: Sequence[bool]
    dependencies: Mapping[bytes, NodeRef]
    latest: Mapping[bytes, NodeRef]
    tips: Sequence[NodeRef]

    def parents(self) -> list[tuple[Parent, ...]]:
        return sealed_rounds_parents(
            genesis=GENESIS,
            round=ROUND,
            previous_root=ROOT,
            order=[transaction(body) for body in self.bodies],
            approved=self.approved,
            dependencies=self.dependencies,
            latest=self.latest,
            tips=self.tips,
        )

    @property
    def tx_ids(self) -> list[bytes]:
        return [body.tx_id for body in self.bodies]


@st.composite
def rounds(draw: st.DrawFn) -> Round:
    bodies: list[Body] = []
    approved: list[bool] = []
    for nonce in range(draw(st.integers(0, 10))):
        fine = [body.tx_id for body, good in zip(bodies, approved, strict=True) if good]
        known = [node.node_id for node in EARLIER] + fine
        bodies.append(
            Body(
                author=draw(st.sampled_from(AUTHORS)),
                nonce=nonce.to_bytes(8, "big"),
                depends_on=tuple(draw(st.lists(st.sampled_from(known), max_size=4, unique=True))),
            )
        )
        approved.append(draw(st.booleans() | st.just(True)))
    authors = draw(st.lists(st.sampled_from(AUTHORS), unique=True))
    return Round(
        bodies,
        approved,
        {node.node_id: node for node in EARLIER},
        {author: draw(st.sampled_from(EARLIER)) for author in authors},
        draw(st.lists(st.sampled_from(EARLIER), max_size=6, unique=True)),
    )


def model(round: Round) -> list[tuple[Parent, ...]]:
    all_parents: list[tuple[Parent, ...]] = []
    here: dict[bytes, int] = {}
    latest: dict[bytes, Parent] = dict(round.latest)
    for seq, (body, fine) in enumerate(zip(round.bodies, round.approved, strict=True)):
        if not fine:
            all_parents.append(())
            continue
        parents: list[Parent] = []
        for tx_id in body.depends_on:
            parents.append(here[tx_id] if tx_id in here else round.dependencies[tx_id])
        if body.author in latest:
            parents.append(latest[body.author])
        for j in (b"\0", b"\1"):
            if round.tips:
                drawn = int.from_bytes(sha256(b"citychain/tip/v1\0", ROOT, body.tx_id, j), "big")
                parents.append(round.tips[drawn % len(round.tips)])
        unique = tuple(dict.fromkeys(parents))
        all_parents.append(unique or (NodeRef(0, 0, GENESIS),))
        here[body.tx_id] = seq
        latest[body.author] = seq
    return all_parents


def ids_of(given: Round, parents: Any, **changes: Any) -> list[bytes | None]:
    arguments: dict[str, Any] = {
        "rule": RULE,
        "genesis": GENESIS,
        "round": ROUND,
        "approved": given.approved,
    }
    return node_ids(tx_ids=given.tx_ids, parents=parents, **(arguments | changes))


# --- parents ----------------------------------------------------------------


@settings(max_examples=300)
@given(rounds())
def test_parents_are_those_of_the_model(round: Round) -> None:
    parents = round.parents()
    assert parents == model(round)
    for seq, (own, fine) in enumerate(zip(parents, round.approved, strict=True)):
        assert len(set(own)) == len(own) <= PARENTS_MAX
        assert bool(own) == fine
        assert all(isinstance(parent, NodeRef) or parent < seq for parent in own)


@given(st.lists(st.sampled_from([*range(1, 20), 255, 256, 257, 1000]), min_size=1, max_size=5))
def test_tips_are_picked_by_the_whole_hash(counts: list[int]) -> None:
    for count in counts:
        tips = [NodeRef(8, seq, sha256(seq.to_bytes(4, "big"))) for seq in range(count)]
        round = Round([Body()], [True], {}, {}, tips)
        assert round.parents() == model(round)


def test_the_first_node_of_a_city_has_the_genesis_for_its_parent() -> None:
    round = Round([Body()], [True], {}, {}, [])
    [[parent]] = round.parents()
    assert parent == (0, 0, GENESIS)
    assert isinstance(parent, NodeRef)


def test_a_reference_comes_back_as_it_was_given() -> None:
    round = Round([Body()], [True], {}, {Body().author: EARLIER[3]}, [])
    assert round.parents()[0][0] is EARLIER[3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dependencies": {}}, r"^order\[0\] is approved, but one of its dependencies"),
        ({"approved": [True, True]}, "^approved has 2 items, order has 1$"),
        ({"tips": [NodeRef(9, 0, bytes(32))]}, "^tips: a node of round 9 is not before 9$"),
        ({"latest": {bytes(32): (9, 0, bytes(32))}}, "^latest: a node of round 9 is not before 9$"),
        ({"tips": [NodeRef(8, 0, bytes(31))]}, "^tips must have 32 bytes, not 31$"),
        ({"latest": {b"": EARLIER[0]}}, "^latest must have 32 bytes, not 0$"),
    ],
)
def test_a_wrong_round_is_named(changes: Any, message: str) -> None:
    body = Body(depends_on=(EARLIER[0].node_id,))
    round = Round([body], [True], {EARLIER[0].node_id: EARLIER[0]}, {}, [])
    round.parents()
    with pytest.raises(ValueError, match=message):
        replace(round, **changes).parents()


def test_a_dependency_on_a_rejected_one_is_unknown() -> None:
    first = Body()
    second = Body(depends_on=(first.tx_id,))
    with pytest.raises(ValueError, match=r"^order\[1\] is approved"):
        Round([first, second], [False, True], {}, {}, []).parents()


# --- node ids ---------------------------------------------------------------


@given(
    rounds(),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.booleans(),
    st.integers(ROUND, 2**64 - 1),
)
def test_node_ids_are_hashes_of_what_they_bind(
    round: Round, rule: str, place: bool, number: int
) -> None:
    parents = round.parents()
    pops = [sha256(tx_id) for tx_id in round.tx_ids] if place else None
    ids = ids_of(round, parents, rule=rule, round=number, pops=pops)
    for seq, (own, fine) in enumerate(zip(parents, round.approved, strict=True)):
        if not fine:
            assert ids[seq] is None
            continue
        resolved = [
            NodeRef(number, parent, ids[parent] or b"") if isinstance(parent, int) else parent
            for parent in own
        ]
        pop = pops[seq] if pops else None
        assert ids[seq] == node_id(
            rule=rule,
            genesis=GENESIS,
            round=number,
            seq=seq,
            tx_id=round.tx_ids[seq],
            parents=[parent.node_id for parent in resolved],
            pop=pop,
        )
        assert ids[seq] == sha256(
            b"citychain/node/v1\0",
            bytes((len(rule.encode()),)),
            rule.encode(),
            GENESIS,
            number.to_bytes(8, "big"),
            seq.to_bytes(4, "big"),
            round.tx_ids[seq],
            bytes((len(own),)),
            *(parent.node_id for parent in resolved),
            pop or b"",
        )


TWO = Round([Body(), Body(nonce=b"another!")], [True, True], {}, {}, [])
REF = EARLIER[0]


@pytest.mark.parametrize(
    ("parents", "changes", "message"),
    [
        (((REF,), (1,)), {}, "parents[1] names seq 1, which does not stand before it"),
        (((1,), (REF,)), {}, "parents[0] names seq 1, which does not stand before it"),
        (((), (0,)), {"approved": [False, True]}, "parents[1] names seq 0, which is rejected"),
        (((REF,), (REF,)), {"approved": [True, False]}, "parents[1] must be empty"),
        (((REF,), ()), {}, "parents[1] has 0 parents, must be 1 to 8"),
        (((REF,), tuple(EARLIER[:9])), {}, "parents[1] has 9 parents, must be 1 to 8"),
        (((REF,), (0, 0)), {}, "parents[1] names a parent more than once"),
        (((REF, REF), (0,)), {}, "parents[0] names a parent more than once"),
        (((REF,), (NodeRef(ROUND, 0, bytes(32)),)), {}, "parents[1] names a node of round 9"),
        (((REF,), (NodeRef(ROUND + 1, 0, bytes(32)),)), {}, "parents[1] names a node of round 10"),
        (((REF,), ((1, 0, b"short"),)), {}, "parents must have 32 bytes, not 5"),
        (((REF,),), {}, "parents has 1 items, tx_ids has 2"),
        (((REF,), (0,)), {"approved": [True]}, "approved has 1 items, tx_ids has 2"),
        (((REF,), (0,)), {"pops": [bytes(32)]}, "pops has 1 items, tx_ids has 2"),
        (((REF,), (0,)), {"pops": [bytes(32), b""]}, "pops: a hash must have 32 bytes, not 0"),
        (((REF,), (0,)), {"rule": ""}, "rule must be 1 to 255 bytes of UTF-8"),
        (((REF,), (0,)), {"rule": "é" * 128}, "rule must be 1 to 255 bytes of UTF-8"),
        (((REF,), (0,)), {"genesis": b""}, "genesis must have 32 bytes, not 0"),
    ],
)
def test_wrong_parents_are_refused(parents: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        ids_of(TWO, parents, **changes)


def test_eight_parents_are_allowed_and_the_genesis_is_one() -> None:
    eight = (NodeRef(0, 0, GENESIS), *EARLIER[:7])
    [first, second] = ids_of(TWO, [eight, (0,)], rule="r" * 255)
    assert first is not None
    assert second is not None


def test_a_rejected_one_needs_no_judgement() -> None:
    [first, second] = ids_of(TWO, [(REF,), ()], approved=[True, False], pops=[bytes(32), b""])
    assert first is not None
    assert second is None


@pytest.mark.parametrize("parent", [-1, 2**32, "0", (1, 0), None, (1, 2**32, bytes(32))])
def test_a_parent_that_is_no_reference_is_an_error(parent: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        ids_of(TWO, [(REF,), (parent,)])


# --- leaves -----------------------------------------------------------------

CODES = st.text("ABCXYZ019_", min_size=1, max_size=32)
IDS = st.binary(min_size=32, max_size=32)


REASONS = st.text(max_size=60)


@given(st.integers(1, 2**64 - 1), st.lists(st.tuples(IDS, IDS | st.tuples(CODES, REASONS))))
def test_leaf_hashes_are_of_rfc_6962(
    round: int, sealed: list[tuple[bytes, bytes | tuple[str, str]]]
) -> None:
    packed = leaf_hashes(
        round=round,
        tx_ids=[tx_id for tx_id, _ in sealed],
        node_ids=[outcome if isinstance(outcome, bytes) else None for _, outcome in sealed],
        rejections=[outcome if isinstance(outcome, tuple) else None for _, outcome in sealed],
    )
    assert packed == b"".join(
        sha256(
            b"\0",
            log_leaf(
                round=round,
                seq=seq,
                tx_id=tx_id,
                node_id=outcome if isinstance(outcome, bytes) else None,
                rejection=Rejection(*outcome) if isinstance(outcome, tuple) else None,
            ),
        )
        for seq, (tx_id, outcome) in enumerate(sealed)
    )


def test_a_rejected_leaf_has_the_layout_of_the_protocol() -> None:
    packed = leaf_hashes(
        round=7, tx_ids=[bytes(32)], node_ids=[None], rejections=[("RULE", "größer")]
    )
    assert packed == sha256(
        b"\0\2", (7).to_bytes(8, "big"), bytes(4), bytes(32), b"\4RULE", b"\x08", "größer".encode()
    )


@pytest.mark.parametrize(
    ("tx_id", "node", "code", "message"),
    [
        (bytes(32), None, None, r"node_ids\[0\] or rejections\[0\]: one must be given"),
        (bytes(32), bytes(32), "NO", r"node_ids\[0\] or rejections\[0\]: one must be given"),
        (bytes(31), bytes(32), None, "tx_ids: an id must have 32 bytes, not 31"),
        (bytes(32), bytes(33), None, "node_ids: an id must have 32 bytes, not 33"),
        (bytes(32), None, "", "must be 1 to 32 characters of A-Z, 0-9 and _"),
        (bytes(32), None, "A" * 33, "must be 1 to 32 characters of A-Z, 0-9 and _"),
        (bytes(32), None, "no", "must be 1 to 32 characters of A-Z, 0-9 and _"),
        (bytes(32), None, "É", "must be 1 to 32 characters of A-Z, 0-9 and _"),
    ],
)
def test_a_wrong_leaf_is_named(
    tx_id: bytes, node: bytes | None, code: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        leaf_hashes(
            round=1,
            tx_ids=[tx_id],
            node_ids=[node],
            rejections=[None if code is None else (code, "")],
        )


def test_a_reason_too_long_is_an_error() -> None:
    with pytest.raises(ValueError, match="256 bytes"):
        leaf_hashes(round=1, tx_ids=[bytes(32)], node_ids=[None], rejections=[("A", "x" * 256)])


def test_leaves_are_given_in_equal_numbers() -> None:
    with pytest.raises(ValueError, match=r"^node_ids has 0 items, tx_ids has 1$"):
        leaf_hashes(round=1, tx_ids=[bytes(32)], node_ids=[], rejections=[None])
    with pytest.raises(ValueError, match=r"^rejections has 2 items, tx_ids has 1$"):
        leaf_hashes(round=1, tx_ids=[bytes(32)], node_ids=[None], rejections=[("A", ""), ("B", "")])
