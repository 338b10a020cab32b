"""Signs and checks what a file says, and keeps it aside, before anything of it is stored.

A transaction's id follows from what its item says, how often the file said it before, the key and
the time at which it was made: what is prepared again is the same.

Kept aside, one after the other::

    line u32 | length of the envelope u32 | transaction id 32 | envelope
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, Final, NamedTuple

from citychain._native.transactions import Limits, Refusal, check_batch
from citychain.cli.drafts import TimedDraft, parse_draft
from citychain.cli.raw_items import Broken, Item, read_items
from citychain.client.transactions import sign_batch, transaction_body
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.errors import InvalidRequest
from citychain.ports import Clock, Compute

__all__ = ["Kept", "Preparing", "Told", "kept_aside"]

TOGETHER: Final = 500
"""Items that are signed at a time."""
EXPIRED: Final = "EXPIRED"
"""Says nothing against an item: it may be stored since it was in time."""
LINE_MAX: Final = (1 << 32) - 1
HEADER: Final = struct.Struct(">II32s")

Told = Callable[[dict[str, Any]], None]
"""Told what became of a transaction: ``line``, ``state``, and what else there is."""


class Kept(NamedTuple):
    """A transaction that is in order."""

    line: int
    tx_id: bytes
    envelope: bytes


class Preparing:
    """Reads one file for one city.

    Args:
        genesis: The city's genesis id.
        keys: Has the signer's.
        created_at_ms: When those were made that do not say so; ``None`` if they must.
        aside: Where to keep what is in order.
        told: Of each item that is not.
    """

    def __init__(
        self,
        *,
        genesis: bytes,
        limits: Limits,
        signer: SigningKey,
        keys: KeyCache,
        created_at_ms: int | None,
        aside: BinaryIO,
        told: Told,
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._genesis = genesis
        self._limits = limits
        self._signer = signer
        self._author = key_id(signer.public_key)
        self._keys = keys
        self._created_at_ms = created_at_ms
        self._aside = aside
        self._told = told
        self._compute = compute
        self._clock = clock
        self._said: Counter[bytes] = Counter()
        """How often each was said, by the hash of its body where it is said first."""
        self.kept = 0
        self.faults = 0

    async def read(self, file: BinaryIO, name: str) -> None:
        """Read it to its end, or as far as it can be read.

        Args:
            name: The file's, for people.
        """
        items = read_items(file)
        while batch := await self._compute(lambda: list(islice(items, TOGETHER))):
            results = await self._prepared(batch)
            for item, result in zip(batch, results, strict=True):
                if isinstance(result, bytes):
                    self.kept += 1
                    continue
                self.faults += 1
                field, detail = result.field or "line", result.detail
                code = result.code if isinstance(result, Refusal) else "MALFORMED"
                place = {"file": name, "line": item.line, "state": "REFUSED"}
                self._told(place | {"code": code, "field": field, "detail": detail})

    async def _prepared(
        self, batch: Sequence[Item | Broken]
    ) -> list[bytes | InvalidRequest | Refusal]:
        """For each item the envelope that was kept, or what is wrong with it."""
        results: list[bytes | InvalidRequest | Refusal] = await self._compute(self._bodies, batch)
        places = [place for place, body in enumerate(results) if isinstance(body, bytes)]
        bodies = [body for body in results if isinstance(body, bytes)]
        envelopes = [one.envelope for one in await sign_batch(self._signer, bodies)]
        checked = await self._compute(
            check_batch, envelopes, self._genesis, self._keys, self._limits, self._clock.time_ms()
        )
        kept = []
        for place, envelope, found in zip(places, envelopes, checked, strict=True):
            if isinstance(found, Refusal) and not (found.code == EXPIRED and found.tx_id):
                results[place] = found
            else:
                assert found.tx_id is not None
                results[place] = envelope
                kept.append(Kept(batch[place].line, found.tx_id, envelope))
        await self._compute(self._keep, kept)
        return results

    def _bodies(self, batch: Sequence[Item | Broken]) -> list[bytes | InvalidRequest | Refusal]:
        return [self._body(item) for item in batch]

    def _body(self, item: Item | Broken) -> bytes | InvalidRequest:
        if isinstance(item, Broken):
            return InvalidRequest("line", item.detail)
        try:
            draft = parse_draft(item.text, TimedDraft)
            first = self._signable(draft, 0)
            said = hashlib.sha256(first).digest()
            before = self._said[said]
            self._said[said] += 1
            return self._signable(draft, before) if before else first
        except InvalidRequest as error:
            return error

    def _signable(self, draft: TimedDraft, before: int) -> bytes:
        return transaction_body(
            self._author,
            genesis=self._genesis,
            action=draft.action,
            depends_on=draft.depends_on,
            reads=draft.reads,
            writes=draft.writes,
            valid_for=draft.valid_for,
            nonce=before.to_bytes(8, "big"),
            created_at_ms=self._made_at(draft),
        )

    def _made_at(self, draft: TimedDraft) -> int:
        if (made := draft.created_at_ms or self._created_at_ms) is None:
            raise InvalidRequest(
                "created_at_ms",
                "is missing, and what is no file has no time of its own, so repeated it would be "
                "another transaction: give each object its time, or save a file",
            )
        return made

    def _keep(self, kept: Sequence[Kept]) -> None:
        for line, tx_id, envelope in kept:
            self._aside.write(HEADER.pack(min(line, LINE_MAX), len(envelope), tx_id))
            self._aside.write(envelope)


def kept_aside(aside: BinaryIO, count: int, size: int) -> Iterator[dict[bytes, Kept]]:
    """What was kept aside, in order, by transaction id.

    Args:
        count: At most so many at a time.
        size: And so many bytes, but for one that has more.
    """
    some: dict[bytes, Kept] = {}
    total = 0
    while header := aside.read(HEADER.size):
        line, length, tx_id = HEADER.unpack(header)
        if some and (len(some) == count or total + length > size):
            yield some
            some, total = {}, 0
        some[tx_id] = Kept(line, tx_id, aside.read(length))
        total += length
    if some:
        yield some
