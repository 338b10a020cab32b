"""A scene in which a city believes nobody, for each reason that there is."""

from __future__ import annotations

from exchange.towns import AUTHORS, OPERATOR, Town, town_genesis

from citychain.exchange.peers import PEER_HASHES_MAX
from citychain.ports import Compute
from citychain.types import Peer, Rejection

ANNA, BEN = AUTHORS[:2]


async def disbelieved(compute: Compute) -> list[Rejection]:
    """All rejections, as a round each gave them."""
    known = [town_genesis(name) for name in ("aomori", "beppu", "chiba")]
    aomori, beppu, chiba = (
        Town(genesis.city, compute, [other for other in known if other is not genesis])
        for genesis in known
    )
    stranger = Town("stranger", compute)
    sent, other = (aomori.remittance(ANNA, town, BEN, 10) for town in (beppu, chiba))
    late = aomori.rounds.sign(ANNA, sent.remittance, valid_until_ms=aomori.rounds.time_ms - 1)
    await aomori.close(sent, other, late)
    brought = await beppu.delivery(aomori, sent)
    await beppu.close(brought)
    costly = town_genesis("costly", num_hashes=PEER_HASHES_MAX + 1)
    verdicts = await aomori.close(
        aomori.peer(beppu, key=ANNA),
        aomori.sign(OPERATOR, Peer(b"{}")),
        aomori.peer(aomori),
        aomori.sign(OPERATOR, Peer(costly.file)),
        aomori.remittance(ANNA, stranger, BEN, 1),
        await aomori.settlement(beppu, sent, brought, proof=await aomori.proof(sent.tx_id)),
        await aomori.settlement(beppu, sent, brought, returned=True),
    )
    verdicts += await chiba.close(
        await chiba.delivery(aomori, sent),
        await chiba.settlement(beppu, sent, brought),
    )
    verdicts += await beppu.close(
        await beppu.delivery(aomori, sent, key=ANNA, refusal_code="NO"),
        await beppu.delivery(aomori, sent, proof=b"x"),
        await beppu.delivery(aomori, sent, city=chiba.id),
        await beppu.delivery(aomori, late),
        await beppu.delivery(aomori, sent, amount=11),
        await beppu.delivery(aomori, sent, proof=await aomori.proof(other.tx_id)),
    )
    back = beppu.remittance(BEN, aomori, ANNA, 5)
    await beppu.close(back)
    verdicts += await aomori.close(
        await aomori.delivery(beppu, back, proof=await beppu.proof(brought.tx_id))
    )
    verdicts += await beppu.close(
        await beppu.settlement(aomori, back, brought, proof=await aomori.proof(sent.tx_id))
    )
    return [verdict for verdict in verdicts if verdict is not None]
