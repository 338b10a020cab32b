"""A chunk is proven to whoever knows the key, and nothing else is."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fragments_reference import tree
from hypothesis import given
from hypothesis import strategies as st
from shelves import SMALL, Shelf, chunk_at, noise, shelves, store

from citychain.compute import Executor
from citychain.errors import FragmentMissing, InvalidRequest, VerificationError
from citychain.fragments import proving
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import Manifest
from citychain.fragments.proving import ChunkProof, prove
from citychain.ports import FragmentKey

SHAPE = Shape(2, 2, SMALL)


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


async def stored(
    content: bytes, shape: Shape, compute: Executor
) -> tuple[Manifest, list[Shelf], list[FragmentKey]]:
    stores = [*shelves(shape.fragments).values()]
    survey = await store(content, shape, stores, compute)
    return survey.manifest, stores, survey.manifest.fragment_keys()


@pytest.mark.parametrize("window", [1, 2, 3, 1 << 17])
@pytest.mark.parametrize("size", [1, 2 * SMALL, 6 * SMALL, 13 * SMALL + 77, 16 * SMALL])
async def test_every_chunk_is_proven(
    size: int, window: int, compute: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "READ_BYTES_MAX", 32 * window)
    content = noise(size)
    manifest, stores, keys = await stored(content, SHAPE, compute)
    for shelf, key in zip(stores, keys, strict=True):
        for stripe in range(manifest.layout.stripes):
            proof = await prove(shelf, key, stripe, compute)
            proof.verify(key.root, key.index, stripe)
            assert proof.object_id == hashlib.sha256(content).digest()
            begin, length = chunk_at(manifest, stripe)
            assert proof.chunk == shelf.content[key][begin : begin + length]
            assert ChunkProof.from_bytes(proof.to_bytes()) == proof


@pytest.mark.parametrize("shape", [Shape(1, 0, SMALL), Shape(3, 2, SMALL), Shape(200, 55, SMALL)])
async def test_objects_of_any_shape_are_proven(shape: Shape, compute: Executor) -> None:
    _, stores, keys = await stored(noise(3 * shape.stripe + 1), shape, compute)
    for at in {0, shape.fragments // 2, shape.fragments - 1}:
        (await prove(stores[at], keys[at], 3, compute)).verify(keys[at].root, at, 3)


async def test_a_path_leads_to_the_root_by_its_definition(compute: Executor) -> None:
    """Folded by hand, for the third of eight chunks and the second of five leaves."""
    manifest, stores, keys = await stored(noise(16 * SMALL), SHAPE, compute)
    proof = await prove(stores[0], keys[0], 2, compute)

    def pair(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    at = hashlib.sha256(b"\0" + proof.chunk).digest()
    fourth, first_two, last_four = proof.chunk_path
    assert pair(pair(first_two, pair(at, fourth)), last_four) == manifest.roots[0]
    assert tree([manifest.header, *manifest.roots]) == keys[0].root


async def test_a_proof_is_of_one_chunk_of_one_fragment_of_one_manifest(compute: Executor) -> None:
    _, stores, keys = await stored(noise(12 * SMALL), SHAPE, compute)
    proof = await prove(stores[1], keys[1], 3, compute)
    proof.verify(keys[1].root, 1, 3)
    for root, index, chunk in [
        (keys[1].root, 2, 3),
        (keys[1].root, 1, 2),
        (keys[1].root, 1, 6),
        (keys[1].root, 1, -1),
        (keys[1].root, 4, 3),
        (keys[1].root, -1, 3),
        (bytes(32), 1, 3),
    ]:
        with pytest.raises(VerificationError):
            proof.verify(root, index, chunk)


async def test_no_byte_of_a_proof_can_be_changed(compute: Executor) -> None:
    _, stores, keys = await stored(noise(5 * SMALL), SHAPE, compute)
    proof = await prove(stores[2], keys[2], 1, compute)
    encoded = proof.to_bytes()
    places = {*range(600), *range(len(encoded) - 120, len(encoded)), len(encoded) // 2}
    for at in places:
        changed = bytearray(encoded)
        changed[at] ^= 1
        with pytest.raises(VerificationError):
            ChunkProof.from_bytes(bytes(changed)).verify(keys[2].root, 2, 1)
    for wrong in (b"", encoded[:-1], encoded + b"\0", encoded[:300]):
        with pytest.raises(VerificationError, match="proof"):
            ChunkProof.from_bytes(wrong)


async def test_a_header_of_another_object_or_shape_does_not_pass(compute: Executor) -> None:
    manifest, stores, keys = await stored(noise(5 * SMALL), SHAPE, compute)
    proof = await prove(stores[0], keys[0], 0, compute)
    other = replace(manifest, object_id=bytes(32)).header
    with pytest.raises(VerificationError):
        replace(proof, header=other).verify(keys[0].root, 0, 0)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_another_error(data: bytes) -> None:
    for given_bytes in (data, b"citychain/chunk-proof/v1\0" + data):
        with pytest.raises(VerificationError):
            ChunkProof.from_bytes(given_bytes).verify(bytes(32), 0, 0)


async def test_who_lacks_a_chunk_proves_nothing(compute: Executor) -> None:
    manifest, [shelf, *_], [key, *_] = await stored(noise(5 * SMALL), SHAPE, compute)
    whole = shelf.content[key]
    for chunk in (-1, 3, 1 << 40):
        with pytest.raises(InvalidRequest, match="chunk"):
            await prove(shelf, key, chunk, compute)
    # A byte of the chunk, of its leaf hash's sibling, of the manifest, of the footer.
    hashes_at = manifest.layout.hashes_at
    for at in (SMALL + 5, hashes_at, manifest.layout.tail_at + 70, len(whole) - 1):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1
        shelf.content[key] = bytes(spoilt)
        with pytest.raises(VerificationError):
            await prove(shelf, key, 1, compute)
    shelf.content[key] = whole[:10] + whole
    with pytest.raises(VerificationError, match="bytes, and"):
        await prove(shelf, key, 1, compute)
    shelf.drop()
    with pytest.raises(FragmentMissing):
        await prove(shelf, key, 1, compute)


async def test_an_empty_object_has_nothing_to_prove(compute: Executor) -> None:
    _, [shelf, *_], [key, *_] = await stored(b"", SHAPE, compute)
    with pytest.raises(InvalidRequest, match="0: the fragment has 0"):
        await prove(shelf, key, 0, compute)
