"""A city without a server: rounds are sealed by the real parts, one call each, on one's own clock.

Every round that `ModelCity.seal` makes is repeated by `citychain.city.replay` from what it
publishes, by parts of their own, so no test needs to ask for that.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from citychain import checkpoint, election, record
from citychain._native.transactions import Transaction, decode_batch
from citychain.city.pool import Candidates
from citychain.city.replay import Replay
from citychain.city.sealing import decide_round, seal_round
from citychain.city.state import MemoryState
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.consensus.poh_pop import PohPop, PohPopOptions
from citychain.crypto import merkle
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.dag.sealed_rounds import SealedRounds
from citychain.genesis import Genesis, Representative
from citychain.ports import CityContext, Judgement, RoundContext, StoredRound
from citychain.presence import WITNESS_CONTEXT, witness_message
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as wire
from citychain.types import Head, ObjectState, Presence, SealedRound, Seat

OPERATOR = SigningKey(b"O" * 32)
MEMBERS = [SigningKey(bytes([200 + number]) * 32) for number in range(3)]
PEOPLE = [SigningKey(bytes([number]) * 32) for number in range(12)]
WITNESSES = [SigningKey(bytes([100 + number]) * 32) for number in range(4)]
STAKE = "stake"

SOUTH, WEST, NORTH, EAST = 350_000_000, 1_390_000_000, 351_000_000, 1_391_000_000
"""A square of a tenth of a degree, which `PLACE` is; its neighbour is as large, to the east."""
FURTHER_EAST = EAST + 1_000_000
HERE = (SOUTH + 500_000, WEST + 500_000)
"""In the middle of it."""


def square(west: int, east: int) -> dict[str, Any]:
    ring = (SOUTH, west, SOUTH, east, NORTH, east, NORTH, west, SOUTH, west)
    return {"polygons": [[ring]]}


PLACE = square(WEST, EAST) | {"neighbours": {"chiba": square(EAST, FURTHER_EAST)}}
CLAIMED = {"policy": "claimed", "place": PLACE}
WITNESSED = {"policy": "witnessed", "witnesses": 2, "place": PLACE}

Action = Mapping[str, Any]
"""One field of the transaction's ``action``, by name."""


def id_of(key: SigningKey) -> bytes:
    return key_id(key.public_key)


def data(content: bytes = b"x") -> Action:
    return {"data": wire.Data(content=content)}


def transfer(to: bytes, amount: int, asset: str = STAKE) -> Action:
    return {"transfer": wire.Transfer(asset=asset, to=to, amount=amount)}


def candidacy(stake: int, asset: str = STAKE) -> Action:
    return {"candidacy": wire.Candidacy(asset=asset, stake=stake)}


def withdrawal(stake: int, asset: str = STAKE) -> Action:
    return {"withdrawal": wire.Withdrawal(asset=asset, stake=stake)}


def witness(key: SigningKey, *, revoked: bool = False) -> Action:
    return {"witness": wire.Witness(public_key=key.public_key, revoked=revoked)}


def recovery(from_round: int, previous: bytes, *seats: Seat) -> Action:
    listed = [wire.CommitteeSeat(key_id=seat.key_id, stake=seat.stake) for seat in seats]
    return {"recovery": wire.Recovery(from_round=from_round, previous=previous, seats=listed)}


def vote(key: SigningKey, genesis: bytes, round: int, hash: bytes) -> bytes:
    message = checkpoint.vote_message(genesis, round, hash)
    return key.sign(message, checkpoint.VOTE_CONTEXT, deterministic=True)


def equivocation(key: SigningKey, genesis: bytes, round: int = 1, **bent: bytes) -> Action:
    first, second = b"1" * 32, b"2" * 32
    fields = {
        "first_hash": first,
        "first_signature": vote(key, genesis, round, first),
        "second_hash": second,
        "second_signature": vote(key, genesis, round, second),
    } | bent
    return {"equivocation": wire.Equivocation(public_key=key.public_key, round=round, **fields)}


