"""What was submitted to a city, and what it has to show for it afterwards."""

from __future__ import annotations

from citychain import record
from citychain.city.state import MemoryState
from citychain.client.city import CityClient
from citychain.client.transactions import SignedTransaction
from citychain.committee import CommitteeChain
from citychain.errors import InvalidReceipt, InvalidRound, NotFound
from citychain.following.audit import Audit, AuditResult
from citychain.following.composing import open_replay
from citychain.following.source import ServerSource
from citychain.genesis import Genesis
from citychain.handler import Received
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.testing.conformance._city_session import Cities, Serving
from citychain.types import State

__all__ = ["History", "audited", "sealed_ids"]


class History:
    """Transactions of one city, which approves them all."""

    def __init__(self) -> None:
        self.sent: dict[bytes, SignedTransaction] = {}
        """By id, in the order of sending."""
        self.acknowledged: set[bytes] = set()
        self.receipts: dict[bytes, Receipt] = {}
        """As first given."""

    async def submit(self, client: CityClient, batch: list[SignedTransaction]) -> None:
        """Submit, and note what was acknowledged."""
        self.sent.update({signed.tx_id: signed for signed in batch})
        for signed, result in zip(batch, await client.submit(batch), strict=True):
            assert isinstance(result, Received), (
                f"a transaction that the city should take was refused: {result}; if its rule or "
                "its consensus asks for more than a note, override the fixture `transactions`"
            )
            assert result.tx_id == signed.tx_id, "a transaction was answered with another one's id"
            self.acknowledged.add(signed.tx_id)

    async def finish(self, client: CityClient) -> None:
        """Wait until everything acknowledged is approved, and take the receipts."""
        ids = list(self.acknowledged)
        try:
            events = await client.wait(ids)
        except NotFound as error:
            raise AssertionError(f"{error}, but it was acknowledged") from error
        for tx_id, event in events.items():
            assert event.state is State.APPROVED, (
                f"a transaction that the city should approve is {event.state.name} {event.code}: "
                f"{(await client.status([tx_id]))[tx_id].node}; if its rule or its consensus "
                "asks for more than a note, override the fixture `transactions`"
            )
        for tx_id, receipt in (await client.receipts(ids)).items():
            assert self.receipts.setdefault(tx_id, receipt) == receipt, (
                "a receipt is not the one that was given before: what is final never changes"
            )

    async def settle(self, serving: Serving, cities: Cities) -> None:
        """Assert that everything acknowledged is final exactly once, and that the ledger holds."""
        client = serving.client
        known = await client.status(list(self.acknowledged))
        assert self.acknowledged <= known.keys(), (
            f"{len(self.acknowledged - known.keys())} of {len(self.acknowledged)} acknowledged "
            "transactions are lost: acknowledge only what storage has made durable"
        )
        before = set(self.acknowledged)
        for signed, result in zip(
            self.sent.values(), await client.submit(list(self.sent.values())), strict=True
        ):
            assert isinstance(result, Received), f"a repeat was refused: {result}"
            assert result.tx_id == signed.tx_id, "a repeat was answered with another id"
            assert result.duplicate or signed.tx_id not in before, (
                "a repeat of what was acknowledged was taken for a new transaction"
            )
            self.acknowledged.add(signed.tx_id)
        await self.finish(client)
        assert self.receipts.keys() == self.sent.keys(), "something final has no receipt"
        verify(self.receipts, await serving.genesis())
        sealed = await sealed_ids(client)
        for tx_id in self.sent:
            assert sealed.count(tx_id) == 1, (
                f"{tx_id.hex()} stands {sealed.count(tx_id)} times in the ledger, and must once"
            )
        await audited(cities, serving)


def verify(receipts: dict[bytes, Receipt], genesis: Genesis) -> None:
    """Assert that receipts hold, each for its transaction, by the genesis file alone."""
    verifier = ReceiptVerifier(genesis)
    for tx_id, receipt in receipts.items():
        assert receipt.tx_id == tx_id, "a receipt is for another transaction than was asked for"
        try:
            verifier.verify(receipt)
        except InvalidReceipt as error:
            raise AssertionError(f"a receipt does not verify offline: {error}") from error


async def sealed_ids(client: CityClient) -> list[bytes]:
    """Ids of all that stands in the ledger, in its order."""
    ids: list[bytes] = []
    head = (await client.info()).head
    rounds = await client.rounds(1, head.round)
    assert [stored.round for stored in rounds] == list(range(1, head.round + 1)), (
        "the rounds are not 1, 2, 3 and so on without a gap or a repeat"
    )
    for stored in rounds:
        ids += record.decode(stored.record).tx_ids
    return ids


async def audited(cities: Cities, serving: Serving) -> AuditResult:
    """Recompute the city from what it published, with parts of its own."""
    head = (await serving.client.info()).head
    genesis = await serving.genesis()
    source = ServerSource(serving.client)
    state = MemoryState(genesis.initial_objects())
    core = cities.core()
    async with (
        core.compute(),
        open_replay(core, genesis, state, source.public_keys) as replay,
    ):
        audit = Audit(
            replay=replay,
            state=state,
            chain=CommitteeChain(genesis),
            source=source,
            compute=core.compute(),
        )
        try:
            # Of a city without rounds there is nothing to wait for.
            result = await audit.run(head.round) if head.round else AuditResult()
        except InvalidRound as error:
            raise AssertionError(
                f"a replay does not come to what the city says: {error}"
            ) from error
    assert result.checkpoint_hash == head.checkpoint_hash, "the head is not the last round's"
    assert result.transactions == head.size, "the head's size is not that of the log"
    return result
