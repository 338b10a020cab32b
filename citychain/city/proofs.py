"""Receipts and log proofs, made from what a city's storage holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from citychain import checkpoint
from citychain.city.handovers import Handovers
from citychain.crypto import merkle
from citychain.errors import NotFound
from citychain.handler import InclusionProof
from citychain.ports import CityStorage, Compute, StoredRound
from citychain.receipt import Receipt
from citychain.types import Handover, SealedNode

__all__ = ["ProofMaker"]


class ProofMaker:
    """Makes proofs for one city.

    Args:
        genesis: The city's id.
    """

    def __init__(self, genesis: bytes, storage: CityStorage, compute: Compute) -> None:
        self._genesis = genesis
        self._storage = storage
        self._handovers = Handovers(storage)
        self._compute = compute

    async def receipts(self, tx_ids: Sequence[bytes], known_round: int) -> dict[bytes, Receipt]:
        """See `citychain.handler.CityHandler.receipts`."""
        nodes = await self._storage.find(tx_ids)
        envelopes = {
            tx_id: raw.envelope for tx_id, raw in (await self._storage.raw(list(nodes))).items()
        }
        keys = await self._storage.keys(list({node.author for node in nodes.values()}))
        by_round: dict[int, list[SealedNode]] = defaultdict(list)
        for node in nodes.values():
            by_round[node.round].append(node)
        receipts: dict[bytes, Receipt] = {}
        for round, sealed in by_round.items():
            receipts |= await self._round_receipts(round, sealed, envelopes, keys, known_round)
        return receipts

    async def handovers(self, known_round: int) -> tuple[Handover, ...]:
        """See `citychain.handler.CityHandler.handovers`."""
        return await self._handovers.after(known_round)

    async def _round_receipts(
        self,
        round: int,
        nodes: Sequence[SealedNode],
        envelopes: Mapping[bytes, bytes],
        keys: Mapping[bytes, bytes],
        known_round: int,
    ) -> dict[bytes, Receipt]:
        stored, peaks = await self._round_and_peaks_before(round)
        if stored.certificate is None:
            return {}
        handovers = await self._handovers.between(known_round, round)
        proofs = await self._compute(
            merkle.round_inclusions,
            peaks,
            stored.first_index,
            await self._storage.leaf_hashes(stored.first_index, stored.size),
            [stored.first_index + node.seq for node in nodes],
        )
        return {
            node.tx_id: Receipt(
                genesis=self._genesis,
                tx_id=node.tx_id,
                envelope=envelopes.get(node.tx_id),
                public_key=keys.get(node.author) if node.tx_id in envelopes else None,
                round=node.round,
                seq=node.seq,
                node_id=node.node_id,
                parents=tuple(parent.node_id for parent in node.parents),
                rejection=node.rejection,
                # The round judged a rejected one too, which binds nothing.
                pop=node.pop if node.rejection is None else None,
                leaf_index=stored.first_index + node.seq,
                inclusion=tuple(proof),
                checkpoint=stored.checkpoint,
                certificate=stored.certificate,
                handovers=handovers,
            )
            for node, proof in zip(nodes, proofs, strict=True)
        }

    async def _round_and_peaks_before(self, round: int) -> tuple[StoredRound, bytes]:
        if round == 1:
            [stored] = await self._storage.rounds(1, 1)
            return stored, b""
        before, stored = await self._storage.rounds(round - 1, 2)
        return stored, before.peaks

    async def inclusion(self, leaf_index: int, size: int) -> InclusionProof:
        """See `citychain.handler.CityHandler.inclusion_proof`."""
        if not 0 <= leaf_index < size:
            raise NotFound("leaf", str(leaf_index))
        root = (await self._round_of_size(size)).root
        reader = _LogReader(self._storage)
        return InclusionProof(
            leaf_hash=await self._storage.leaf_hashes(leaf_index, leaf_index + 1),
            size=size,
            root=root,
            proof=[
                await merkle.subtree_hash(reader, begin, end)
                for begin, end in merkle.inclusion_ranges(leaf_index, size)
            ],
        )

    async def consistency(self, first: int, second: int) -> tuple[bytes, bytes, list[bytes]]:
        """See `citychain.handler.CityHandler.consistency_proof`."""
        if not 0 < first <= second:
            raise NotFound("log size", str(first))
        roots = [(await self._round_of_size(size)).root for size in (first, second)]
        reader = _LogReader(self._storage)
        return (
            roots[0],
            roots[1],
            [
                await merkle.subtree_hash(reader, begin, end)
                for begin, end in merkle.consistency_ranges(first, second)
            ],
        )

    async def _round_of_size(self, size: int) -> checkpoint.Checkpoint:
        """The checkpoint of the round after which the log had this size."""
        stored = await self._storage.round_of_size(size)
        if stored is None:
            raise NotFound("log size", str(size))
        return checkpoint.decode(stored.checkpoint)


class _LogReader:
    """A city's log, as `citychain.crypto.merkle` reads it."""

    def __init__(self, storage: CityStorage) -> None:
        self._storage = storage

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        return await self._storage.leaf_hashes(begin, end)

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        return await self._storage.subtree_hashes(level, begin, end)
