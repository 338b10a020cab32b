"""The Merkle log against RFC 9162's recursive definitions, and against published vectors."""

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from citychain._native.merkle import fold, range_reads
from citychain.crypto import merkle
from citychain.errors import InvalidProof

# --- RFC 9162, section 2.1, word for word, over leaf hashes --------------------


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    return 1 << (n - 1).bit_length() - 1


def tree_hash(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\1" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*path(m - k, leaves[k:]), tree_hash(leaves[:k])]


def consistency(m: int, leaves: list[bytes], complete: bool = True) -> list[bytes]:
    if m == len(leaves):
        return [] if complete else [tree_hash(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*consistency(m, leaves[:k], complete), tree_hash(leaves[k:])]
    return [*consistency(m - k, leaves[k:], False), tree_hash(leaves[:k])]


# --- a log in memory ------------------------------------------------------------


class MemoryReader:
    """Holds what storage would, refuses what it would not have, and counts."""

    def __init__(self, leaves: list[bytes], batch: int = 1_000) -> None:
        self.leaves = leaves
        self.stored: dict[tuple[int, int], bytes] = {}
        self.tree = merkle.Tree()
        self.reads = self.hashes = 0
        for begin in range(0, len(leaves), batch):
            for level, index, digest in self.tree.append(b"".join(leaves[begin : begin + batch])):
                assert (level, index) not in self.stored
                self.stored[level, index] = digest

    def _count(self, hashes: list[bytes]) -> bytes:
        self.reads += 1
        self.hashes += len(hashes)
        return b"".join(hashes)

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        assert 0 <= begin < end <= len(self.leaves)
        return self._count(self.leaves[begin:end])

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        assert begin < end
        return self._count([self.stored[level, index] for index in range(begin, end)])


def numbered_leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(b"\0" + i.to_bytes(8, "big")).digest() for i in range(count)]


LEAVES = numbered_leaves(700)
sizes = st.integers(1, 20) | st.integers(1, len(LEAVES))


# --- hashes and trees -------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_leaf_hashes_are_domain_separated_and_packed(leaves: list[bytes]) -> None:
    expected = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    assert merkle.leaf_hashes(leaves) == b"".join(expected)
    assert [merkle.hash_leaf(leaf) for leaf in leaves] == expected


def test_children_hash_is_domain_separated() -> None:
    left, right = LEAVES[:2]
    assert merkle.hash_children(left, right) == hashlib.sha256(b"\1" + left + right).digest()


@given(st.lists(st.integers(0, 300), max_size=5))
def test_root_and_peaks_do_not_depend_on_batches(batches: list[int]) -> None:
    tree = merkle.Tree()
    size = 0
    for batch in batches:
        batch = min(batch, len(LEAVES) - size)
        tree.append(b"".join(LEAVES[size : size + batch]))
        size += batch
    assert tree.size == size
    assert tree.root() == tree_hash(LEAVES[:size])
    begin, peaks = 0, []
    for level in reversed(range(10)):
        if size >> level & 1:
            peaks.append(tree_hash(LEAVES[begin : begin + (1 << level)]))
            begin += 1 << level
    assert tree.peaks == b"".join(peaks)


@given(sizes, st.integers(0, 300))
def test_a_tree_continues_from_its_peaks(size: int, more: int) -> None:
    before = merkle.Tree()
    before.append(b"".join(LEAVES[:size]))
    packed = b"".join(LEAVES[size : size + more])
    resumed = merkle.Tree(before.size, before.peaks)
    copied = before.copy()
    assert resumed.append(packed) == copied.append(packed)
    assert resumed.root() == copied.root() == tree_hash(LEAVES[: size + more])
    assert before.root() == tree_hash(LEAVES[:size])


def test_append_returns_the_subtrees_to_store() -> None:
    leaves = numbered_leaves((1 << 16) + 300)
    expected = {
        (level, index): tree_hash(leaves[index << level : (index + 1) << level])
        for level in (8, 16)
        for index in range(len(leaves) >> level)
    }
    assert MemoryReader(leaves, batch=777).stored == expected


# --- proofs ---------------------------------------------------------------------


@given(sizes, st.data())
async def test_inclusion_is_that_of_the_rfc(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    reader = MemoryReader(LEAVES[:size])
    ranges = merkle.inclusion_ranges(index, size)
    proof = [await merkle.subtree_hash(reader, begin, end) for begin, end in ranges]
    assert proof == path(index, LEAVES[:size])
    merkle.verify_inclusion(LEAVES[index], index, size, proof, reader.tree.root())


@given(sizes, st.data())
async def test_consistency_is_that_of_the_rfc(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    reader = MemoryReader(LEAVES[:second])
    ranges = merkle.consistency_ranges(first, second)
    proof = [await merkle.subtree_hash(reader, begin, end) for begin, end in ranges]
    assert proof == consistency(first, LEAVES[:second])
    roots = [tree_hash(LEAVES[:size]) for size in (first, second)]
    merkle.verify_consistency(first, second, proof, *roots)


@pytest.fixture(scope="module")
def large_log() -> MemoryReader:
    return MemoryReader(numbered_leaves((1 << 20) - 1), batch=100_000)


@pytest.mark.parametrize("index", [0, 255, 256, 65_535, 600_000, (1 << 20) - 2])
async def test_a_proof_in_a_million_leaves_takes_few_reads(
    large_log: MemoryReader, index: int
) -> None:
    size = len(large_log.leaves)
    for ranges in (
        merkle.inclusion_ranges(index, size),
        merkle.consistency_ranges(index + 1, size),
    ):
        large_log.reads = large_log.hashes = 0
        proof = [await merkle.subtree_hash(large_log, begin, end) for begin, end in ranges]
        assert large_log.reads <= 40
        assert large_log.hashes <= 6_000
    merkle.verify_inclusion(
        large_log.leaves[index],
        index,
        size,
        [await merkle.subtree_hash(large_log, *r) for r in merkle.inclusion_ranges(index, size)],
        large_log.tree.root(),
    )
    first = merkle.Tree()
    first.append(b"".join(large_log.leaves[: index + 1]))
    merkle.verify_consistency(index + 1, size, proof, first.root(), large_log.tree.root())


async def test_a_reader_that_gives_too_few_hashes_is_refused() -> None:
    class Short(MemoryReader):
        async def leaf_hashes(self, begin: int, end: int) -> bytes:
            return await super().leaf_hashes(begin, end - 1)

    with pytest.raises(ValueError, match="the range must have 4 hashes, not 3"):
        await merkle.subtree_hash(Short(LEAVES), 4, 8)


@given(st.integers(0, 500), st.integers(1, 100), st.data())
def test_a_round_proves_its_leaves_from_the_peaks_before(
    begin: int, count: int, data: st.DataObject
) -> None:
    before = merkle.Tree()
    before.append(b"".join(LEAVES[:begin]))
    added = LEAVES[begin : begin + count]
    indexes = data.draw(st.lists(st.integers(begin, begin + count - 1), max_size=5))
    arguments = before.peaks, before.size, b"".join(added)
    proofs = merkle.round_inclusions(*arguments, indexes)
    assert proofs == [path(index, LEAVES[: begin + count]) for index in indexes]
    assert proofs == [merkle.round_inclusion(*arguments, index) for index in indexes]


@given(sizes, st.data())
def test_no_changed_inclusion_proof_verifies(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    root, proof = tree_hash(LEAVES[:size]), path(index, LEAVES[:size])
    changed = data.draw(changes(proof))
    with pytest.raises(InvalidProof):
        merkle.verify_inclusion(LEAVES[index], index, size, changed, root)
    other = data.draw(st.integers(-1, size))
    assume(other != index)
    with pytest.raises(InvalidProof):
        merkle.verify_inclusion(LEAVES[index], other, size, proof, root)
    with pytest.raises(InvalidProof, match="does not lead to the root"):
        merkle.verify_inclusion(
            LEAVES[index - 1] if size > 1 else root[::-1], index, size, proof, root
        )


@given(sizes, st.data())
def test_no_changed_consistency_proof_verifies(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    roots = [tree_hash(LEAVES[:size]) for size in (first, second)]
    proof = consistency(first, LEAVES[:second])
    with pytest.raises(InvalidProof):
        merkle.verify_consistency(first, second, data.draw(changes(proof)), *roots)
    with pytest.raises(InvalidProof, match=r"does not lead to the (first|second) root"):
        merkle.verify_consistency(first, second, proof, bytes(32), roots[1])
    with pytest.raises(InvalidProof, match="does not lead to the second root"):
        merkle.verify_consistency(first, second, proof, roots[0], bytes(32))


@st.composite
def changes(draw: st.DrawFn, proof: list[bytes]) -> list[bytes]:
    """The proof with a bit flipped, a hash removed, repeated, inserted, cut short or exchanged."""
    changed = list(proof)
    kinds = ["insert", "long"] if not proof else ["flip", "remove", "insert", "cut", "swap", "long"]
    at = draw(st.integers(0, max(0, len(proof) - 1)))
    match draw(st.sampled_from(kinds)):
        case "flip":
            bit = draw(st.integers(0, 255))
            flipped = bytearray(changed[at])
            flipped[bit // 8] ^= 1 << bit % 8
            changed[at] = bytes(flipped)
        case "remove":
            del changed[at]
        case "insert":
            changed.insert(at, draw(st.sampled_from([bytes(32), *proof])))
        case "cut":
            changed[at] = changed[at][:-1]
        case "swap":
            changed.reverse()
            assume(changed != proof)
        case "long":
            changed += [bytes(32)] * 66
    return changed


# --- bounds -----------------------------------------------------------------------


def test_malformed_arguments_are_named() -> None:
    leaf = LEAVES[0]
    with pytest.raises(InvalidProof, match="leaf_hash must have 32 bytes, not 31"):
        merkle.verify_inclusion(leaf[1:], 0, 1, [], leaf)
    with pytest.raises(InvalidProof, match="root must have 32 bytes, not 0"):
        merkle.verify_inclusion(leaf, 0, 1, [], b"")
    with pytest.raises(InvalidProof, match="size must be from 0 to"):
        merkle.verify_inclusion(leaf, 0, 1 << 64, [], leaf)
    with pytest.raises(InvalidProof, match="index must be from 0 to"):
        merkle.verify_inclusion(leaf, -1, 1, [], leaf)
    with pytest.raises(InvalidProof, match=r"at most 65 hashes, not 1000"):
        merkle.verify_inclusion(leaf, 0, 1, [leaf] * 1000, leaf)
    with pytest.raises(InvalidProof, match="1 <= first <= second"):
        merkle.verify_consistency(0, 1, [], leaf, leaf)
    with pytest.raises(InvalidProof, match="1 <= first <= second"):
        merkle.verify_consistency(2, 1, [], leaf, leaf)


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="peaks must have 2 hashes, not 1"):
        merkle.Tree(5, bytes(32))
    with pytest.raises(ValueError, match="peaks must have 32 bytes each, not 33 together"):
        merkle.Tree(1, bytes(33))
    with pytest.raises(ValueError, match="leaf_hashes must have 32 bytes each"):
        merkle.Tree().append(bytes(31))
    with pytest.raises(ValueError, match=r"index 5 is not in \[0, 5\)"):
        merkle.inclusion_ranges(5, 5)
    with pytest.raises(ValueError, match="1 <= first <= second"):
        merkle.consistency_ranges(0, 5)
    with pytest.raises(ValueError, match=r"index 4 is not in \[5, 6\)"):
        merkle.round_inclusion(bytes(64), 5, bytes(32), 4)
    with pytest.raises(ValueError, match=r"\[1, 3\) does not begin where"):
        range_reads(1, 3)
    with pytest.raises(ValueError, match="the range must have 2 hashes, not 1"):
        fold(2, 4, bytes(32))


def test_a_failed_append_leaves_the_tree_as_it_was() -> None:
    full = merkle.Tree((1 << 64) - 1, bytes(64 * 32))
    root = full.root()
    with pytest.raises(ValueError, match="1 more leaves are too many"):
        full.append(bytes(32))
    assert (full.size, full.root()) == ((1 << 64) - 1, root)


# --- published vectors --------------------------------------------------------------

SHARED = Path(os.environ.get("CITYCHAIN_SHARED", Path(__file__).parents[3] / "shared"))
VECTORS = SHARED / "vectors" / "rfc6962_merkle_proofs.json.gz"


def vectors(kind: str) -> list[Any]:
    if not VECTORS.is_file():
        skip = pytest.mark.skip(reason=f"no vectors at {VECTORS}; set CITYCHAIN_SHARED")
        return [pytest.param({}, marks=skip, id="absent")]
    with gzip.open(VECTORS) as file:
        return [
            pytest.param(vector, id=name.removeprefix("testdata/"))
            for name, vector in json.load(file).items()
            if name.startswith(f"testdata/{kind}/")
        ]


def decoded(vector: dict[str, Any], name: str) -> bytes:
    return base64.b64decode(vector[name])


def decoded_proof(vector: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(digest) for digest in vector["proof"] or []]


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_inclusion_vector(vector: dict[str, Any]) -> None:
    def verify() -> None:
        merkle.verify_inclusion(
            decoded(vector, "leafHash"),
            vector["leafIdx"],
            vector["treeSize"],
            decoded_proof(vector),
            decoded(vector, "root"),
        )

    check(verify, vector)


@pytest.mark.parametrize("vector", vectors("consistency"))
def test_consistency_vector(vector: dict[str, Any]) -> None:
    roots = [decoded(vector, "root1"), decoded(vector, "root2")]
    if not vector["wantErr"] and len(roots[0]) != 32:
        # One good vector has words for roots; here a root is a SHA-256.
        roots = [hashlib.sha256(root).digest() for root in roots]

    def verify() -> None:
        merkle.verify_consistency(vector["size1"], vector["size2"], decoded_proof(vector), *roots)

    check(verify, vector)


def check(verify: Callable[[], None], vector: dict[str, Any]) -> None:
    if vector["wantErr"]:
        with pytest.raises(InvalidProof):
            verify()
    else:
        verify()
