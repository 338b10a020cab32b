"""Cities without a server that give each other proofs: their rounds are closed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from exchange.offices import Electing, Members, Offices, seats_of

from citychain import notes
from citychain._native.transactions import Transaction
from citychain.checkpoint import decode
from citychain.city.proofs import ProofMaker
from citychain.city.sealing import stored_round
from citychain.client.actions import Action
from citychain.consensus.solo import Solo, SoloOptions
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.dag.sealed_rounds import SealedRounds
from citychain.exchange import proof, terms
from citychain.genesis import Genesis, Representative
from citychain.ports import CityContext, Compute, ConsensusStep, StoredRound
from citychain.receipt import Receipt
from citychain.storage.memory import MemoryCity
from citychain.testing.clock import FakeClock
from citychain.testing.conformance._rounds import (
    AUTHORS,
    OPERATOR,
    START_MS,
    Rounds,
    id_of,
    new_genesis,
)
from citychain.types import (
    Anchor,
    Delivery,
    Handover,
    ObjectWrite,
    Peer,
    Recovery,
    Rejection,
    Remittance,
    Settlement,
)

__all__ = ["AUTHORS", "OPERATOR", "Town", "id_of", "peered", "pins", "town_genesis"]


def town_genesis(name: str, **fields: Any) -> Genesis:
    """The genesis of a town."""
    return new_genesis(**{"city": name, **fields})


def pins(genesis: Genesis) -> list[ObjectWrite]:
    """The objects by which a city is pinned."""
    pieces = [genesis.file[at : at + 16_384] for at in range(0, len(genesis.file), 16_384)]
    return [
        ObjectWrite(f"$peer/{genesis.id.hex()}/{number}", 1, piece)
        for number, piece in enumerate(pieces)
    ]


class Town:
    """A city of ``sealed-rounds`` and ``solo``; `OPERATOR` operates it, `AUTHORS` live in it.

    Args:
        knows: Cities that are pinned in it from the beginning, which no true one has.
        members: Its first committee, which can be replaced; without them it is the operator's.
    """

    def __init__(
        self,
        name: str,
        compute: Compute,
        knows: Sequence[Genesis] = (),
        *,
        members: Members = (),
        **fields: Any,
    ) -> None:
        self.compute = compute
        self.offices = Offices(members or [OPERATOR])
        if members:
            seats = (Representative(public_key=one.public_key.hex()) for one in members)
            fields["committee"] = tuple(sorted(seats, key=lambda one: one.key_id))
        genesis = town_genesis(name, **fields)
        initial = [*genesis.initial_objects(), *(write for known in knows for write in pins(known))]
        storage = MemoryCity(FakeClock(START_MS), genesis.file, initial)
        self.rounds = Rounds(genesis, compute, storage=storage)
        self.genesis = genesis
        self.id = self.genesis.id
        self.uncertified: list[StoredRound] = []
        self.reopen()

    def reopen(self) -> None:
        """Parts, and whatever they remember, as a server has them that begins anew."""
        context = self.rounds.context(operator=OPERATOR, with_storage=True)
        self.dag = SealedRounds(context)
        self.step: ConsensusStep = self._new_step(context)
        self.proofs = ProofMaker(self.id, self.rounds.storage, self.compute)

    def _new_step(self, context: CityContext) -> ConsensusStep:
        if self.offices.in_office(1) == [OPERATOR]:
            return Solo(SoloOptions(), context)
        return Electing(self.offices, context)

    def sign(self, key: SigningKey, action: Action) -> Transaction:
        return self.rounds.sign(key, action)

    async def close(self, *new: Transaction, certify: bool = True) -> list[Rejection | None]:
        """Close a round with these and certify it; the verdict of each."""
        number = self.rounds.round.round
        elected = self.offices.elected.get(number)
        if elected is not None:
            await self._enrol(elected)
            await self.rounds.storage.keep({notes.round_name(notes.HANDOVER, number): b""})
        played = await self.rounds.seal(self.dag, self.step, new)
        self.offices.named[number] = decode(played.sealed.checkpoint).committee
        if elected is not None:
            self.offices.changes.append((number + 1, elected))
        self.uncertified.append(stored_round(played.sealed))
        if certify:
            await self.certify()
        verdicts = dict(
            zip(
                (item.tx_id for item in played.sealed.transactions),
                played.sealed.verdicts,
                strict=True,
            )
        )
        return [verdicts[item.tx_id] for item in new]

    def elect(self, members: Members) -> None:
        """Have the next round elect them."""
        self.offices.elected[self.rounds.round.round] = members

    async def recover(self, members: Members) -> None:
        """The operator replaces the committee; what is not certified is for the new one."""
        first = (await self.rounds.storage.head()).certified_round + 1
        if any(first <= elected for elected in self.offices.elected):
            return  # Then that one would have to be recovered.
        previous = self.id
        if first > 1:
            [before] = await self.rounds.storage.rounds(first - 1, 1)
            previous = before.checkpoint_hash
        signed = self.sign(OPERATOR, Recovery(first, previous, seats_of(members)))
        by_id = {key_id(member.public_key): member.public_key for member in members}
        keys = tuple(by_id[seat.key_id] for seat in seats_of(members))
        note = notes.recovery_bytes(notes.RecoveryNote(signed.envelope, keys))
        count = len(await self.rounds.storage.notes(notes.RECOVERY))
        await self.rounds.storage.keep({notes.recovery_name(first, count): note})
        self.offices.changes.append((first, members))

    async def _enrol(self, members: Members) -> None:
        keys = {key_id(member.public_key): member.public_key for member in members}
        await self.rounds.storage.append([], keys)

    async def certify(self) -> None:
        """Certify all rounds that are not yet."""
        for stored in self.uncertified:
            await self.rounds.storage.certify([await self.step.approve(stored)])
        self.uncertified.clear()

    async def codes(self, *new: Transaction) -> list[str]:
        """Close a round with these; the code of each, empty if it is approved."""
        return [verdict.code if verdict else "" for verdict in await self.close(*new)]

    async def replay(self) -> None:
        """Have somebody else repeat all rounds."""
        context = self.rounds.context()
        await self.rounds.replay(SealedRounds(context), self._new_step(context))

    async def receipt(self, tx_id: bytes) -> Receipt:
        return (await self.proofs.receipts([tx_id], 0))[tx_id]

    async def proof(
        self, tx_id: bytes, to: Town | None = None, choose: Callable[[list[int]], int] = max
    ) -> bytes:
        """The proof of a transaction from the genesis on, or from one of the committees of this
        city that another knows.

        Args:
            choose: Picks one of those, by their number.
        """
        receipt = await self.receipt(tx_id)
        if to is None:
            return proof.encode_receipt(receipt)
        start, handovers = await self.way(to, receipt.handovers, choose)
        return proof.encode_receipt(replace(receipt, handovers=handovers), start)

    async def way(
        self,
        to: Town,
        handovers: Sequence[Handover],
        choose: Callable[[list[int]], int] = max,
    ) -> tuple[bytes, tuple[Handover, ...]]:
        """What a proof for another city starts from, and what is left of the handovers."""
        ids = self.terms(handovers)
        names = [terms.term_object(self.id, id) for id in ids]
        known = await to.rounds.storage.objects(names)
        at = choose([0, *(index for index, name in enumerate(names) if name in known)])
        return ids[at], tuple(handovers[at:])

    def terms(self, handovers: Sequence[Handover]) -> list[bytes]:
        """Ids of the terms of these handovers, from the genesis' on."""
        followed = terms.follow(self.genesis, None, handovers)
        return [self.id, *(terms.term_id(self.genesis, term) for term in followed)]

    async def value(self, object: str) -> bytes | None:
        found = await self.rounds.storage.objects([object])
        return found[object].value if object in found else None

    # --- what it says, and is told

    def peer(self, other: Town, key: SigningKey = OPERATOR) -> Transaction:
        return self.sign(key, Peer(other.genesis.file))

    def remittance(
        self, payer: SigningKey, city: Town, to: SigningKey, amount: int, asset: str = "gold"
    ) -> Transaction:
        return self.sign(payer, Remittance(asset, city.id, id_of(to), amount))

    async def delivery(
        self,
        source: Town,
        remittance: Transaction,
        key: SigningKey = OPERATOR,
        **fields: Any,
    ) -> Transaction:
        """Brings a remittance of another city here; ``fields`` say what differs from it."""
        said = remittance.remittance
        assert said is not None
        told = Delivery(source.id, remittance.tx_id, said.asset, said.to, said.amount, b"")
        if "proof" not in fields:
            fields["proof"] = await source.proof(remittance.tx_id)
        return self.sign(key, told._replace(**fields))

    async def settlement(
        self,
        target: Town,
        remittance: Transaction,
        delivery: Transaction,
        key: SigningKey = OPERATOR,
        **fields: Any,
    ) -> Transaction:
        """Brings what became of a delivery there home."""
        said, brought = remittance.remittance, delivery.delivery
        assert said is not None
        assert brought is not None
        told = Settlement(
            remittance.tx_id,
            remittance.author,
            said.city,
            said.asset,
            said.amount,
            bool(brought.refusal_code),
            b"",
        )
        if "proof" not in fields:
            fields["proof"] = await target.proof(delivery.tx_id)
        return self.sign(key, told._replace(**fields))

    async def handovers(self, round: int) -> Sequence[Handover]:
        """All to the committee in office in a round."""
        changes = await self.proofs.handovers(0)
        return [it for it in changes if terms.term_of(self.genesis, it).first_round <= round]

    async def anchor(self, child: Town, round: int, **fields: Any) -> Transaction:
        [stored] = await child.rounds.storage.rounds(round, 1)
        assert stored.certificate is not None
        proven = proof.encode_certified(child.id, stored.certificate, await child.handovers(round))
        told = Anchor(child.id, stored.checkpoint, proven)
        return self.sign(OPERATOR, told._replace(**fields))


async def peered(*towns: Town) -> Sequence[Town]:
    """Towns that have pinned each other."""
    for town in towns:
        others = [town.peer(other) for other in towns if other is not town]
        assert await town.codes(*others) == [""] * len(others)
    return towns
