"""The format of fragments: against its definition in plain Python, and against one vector."""

import hashlib
import io
from dataclasses import replace

import pytest
from fragments_reference import fragments
from hypothesis import example, given
from hypothesis import strategies as st
from shelves import SMALL, noise, shelves, store

from citychain.compute import Executor
from citychain.errors import ConfigurationError, VerificationError
from citychain.fragments.layout import CHUNKS_MAX, STRIPE_BYTES_MAX, Layout, Shape
from citychain.fragments.manifest import (
    TAIL_BYTES_MAX,
    Manifest,
    decode,
    fragment_bytes,
    tail,
    take_tail,
)
from citychain.fragments.writing import survey_object

SHAPES = [(1, 0), (1, 1), (2, 2), (3, 1), (2, 3), (4, 0)]
CHUNKS = st.integers(12, 20).map(lambda bits: 1 << bits)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    chunk = draw(CHUNKS)
    most = min(255, STRIPE_BYTES_MAX // chunk)
    data = draw(st.integers(1, most))
    return Shape(data, draw(st.integers(0, most - data)), chunk)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    shape = draw(shapes())
    layout = Layout(shape, draw(st.integers(0, shape.stripes_max * shape.stripe)))
    hashes = st.binary(min_size=32, max_size=32)
    some = draw(hashes)
    roots = [hashlib.sha256(some + bytes([index])).digest() for index in range(shape.fragments)]
    return Manifest(layout, draw(hashes), roots)


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("about", [0, 1, 2])
async def test_what_is_stored_is_what_the_definition_says(k: int, m: int, about: int) -> None:
    border = about * k * SMALL
    for size in {1, k, k + 1, border + 5 * k, *range(max(0, border - 2), border + 3)}:
        content = noise(size)
        stores = shelves(k + m)
        async with Executor(2) as compute:
            survey = await store(content, Shape(k, m, SMALL), stores.values(), compute)
        root, expected = fragments(content, k, m, SMALL)
        assert survey.manifest.root == root
        for index, shelf in enumerate(stores.values()):
            key, stored = shelf.only()
            assert key == (hashlib.sha256(content).digest(), root, index)
            assert stored == expected[index]


async def test_the_format_stays_as_it_is() -> None:
    """Fragments are kept for years: this must never change."""
    async with Executor(2) as compute:
        survey = await survey_object(io.BytesIO(noise(1_000_001)), Shape(), compute)
    assert (
        survey.manifest.root.hex()
        == "1c031e3090ec6fd63cdc1f7b80f48cf83cfd578f03c598be60f4efcc7e8ee6ff"
    )


@given(manifests())
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    assert decode(manifest.encode()) == manifest
    assert [key.index for key in manifest.fragment_keys()] == [*range(len(manifest.roots))]
    last = len(manifest.roots) - 1
    assert take_tail(tail(manifest, last)) == (manifest, last)
    assert take_tail(bytes(7) + tail(manifest, 0)) == (manifest, 0)
    assert len(tail(manifest, 0)) <= TAIL_BYTES_MAX
    layout = manifest.layout
    assert fragment_bytes(layout) == layout.tail_at + len(tail(manifest, 0))


@given(manifests(), st.data())
def test_a_manifest_that_is_changed_has_another_root_or_is_none(
    manifest: Manifest, data: st.DataObject
) -> None:
    encoded = bytearray(manifest.encode())
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = decode(bytes(encoded))
    except VerificationError:
        return
    assert changed.root != manifest.root


@given(manifests(), st.data())
def test_the_end_of_a_fragment_that_is_cut_is_none(manifest: Manifest, data: st.DataObject) -> None:
    whole = tail(manifest, 0)
    with pytest.raises(VerificationError, match=r"manifest|fragment"):
        take_tail(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(VerificationError, match=r"manifest|fragment"):
        take_tail(whole[data.draw(st.integers(1, len(whole))) :])


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_another_error(data: bytes) -> None:
    magic = b"citychain/fragment/v1\0"
    for end in (data, data + magic, b"citychain/manifest/v1\0" + data + magic):
        with pytest.raises(VerificationError):
            take_tail(end)
    with pytest.raises(VerificationError):
        decode(b"citychain/manifest/v1\0" + data[:13])


def test_an_index_that_no_fragment_has_is_refused() -> None:
    manifest = Manifest(Layout(Shape(1, 1), 0), bytes(32), [bytes(32)] * 2)
    with pytest.raises(VerificationError, match="index 2 of 2"):
        take_tail(tail(manifest, 2))


@given(shapes(), st.data())
@example(Shape(2, 2, SMALL), None)
def test_runs_cover_an_object_and_its_fragments_without_a_gap(
    shape: Shape, data: st.DataObject | None
) -> None:
    size = data.draw(st.integers(0, 40 * shape.stripe)) if data else 2_049 * shape.stripe + 1
    layout = Layout(shape, size)
    begin = stripe = at = 0
    for run in layout.runs():
        assert (run.begin, run.first, run.at) == (begin, stripe, at)
        assert 0 < run.length <= shape.data * run.stripes * run.chunk
        assert run.chunk % 2 == 0
        assert run.stripes == 1 or run.chunk == shape.chunk
        begin, stripe = begin + run.length, stripe + run.stripes
        at += run.stripes * run.chunk
    assert (begin, stripe, at) == (size, layout.stripes, layout.hashes_at)
    # No more is padded than a chunk of a byte for each data fragment, and one to make it even.
    assert at * shape.data - size < 2 * shape.data


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 2, SMALL), "at least one of data"),
        ((2, -1, SMALL), "at least one of data"),
        ((200, 56, SMALL), "at most 255 in all"),
        ((2, 2, SMALL // 2), "a power of two"),
        ((2, 2, SMALL + 2), "a power of two"),
        ((2, 2, 2 << 20), "a power of two"),
        ((60, 5, 1 << 20), "take smaller chunks, or fewer fragments"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(values: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shape(*values)
    layout = Layout(Shape(), 5)
    header = Manifest(layout, bytes(32), [bytes(32)] * 4).header
    if min(values) < 0:
        return
    wrong = header[:22] + bytes(values[:2]) + values[2].to_bytes(4, "big") + header[28:]
    with pytest.raises(VerificationError, match=message):
        decode(wrong + bytes(32) * sum(values[:2]))


class Sparse(io.BytesIO):
    """Says that it has one byte too many for the smallest chunks."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return CHUNKS_MAX * SMALL + 1 if whence == io.SEEK_END else 0


async def test_an_object_of_too_many_chunks_is_refused_by_name_of_the_setting() -> None:
    shape = Shape(1, 1, SMALL)
    async with Executor(1) as compute:
        with pytest.raises(ConfigurationError, match=r"fragments\.chunk_kib: .* larger chunks"):
            await survey_object(Sparse(), shape, compute)
    largest = Manifest(Layout(shape, CHUNKS_MAX * SMALL), bytes(32), [bytes(32)] * 2)
    beyond = largest.header[:28] + (CHUNKS_MAX * SMALL + 1).to_bytes(8, "big") + bytes(96)
    with pytest.raises(VerificationError, match="larger chunks"):
        decode(beyond)


@pytest.mark.parametrize(
    ("data", "parity", "most"), [(2, 2, 1 << 21), (3, 2, 1_677_721), (128, 127, 32_896)]
)
def test_the_chunks_of_all_fragments_are_bounded_together(
    data: int, parity: int, most: int
) -> None:
    """Their hashes are held in memory: 256 MiB, whatever a manifest says."""
    shape = Shape(data, parity, SMALL)
    assert Layout(shape, most * shape.stripe).stripes * shape.fragments <= 1 << 23
    with pytest.raises(ValueError, match=f"more than {most} stripes"):
        Layout(shape, most * shape.stripe + 1)


async def test_a_manifest_is_a_function_of_content_and_shape() -> None:
    async with Executor(2) as compute:
        roots = [
            (await survey_object(io.BytesIO(content), shape, compute)).manifest.root
            for content in (noise(9_000), noise(9_001), noise(9_000, seed=2))
            for shape in (Shape(2, 2, SMALL), Shape(2, 1, SMALL), Shape(2, 2, 2 * SMALL))
        ]
        again = await survey_object(io.BytesIO(noise(9_000)), Shape(2, 2, SMALL), compute)
    assert len(set(roots)) == 9
    assert again.manifest.root == roots[0]
    assert replace(again.manifest, object_id=bytes(32)).root not in roots
