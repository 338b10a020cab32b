"""Transactions of one author for one city, signed, and what the checks say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from transaction_wire import (
    Action,
    Anchor,
    Body,
    Candidacy,
    Data,
    Delivery,
    Equivocation,
    Peer,
    Presence,
    Recovery,
    Remittance,
    Reward,
    Settlement,
    Transfer,
    Withdrawal,
    Witness,
    chunk,
    integer,
    stored_form,
)

from citychain._native.signatures import KeyCache, SigningKey
from citychain._native.transactions import (
    REFUSAL_CODES,
    Limits,
    Refusal,
    Transaction,
    check_batch,
)
from citychain.crypto.keys import key_id

CONTEXT = b"citychain/tx/v1"
GENESIS = b"G" * 32
KEY = SigningKey(bytes(range(32)))
AUTHOR = key_id(KEY.public_key)
BODY = Body(genesis=GENESIS, author=AUTHOR)
NOW_MS = 1_000


def sign(body: bytes, key: SigningKey = KEY) -> bytes:
    return key.sign(body, CONTEXT, deterministic=True)


@dataclass(frozen=True)
class Envelope:
    """The fields of a SignedTransaction, each as encoded."""

    body: bytes
    scheme: bytes
    signer: bytes
    signature: bytes

    @classmethod
    def of(cls, body: bytes) -> Envelope:
        return cls(chunk(1, body), integer(2, 1), chunk(3, KEY.public_key), chunk(5, sign(body)))

    def encode(self) -> bytes:
        return self.body + self.scheme + self.signer + self.signature


def by_value(body: bytes) -> bytes:
    return Envelope.of(body).encode()


def by_id(body: bytes) -> bytes:
    return stored_form(body, AUTHOR, sign(body))


def check(
    envelope: bytes,
    *,
    keys: KeyCache | None = None,
    limits: Limits | None = None,
    now_ms: int = NOW_MS,
) -> Transaction | Refusal:
    # An empty cache is false, so `keys or ...` would use another one.
    cache = KeyCache() if keys is None else keys
    [result] = check_batch([envelope], GENESIS, cache, limits or Limits(), now_ms)
    return result


def refusal(envelope: bytes, **kwargs: Any) -> tuple[str, str | None]:
    result = check(envelope, **kwargs)
    assert isinstance(result, Refusal), result
    assert result.code in REFUSAL_CODES
    return result.code, result.field


def admitted(envelope: bytes, **kwargs: Any) -> Transaction:
    result = check(envelope, **kwargs)
    assert isinstance(result, Transaction), result
    return result


ACTIONS: Final[dict[str, Callable[..., Action]]] = {
    "data": Data,
    "transfer": Transfer,
    "presence": Presence,
    "candidacy": Candidacy,
    "withdrawal": Withdrawal,
    "witness": Witness,
    "equivocation": Equivocation,
    "recovery": Recovery,
    "peer": Peer,
    "remittance": Remittance,
    "delivery": Delivery,
    "settlement": Settlement,
    "anchor": Anchor,
    "reward": Reward,
}


def as_body(decoded: Transaction) -> Body:
    """What was read, after a look that it has one action."""
    parts = {
        name: getattr(decoded, name)
        for name in (
            "content_type",
            "content",
            "transfer",
            "presence",
            "stake",
            "witness",
            "equivocation",
            "recovery",
            "peer",
            "remittance",
            "delivery",
            "settlement",
            "anchor",
            "reward",
        )
        if getattr(decoded, name) is not None
    }
    fields: Any
    match decoded.action:
        case "data":
            assert set(parts) == {"content_type", "content"}
            fields = (parts["content_type"], parts["content"])
        case "candidacy" | "withdrawal":
            assert set(parts) == {"stake"}
            fields = parts["stake"]
        case action:
            assert set(parts) == {action}
            fields = parts[action]
    return Body(
        decoded.genesis,
        decoded.author,
        decoded.nonce,
        decoded.created_at_ms,
        decoded.valid_until_ms,
        decoded.depends_on,
        decoded.reads,
        decoded.writes,
        ACTIONS[decoded.action](*fields),
    )
