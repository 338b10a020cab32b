"""The audit of a copy: what one storage says of a city is what the other says.

Everything that a caller can be told is asked of both, and compared as a whole. That the rounds are
what the rules give is for ``citychain audit``, which either of the two can be given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from citychain import record
from citychain.errors import VerificationError
from citychain.moving.pages import TRANSACTIONS_PAGE, RoundPages
from citychain.notes import HOME
from citychain.ports import CityStorage, Compute, StoredRound
from citychain.record import RoundRecord
from citychain.types import NodeRef, ObjectWrite, SealedNode

__all__ = ["Comparison"]

NODES_SAMPLED: Final = 16
"""Nodes of a page that are looked up by id."""
LEVELS: Final = range(8, 64, 8)
"""Of the log's stored subtrees."""

Told = Callable[[int, int], None]
"""Told how many rounds are done, and of how many."""


class Comparison:
    """Compares a copy with what it is of.

    Args:
        initial: The objects that the city began with.
    """

    def __init__(
        self,
        source: CityStorage,
        copy: CityStorage,
        initial: Sequence[ObjectWrite],
        compute: Compute,
    ) -> None:
        self._source = source
        self._copy = copy
        self._initial = initial
        self._compute = compute
        self._pages = RoundPages()
        self._certified = 0
        self.round = 0
        """The last round that was compared."""

    async def rounds(self, told: Told = lambda done, of: None) -> None:
        """Compare the rounds that the copy has and that were not compared before.

        Raises:
            VerificationError: naming the first difference.
        """
        head = await self._copy.head()
        while self.round < head.round:
            first = self.round + 1
            limit = self._pages.limit(head.round - self.round)
            there = await self._copy.rounds(first, limit)
            here = await self._source.rounds(first, limit)
            # The source may have certified one meanwhile: certificates come last.
            _same(f"rounds from {first} on", _plain(here), _plain(there))
            self._pages.seen(there)
            await self._page(there)
            self.round = first + len(there) - 1
            told(self.round, head.round)
        await self._certificates(min(head.certified_round, self.round))

    async def whole(self) -> None:
        """Compare what is left, of a source that nobody writes to any more.

        Raises:
            VerificationError: naming the first difference.
        """
        source, copy = self._source, self._copy
        await self.rounds()
        _same("heads", await source.head(), await copy.head())
        _same("latest nodes", await source.tips(), await copy.tips())
        names = [write.object for write in self._initial]
        for start in range(0, len(names), TRANSACTIONS_PAGE):
            page = names[start : start + TRANSACTIONS_PAGE]
            _same("objects", await source.objects(page), await copy.objects(page))
        await self._certificates(self.round)
        await self._pending()
        notes, copied = dict(await source.notes("")), dict(await copy.notes(""))
        for both in (notes, copied):
            both.pop(HOME, None)
        _same("notes", notes, copied)

    async def _page(self, rounds: Sequence[StoredRound]) -> None:
        """Compare what some rounds, which are equal, have besides."""
        source, copy = self._source, self._copy
        where = f"of rounds {rounds[0].round} to {rounds[-1].round}"
        records = await self._compute(_records, rounds)
        tx_ids = [tx_id for item in records for tx_id in item.tx_ids]
        await self._log(where, rounds[0].first_index, rounds[-1].size)
        await self._objects(where, [write for item in records for write in item.writes])
        _same(
            f"nodes of round {rounds[-1].round}",
            await source.round_nodes(rounds[-1].round),
            await copy.round_nodes(rounds[-1].round),
        )
        if not tx_ids:
            return
        nodes = await source.find(tx_ids)
        _same(f"nodes {where}", nodes, await copy.find(tx_ids))
        _same(f"transactions {where}", await source.raw(tx_ids), await copy.raw(tx_ids))
        authors = list({node.author for node in nodes.values()})
        _same(f"keys {where}", await source.keys(authors), await copy.keys(authors))
        await self._places(where, [nodes[tx_id] for tx_id in tx_ids])

    async def _places(self, where: str, nodes: Sequence[SealedNode]) -> None:
        """That nodes are found by their ids, by their authors, and by their parents."""
        linked = {node.node_id: node for node in nodes if node.node_id is not None}
        if not linked:
            return
        # They are those of `find`, by another index: some show that it is there.
        some = dict([*linked.items()][:: 1 + len(linked) // NODES_SAMPLED])
        _same(f"node ids {where}", some, await self._copy.nodes(list(some)))
        latest: dict[bytes, NodeRef] = {node.author: node.ref for node in linked.values()}
        found = await self._copy.latest(list(latest))
        for author, ref in latest.items():
            if author not in found or found[author] < ref:
                raise VerificationError(f"the copy's latest node of {author.hex()} differs")
        first = next(iter(linked.values()))
        before = (first.round, first.seq - 1) if first.seq else (first.round - 1, 1 << 20)
        children = await self._copy.children(first.parents[0], before, 1)
        _same(f"children {where}", [first], children)

    async def _log(self, where: str, begin: int, end: int) -> None:
        """Leaves, and the subtrees that they completed."""
        source, copy = self._source, self._copy
        _same(
            f"leaf hashes {where}",
            await source.leaf_hashes(begin, end),
            await copy.leaf_hashes(begin, end),
        )
        for level in LEVELS:
            if (first := begin >> level) == (last := end >> level):
                break
            _same(
                f"subtree hashes {where}",
                await source.subtree_hashes(level, first, last),
                await copy.subtree_hashes(level, first, last),
            )

    async def _objects(self, where: str, writes: Sequence[ObjectWrite]) -> None:
        """Each object has the state that a round left, or that of a later one."""
        if not writes:
            return
        found = await self._copy.objects(list({write.object for write in writes}))
        for write in writes:
            state = found.get(write.object)
            if (
                state is None
                or state.version < write.version
                or (state.version == write.version and state.value != write.value)
            ):
                raise VerificationError(f"the copy's object {write.object}, {where}, differs")

    async def _certificates(self, last: int) -> None:
        """Compare those up to a round, which were not compared before."""
        while self._certified < last:
            first = self._certified + 1
            limit = self._pages.limit(last + 1 - first)
            here = await self._source.rounds(first, limit)
            _same("certificates", here, await self._copy.rounds(first, limit))
            self._certified = first + len(here) - 1

    async def _pending(self) -> None:
        ids = await self._source.pending_ids()
        # Where a copy was begun before, some may have come in another order.
        _same("transactions without a place", set(ids), set(await self._copy.pending_ids()))
        for start in range(0, len(ids), TRANSACTIONS_PAGE):
            page = ids[start : start + TRANSACTIONS_PAGE]
            here = await self._source.raw(page)
            _same("transactions without a place", here, await self._copy.raw(page))
            authors = list({item.author for item in here.values()})
            if authors:
                _same("keys", await self._source.keys(authors), await self._copy.keys(authors))


def _records(rounds: Sequence[StoredRound]) -> list[RoundRecord]:
    return [record.decode(stored.record) for stored in rounds]


def _plain(rounds: Sequence[StoredRound]) -> list[StoredRound]:
    return [replace(stored, certificate=None) for stored in rounds]


def _same(what: str, here: Any, there: Any) -> None:
    """Hold a copy to what it is of.

    Raises:
        VerificationError: they differ; the first place is named, where there are several.
    """
    if isinstance(here, Mapping):
        here, there = dict(here), dict(there)
    elif isinstance(here, Sequence):
        here, there = list(here), list(there)
    if here == there:
        return
    detail = ""
    if isinstance(here, list):
        if len(here) != len(there):
            detail = f": {len(there)} in the copy, {len(here)} in the source"
        else:
            index = next(
                i for i, pair in enumerate(zip(here, there, strict=True)) if pair[0] != pair[1]
            )
            detail = f": number {index + 1} of {len(here)}"
    raise VerificationError(f"the copy's {what} differ{detail}")
