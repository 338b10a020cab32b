"""Receiving: public keys first, then transactions, many calls and cities by one insert.

Each is a document by itself, and a duplicate is there already. So a call that is cut short by a
crash may leave some of its transactions, each of them whole and with the keys that it needs;
whoever makes the call again adds the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from citychain.storage._mongodb_client import Connection, Grouped, insert_new
from citychain.storage._mongodb_layout import of_city, raw_document

if TYPE_CHECKING:
    from citychain.ports import Clock, Compute
    from citychain.types import RawTransaction

__all__ = ["Arrivals", "Intake"]

GROUP_BYTES: Final = 16 << 20
ENVELOPE_BYTES_MAX: Final = (16 << 20) - 1024
"""A document has 16 MiB."""
INLINE: Final = 64
"""So many transactions are encoded at once on the event loop; more go to a thread."""
KNOWN_KEYS_MAX: Final = 100_000
"""Keys that are known to be stored, and not sent again."""


class Arrivals:
    """Numbers by which a city's transactions are in the order of their arrival here.

    Microseconds where the clock moves on, so that those of several servers mix about as they came.
    Nothing but the order of a list depends on it.
    """

    def __init__(self, clock: Clock, last: int) -> None:
        self._clock = clock
        self._last = last

    def take(self, count: int) -> range:
        """The next numbers."""
        first = max(self._last + 1, self._clock.time_ms() * 1000)
        self._last = first + count - 1
        return range(first, first + count)


@dataclass(frozen=True, slots=True)
class _Append:
    city: bytes
    transactions: Sequence[RawTransaction]
    arrivals: Sequence[int]
    keys: Mapping[bytes, bytes]
    size: int


class Intake:
    """Takes in what all cities of a backend receive."""

    def __init__(self, connection: Connection, compute: Compute) -> None:
        self._compute = compute
        self._raw = connection.database["transactions_raw"]
        self._keys = connection.database["keys"]
        self._known: dict[bytes, None] = {}
        self._connection = connection
        self._group = Grouped[_Append, None](
            connection, self._write, size=lambda append: append.size, limit=GROUP_BYTES
        )

    async def append(
        self,
        city: bytes,
        arrivals: Arrivals,
        transactions: Sequence[RawTransaction],
        keys: Mapping[bytes, bytes],
    ) -> None:
        """See `CityStorage.append`."""
        if any(len(t.tx_id) != 32 or len(t.author) != 32 for t in transactions):
            raise ValueError("transaction ids and authors are 32 bytes long")
        size = 1024
        for transaction in transactions:
            if len(transaction.envelope) > ENVELOPE_BYTES_MAX:
                raise ValueError(f"an envelope has at most {ENVELOPE_BYTES_MAX} bytes")
            size += 256 + len(transaction.envelope)
        await self._group.do(
            _Append(
                city,
                list(transactions),
                arrivals.take(len(transactions)),
                dict(keys),
                size + 4096 * len(keys),
            )
        )

    async def _write(self, group: Sequence[_Append]) -> Sequence[None]:
        keys = {
            of_city(append.city, key_id): (append.city, key_id, public_key)
            for append in reversed(group)
            for key_id, public_key in append.keys.items()
        }
        new = [id for id in keys if id not in self._known]
        count = sum(len(append.transactions) for append in group)
        if count > INLINE:
            documents = await self._compute(_documents, group)
        else:
            documents = _documents(group)
        with self._connection.errors():
            await insert_new(
                self._keys,
                [
                    {"_id": id, "city": keys[id][0], "key_id": keys[id][1], "key": keys[id][2]}
                    for id in new
                ],
            )
            self._remember(new)
            await insert_new(self._raw, documents)
        return [None] * len(group)

    def forget(self, city: bytes) -> None:
        """Believe no more that keys of a city are stored."""
        self._known = {id: None for id in self._known if not id.startswith(city)}

    def _remember(self, keys: Sequence[bytes]) -> None:
        if len(self._known) + len(keys) > KNOWN_KEYS_MAX:
            self._known.clear()
        self._known.update(dict.fromkeys(keys))


def _documents(group: Sequence[_Append]) -> list[Any]:
    """The documents of a group, each transaction once, the first one of it."""
    seen: set[tuple[bytes, bytes]] = set()
    by_city: dict[bytes, list[tuple[RawTransaction, int]]] = {}
    for append in group:
        rows = by_city.setdefault(append.city, [])
        for transaction, arrival in zip(append.transactions, append.arrivals, strict=True):
            key = append.city, transaction.tx_id
            if key not in seen:
                seen.add(key)
                rows.append((transaction, arrival))
    return [
        raw_document(city, transaction, arrival, wake=number == len(rows))
        for city, rows in by_city.items()
        for number, (transaction, arrival) in enumerate(rows, start=1)
    ]
