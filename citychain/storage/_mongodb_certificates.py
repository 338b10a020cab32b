"""Which rounds are certified.

A certificate is a document of its own, inserted once. ``cities.certified`` is the round up to which
all have one; it is found again from the certificates behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from citychain.errors import StorageError
from citychain.storage._mongodb_client import Connection, insert_new
from citychain.storage._mongodb_layout import place_key

if TYPE_CHECKING:
    from citychain.storage._mongodb_ledger import Ledger
    from citychain.types import Certificate

__all__ = ["Certificates"]

CERTIFICATES_PAGE: Final = 64
"""Certificates looked for at a time."""


class Certificates:
    """The certificates of one city."""

    def __init__(self, connection: Connection, city: bytes, ledger: Ledger) -> None:
        self._connection = connection
        self._city = city
        self._ledger = ledger
        self._certificates = connection.database["certificates"]
        self._cities = connection.database["cities"]

    async def add(self, certificates: Sequence[Certificate]) -> None:
        """See `CityStorage.certify`."""
        rounds = [certificate.round for certificate in certificates]
        if not rounds:
            return
        if max(rounds) > self._ledger.head.round:
            await self._ledger.look()
        for round in rounds:
            if not 1 <= round <= self._ledger.head.round:
                raise StorageError(f"round {round} is not committed")
        with self._connection.errors():
            await insert_new(
                self._certificates,
                [
                    {
                        "_id": place_key(self._city, certificate.round),
                        "city": self._city,
                        "round": certificate.round,
                        "checkpoint_hash": certificate.checkpoint_hash,
                        "votes": [
                            {"key_id": vote.key_id, "signature": vote.signature}
                            for vote in certificate.votes
                        ],
                    }
                    for certificate in certificates
                ],
            )
        await self.catch_up()

    async def catch_up(self) -> None:
        """Move ``cities.certified`` on to where the certificates are without a gap."""
        known = certified = self._ledger.head.certified_round
        with self._connection.errors():
            while page := range(certified, self._ledger.head.round)[:CERTIFICATES_PAGE]:
                keys = [place_key(self._city, before + 1) for before in page]
                documents = await self._certificates.find(
                    {"_id": {"$in": keys}}, {"round": 1}
                ).to_list()
                there = {document["round"] for document in documents}
                while certified + 1 in there:
                    certified += 1
                if certified < page.stop:
                    break
            if certified > known:
                await self._cities.update_one(
                    {"_id": self._city}, {"$max": {"certified": certified}}
                )
                self._ledger.certified(certified)
