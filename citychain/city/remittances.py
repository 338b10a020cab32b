"""What became of a city's remittances, from what its storage holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from citychain import record
from citychain._native.transactions import Transaction, decode_batch
from citychain.between_cities import (
    Decided,
    Outgoing,
    RemittanceState,
    decode_inbox,
    decode_outbox,
    inbox_object,
    outbox_object,
)
from citychain.errors import NotFound, VerificationError
from citychain.exchange.proof import decode_receipt
from citychain.handler import CityHandler, RemittanceStatus
from citychain.ports import CityStorage
from citychain.types import Rejection, SealedNode

__all__ = ["decided", "remittance"]

CHILDREN_PAGE: Final = 256
CHILDREN_MAX: Final = 65_536
"""Nodes that are looked through for the settlement of a remittance."""
ROUNDS_PAGE: Final = 16


async def remittance(handler: CityHandler, tx_id: bytes) -> RemittanceStatus:
    """Where a remittance stands, by the certified rounds alone.

    Raises:
        NotFound: no approved transaction of this id sends anything to another city.
    """
    name = outbox_object(tx_id)
    state = (await handler.storage.objects([name])).get(name)
    head = await handler.head()  # After the object: what it says is in a round up to here.
    if state is None:
        raise NotFound("remittance", tx_id.hex())
    outgoing = decode_outbox(tx_id, state.value)
    versions = await _uncertified(handler.storage, name, head.certified_round + 1, head.round)
    if 1 in versions:
        raise NotFound("remittance", tx_id.hex())
    if versions:
        outgoing = replace(outgoing, state=RemittanceState.PENDING)
    if outgoing.state is RemittanceState.PENDING:
        return RemittanceStatus(outgoing, None, None)
    return await _answered(handler.storage, outgoing)


async def decided(handler: CityHandler, source: bytes, tx_ids: Sequence[bytes]) -> list[Decided]:
    """What the city decided about remittances of another; an empty id where nothing is."""
    names = [inbox_object(source, tx_id) for tx_id in tx_ids]
    found = await handler.storage.objects(names)
    return [
        decode_inbox(found[name].value) if name in found else Decided(False, b"") for name in names
    ]


async def _uncertified(storage: CityStorage, name: str, first: int, last: int) -> set[int]:
    """Versions of an object that rounds without a certificate write."""
    versions: set[int] = set()
    while first <= last:
        rounds = await storage.rounds(first, min(ROUNDS_PAGE, last + 1 - first))
        for stored in rounds:
            if name.encode() in stored.record:
                writes = record.decode(stored.record).writes
                versions |= {write.version for write in writes if write.object == name}
        if not rounds:
            break
        first = rounds[-1].round + 1
    return versions


async def _answered(storage: CityStorage, outgoing: Outgoing) -> RemittanceStatus:
    """With the settlement, and why the other city refused: it names the remittance as a
    dependency, so it is among the nodes that have that for a parent."""
    node = (await storage.find([outgoing.tx_id]))[outgoing.tx_id]
    after, seen = (node.round, node.seq), 0
    while seen < CHILDREN_MAX:
        children = await storage.children(node.ref, after, CHILDREN_PAGE)
        if (settlement := await _settlement(storage, outgoing.tx_id, children)) is not None:
            return RemittanceStatus(outgoing, settlement.tx_id, _refusal(settlement))
        if len(children) < CHILDREN_PAGE:
            break
        seen += len(children)
        after = (children[-1].round, children[-1].seq)
    return RemittanceStatus(outgoing, None, None)


async def _settlement(
    storage: CityStorage, tx_id: bytes, children: Sequence[SealedNode]
) -> Transaction | None:
    raw = await storage.raw([child.tx_id for child in children])
    for transaction in decode_batch([one.envelope for one in raw.values()]):
        if transaction.settlement is not None and transaction.settlement.tx_id == tx_id:
            return transaction
    return None


def _refusal(settlement: Transaction) -> Rejection | None:
    """Why the other city refused; its receipt was verified when the settlement was judged."""
    said = settlement.settlement
    assert said is not None
    try:
        envelope = decode_receipt(said.proof).envelope
        [transaction] = decode_batch([envelope] if envelope is not None else [])
    except (VerificationError, ValueError):
        return None
    delivery = transaction.delivery
    if delivery is None or not delivery.refusal_code:
        return None
    return Rejection(delivery.refusal_code, delivery.refusal_reason)
