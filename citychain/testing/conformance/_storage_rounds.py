"""Storage tests: committing, certifying and reading rounds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from citychain.errors import LeaseLost, RoundTaken, StorageError
from citychain.ports import CityStorage
from citychain.testing.conformance._storage_session import TTL, Session, commit, fill
from citychain.testing.conformance.ledger import LEVEL, Ledger, pending
from citychain.types import (
    NodeRef,
    ObjectState,
    ObjectWrite,
    RawTransaction,
    SealedNode,
    SealedRound,
)

__all__ = ["RoundTests"]


class RoundTests:
    """Part of `StorageSuite`."""

    async def test_everything_of_a_round_is_read_back(self, session: Session) -> None:
        ledger = Ledger(60)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=6, per_round=70)
        await ledger.check(city)

    async def test_rounds_may_seal_nothing_or_link_nothing(self, session: Session) -> None:
        ledger = Ledger(61)
        city = await session.city(ledger)
        await commit(city, ledger, [])
        await ledger.check(city)
        for rejected in ([0, 1, 2], [], [0, 1, 2], []):
            batch = ledger.transactions(3)
            await city.append(batch, {})
            ledger.receive(batch)
            await commit(city, ledger, batch if rejected else batch[:1], rejected=rejected)
            await commit(city, ledger, [], held=[batch[-1].tx_id])
            await ledger.check(city)

    async def test_a_round_is_found_by_the_size_it_left(self, session: Session) -> None:
        ledger = Ledger(61)
        city = await session.city(ledger)
        assert await city.round_of_size(0) is None, "there is no round yet"
        for count in (2, 0, 1, 0, 0, 5):
            batch = ledger.transactions(count)
            await city.append(batch, {})
            ledger.receive(batch)
            await commit(city, ledger, batch)
        first_by_size = {stored.size: stored for stored in reversed(ledger.rounds)}
        for size in range(-1, ledger.head.size + 2):
            assert await city.round_of_size(size) == first_by_size.get(size), (
                f"round_of_size({size}) is the first round after which the log has that size, "
                "or None where no round ended there"
            )
        assert await city.round_of_size(1 << 70) is None, "no round has that size"

    async def test_the_latest_node_is_the_authors_last_linked_one(self, session: Session) -> None:
        ledger = Ledger(62)
        city = await session.city(ledger)
        me, other = ledger.transactions(2)
        mine = [replace(t, author=me.author) for t in ledger.transactions(5)]
        await city.append([*mine, other], {})
        ledger.receive([*mine, other])
        await commit(city, ledger, [mine[0], mine[1], other, mine[2]], rejected=[3])
        assert (await city.latest([me.author]))[me.author].seq == 1, (
            "latest() is the author's last linked node of the round"
        )
        await commit(city, ledger, [mine[3]], rejected=[0])
        assert (await city.latest([me.author]))[me.author][:2] == (1, 1), (
            "a rejected transaction is nobody's latest node"
        )
        await commit(city, ledger, [mine[4]])
        assert (await city.latest([me.author]))[me.author][:2] == (3, 0), (
            "latest() is the node of the later round"
        )
        await ledger.check(city)

    async def test_objects_hold_their_last_state(self, session: Session) -> None:
        ledger = Ledger(63, [ObjectWrite("a", 1, b"genesis")])
        city = await session.city(ledger)
        big = ledger.random.randbytes(100_000)
        for version in range(2, 5):
            writes = [
                ObjectWrite("a", version, b"%d" % version),
                ObjectWrite("a,b;c'\"", version, b",;'"),
                ObjectWrite("価格", version, big),
                ObjectWrite(f"only in {version}", (1 << 62) + version, b""),
            ]
            await commit(city, ledger, [], writes=sorted(writes))
            await ledger.check(city)
        assert await city.objects(["a", "a", "b"]) == {"a": ObjectState(4, b"4")}

    async def test_ids_that_share_a_beginning_are_told_apart(self, session: Session) -> None:
        ledger = Ledger(64)
        city = await session.city(ledger)
        start = ledger.random.randbytes(31)
        batch = [
            RawTransaction(
                start[:length] + ledger.random.randbytes(32 - length),
                start[:length] + bytes([i]) * (32 - length),
                b"%d" % i,
            )
            for i, length in enumerate((31, 31, 24, 16, 9, 8, 8, 7, 4, 1, 0))
        ]
        await city.append(batch[::2], {t.author: t.author * 2 for t in batch})
        ledger.receive(batch[::2], {t.author: t.author * 2 for t in batch})
        await ledger.check(city)
        sealed = ledger.round(batch[:9:2], rejected=[1])
        ids = [None if n is None else start[:12] + n[12:] for n in sealed.node_ids]
        sealed = replace(sealed, node_ids=ids, parents=[p[:0] for p in sealed.parents])
        await city.commit(sealed)
        ledger.commit(sealed)
        await city.append(batch, {})
        ledger.receive(batch)
        for transaction in batch[1::2]:
            assert await city.find([transaction.tx_id]) == {}, "find() must compare whole ids"
            assert await city.raw([transaction.tx_id]) == {transaction.tx_id: transaction}, (
                "raw() must compare whole ids"
            )
        assert await city.nodes([start[:12] + bytes(20)]) == {}, "nodes() must compare whole ids"
        assert await city.raw([start[:30] + bytes(2), start[:8] + bytes(24)]) == {}, (
            "raw() must compare whole ids"
        )
        authors = {node.author for node in ledger.linked}
        found = await city.latest([t.author for t in batch])
        assert set(found) == authors, "latest() must compare whole ids"
        assert await pending(city) == ledger.pending, "pending() must compare whole ids"

    async def test_children_come_in_pages_by_place(self, session: Session) -> None:
        ledger = Ledger(65)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=6, per_round=30)
        genesis = NodeRef(0, 0, ledger.genesis)
        for parent in (genesis, *(node.ref for node in ledger.linked[:20])):
            expected = ledger.children(parent)
            found: list[SealedNode] = []
            after = (0, 0)
            while page := await city.children(parent, after, 3):
                found += page
                after = (page[-1].round, page[-1].seq)
                assert found == expected[: len(found)], (
                    "children() go on after a place, in order of (round, seq)"
                )
                assert len(page) <= 3, "a page of children() is longer than its limit"
            assert found == expected, "pages of children() must give each once, in order"
            later = [node for node in expected if node.round > 2]
            found = list(await city.children(parent, (2, 1 << 40), 1000))
            assert found == later, "children() go on after a place that need not exist"
            other = parent._replace(node_id=bytes(32))
            assert list(await city.children(other, (0, 0), 10)) == [], (
                "another node at the same place has other children"
            )
        assert ledger.children(genesis), "the genesis has children"

    async def test_hashes_are_read_in_any_range(self, session: Session) -> None:
        ledger = Ledger(66)
        city = await session.city(ledger)
        for count in (1, 300, 0, 255, 2, 500):
            await commit(city, ledger, ledger.transactions(count))
        size = ledger.head.size
        await ledger.check(city, sample=300)
        assert await city.leaf_hashes(size - 3, size + 100) == ledger.leaf_hashes[-96:], (
            "leaf_hashes() end where the log ends"
        )
        assert await city.leaf_hashes(size, size + 1) == b"", "there is no leaf beyond the end"
        assert await city.leaf_hashes(7, 7) == b"", "an empty range has no hashes"
        assert await city.subtree_hashes(LEVEL, 1, 3) == b"".join(ledger.subtrees[1:3]), (
            "subtree_hashes() are those of the range"
        )
        assert await city.subtree_hashes(LEVEL, 2, 99) == b"".join(ledger.subtrees[2:]), (
            "subtree_hashes() end at the first that is not stored"
        )
        assert await city.subtree_hashes(LEVEL + 8, 0, 1) == b"", (
            "a level without subtrees has no hashes"
        )

    async def test_rounds_are_read_in_pages(self, session: Session) -> None:
        ledger = Ledger(67)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=5, per_round=2)
        assert list(await city.rounds(2, 3)) == ledger.rounds[1:4], (
            "rounds() gives `limit` rounds from `first` on"
        )
        assert list(await city.rounds(5, 3)) == ledger.rounds[4:], (
            "rounds() ends with the last round"
        )
        assert list(await city.rounds(0, 1)) == ledger.rounds[:1], "the first round is 1"

    async def test_a_round_is_committed_once(self, session: Session) -> None:
        ledger = Ledger(70)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=4)
        batch = ledger.transactions(4)
        await city.append(batch, {})
        ledger.receive(batch)
        third, other = ledger.round(batch[:2]), ledger.round(batch[2:], rejected=[0])
        await city.commit(third)
        ledger.commit(third)
        for taken in (third, other, replace(other, round=1), replace(other, round=2)):
            with pytest.raises(RoundTaken):
                await city.commit(taken)
        await ledger.check(city)

    async def test_of_overlapping_commits_of_a_round_one_wins(self, session: Session) -> None:
        ledger = Ledger(71)
        city = await session.city(ledger)
        batch = ledger.transactions(12)
        await city.append(batch, {})
        ledger.receive(batch)
        rivals = [
            ledger.round(batch[3 * i : 3 * i + 3], writes=[ObjectWrite(f"by {i}", 1, b"")])
            for i in range(4)
        ]
        results = await asyncio.gather(*map(city.commit, rivals), return_exceptions=True)
        winners = [rival for rival, result in zip(rivals, results, strict=True) if not result]
        assert len(winners) == 1, "exactly one of several commits of a round succeeds"
        assert [type(result) for result in results if result] == [RoundTaken] * 3, (
            "the others must get RoundTaken"
        )
        ledger.commit(winners[0])
        await ledger.check(city)

    async def test_gaps_are_refused(self, session: Session) -> None:
        ledger = Ledger(72)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=1, per_round=3)
        second = ledger.round(ledger.transactions(2))
        for round in (3, 4, 1000):
            await _is_refused(city, replace(second, round=round))
        await ledger.check(city)
        await city.commit(second)
        ledger.commit(second)
        await ledger.check(city)

    async def test_a_round_begins_where_the_log_ends(self, session: Session) -> None:
        ledger = Ledger(76)
        city = await session.city(ledger)
        first = ledger.round(ledger.transactions(3))
        for first_index in (1, 3):
            await _is_refused(city, replace(first, first_index=first_index))
        await ledger.check(city)
        await fill(city, ledger, rounds=2, per_round=3)
        third = ledger.round(ledger.pending)
        for first_index in (0, third.first_index - 1, third.first_index + 1, 1 << 40):
            await _is_refused(city, replace(third, first_index=first_index))
        await ledger.check(city)
        await session.reopen()
        city = await session.city(ledger)
        await ledger.check(city)
        await city.commit(third)
        ledger.commit(third)
        await ledger.check(city)

    async def test_lease_epochs_grow(self, session: Session) -> None:
        ledger = Ledger(73)
        epochs = [0]
        for _ in range(3):
            city = await session.city(ledger)
            for _ in range(2):
                epoch = await city.acquire_lease("me", TTL)
                assert epoch is not None, "who holds the lease may acquire it again"
                assert epoch > epochs[-1], "epochs must grow by each acquisition"
                epochs.append(epoch)
            await city.renew_lease(epochs[-1], TTL)
            await session.reopen()
        city = await session.city(ledger)
        for lost in epochs[:-1]:
            with pytest.raises(LeaseLost):
                await city.renew_lease(lost, TTL)
            await city.release_lease(lost)
        await city.renew_lease(epochs[-1], TTL)
        await city.release_lease(epochs[-1])
        epoch = await city.acquire_lease("me", TTL)
        assert epoch is not None, "a lease that was given up is free"
        assert epoch > epochs[-1], "epochs must grow by each acquisition"

    async def test_a_lease_is_newer_than_rounds_that_came_from_elsewhere(
        self, session: Session
    ) -> None:
        ledger = Ledger(76)
        city = await session.city(ledger)
        ledger.epoch = 9
        await fill(city, ledger, rounds=2, per_round=2)
        epoch = await city.acquire_lease("me", TTL)
        assert epoch is not None, "nobody holds the lease yet"
        assert epoch > 9, "an epoch must be newer than those of all committed rounds"
        batch = ledger.transactions(2)
        await city.append(batch, {})
        ledger.receive(batch)
        await commit(city, ledger, batch, epoch=epoch)
        await ledger.check(city)

    async def test_leases_of_overlapping_calls_differ(self, session: Session) -> None:
        city = await session.city(Ledger(74))
        epochs = await asyncio.gather(*(city.acquire_lease("me", TTL) for _ in range(5)))
        granted = [epoch for epoch in epochs if epoch is not None]
        assert granted, "nobody got the lease"
        assert len(set(granted)) == len(granted), "each acquisition has an epoch of its own"

    async def test_a_commit_under_an_older_epoch_is_refused(self, session: Session) -> None:
        ledger = Ledger(75)
        city = await session.city(ledger)
        old = await city.acquire_lease("me", TTL)
        assert old is not None, "nobody holds the lease yet"
        ledger.epoch = old
        await fill(city, ledger, rounds=1, per_round=3)
        new = await city.acquire_lease("me", TTL)
        assert new is not None, "who holds the lease may acquire it again"
        batch = ledger.transactions(3)
        await city.append(batch, {})
        ledger.receive(batch)
        with pytest.raises(LeaseLost):
            await city.commit(ledger.round(batch, epoch=old))
        await session.reopen()
        city = await session.city(ledger)
        with pytest.raises(LeaseLost):
            await city.commit(ledger.round(batch, epoch=old))
        await ledger.check(city)
        await commit(city, ledger, batch, epoch=new)
        await ledger.check(city)

    # --- approver

    async def test_certificates_may_come_in_any_order_and_again(self, session: Session) -> None:
        ledger = Ledger(80)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=7, per_round=2)
        certificates = [ledger.certificate(round) for round in range(1, 8)]
        for batch, certified in (
            ([2, 4], 0),
            ([1], 2),
            ([1, 2, 2], 2),
            ([], 2),
            ([7, 3], 4),
            ([6], 4),
            ([5], 7),
        ):
            part = [certificates[round - 1] for round in batch]
            await city.certify(part)
            ledger.certify(part)
            assert (await city.head()).certified_round == certified, (
                "certified_round is the last up to which all are certified"
            )
            await ledger.check(city, sample=2)
            await session.reopen()
            city = await session.city(ledger)
            assert (await city.head()).certified_round == certified, (
                "certified_round must be found again"
            )
        await city.certify([replace(certificates[0], votes=())])
        await ledger.check(city)

    async def test_overlapping_certificates_are_all_kept(self, session: Session) -> None:
        ledger = Ledger(81)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=20, per_round=1)
        certificates = [ledger.certificate(round) for round in range(1, 21)]
        ledger.random.shuffle(certificates)
        await asyncio.gather(*(city.certify([certificate]) for certificate in certificates))
        ledger.certify(certificates)
        await ledger.check(city, sample=2)

    async def test_a_certificate_of_no_round_is_refused(self, session: Session) -> None:
        ledger = Ledger(82)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=3, per_round=2)
        certificates = [ledger.certificate(round) for round in (1, 2, 3)]
        early = replace(certificates[2], round=4)
        for batch in ([early], [certificates[0], early], [replace(early, round=0)]):
            with pytest.raises(StorageError):  # Of a round that is not committed.
                await city.certify(batch)
        assert (await city.head()).certified_round <= 1, "more is certified than was asked for"
        await fill(city, ledger, rounds=1, per_round=2)
        [fourth] = await city.rounds(4, 1)
        assert fourth.certificate is None, "the refused certificate came back with its round"
        await city.certify(certificates)
        ledger.certify(certificates)
        await ledger.check(city)
        await session.reopen()
        await ledger.check(await session.city(ledger))


async def _is_refused(city: CityStorage, sealed: SealedRound) -> None:
    """Of a round that does not follow the latest one."""
    refused = None
    try:
        await city.commit(sealed)
    except StorageError as error:
        refused = error
    assert refused is not None, (
        f"commit took round {sealed.round} from leaf {sealed.first_index}, which does not follow "
        "the latest round: StorageError must be raised"
    )
    assert not isinstance(refused, RoundTaken | LeaseLost), (
        f"{refused!r} says that another server is ahead; a gap is a plain StorageError"
    )
