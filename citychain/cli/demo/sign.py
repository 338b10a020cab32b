"""Signs what the plan says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from citychain._native.transactions import tx_id
from citychain.cli.demo.plan import ASSET, CityPlan, Data, Step, Transfer
from citychain.client import actions
from citychain.client import transactions as client
from citychain.client.transactions import SignedTransaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey

__all__ = ["Signed", "sign"]

ALTERED_BYTE: Final = -2_000
"""In an envelope: within the signature, which stands last and has 4,627 bytes."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A step, ready to be sent."""

    step: Step
    tx_id: bytes
    item: SignedTransaction | bytes


async def sign(plan: CityPlan, genesis: bytes, residents: Sequence[SigningKey]) -> list[Signed]:
    """Sign all steps of a city's plan; in order of number."""
    ids = [key_id(resident.public_key) for resident in residents]
    bodies: list[bytes] = []
    tx_ids: list[bytes] = []
    for step in plan.steps:
        if step.repeats is None:
            bodies.append(_body(step, genesis, ids, tx_ids))
        else:
            bodies.append(bodies[step.repeats])
        tx_ids.append(tx_id(bodies[-1]))

    by_author: dict[int, list[int]] = defaultdict(list)
    for step in plan.steps:
        by_author[step.author].append(step.number)
    items: dict[int, SignedTransaction] = {}
    for author, numbers in by_author.items():
        batch = await client.sign_batch(residents[author], [bodies[number] for number in numbers])
        items.update(zip(numbers, batch, strict=True))
    return [
        Signed(
            step,
            tx_ids[step.number],
            _altered(items[step.number]) if step.altered else items[step.number],
        )
        for step in plan.steps
    ]


def _body(step: Step, genesis: bytes, ids: Sequence[bytes], tx_ids: Sequence[bytes]) -> bytes:
    action: actions.Action
    match step.action:
        case Data(content_type, content):
            action = actions.Data(content, content_type)
        case Transfer(to, amount):
            action = actions.Transfer(ASSET, ids[to], amount)
    return client.transaction_body(
        ids[step.author],
        genesis=genesis,
        action=action,
        depends_on=[tx_ids[number] for number in step.depends_on],
        writes=dict(step.writes),
    )


def _altered(signed: SignedTransaction) -> bytes:
    """The envelope with one bit of its signature flipped."""
    # With the key: a key that is not known would be refused before the signature is looked at.
    envelope = bytearray(signed.with_public_key())
    envelope[ALTERED_BYTE] ^= 1
    return bytes(envelope)
