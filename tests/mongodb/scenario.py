"""A short life of a city in MongoDB, by steps that can be cut short and made again.

All runs have the same ids and bytes, so that what they leave in a database can be compared; each
needs a database of its own.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, NamedTuple

from pymongo import MongoClient

from citychain._native.transactions import Transaction
from citychain.client.actions import Action, Data, Transfer
from citychain.ports import CityStorage, StorageBackend
from citychain.testing.conformance._rounds import Signer, new_genesis
from citychain.testing.conformance.ledger import LEVEL, Ledger
from citychain.types import ObjectWrite, RawTransaction, SubtreeHash

SEED: Final = 6
GENESIS: Final = new_genesis()
INITIAL: Final = (ObjectWrite("counter", 1, b"1"), ObjectWrite("calm", 1, b"still"))
PART_BYTES: Final = 4 << 10
"""Bodies of rounds are split there: that of the first round alone has two parts."""
TTL: Final = timedelta(seconds=1)

VOLATILE: Final = {
    # Who did it, in which attempt, and when: the same life may differ there.
    "cities": {"cleared"},
    "transactions_raw": {"_id", "arrival", "wake"},
    "leases": {"epoch", "holder", "beat"},
}


class Step(NamedTuple):
    """One call."""

    name: str
    do: Callable[[CityStorage, int], Awaitable[None]]
    """Make it, with the epoch of whoever leads."""
    is_done: Callable[[CityStorage], Awaitable[bool]]
    """Whether it had an effect."""
    note: Callable[[int], None]
    """Tell the model, with that epoch."""


@dataclass(frozen=True)
class Life:
    """The steps, and a model that is told of those that were made."""

    model: Ledger
    steps: tuple[Step, ...]


def life() -> Life:
    """The whole of it, before anything was done."""
    plan, model = Ledger(SEED, INITIAL), Ledger(SEED + 1, INITIAL)
    plan.genesis = model.genesis = GENESIS.id
    signer = Signer(GENESIS.id)
    decoded: dict[bytes, Transaction] = {}
    steps: list[Step] = []

    def append(count: int) -> None:
        crowd = signer.crowd(count, _action)
        decoded.update({transaction.tx_id: transaction for transaction in crowd})
        batch = [RawTransaction(it.tx_id, it.author, it.envelope) for it in crowd]
        keys = {plan.random.randbytes(32): plan.random.randbytes(50) for _ in range(2)}
        plan.receive(batch, keys)
        ids = [transaction.tx_id for transaction in batch]

        async def is_done(city: CityStorage) -> bool:
            found = await city.raw(ids)
            assert len(found) in (0, count), "an append is stored all or none"
            return bool(found)

        steps.append(
            Step(
                f"append {count}",
                lambda city, epoch: city.append(batch, keys),
                is_done,
                lambda epoch: model.receive(batch, keys),
            )
        )

    def commit(count: int, rejected: tuple[int, ...], **fields: Any) -> None:
        sealed = plan.round(plan.pending[:count], rejected, **fields)
        if sealed.round == 1:  # As if it had filled one: who stores them does not count.
            sealed = replace(sealed, subtrees=[SubtreeHash(LEVEL, 0, plan.random.randbytes(32))])
        plan.commit(sealed)
        # With what the pipeline has of them, which their envelopes must give again.
        sealed = replace(sealed, transactions=[decoded[it.tx_id] for it in sealed.transactions])

        async def is_done(city: CityStorage) -> bool:
            return (await city.head()).round >= sealed.round

        steps.append(
            Step(
                f"commit {sealed.round}",
                lambda city, epoch: city.commit(replace(sealed, epoch=epoch)),
                is_done,
                lambda epoch: model.commit(replace(sealed, epoch=epoch)),
            )
        )

    def certify(*rounds: int) -> None:
        certificates = [plan.certificate(round) for round in rounds]
        plan.certify(certificates)

        async def is_done(city: CityStorage) -> bool:
            stored = await city.rounds(rounds[0], len(rounds))
            done = [it.certificate is not None for it in stored]
            assert len(set(done)) == 1, "certificates of one call are stored all or none"
            return done[0]

        steps.append(
            Step(
                f"certify {rounds}",
                lambda city, epoch: city.certify(certificates),
                is_done,
                lambda epoch: model.certify(certificates),
            )
        )

    def keep(*names: str) -> None:
        notes = {name: plan.random.randbytes(40) for name in names}

        async def is_done(city: CityStorage) -> bool:
            kept = await city.notes("")
            done = {kept.get(name) == note for name, note in notes.items()}
            assert len(done) == 1, "notes of one call are kept all or none"
            return done.pop()

        steps.append(
            Step(
                f"keep {names}",
                lambda city, epoch: city.keep(notes),
                is_done,
                lambda epoch: model.keep(notes),
            )
        )

    append(24)
    append(8)
    commit(18, (3, 7), writes=[ObjectWrite("counter", 2, b"2"), ObjectWrite("new", 1, b"n")])
    commit(7, (), pops=True)
    certify(1)
    keep("votes/a", "votes/b")
    commit(5, (0, 4), writes=[ObjectWrite("counter", 3, b"3")])
    certify(2, 3)
    keep("votes/b", "votes/c")
    append(3)
    return Life(model, tuple(steps))


def _action(choose: random.Random) -> Action:
    kind = choose.randrange(3)
    if kind == 0:
        return Transfer("gold", choose.randbytes(32), choose.randrange(1, 100))
    if kind == 1:
        return Data(b'{"degrees": %d}' % choose.randrange(100), "application/json")
    return Data(choose.randbytes(30), "")


async def opened(backend: StorageBackend) -> CityStorage:
    """The city of the steps."""
    return await backend.city(GENESIS.id, GENESIS.file, INITIAL)


def left_behind(client: MongoClient[dict[str, Any]], database: str) -> dict[str, list[Any]]:
    """All documents of a database by collection, without what may differ.

    Notes are left to who reads them: a name may stand in an older document beside, which nobody
    sees.
    """
    found: dict[str, list[Any]] = {}
    for name in {*client[database].list_collection_names()} - {"notes"}:
        documents = [
            {
                key: value
                for key, value in document.items()
                if key not in VOLATILE.get(name, ()) and key != "epoch"
            }
            for document in client[database][name].find()
            if "fence" not in document
        ]
        for document in documents:
            document.get("head", {}).pop("epoch", None)
        found[name] = sorted(documents, key=repr)
    return found
