"""Paying what is due, a batch after the other.

A key is paid once for an epoch whoever pays, and however often: the ledger rejects a second payment
as ``REWARDED``. So what was broken off, or is done by two at a time, is repeated as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, NamedTuple

from citychain.client.city import CityClient
from citychain.client.transactions import SignedTransaction, sign_batch, transaction_body
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import TransactionRefused
from citychain.genesis import Genesis, balance_object
from citychain.layout import Reader
from citychain.rewards.calculation import Due
from citychain.rewards.counting import Payment
from citychain.rpc.messages import Refused
from citychain.statements import Rewards
from citychain.types import Reward

__all__ = ["BATCH", "Paid", "balance", "in_order", "needed", "pay", "payment", "state"]

_ABSENT: Final = (
    ": they are data, for which the operator, as anybody, needs a presence that stands; send one "
    "by the operator's key, and repeat"
)
_MENDED: Final = {"NO_PRESENCE": _ABSENT, "PRESENCE_EXPIRED": _ABSENT}

BATCH: Final = 20
"""Payments that are sent at a time; the next ones once these are approved."""


class Paid(NamedTuple):
    """What became of a payment."""

    due: Due
    tx_id: bytes
    round: int
    code: str
    """Why it was rejected; empty for one that was approved."""


def needed(dues: Iterable[Due], operator: bytes) -> int:
    """What the operator must have to pay these: a payment to itself needs the amount too, and
    leaves it."""
    amounts = [(due.service.key_id == operator, due.amount) for due in dues]
    own = sum(amount for is_own, amount in amounts if is_own)
    return max(own, sum(amount for _, amount in amounts) - own)


def in_order(dues: Iterable[Due], operator: bytes) -> list[Due]:
    """The operator's own payment first, while there is enough for it."""
    return sorted(dues, key=lambda due: due.service.key_id != operator)


async def balance(client: CityClient, asset: str, owner: bytes) -> int:
    """What a key has."""
    name = balance_object(asset, owner)
    return int.from_bytes((await client.objects([name]))[name].value, "big")


async def payment(client: CityClient, epoch: int, payee: bytes) -> Payment:
    """What the ledger keeps of the payment to a key: id 32 | amount 8 | asset. Its round is not
    in there, and 0.

    Raises:
        VerificationError: it is not in this layout.
    """
    name = f"$reward/{epoch:016x}/{payee.hex()}"
    value = (await client.objects([name]))[name].value
    reader = Reader(value, name)
    tx_id, amount = reader.take(32), reader.integer(8)
    return Payment(tx_id, 0, value[40:].decode("ascii", "replace"), amount)


async def state(
    client: CityClient, genesis: Genesis, key: SigningKey, parameters: Rewards
) -> bytes:
    """State the parameters of a distribution; returns the transaction's id once it is approved.

    Another statement for the epoch may have come before: then that one counts.

    Raises:
        TransactionRefused: the city does not take it.
        TimeoutError: it is not approved in time.
    """
    body = transaction_body(
        key_id(key.public_key),
        genesis=genesis.id,
        data=parameters.encode(),
        content_type=parameters.CONTENT_TYPE,
    )
    [signed] = await _submit(client, key, [body])
    reached = await client.wait([signed.tx_id])
    if code := reached[signed.tx_id].code:
        raise TransactionRefused(code, "", f"the parameters were rejected{_MENDED.get(code, '')}")
    return signed.tx_id


async def pay(
    client: CityClient,
    genesis: Genesis,
    key: SigningKey,
    parameters: Rewards,
    dues: Sequence[Due],
) -> AsyncIterator[Paid]:
    """Pay these, and tell of each once it is final.

    Raises:
        TransactionRefused: the city does not take one; those before stay paid.
        TimeoutError: not all of a batch are final in time.
    """
    author = key_id(key.public_key)
    for start in range(0, len(dues), BATCH):
        batch = dues[start : start + BATCH]
        rewards = [
            Reward(parameters.epoch, parameters.asset, due.service.key_id, due.amount)
            for due in batch
        ]
        bodies = [transaction_body(author, genesis=genesis.id, action=reward) for reward in rewards]
        signed = await _submit(client, key, bodies)
        reached = await client.wait([item.tx_id for item in signed])
        for due, item in zip(batch, signed, strict=True):
            event = reached[item.tx_id]
            yield Paid(due, item.tx_id, event.round, event.code)


async def _submit(
    client: CityClient, key: SigningKey, bodies: Sequence[bytes]
) -> list[SignedTransaction]:
    signed = await sign_batch(key, bodies)
    for result in await client.submit(signed):
        if isinstance(result, Refused):
            raise TransactionRefused(result.code, result.field, result.detail)
    return signed
