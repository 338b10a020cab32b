"""Rounds without a server, for the suites of DAG handlers and consensus steps.

`Rounds` is a city's ledger driven by hand: real transactions, the real sealing and replay, an
author's part in its place. `Signer` makes transactions, the same in every process; `Traffic`
makes all kinds of them, many of them wrong, some waiting for what comes late or never.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from citychain import record
from citychain._native.transactions import ENVELOPES_MAX, Transaction, decode_batch
from citychain.city.pool import Candidates
from citychain.city.replay import Replay
from citychain.city.sealing import Draft, decide_round, seal_round, stored_round
from citychain.city.state import MemoryState
from citychain.client.actions import Action, Data, Transfer, put_action
from citychain.client.transactions import CONTEXT
from citychain.crypto import merkle
from citychain.crypto.keys import SCHEME_ML_DSA_87, key_id
from citychain.crypto.signatures import SIGNATURE_BYTES, KeyCache, SigningKey
from citychain.genesis import Genesis, Representative
from citychain.ports import (
    CityContext,
    Clock,
    Compute,
    ConsensusStep,
    DagHandler,
    RoundContext,
    StateView,
)
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as wire
from citychain.storage.memory import MemoryCity
from citychain.testing.clock import FakeClock
from citychain.types import RawTransaction, SealedRound

__all__ = [
    "ASSET",
    "AUTHORS",
    "FUNDS",
    "MEMBERS",
    "OPERATOR",
    "START_MS",
    "Ordinary",
    "Played",
    "Rounds",
    "Signer",
    "Traffic",
    "id_of",
    "new_genesis",
    "ordinary",
]

OPERATOR: Final = SigningKey(b"O" * 32)
MEMBERS: Final = tuple(SigningKey(bytes([200 + number]) * 32) for number in range(4))
"""Representatives of a first committee; who is in it says the genesis."""
AUTHORS: Final = tuple(SigningKey(bytes([1 + number]) * 32) for number in range(6))
ASSET: Final = "gold"
FUNDS: Final = 100
"""What each author has of it at first."""
START_MS: Final = 1_000_000_000_000
"""Time of the first round: in 2001, far from any clock that a part might look at."""
ROUND_MS: Final = 1_000

_SCHEME: Final = wire.Scheme.ValueType(SCHEME_ML_DSA_87)

Ordinary = Callable[[random.Random], Action]
"""Makes the action of a transaction against which nothing speaks in the city."""


def id_of(key: SigningKey) -> bytes:
    """The key's id, 32 bytes."""
    return key_id(key.public_key)


def ordinary(choose: random.Random) -> Action:
    """Data of a few bytes: what a part lets pass that asks nothing of content."""
    return Data(b"ordinary %d" % choose.randrange(1_000), "text/plain")


def new_genesis(authors: Sequence[SigningKey] = AUTHORS, **fields: Any) -> Genesis:
    """A city's genesis: ``sealed-rounds`` and ``solo``, held for 3 rounds.

    Args:
        authors: Those who have `FUNDS` at first.
        fields: Those of `Genesis` that differ.
    """
    operator = OPERATOR.public_key.hex()
    return Genesis(
        **{
            "network": "test",
            "city": "conformance",
            "rule": "sealed-rounds/1",
            "consensus": "solo/1",
            "operator": operator,
            "num_hashes": 2,
            "hold_rounds": 3,
            "committee": (Representative(public_key=operator),),
            "balances": {ASSET: {id_of(key).hex(): FUNDS for key in authors}},
            **fields,
        }
    )