class ModelCity:
    """A city that only its test drives.

    Args:
        options: Of ``poh-pop``.
        people: What each of `PEOPLE` has of `STAKE` at first.
    """

    def __init__(self, compute: Executor, people: int = 100, **options: Any) -> None:
        self.genesis = Genesis(
            network="test",
            city="tokyo",
            rule="sealed-rounds/1",
            consensus="poh-pop/1",
            consensus_options=PohPopOptions(**options).model_dump(mode="json"),
            operator=OPERATOR.public_key.hex(),
            num_hashes=5,
            hold_rounds=3,
            committee=[Representative(public_key=key.public_key.hex()) for key in MEMBERS],
            balances={STAKE: {id_of(key).hex(): people for key in PEOPLE}},
        )
        self._compute = compute
        self.context, self.dag, self.consensus = self._parts()
        self.state = MemoryState(self.genesis.initial_objects())
        self.rounds: list[SealedRound] = []
        self.hashes = [self.genesis.id]
        """Of checkpoints, by round."""
        self.time_ms = 1_000_000
        self.head = Head()
        self._tree = merkle.Tree()
        self._poh = self.genesis.id
        self._held: list[tuple[Transaction, int]] = []
        self._nonce = 0
        _, dag, consensus = self._parts()
        self._replayed = MemoryState(self.genesis.initial_objects())
        self._replay = Replay(
            genesis=self.genesis,
            dag=dag,
            consensus=consensus,
            state=self._replayed,
            compute=compute,
            keys=KeyCache(),
            public_keys=self._public_keys,
        )

    def _parts(self) -> tuple[CityContext, SealedRounds, PohPop]:
        context = CityContext("tokyo", self.genesis, self._compute, SystemClock(), None)
        options = PohPopOptions.model_validate(dict(self.genesis.consensus_options))
        return context, SealedRounds(context), PohPop(options, context)

    async def _public_keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        known = {id_of(key): key.public_key for key in (OPERATOR, *MEMBERS, *PEOPLE, *WITNESSES)}
        return {key: known[key] for key in key_ids}

    # --- transactions

    def sign(
        self,
        key: SigningKey,
        action: Action,
        *,
        depends_on: Sequence[bytes] = (),
        created_at_ms: int = 1,
    ) -> Transaction:
        self._nonce += 1
        body = wire.TransactionBody(
            genesis=self.genesis.id,
            author=id_of(key),
            nonce=self._nonce.to_bytes(8, "big"),
            created_at_ms=created_at_ms,
            depends_on=depends_on,
            **action,
        ).SerializeToString()
        envelope = wire.SignedTransaction(
            body=body,
            scheme=wire.SCHEME_ML_DSA_87,
            key_id=id_of(key),
            signature=key.sign(body, b"citychain/tx/v1", deterministic=True),
        )
        [transaction] = decode_batch([envelope.SerializeToString()])
        return transaction

    def presence(
        self,
        key: SigningKey,
        latitude_e7: int = HERE[0],
        longitude_e7: int = HERE[1],
        *,
        accuracy_m: int = 10,
        first_round: int | None = None,
        last_round: int | None = None,
        anchor: bytes | None = None,
        by: Sequence[SigningKey] = (),
        seen: Mapping[str, int] | None = None,
        depends_on: Sequence[bytes] = (),
    ) -> Transaction:
        """A presence for the next round; ``by`` sign what ``seen`` makes of it."""
        first = self.head.round if first_round is None else first_round
        claim = Presence(
            latitude_e7,
            longitude_e7,
            accuracy_m,
            first,
            self.head.round + 1 if last_round is None else last_round,
            self.hashes[first] if anchor is None else anchor,
            (),
        )
        message = witness_message(self.genesis.id, id_of(key), claim._replace(**seen or {}))
        fields = claim._asdict() | {
            "witnesses": [
                wire.WitnessSignature(
                    key_id=id_of(one),
                    signature=one.sign(message, WITNESS_CONTEXT, deterministic=True),
                )
                for one in by
            ]
        }
        return self.sign(key, {"presence": wire.Presence(**fields)}, depends_on=depends_on)

    # --- rounds

    def round_context(self) -> RoundContext:
        return RoundContext(
            genesis=self.genesis.id,
            round=self.head.round + 1,
            time_ms=self.time_ms,
            previous_root=self._tree.root(),
            previous_poh=self._poh,
            previous_checkpoint=self.hashes[-1],
        )

    async def judge(self, *transactions: Transaction) -> Judgement:
        return await self.consensus.judge(self.round_context(), transactions, self.state)

    async def seal(self, *transactions: Transaction, later_ms: int = 1_000) -> list[str]:
        """Seal a round with these; the code of each, empty if approved, ``HELD`` if it waits."""
        self.time_ms += later_ms
        candidates = Candidates(
            [*(item for item, _ in self._held), *transactions],
            [*(since for _, since in self._held), *[0] * len(transactions)],
        )
        draft = await decide_round(
            self.round_context(),
            candidates,
            rule=self.genesis.rule,
            operator=self.genesis.operator_id,
            epoch=1,
            head=self.head,
            tree=self._tree,
            dag=self.dag,
            consensus=self.consensus,
            state=self.state,
            compute=self._compute,
        )
        sealed = await seal_round(draft, self._poh, self.consensus)
        await self._repeat(sealed, candidates)
        self._advance(sealed, candidates)
        codes = {
            item.tx_id: verdict.code if verdict else ""
            for item, verdict in zip(sealed.transactions, sealed.verdicts, strict=True)
        }
        return [codes.get(item.tx_id, "HELD") for item in transactions]

    async def seal_until(self, round: int) -> None:
        """Seal rounds until the latest is this one."""
        while self.head.round < round:
            await self.seal()

    async def _repeat(self, sealed: SealedRound, candidates: Candidates) -> None:
        by_id = {item.tx_id: item for item in candidates.transactions}
        stored = StoredRound(
            round=sealed.round,
            time_ms=sealed.time_ms,
            first_index=sealed.first_index,
            size=sealed.first_index + len(sealed.transactions),
            record=sealed.record,
            checkpoint=sealed.checkpoint,
            checkpoint_hash=sealed.checkpoint_hash,
            peaks=sealed.peaks,
        )
        tx_ids = [*(item.tx_id for item in sealed.transactions), *sealed.held]
        published = await self._replay.read(stored, [by_id[tx_id].envelope for tx_id in tx_ids])
        repeated = await self._replay.check(published)
        assert repeated.checkpoint_hash == sealed.checkpoint_hash
        self._replay.advance(repeated)
        self._replayed.apply(repeated)

    def _advance(self, sealed: SealedRound, candidates: Candidates) -> None:
        self.state.apply(sealed)
        self.rounds.append(sealed)
        self.hashes.append(sealed.checkpoint_hash)
        self._tree = merkle.Tree(sealed.first_index + len(sealed.transactions), sealed.peaks)
        self._poh = record.poh_of(sealed.record).hash
        placed = {item.tx_id for item in sealed.transactions}
        self._held = [
            (item, since or sealed.round)
            for item, since in zip(candidates.transactions, candidates.held_since, strict=True)
            if item.tx_id not in placed
        ]
        self.head = replace(
            self.head,
            round=sealed.round,
            time_ms=sealed.time_ms,
            epoch=sealed.epoch,
            size=self._tree.size,
            peaks=sealed.peaks,
            checkpoint=sealed.checkpoint,
            checkpoint_hash=sealed.checkpoint_hash,
        )

    # --- what the ledger says

    def reason(self, transaction: Transaction) -> str:
        """Why the latest round rejected it."""
        latest = self.rounds[-1]
        for item, verdict in zip(latest.transactions, latest.verdicts, strict=True):
            if item.tx_id == transaction.tx_id:
                assert verdict is not None
                return verdict.reason
        raise AssertionError("it is not in the latest round")

    async def value(self, object: str) -> bytes:
        state: ObjectState | None = (await self.state.objects([object])).get(object)
        return state.value if state else b""

    async def candidates(self) -> dict[bytes, int]:
        value = await self.value(election.CANDIDATES)
        return dict(election.decode_candidates(value)) if value else {}

    def checkpoint(self, round: int) -> checkpoint.Checkpoint:
        return checkpoint.decode(self.rounds[round - 1].checkpoint)

    def balances(self) -> Counter[bytes]:
        """All of `STAKE`, by whose it is, added up from what the rounds wrote."""
        latest: dict[bytes, int] = {}
        writes = [(write.object, write.value) for write in self.genesis.initial_objects()]
        writes += [(it.object, it.value) for sealed in self.rounds for it in sealed.writes]
        for object, value in writes:
            if object.startswith(f"$balance/{STAKE}/"):
                latest[bytes.fromhex(object.rpartition("/")[2])] = int.from_bytes(value, "big")
        return Counter(latest)


def stake_account(key: bytes) -> bytes:
    """Whose balance a key's stake is, by the definition."""
    return hashlib.sha256(b"citychain/stake/v1\0" + key).digest()
