"""Erasure coding: the code against its definition, and what any loss leaves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest
from erasure_reference import coefficients, parity
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain.crypto import erasure
from citychain.crypto.merkle import hash_leaf

CHUNK = erasure.CHUNK_BYTES_MIN
BIG = 64 << 10


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def encoded(data: bytes, k: int, m: int, chunk: int = CHUNK) -> list[bytes]:
    rows, _ = erasure.encode(data, k, m, chunk)
    assert len(rows) == k + m
    return rows


def chosen(rows: Sequence[bytes], indexes: Sequence[int]) -> list[tuple[int, bytes]]:
    return [(index, rows[index]) for index in indexes]


# --- the code is the one that is written down ------------------------------------


SHAPES = [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (3, 3), (3, 4), (4, 3), (3, 5), (5, 3), (9, 2)]


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("size", [2, 30, 64, 66, 190])
def test_parity_is_what_the_definition_says(k: int, m: int, size: int) -> None:
    rows = encoded(data_of(k * size), k, m)
    assert rows[k:] == parity(rows[:k], m)


@pytest.mark.parametrize(("k", "m"), [(200, 55), (55, 200), (128, 127), (254, 1), (1, 254)])
def test_parity_of_large_codes_is_what_the_definition_says(k: int, m: int) -> None:
    rows = encoded(data_of(k * 6), k, m)
    assert rows[k:] == parity(rows[:k], m)


@pytest.mark.parametrize(("k", "m"), [(2, 2), (4, 2), (3, 5)])
def test_parity_of_stripes_is_that_of_each_stripe(k: int, m: int) -> None:
    """A run of many stripes is coded at once, in pieces: that must not show."""
    stripe, count = k * BIG, 21
    data = data_of(count * stripe)
    rows = encoded(data, k, m, BIG)
    for at in range(count):
        one = encoded(data[at * stripe : (at + 1) * stripe], k, m, BIG)
        assert one == [row[at * BIG : (at + 1) * BIG] for row in rows]
    # One block of 64 bytes anywhere is a code word by itself.
    at = 17 * BIG + 5 * 64
    blocks = [row[at : at + 64] for row in rows]
    assert blocks[k:] == parity(blocks[:k], m)


def test_small_codes_multiply_with_what_the_definition_gives_by_hand() -> None:
    """L(0, x) over 0 and 1 is (x - 1) / (0 - 1), so 3 at 2 and 2 at 3; L(1, x) is x."""
    assert coefficients(2, 2) == [[3, 2], [2, 3]]
    assert coefficients(4, 1) == [[1, 1, 1, 1]]
    assert coefficients(1, 3) == [[1], [1], [1]]


def test_one_fragment_of_parity_is_the_exclusive_or() -> None:
    rows = encoded(data_of(3 * 100), 3, 1)
    assert rows[3] == bytes(a ^ b ^ c for a, b, c in zip(*rows[:3], strict=True))


# --- how data is cut -------------------------------------------------------------


def test_chunks_of_stripes_go_to_the_fragments_in_turn() -> None:
    data = data_of(4 * 3 * CHUNK)
    chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    rows = encoded(data, 3, 2)
    assert rows[:3] == [b"".join(chunks[index::3]) for index in range(3)]


@given(
    k=st.integers(1, 12),
    m=st.integers(0, 6),
    size=st.integers(0, 12 * CHUNK),
    stripes=st.integers(1, 3),
)
def test_every_size_is_cut_as_written(k: int, m: int, size: int, stripes: int) -> None:
    size = size if size < k * CHUNK else stripes * k * CHUNK
    data = data_of(size)
    rows, hashes = erasure.encode(data, k, m, CHUNK)
    if size % (k * CHUNK):
        expected = -(-size // k)
        expected += expected % 2
        assert b"".join(rows[:k]) == data.ljust(k * expected, b"\0")
    else:
        expected = size // k
    assert {len(row) for row in rows} == {expected}
    for row, leaves in zip(rows, hashes, strict=True):
        chunks = [row[at : at + CHUNK] for at in range(0, len(row), CHUNK)]
        assert leaves == b"".join(map(hash_leaf, chunks))
        assert leaves == erasure.leaf_hashes(row, CHUNK)


def test_nothing_has_no_chunks() -> None:
    assert erasure.encode(b"", 2, 2, CHUNK) == ([b""] * 4, [b""] * 4)
    assert erasure.decode([(1, b""), (3, b"")], 2, 2, CHUNK) == b""
    assert erasure.rebuild([(1, b""), (3, b"")], 2, 2, CHUNK, 0) == b""
    assert erasure.leaf_hashes(b"", CHUNK) == b""


def test_leaf_hashes_are_those_of_chunks_also_where_the_last_is_shorter() -> None:
    row = data_of(2 * CHUNK + 18)
    parts = row[:CHUNK], row[CHUNK : 2 * CHUNK], row[2 * CHUNK :]
    assert erasure.leaf_hashes(row, CHUNK) == b"".join(map(hash_leaf, parts))


# --- any k fragments restore the data --------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("m", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("stripes", [0, 2])
def test_every_loss_of_up_to_m_fragments_is_made_good(k: int, m: int, stripes: int) -> None:
    """Whole stripes, or a last one whose chunks do not fill a block of the code."""
    size = stripes * k * CHUNK or k * 90 - 1
    data = data_of(size)
    rows = encoded(data, k, m)
    restored = data if stripes else data + b"\0"
    for indexes in combinations(range(k + m), k):
        left = chosen(rows, indexes)
        assert erasure.decode(left, k, m, CHUNK) == restored
        for index in range(k + m):
            assert erasure.rebuild(left, k, m, CHUNK, index) == rows[index]


@given(st.data())
@settings(max_examples=60)
def test_any_k_of_n_fragments_restore_the_data(draw: st.DataObject) -> None:
    n = draw.draw(st.integers(1, erasure.FRAGMENTS_MAX), label="n")
    k = draw.draw(st.integers(1, n), label="k")
    short = draw.draw(st.integers(1, k * CHUNK - 1), label="size of a last stripe")
    size = draw.draw(st.sampled_from([short, k * CHUNK]), label="size")
    order = draw.draw(st.permutations(range(n)), label="order")
    data = data_of(size)
    rows = encoded(data, k, n - k)
    left = chosen(rows, order[:k])
    decoded = erasure.decode(left, k, n - k, CHUNK)
    assert decoded == data.ljust(k * len(rows[0]), b"\0")
    assert erasure.rebuild(left, k, n - k, CHUNK, order[-1]) == rows[order[-1]]


@pytest.mark.parametrize("chunk", [CHUNK, BIG, erasure.CHUNK_BYTES_MAX])
def test_long_runs_are_restored_in_pieces(chunk: int) -> None:
    data = data_of(4 * erasure.CHUNK_BYTES_MAX)
    rows = encoded(data, 2, 2, chunk)
    for indexes in combinations(range(4), 2):
        assert erasure.decode(chosen(rows, indexes), 2, 2, chunk) == data
    assert erasure.rebuild(chosen(rows, (0, 3)), 2, 2, chunk, 1) == rows[1]
    assert erasure.rebuild(chosen(rows, (0, 3)), 2, 2, chunk, 2) == rows[2]


def test_a_wrong_chunk_is_not_noticed() -> None:
    """It says so: whoever calls checks hashes first."""
    data = data_of(2 * CHUNK)
    rows = encoded(data, 2, 2)
    wrong = bytes([rows[2][0] ^ 1]) + rows[2][1:]
    assert erasure.decode([(0, rows[0]), (2, wrong)], 2, 2, CHUNK) != data


# --- what callers hand in --------------------------------------------------------


def test_bytes_that_may_change_are_taken_as_they_are() -> None:
    data = bytearray(data_of(2 * CHUNK))
    rows, hashes = erasure.encode(data, 2, 1, CHUNK)
    assert (rows, hashes) == erasure.encode(bytes(data), 2, 1, CHUNK)
    left = [(0, bytearray(rows[0])), (2, bytearray(rows[2]))]
    assert erasure.decode(left, 2, 1, CHUNK) == data
    assert erasure.leaf_hashes(bytearray(rows[2]), CHUNK) == hashes[2]


def test_threads_code_at_the_same_time() -> None:
    def round_trip(seed: int) -> bool:
        data = data_of(6 * BIG, seed)
        rows = encoded(data, 3, 2, BIG)
        return erasure.decode(chosen(rows, (4, 0, 3)), 3, 2, BIG) == data

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(round_trip, range(24)))


@pytest.mark.parametrize(("k", "m"), [(0, 2), (0, 0), (1, 255), (255, 1), (256, 0)])
def test_a_code_that_does_not_exist_is_refused(k: int, m: int) -> None:
    match = f"k must be at least 1 and k \\+ m at most 255; k is {k}, m is {m}"
    with pytest.raises(ValueError, match=match):
        erasure.encode(b"", k, m, CHUNK)
    with pytest.raises(ValueError, match=match):
        erasure.decode([], k, m, CHUNK)
    with pytest.raises(ValueError, match=match):
        erasure.rebuild([], k, m, CHUNK, 0)


@pytest.mark.parametrize("chunk", [0, 1, 2048, CHUNK + 1, CHUNK + 64, 3 * CHUNK, 2 << 20])
def test_a_size_that_no_chunk_has_is_refused(chunk: int) -> None:
    match = f"chunk must be a power of two from 4096 to 1048576, not {chunk}"
    with pytest.raises(ValueError, match=match):
        erasure.encode(b"", 2, 2, chunk)
    with pytest.raises(ValueError, match=match):
        erasure.decode([], 2, 2, chunk)
    with pytest.raises(ValueError, match=match):
        erasure.leaf_hashes(b"", chunk)


@pytest.mark.parametrize("size", [2 * CHUNK + 1, 3 * CHUNK, 4 * CHUNK - 1])
def test_stripes_with_a_shorter_one_behind_them_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"whole stripes of 8192 bytes, .*, not {size} bytes"):
        erasure.encode(bytes(size), 2, 2, CHUNK)


ROW = bytes(CHUNK)


@pytest.mark.parametrize(
    ("chunks", "match"),
    [
        ([], "chunks of 2 fragments are wanted, not 0"),
        ([(0, ROW)], "chunks of 2 fragments are wanted, not 1"),
        ([(0, ROW), (1, ROW), (2, ROW)], "chunks of 2 fragments are wanted, not 3"),
        ([(1, ROW), (1, ROW)], "fragment 1 is there twice"),
        ([(0, ROW), (4, ROW)], r"index 4 is not in \[0, 4\)"),
        ([(0, ROW), (1, ROW * 2)], "same number of bytes, not 4096 and 8192"),
        ([(0, ROW + b"ab"), (1, ROW + b"ab")], "whole chunks of 4096 bytes, .* not 4098 bytes"),
        ([(0, b"abc"), (1, b"abc")], "a shorter one of an even size, not 3 bytes"),
    ],
)
def test_fragments_that_do_not_fit_are_refused(chunks: list[tuple[int, bytes]], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        erasure.decode(chunks, 2, 2, CHUNK)
    with pytest.raises(ValueError, match=match):
        erasure.rebuild(chunks, 2, 2, CHUNK, 0)


def test_a_fragment_that_does_not_exist_is_not_rebuilt() -> None:
    with pytest.raises(ValueError, match=r"index 4 is not in \[0, 4\)"):
        erasure.rebuild([(0, ROW), (1, ROW)], 2, 2, CHUNK, 4)