class Signer:
    """Signs transactions for one city; the same calls give the same bytes in every process."""

    def __init__(self, genesis: bytes) -> None:
        self._genesis = genesis
        self._nonce = 0

    def __call__(
        self,
        key: SigningKey,
        action: Action,
        *,
        depends_on: Sequence[bytes] = (),
        reads: Mapping[str, int] | None = None,
        writes: Mapping[str, int] | None = None,
        created_at_ms: int = START_MS - 60_000,
        valid_until_ms: int | None = None,
    ) -> Transaction:
        """One transaction; see `citychain.client.transactions.transaction_body`."""
        body = self._body(id_of(key), action, created_at_ms)
        body.depends_on.extend(depends_on)
        for name, version in (reads or {}).items():
            body.reads.add(object=name, version=version)
        for name, version in (writes or {}).items():
            body.writes.add(object=name, expected_version=version)
        if valid_until_ms is not None:
            body.valid_until_ms = valid_until_ms
        signed = body.SerializeToString()
        signature = key.sign(signed, CONTEXT, deterministic=True)
        [transaction] = decode_batch([_envelope(signed, id_of(key), signature)])
        return transaction

    def crowd(
        self,
        count: int,
        ordinary: Ordinary = ordinary,
        authors: Sequence[SigningKey] = AUTHORS,
    ) -> list[Transaction]:
        """Very many, by all authors, with a signature that does not hold: a part cannot tell,
        and signing takes long."""
        choose = random.Random(count)
        ids = [id_of(key) for key in authors]
        signature = bytes(SIGNATURE_BYTES)
        crowd: list[Transaction] = []
        for start in range(0, count, ENVELOPES_MAX):
            batch = []
            for number in range(start, min(count, start + ENVELOPES_MAX)):
                author = ids[number % len(ids)]
                body = self._body(author, ordinary(choose), START_MS - 60_000)
                batch.append(_envelope(body.SerializeToString(), author, signature))
            crowd += decode_batch(batch)
        return crowd

    def _body(self, author: bytes, action: Action, created_at_ms: int) -> wire.TransactionBody:
        self._nonce += 1
        body = wire.TransactionBody(
            genesis=self._genesis,
            author=author,
            nonce=self._nonce.to_bytes(8, "big"),
            created_at_ms=created_at_ms,
        )
        put_action(body, action)
        return body


def _envelope(body: bytes, signer: bytes, signature: bytes) -> bytes:
    return wire.SignedTransaction(
        body=body, scheme=_SCHEME, key_id=signer, signature=signature
    ).SerializeToString()


@dataclass(frozen=True, slots=True)
class Played:
    """A round that was sealed, with what was asked about it."""

    context: RoundContext
    candidates: Candidates
    sealed: SealedRound


class Rounds:
    """A city's ledger, round after round. The parts are given to each call, so that others can
    be asked about the same round.

    Args:
        authors: Who signs transactions, besides the operator and the representatives.
        storage: Where it is kept; it is empty yet.
    """

    sign: Signer
    """Signs a transaction: ``rounds.sign(key, action)``, with ``depends_on``, ``reads``,
    ``writes``, ``created_at_ms`` and ``valid_until_ms`` as `transaction_body` has them."""

    def __init__(
        self,
        genesis: Genesis,
        compute: Compute,
        authors: Sequence[SigningKey] = AUTHORS,
        storage: MemoryCity | None = None,
    ) -> None:
        self.genesis = genesis
        self.authors = authors
        self.sign = Signer(genesis.id)
        self.clock = FakeClock(START_MS)
        self.storage = storage or MemoryCity(self.clock, genesis.file, genesis.initial_objects())
        """The ledger: a `StateView`, and all else that a city's storage offers."""
        self.played: list[Played] = []
        self.time_ms = START_MS
        """Of the next round."""
        self._compute = compute
        self._tree = merkle.Tree()
        self._poh = genesis.id
        self._checkpoint = genesis.id
        self._held: list[tuple[Transaction, int]] = []
        keys = (OPERATOR, *MEMBERS, *authors)
        self._keys = {id_of(key): key.public_key for key in keys}

    def context(
        self,
        *,
        compute: Compute | None = None,
        clock: Clock | None = None,
        operator: SigningKey | None = None,
        representatives: Sequence[SigningKey] = (),
        with_storage: bool = False,
    ) -> CityContext:
        """What a part's factory is given: without a key and without storage that of who only
        follows the city."""
        return CityContext(
            slug=self.genesis.city,
            genesis=self.genesis,
            compute=compute or self._compute,
            clock=clock or self.clock,
            operator=operator,
            representatives=representatives,
            storage=self.storage if with_storage else None,
        )

    @property
    def round(self) -> RoundContext:
        """The next round."""
        return RoundContext(
            genesis=self.genesis.id,
            round=len(self.played) + 1,
            time_ms=self.time_ms,
            previous_root=self._tree.root(),
            previous_poh=self._poh,
            previous_checkpoint=self._checkpoint,
        )

    def candidates(self, new: Sequence[Transaction] = ()) -> Candidates:
        """Those of the next round: what is held, then the new ones."""
        return Candidates(
            [*(transaction for transaction, _ in self._held), *new],
            [*(since for _, since in self._held), *[0] * len(new)],
        )

    async def draft(
        self,
        dag: DagHandler,
        consensus: ConsensusStep,
        new: Sequence[Transaction] = (),
        *,
        state: StateView | None = None,
    ) -> Draft:
        """The next round as these parts decide it; nothing is sealed.

        Args:
            state: Stands in front of the ledger.

        Raises:
            ConsensusError: a part breaks its contract.
        """
        return await decide_round(
            self.round,
            self.candidates(new),
            rule=self.genesis.rule,
            operator=self.genesis.operator_id,
            epoch=1,
            head=await self.storage.head(),
            tree=self._tree,
            dag=dag,
            consensus=consensus,
            state=state or self.storage,
            compute=self._compute,
        )

    async def seal(
        self, dag: DagHandler, consensus: ConsensusStep, new: Sequence[Transaction] = ()
    ) -> Played:
        """Decide, seal and commit the next round.

        Raises:
            ConsensusError: a part breaks its contract.
        """
        raw = [RawTransaction(item.tx_id, item.author, item.envelope) for item in new]
        await self.storage.append(raw, await self._public_keys([item.author for item in new]))
        context, candidates = self.round, self.candidates(new)
        sealed = await seal_round(await self.draft(dag, consensus, new), self._poh, consensus)
        await self.storage.commit(sealed)
        played = Played(context, candidates, sealed)
        self.played.append(played)
        self.time_ms += ROUND_MS
        self._tree = merkle.Tree(sealed.first_index + len(sealed.transactions), sealed.peaks)
        self._poh = record.poh_of(sealed.record).hash
        self._checkpoint = sealed.checkpoint_hash
        placed = {item.tx_id for item in sealed.transactions}
        self._held = [
            (item, since or sealed.round)
            for item, since in zip(candidates.transactions, candidates.held_since, strict=True)
            if item.tx_id not in placed
        ]
        return played

    async def replay(self, dag: DagHandler, consensus: ConsensusStep) -> None:
        """Repeat all rounds by other parts, from nothing but what is published.

        Raises:
            InvalidRound: these parts come to something else, at the round and check it names.
        """
        state = MemoryState(self.genesis.initial_objects())
        replay = Replay(
            genesis=self.genesis,
            dag=dag,
            consensus=consensus,
            state=state,
            compute=self._compute,
            keys=KeyCache(),
            public_keys=self._public_keys,
        )
        for played in self.played:
            sealed = played.sealed
            by_id = {item.tx_id: item.envelope for item in played.candidates.transactions}
            ids = [*(item.tx_id for item in sealed.transactions), *sealed.held]
            published = await replay.read(stored_round(sealed), [by_id[tx_id] for tx_id in ids])
            repeated = await replay.check(published)
            replay.advance(repeated)
            state.apply(repeated)

    async def _public_keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return {id: self._keys[id] for id in key_ids if id in self._keys}


