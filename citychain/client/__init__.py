"""For applications: sign transactions, submit them, wait for them, prove them.

::

    key = load_key("alice.key")
    async with CityClient("金沢", ChannelFactory(["127.0.0.1:50051"])) as city:
        info = await city.info()
        note = sign_transaction(key, genesis=info.genesis, data=b"hello")
        await city.submit([note])
        await city.wait([note.tx_id])
        [receipt] = (await city.receipts([note.tx_id])).values()
    verify_receipt(receipt, info.genesis_file)

`keys` has key files, `actions` what transactions do, `transactions` signs, `channels`
connects, `city` asks one city, `receipts` keeps and verifies what proves a transaction,
`acknowledgements` keeps what the city promised of one, `claims` what witnesses sign.
Errors are those of `citychain.errors`. Names are imported when they are first used:
whoever wants a key file alone does not load grpc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from citychain._lazy import lazy_names

if TYPE_CHECKING:
    from citychain.client.acknowledgements import load_acknowledgement as load_acknowledgement
    from citychain.client.acknowledgements import save_acknowledgement as save_acknowledgement
    from citychain.client.actions import Action as Action
    from citychain.client.actions import Candidacy as Candidacy
    from citychain.client.actions import Data as Data
    from citychain.client.actions import Transfer as Transfer
    from citychain.client.actions import Withdrawal as Withdrawal
    from citychain.client.actions import Witness as Witness
    from citychain.client.channels import ChannelFactory as ChannelFactory
    from citychain.client.city import CityClient as CityClient
    from citychain.client.city import CityInfo as CityInfo
    from citychain.client.claims import Claim as Claim
    from citychain.client.claims import load_claim as load_claim
    from citychain.client.claims import save_claim as save_claim
    from citychain.client.keys import create_key as create_key
    from citychain.client.keys import load_key as load_key
    from citychain.client.receipts import load_receipt as load_receipt
    from citychain.client.receipts import receipt_json as receipt_json
    from citychain.client.receipts import save_receipt as save_receipt
    from citychain.client.receipts import verify_receipt as verify_receipt
    from citychain.client.tls import read_credentials as read_credentials
    from citychain.client.transactions import SignedTransaction as SignedTransaction
    from citychain.client.transactions import sign_batch as sign_batch
    from citychain.client.transactions import sign_transaction as sign_transaction
    from citychain.client.transactions import transaction_body as transaction_body
    from citychain.rpc.messages import LinkedNode as LinkedNode
    from citychain.rpc.messages import Refused as Refused
    from citychain.types import Anchor as Anchor
    from citychain.types import Delivery as Delivery
    from citychain.types import Equivocation as Equivocation
    from citychain.types import Peer as Peer
    from citychain.types import Presence as Presence
    from citychain.types import Recovery as Recovery
    from citychain.types import Remittance as Remittance
    from citychain.types import Reward as Reward
    from citychain.types import Settlement as Settlement
    from citychain.types import WitnessSignature as WitnessSignature

_MODULES: Final = {
    "client.acknowledgements": ("load_acknowledgement", "save_acknowledgement"),
    "client.actions": ("Action", "Candidacy", "Data", "Transfer", "Withdrawal", "Witness"),
    "client.channels": ("ChannelFactory",),
    "client.city": ("CityClient", "CityInfo"),
    "client.claims": ("Claim", "load_claim", "save_claim"),
    "client.keys": ("create_key", "load_key"),
    "client.receipts": ("load_receipt", "receipt_json", "save_receipt", "verify_receipt"),
    "client.tls": ("read_credentials",),
    "client.transactions": (
        "SignedTransaction",
        "sign_batch",
        "sign_transaction",
        "transaction_body",
    ),
    "rpc.messages": ("LinkedNode", "Refused"),
    "types": (
        "Anchor",
        "Delivery",
        "Equivocation",
        "Peer",
        "Presence",
        "Recovery",
        "Remittance",
        "Reward",
        "Settlement",
        "WitnessSignature",
    ),
}
_HOME: Final = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(globals(), _HOME)
