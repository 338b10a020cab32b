"""What a checkpoint asks is what the docstring says, and nobody can choose it."""

from __future__ import annotations

import hashlib

from deeds import checkpoint_hash, holder
from hypothesis import given
from hypothesis import strategies as st

from citychain.holding import challenge
from citychain.ports import FragmentKey

ids = st.binary(min_size=32, max_size=32)
keys = st.builds(FragmentKey, ids, ids, st.integers(0, 254))


def draw(digest: bytes, who: bytes, key: FragmentKey, n: int) -> bytes:
    """As the docstring has it."""
    fields = (digest, who, key.object_id, key.root, key.index.to_bytes(2, "big"))
    return hashlib.sha256(
        b"citychain/challenge/v1\0" + b"".join(fields) + n.to_bytes(4, "big")
    ).digest()


@given(ids, ids, st.dictionaries(keys, st.integers(1, 9), max_size=12), st.data())
def test_it_is_what_the_docstring_says(
    digest: bytes, who: bytes, chunks: dict[FragmentKey, int], data: st.DataObject
) -> None:
    first = data.draw(st.sets(st.sampled_from([*chunks])) if chunks else st.just(set()))
    order = [
        *sorted(first, key=lambda key: draw(digest, who, key, 0)),
        *sorted(chunks.keys() - first, key=lambda key: draw(digest, who, key, 0)),
    ]
    expected = {
        key: int.from_bytes(draw(digest, who, key, 1)[:8], "big") % chunks[key] for key in order[:3]
    }
    assert challenge.asked(digest, who, chunks, first) == expected
    assert challenge.asked(digest, who, dict(reversed(chunks.items())), first) == expected


def test_who_holds_more_is_asked_for_more() -> None:
    held = {0: 0, 1: 1, 2: 2, 3: 3, 400: 3, 401: 6, 800: 6, 801: 9, 10_000: 75}
    assert {count: challenge.number_asked(count) for count in held} == held


def test_another_round_or_holder_is_asked_for_something_else() -> None:
    chunks = {FragmentKey(bytes(32), bytes(32), index): 1_000 for index in range(200)}
    asked = [
        challenge.asked(checkpoint_hash(round), holder(name), chunks)
        for round in range(20)
        for name in "ab"
    ]
    assert len({frozenset(each.items()) for each in asked}) == 40
    assert len({chunk for each in asked for chunk in each.values()}) > 100