class Traffic:
    """All kinds of transactions at random: conflicts, overdrafts, what has expired, and what
    depends on the sealed, the rejected, the held, the late and the unknown.

    Args:
        rounds: Whose next round they are for.
        ordinary: Makes actions that the city's rule has nothing against.
    """

    def __init__(self, rounds: Rounds, seed: int, ordinary: Ordinary = ordinary) -> None:
        self._rounds = rounds
        self._choose = random.Random(seed)
        self._ordinary = ordinary
        self._known: list[bytes] = []
        """Ids of what was made, by age; the late ones among them."""
        self._late: list[tuple[int, Transaction]] = []
        """What others depend on already, with the round that it comes for."""

    def batch(self, count: int) -> list[Transaction]:
        """About so many new ones for the next round."""
        number = self._rounds.round.round
        new = [late for due, late in self._late if due <= number]
        self._late = [(due, late) for due, late in self._late if due > number]
        for _ in range(count):
            transaction = self._some()
            self._known.append(transaction.tx_id)
            if self._choose.random() < 0.12:
                self._late.append((number + self._choose.randrange(1, 6), transaction))
            else:
                new.append(transaction)
        # A dependency may stand behind what waits for it.
        self._choose.shuffle(new)
        return new

    def _some(self) -> Transaction:
        choose, now = self._choose, self._rounds.time_ms
        action = self._ordinary(choose)
        if choose.random() < 0.4:
            payee = choose.choice(self._rounds.authors)
            action = Transfer(ASSET, id_of(payee), choose.choice((1, 7, 40, 90, FUNDS * 10)))
        depends_on: list[bytes] = []
        while choose.random() < 0.35 and len(depends_on) < 3:
            recent = self._known[-12:]
            unknown = choose.randbytes(32)
            wanted = choose.choice([*recent, unknown] if choose.random() < 0.2 else recent or [b""])
            if wanted and wanted not in depends_on:
                depends_on.append(wanted)
        versions = {f"object {choose.randrange(3)}": choose.randrange(3) for _ in range(2)}
        return self._rounds.sign(
            choose.choice(self._rounds.authors),
            action,
            depends_on=depends_on,
            reads=versions if choose.random() < 0.1 else None,
            writes=versions if choose.random() < 0.3 else None,
            valid_until_ms=(
                now + choose.choice((-1, 0, 1, 3 * ROUND_MS)) if choose.random() < 0.3 else None
            ),
        )
