"""Statements: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain import statements
from citychain.errors import VerificationError
from citychain.ports import FragmentKey
from citychain.statements import (
    Answer,
    AnsweredChunk,
    Holding,
    HoldingRules,
    Retention,
    Rewards,
    Segment,
    Statement,
    decode,
)

A, B = "a1" * 32, "b2" * 32
SEGMENT = Segment(first=1, last=9, object=A, root=B, data=2, parity=2, chunk=8192, size=77)
EXAMPLES: list[Statement] = [
    SEGMENT,
    Holding(until=1_800_000_000_000, fragments=((A, B, 0), (A, B, 3))),
    Answer(
        challenge=64,
        answers=(AnsweredChunk(object=A, root=B, index=1, chunk=7, proof="AAEC"),),
    ),
    Retention(until=1, tx_ids=(A, B)),
    Retention(until=1),
    Rewards(
        epoch=0,
        first=1,
        last=8,
        asset="eco",
        base=10_000,
        full=1_500,
        light=1_000,
        absent=500,
        budget=2**53 - 1,
        votes=A,
    ),
    HoldingRules(challenge_rounds=60, answer_rounds=10, receipts=2),
]


@pytest.mark.parametrize("statement", EXAMPLES, ids=lambda it: type(it).__name__)
def test_what_is_written_is_read(statement: Statement) -> None:
    assert decode(statement.CONTENT_TYPE, statement.encode()) == statement


def test_each_kind_has_an_example_and_a_type_of_its_own() -> None:
    assert {type(each) for each in EXAMPLES} == set(statements.CONTENT_TYPES.values())
    assert len(statements.CONTENT_TYPES) == 6


def test_the_form_is_fixed() -> None:
    assert SEGMENT.encode() == (
        b'{"chunk":8192,"data":2,"first":1,"last":9,"object":"' + A.encode() + b'","parity":2,'
        b'"root":"' + B.encode() + b'","size":77}'
    )


def test_other_data_is_no_statement() -> None:
    assert decode("application/json", b"{}") is None


@pytest.mark.parametrize("statement", EXAMPLES, ids=lambda it: type(it).__name__)
def test_another_form_of_the_same_is_refused(statement: Statement) -> None:
    members = json.loads(statement.encode())
    others = [
        json.dumps(members, sort_keys=True).encode(),
        statement.encode() + b"\n",
        b"{" + statement.encode()[1:-1] + b"," + statement.encode()[1:],  # Each member twice.
        json.dumps(members, sort_keys=True, separators=(",", ":")).encode().replace(b"{", b"{ ", 1),
    ]
    if len(members) > 1:
        turned = dict(sorted(members.items(), reverse=True))
        others.append(json.dumps(turned, separators=(",", ":")).encode())
    for other in others:
        with pytest.raises(VerificationError, match="content"):
            decode(statement.CONTENT_TYPE, other)


def changed(statement: Statement, **members: Any) -> bytes:
    all_members = json.loads(statement.encode()) | members
    return json.dumps(all_members, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("statement", "members", "named"),
    [
        (SEGMENT, {"first": 0}, "first"),
        (SEGMENT, {"first": 10}, "last is before first"),
        (SEGMENT, {"first": 1.0}, "first"),
        (SEGMENT, {"first": "1"}, "first"),
        (SEGMENT, {"first": True}, "first"),
        (SEGMENT, {"size": 2**53}, "size"),
        (SEGMENT, {"object": A.upper()}, "object"),
        (SEGMENT, {"object": A + "\n"}, "object"),
        (SEGMENT, {"root": A[2:]}, "root"),
        (SEGMENT, {"chunk": 12_288}, "power of two"),
        (SEGMENT, {"data": 200, "parity": 56}, "more than 255"),
        (SEGMENT, {"more": 1}, "more"),
        (EXAMPLES[1], {"fragments": []}, "fragments"),
        (EXAMPLES[1], {"fragments": [[A, B, 3], [A, B, 0]]}, "sorted"),
        (EXAMPLES[1], {"fragments": [[A, B, 0], [A, B, 0]]}, "twice"),
        (EXAMPLES[1], {"fragments": [[A, B, 255]]}, "fragments.0.2"),
        (EXAMPLES[1], {"fragments": [[A, B]]}, "fragments.0"),
        (EXAMPLES[2], {"answers": []}, "answers"),
        (EXAMPLES[3], {"tx_ids": [B, A]}, "sorted"),
        (EXAMPLES[3], {"tx_ids": None}, "content"),
        (EXAMPLES[3], {"tx_ids": []}, "tx_ids"),
        (EXAMPLES[5], {"absent": 1_001}, "absent"),
        (EXAMPLES[5], {"asset": "Eco"}, "asset"),
    ],
)
def test_a_wrong_member_is_named(statement: Statement, members: dict[str, Any], named: str) -> None:
    with pytest.raises(VerificationError, match=named):
        decode(statement.CONTENT_TYPE, changed(statement, **members))


@pytest.mark.parametrize("proof", ["AAEC=", "AAE", "AB==", "A A=", "é", "AA-_"])
def test_bytes_have_one_base64(proof: str) -> None:
    answers = [{"object": A, "root": B, "index": 1, "chunk": 7, "proof": proof}]
    with pytest.raises(VerificationError, match="base64"):
        decode(Answer.CONTENT_TYPE, changed(EXAMPLES[2], answers=answers))


@given(st.sampled_from(sorted(statements.CONTENT_TYPES)), st.binary(max_size=200))
def test_no_bytes_are_a_surprise(content_type: str, content: bytes) -> None:
    with pytest.raises(VerificationError):
        decode(content_type, content)


@pytest.mark.parametrize("content", [b"[" * 60_000, b'{"a":' * 10_000, b"\xff", b"", b"null"])
def test_nesting_and_nonsense_are_refused(content: bytes) -> None:
    with pytest.raises(VerificationError):
        decode(Segment.CONTENT_TYPE, content)


KEYS = st.builds(
    FragmentKey,
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 254),
)


@given(st.lists(KEYS, min_size=1, max_size=9), st.integers(1, 2**53 - 1))
def test_a_holding_is_of_keys_in_any_order(keys: list[FragmentKey], until: int) -> None:
    holding = Holding.of(until, keys)
    assert Holding.from_bytes(holding.encode()).keys == sorted(set(keys))


@given(KEYS, st.integers(0, 1 << 21), st.binary(max_size=50))
def test_an_answer_has_the_bytes_that_it_was_made_of(
    key: FragmentKey, chunk: int, proof: bytes
) -> None:
    answer = AnsweredChunk.of(key, chunk, proof)
    assert (answer.key, answer.chunk, answer.proof_bytes) == (key, chunk, proof)


def test_a_segment_names_its_fragments() -> None:
    object_id, root = bytes.fromhex(A), bytes.fromhex(B)
    assert SEGMENT.keys == [FragmentKey(object_id, root, index) for index in range(4)]


def test_the_largest_fit_into_a_transaction() -> None:
    ids = [f"{number:064x}" for number in range(400)]
    holding = Holding(until=2**53 - 1, fragments=tuple((it, it, 254) for it in ids))
    assert len(holding.encode()) < 60_000
    assert len(Retention(until=2**53 - 1, tx_ids=tuple(ids)).encode()) < 60_000
    # A chunk of a segment, its path, and the path of its fragment's root.
    proof = AnsweredChunk.of(
        FragmentKey(bytes(32), bytes(32), 254), 1 << 21, bytes((8 << 10) + 32 * 21 + 32 * 8 + 200)
    )
    assert len(Answer(challenge=1, answers=(proof,) * 3).encode()) < 60_000
