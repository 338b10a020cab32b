"""A segment has all that a storage has of its rounds, and reads as nothing else."""

from __future__ import annotations

import io
import random

import pytest
from archive.conftest import at_once, busy_city

from citychain import record
from citychain.archive.packing import OpenSegment
from citychain.archive.segment import Segment, decode, decode_header
from citychain.archive.signed import Votes
from citychain.city.pipeline import City
from citychain.errors import InvalidRound, VerificationError
from citychain.moving import pages
from citychain.ports import CityStorage
from citychain.testing.server import CityServerFactory


async def packed(city: City, after: int, last: int) -> bytes:
    file = io.BytesIO()
    segment = await OpenSegment.begin(
        genesis=city.genesis.id,
        after=after,
        previous=bytes(32),
        operator=city.genesis.operator_id,
        storage=city.storage,
        compute=at_once,
        votes=Votes(city.genesis, city.storage, at_once),
        file=file,
    )
    while segment.last < last:
        await segment.grow(last)
    await segment.close()
    return file.getvalue()


async def compare(segment: Segment, storage: CityStorage) -> None:
    """Hold all that is read of a segment to what the storage says."""
    authors = set()
    for archived in segment.rounds:
        [stored] = await storage.rounds(archived.stored.round, 1)
        assert archived.stored == stored
        assert list(archived.nodes) == list(await storage.round_nodes(stored.round))
        decided = record.decode(stored.record)
        raw = await storage.raw([*decided.tx_ids, *decided.held])
        assert [item.tx_id for item in archived.transactions] == list(decided.tx_ids)
        assert [item.tx_id for item in archived.held] == list(decided.held)
        for item in (*archived.transactions, *archived.held):
            assert item == raw[item.tx_id]
            authors.add(item.author)
        assert archived.leaf_hashes == await storage.leaf_hashes(stored.first_index, stored.size)
    assert authors <= segment.keys.keys()
    assert segment.keys == await storage.keys(list(segment.keys))


async def test_a_segment_has_all_of_its_rounds(city_server: CityServerFactory) -> None:
    async with busy_city(city_server) as city:
        last = (await city.head()).certified_round
        assert last >= 3
        first, second = await packed(city, 0, 2), await packed(city, 2, last)
        for content, rounds in ((first, (1, 2)), (second, (3, last))):
            segment = decode(content)
            assert (segment.header.first, segment.header.last) == rounds
            assert len(segment.rounds) == rounds[1] + 1 - rounds[0]
            assert segment.header == decode_header(content[:4_096])
            await compare(segment, city.storage)
        rounds = (*decode(first).rounds, *decode(second).rounds)
        # The history has what is odd: rejected ones, held ones, judgements of place.
        assert any(node.rejection for each in rounds for node in each.nodes)
        assert any(each.held for each in rounds)
        assert any(node.pop for each in rounds for node in each.nodes)


async def test_the_same_rounds_have_the_same_segment(
    city_server: CityServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with busy_city(city_server) as city:
        last = (await city.head()).certified_round
        once = await packed(city, 0, last)
        monkeypatch.setattr(pages, "ROUNDS_MAX", 1)
        assert await packed(city, 0, last) == once


async def test_a_storage_that_lost_a_transaction_is_not_archived(
    city_server: CityServerFactory,
) -> None:
    async with busy_city(city_server, settled=1) as city:
        [stored] = await city.storage.rounds(1, 1)
        lost = record.decode(stored.record).tx_ids[0]
        real = city.storage.raw

        async def raw(tx_ids: object) -> object:
            found = dict(await real(tx_ids))  # type: ignore[arg-type]
            found.pop(lost, None)
            return found

        city.storage.raw = raw  # type: ignore[method-assign, assignment]
        with pytest.raises(InvalidRound, match=lost.hex()):
            await packed(city, 0, 1)


async def test_what_is_cut_off_or_changed_is_no_such_segment(
    city_server: CityServerFactory,
) -> None:
    async with busy_city(city_server, settled=1) as city:
        last = (await city.head()).certified_round
        content = await packed(city, 0, last)
        right = decode(content)
    choose = random.Random(7)
    for length in (0, 20, 60, 101, *(choose.randrange(len(content)) for _ in range(30))):
        with pytest.raises(VerificationError):
            decode(content[:length])
    with pytest.raises(VerificationError):
        decode(content + b"\0")
    for _ in range(60):
        at = choose.randrange(len(content))
        changed = (
            content[:at] + bytes((content[at] ^ 1 << choose.randrange(8),)) + content[at + 1 :]
        )
        try:
            assert decode(changed) != right
        except VerificationError:
            continue


@pytest.mark.parametrize("begin", [b"", b"citychain/segment/v1", b"citychain/segment/v1\0", b"x"])
def test_the_beginning_of_something_else_is_no_header(begin: bytes) -> None:
    assert decode_header(begin) is None
