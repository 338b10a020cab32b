"""Proof of History against hashlib, which knows nothing of lanes, registers and queues."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.crypto import poh
from citychain.errors import InvalidPoh
from citychain.types import PohEntry

PREV = b"\1" * 32
MIXIN = b"\2" * 32
hashes = st.binary(min_size=32, max_size=32)


def reference(prev: bytes, num_hashes: int, mixin: bytes) -> bytes:
    h = prev
    for _ in range(num_hashes - 1):
        h = hashlib.sha256(h).digest()
    return hashlib.sha256(h + mixin).digest()


def entry(prev: bytes, num_hashes: int, mixin: bytes) -> PohEntry:
    return PohEntry(prev, num_hashes, mixin, poh.extend(prev, num_hashes, mixin))


@st.composite
def valid_entries(draw: st.DrawFn) -> list[PohEntry]:
    """Up to 70 entries that do not follow each other, of lengths that differ by up to 3,000."""
    lengths = draw(st.lists(st.integers(1, 40) | st.integers(1, 3_000), max_size=70))
    seed = draw(hashes)
    return [
        entry(hashlib.sha256(seed + bytes((i, 0))).digest(), length, bytes((i,)) * 32)
        for i, length in enumerate(lengths)
    ]


@given(prev=hashes, num_hashes=st.integers(1, 2_000), mixin=hashes)
def test_extend_is_the_formula(prev: bytes, num_hashes: int, mixin: bytes) -> None:
    assert poh.extend(prev, num_hashes, mixin) == reference(prev, num_hashes, mixin)


@given(valid_entries())
def test_entries_of_any_lengths_verify(entries: list[PohEntry]) -> None:
    poh.verify(entries, max_num_hashes=3_000)


@given(st.lists(st.integers(1, 300), min_size=20, max_size=40))
def test_what_hashlib_makes_verifies(lengths: list[int]) -> None:
    entries = [(PREV, n, bytes([i]) * 32, b"") for i, n in enumerate(lengths)]
    poh.verify(
        [(prev, n, mixin, reference(prev, n, mixin)) for prev, n, mixin, _ in entries],
        max_num_hashes=300,
    )


@st.composite
def changed(draw: st.DrawFn, entry: PohEntry) -> PohEntry:
    """The entry with one bit of a hash flipped, or a hash too many."""
    bit = draw(st.integers(0, 255))

    def flipped(digest: bytes) -> bytes:
        return (int.from_bytes(digest) ^ 1 << bit).to_bytes(32)

    match draw(st.sampled_from(PohEntry._fields)):
        case "prev":
            return entry._replace(prev=flipped(entry.prev))
        case "mixin":
            return entry._replace(mixin=flipped(entry.mixin))
        case "hash":
            return entry._replace(hash=flipped(entry.hash))
        case _:
            return entry._replace(num_hashes=entry.num_hashes + 1)


@given(valid_entries(), st.data())
def test_the_first_wrong_entry_is_named(entries: list[PohEntry], data: st.DataObject) -> None:
    entries.append(entry(PREV, 5, MIXIN))
    wrong = data.draw(st.sets(st.integers(0, len(entries) - 1), min_size=1))
    for i in wrong:
        entries[i] = data.draw(changed(entries[i]))
    with pytest.raises(InvalidPoh, match=f"^entry {min(wrong)}: the hash"):
        poh.verify(entries, max_num_hashes=3_001)


@pytest.mark.parametrize("num_hashes", [-1, 0, 11, 1 << 63, 1 << 64, 1 << 200])
def test_num_hashes_is_bounded_before_any_hashing(num_hashes: int) -> None:
    unhashed = (PREV, 10, MIXIN, b"\0" * 32)
    with pytest.raises(InvalidPoh, match=r"^entry 1: num_hashes must be from 1 to 10"):
        poh.verify([unhashed, (PREV, num_hashes, MIXIN, bytes(32))], max_num_hashes=10)


@pytest.mark.parametrize("num_hashes", [-1, 0, poh.NUM_HASHES_MAX + 1, 1 << 64])
def test_extend_refuses_to_hash_without_end(num_hashes: int) -> None:
    with pytest.raises(ValueError, match="num_hashes must be from 1 to 4294967296"):
        poh.extend(PREV, num_hashes, MIXIN)


@pytest.mark.parametrize("field", ["prev", "mixin", "hash"])
def test_a_field_of_another_length_is_named(field: str) -> None:
    good = entry(PREV, 3, MIXIN)
    prev, mixin, digest = (
        value[: 31 if name == field else 32]
        for name, value in (("prev", good.prev), ("mixin", good.mixin), ("hash", good.hash))
    )
    with pytest.raises(InvalidPoh, match=f"^entry 1: {field} must have 32 bytes, not 31"):
        poh.verify([good, (prev, 3, mixin, digest)], max_num_hashes=10)
    if field != "hash":
        with pytest.raises(ValueError, match=f"^{field} must have 32 bytes, not 31"):
            poh.extend(prev, 3, mixin)
