"""What a transaction does, as ``citychain get`` shows it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction

__all__ = ["action_in_words", "action_record", "degrees"]


def action_record(transaction: Transaction) -> dict[str, Any]:
    """The action in the fields of a line of ``citychain submit --jsonl``."""
    match transaction.action:
        case "data":
            assert transaction.content is not None
            return {"content_type": transaction.content_type} | _data(transaction.content)
        case "transfer":
            assert transaction.transfer is not None
            asset, to, amount = transaction.transfer
            fields: dict[str, Any] = {"asset": asset, "amount": amount, "to": to}
        case "presence":
            assert transaction.presence is not None
            fields = transaction.presence._asdict()
            fields["witnesses"] = [witness._asdict() for witness in fields["witnesses"]]
        case "candidacy" | "withdrawal":
            assert transaction.stake is not None
            fields = {"asset": transaction.stake.asset, "stake": transaction.stake.amount}
        case "witness":
            assert transaction.witness is not None
            public_key, revoked = transaction.witness
            fields = {"public_key": public_key, "revoked": revoked}
        case "equivocation":
            assert transaction.equivocation is not None
            fields = transaction.equivocation._asdict()
        case "recovery":
            assert transaction.recovery is not None
            fields = transaction.recovery._asdict()
            fields["seats"] = [seat._asdict() for seat in fields["seats"]]
        case "peer" | "remittance" | "delivery" | "settlement" | "anchor" | "reward":
            said = getattr(transaction, transaction.action)
            fields = said._asdict()
    return {transaction.action: fields}


def _data(content: bytes) -> dict[str, str]:
    try:
        return {"data": content.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(content).decode()}


def action_in_words(transaction: Transaction) -> dict[str, Any]:
    """The same for people, without what only a program can read."""
    from citychain.crypto.keys import key_id
    from citychain.genesis import Genesis

    if (presence := transaction.presence) is not None:
        return {
            "presence": f"{degrees(presence.latitude_e7)}, {degrees(presence.longitude_e7)}"
            f" within {presence.accuracy_m} m",
            "window": f"after round {presence.first_round}, up to round {presence.last_round}",
            "anchor": presence.anchor,
            "witnesses": [witness.key_id.hex() for witness in presence.witnesses],
        }
    if (stake := transaction.stake) is not None:
        locks = transaction.action == "candidacy"
        words = "into the author's stake" if locks else "out of the author's stake"
        return {transaction.action: f"{stake.amount} {stake.asset} {words}"}
    if transaction.witness is not None:
        public_key, revoked = transaction.witness
        verb = "is revoked" if revoked else "is registered"
        return {"witness": f"{key_id(public_key).hex()} {verb}"}
    if (votes := transaction.equivocation) is not None:
        return {
            "equivocation": f"{key_id(votes.public_key).hex()} voted twice in round {votes.round}",
            "for": [votes.first_hash.hex(), votes.second_hash.hex()],
        }
    if (recovery := transaction.recovery) is not None:
        return {
            "recovery": f"another committee from round {recovery.from_round} on",
            "previous": recovery.previous,
            "seats": [f"{seat.key_id.hex()}:{seat.stake}" for seat in recovery.seats],
        }
    if transaction.peer is not None:
        return {"peer": Genesis.id_of(transaction.peer.genesis_file).hex()}
    if (sent := transaction.remittance) is not None:
        return {
            "remittance": f"{sent.amount} {sent.asset}",
            "city": sent.city,
            "to": sent.to,
        }
    if (delivery := transaction.delivery) is not None:
        words = f"{delivery.amount} {delivery.asset}"
        if delivery.refusal_code:
            words = f"refuses {words}: {delivery.refusal_code} {delivery.refusal_reason}".rstrip()
        return {
            "delivery": words,
            "city": delivery.city,
            "remittance": delivery.tx_id,
            "to": delivery.to,
        }
    if (settlement := transaction.settlement) is not None:
        outcome = "returned" if settlement.returned else "delivered"
        return {
            "settlement": f"{settlement.amount} {settlement.asset} {outcome}",
            "remittance": settlement.tx_id,
            "payer": settlement.payer,
            "city": settlement.city,
        }
    if (anchor := transaction.anchor) is not None:
        round = int.from_bytes(anchor.checkpoint[34:42], "big")
        return {"anchor": f"round {round}", "city": anchor.city}
    if (reward := transaction.reward) is not None:
        words = f"{reward.amount} {reward.asset} for epoch {reward.epoch}"
        return {"reward": words, "to": reward.to}
    return action_record(transaction)


def degrees(value_e7: int) -> str:
    """A latitude or longitude as people write it."""
    sign, value = "-" if value_e7 < 0 else "", abs(value_e7)
    return f"{sign}{value // 10_000_000}.{value % 10_000_000:07}"
