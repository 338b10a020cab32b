"""A plugin written for api_version 1; never edited since."""

from old_storage import DictBackend

from citychain import (
    Certificate,
    CityDefinition,
    ConsensusDefinition,
    DagDefinition,
    Judgement,
    NodeRef,
    PohEntry,
    Rejection,
    StorageDefinition,
    Vote,
    checkpoint,
    hookimpl,
)
from citychain.crypto import poh
from citychain.crypto.keys import key_id
from citychain.dag.rules import LedgerRules


class Chain(LedgerRules):
    """A rule: each node follows the one before it."""

    def validate(self, transaction, round):
        if transaction.action == "data" and not transaction.content:
            return Rejection("RULE", "the content is empty")
        return None

    async def parents(self, round, order, approved, dependencies, state):
        tips = await state.tips()
        last = tips[-1] if tips else NodeRef(0, 0, round.genesis)
        parents = []
        for seq, linked in enumerate(approved):
            parents.append((last,) if linked else ())
            last = seq if linked else last
        return parents


class Stamp:
    """A consensus step: the operator signs."""

    def __init__(self, options, city):
        self.city = city

    async def judge(self, round, candidates, state):
        return Judgement(committee=self.city.genesis.seats)

    async def seal(self, previous_poh, mixin):
        hashes = self.city.genesis.num_hashes
        digest = await self.city.compute(poh.extend, previous_poh, hashes, mixin)
        return PohEntry(previous_poh, hashes, mixin, digest)

    async def approve(self, round):
        operator = self.city.operator
        message = checkpoint.vote_message(self.city.genesis.id, round.round, round.checkpoint_hash)
        signature = await self.city.compute(
            operator.sign, message, checkpoint.VOTE_CONTEXT, deterministic=True
        )
        vote = Vote(key_id(operator.public_key), signature)
        return Certificate(round.round, round.checkpoint_hash, (vote,))


@hookimpl
def citychain_storage_backends():
    yield StorageDefinition(
        name="dict", factory=lambda options, context: DictBackend(context), durable=False
    )


@hookimpl
def citychain_dag_handlers():
    yield DagDefinition(name="chain", factory=lambda options, city: Chain(city), api_version=1)


@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition(name="stamp", factory=Stamp)


@hookimpl
def citychain_cities():
    yield CityDefinition(
        slug="otaru", aliases=("小樽",), storage="dict", dag="chain", consensus="stamp"
    )
