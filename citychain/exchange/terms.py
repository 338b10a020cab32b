"""Committees of pinned cities that proofs have shown: they stand in the ledger, and a proof may
start from any of them.

========================= ==========================================================
object                    value
========================= ==========================================================
``$peer-term/GENESIS/ID/N``  a term's bytes from ``N * 16,384`` on, at most so many;
                          GENESIS and ID are hexadecimal, N decimal
``$peer-key/KEY``         the public key of that key id, of any city's committee
========================= ==========================================================

A term, integers big-endian::

    first round 8 | link 32 | hash of the checkpoint before it 32
    | seats 2, each key id 32 and stake 8
    | replaced 1 (at most 32), each link 32 and hash of the seats 32

    ID = SHA-256("citychain/term/v1\\0" || genesis id 32 || term)

Where a recovery began it, ``replaced`` are the terms before it, the last first, as long as each
was recovered itself, and the first that was not: what is sealed may still name those. Else there
are none. So a term says all that a chain needs to go on from it, and never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from citychain.committee import Replaced, Term, first_term, term_of
from citychain.errors import StorageError, VerificationError
from citychain.exchange.remembered import Remembered
from citychain.genesis import Genesis
from citychain.layout import Reader, seats_bytes
from citychain.ports import Compute, StateView
from citychain.types import Handover

__all__ = ["after", "follow", "known", "objects_of", "recorded_most", "term_id", "term_object"]

CHUNK_BYTES: Final = 16_384
CHUNKS_MAX: Final = 3
"""A term of 1,024 seats takes so many."""
REPLACED_MAX: Final = 32
"""Replaced committees that are kept of a term: rounds are certified long before so many
recoveries follow one on the other."""
LOADED_KEYS: Final = (4_096, 64)
"""Public keys of all terms that are remembered, 2.6 KB each, and for how many a term with fewer
counts."""

SEAT_BYTES: Final = 2_592 + 40 + 120
"""What a seat adds to a round record: its place, and its key with the object's name."""
TERM_BYTES: Final = 74 + 65 * REPLACED_MAX + CHUNKS_MAX * 200
"""The same of a term without its seats."""


def term_object(genesis: bytes, term: bytes, chunk: int = 0) -> str:
    """Object id of a piece of a term; that of the first says that the term is known."""
    return f"$peer-term/{genesis.hex()}/{term.hex()}/{chunk}"


def key_object(key_id: bytes) -> str:
    """Object id of the public key of a seat."""
    return f"$peer-key/{key_id.hex()}"


def _encoded(term: Term) -> bytes:
    return b"".join(
        (
            term.first_round.to_bytes(8, "big"),
            term.link,
            term.previous,
            seats_bytes(term.seats),
            len(term.replaced).to_bytes(1, "big"),
            *(replaced.link + replaced.seats for replaced in term.replaced),
        )
    )


def _hash(genesis: bytes, encoded: bytes) -> bytes:
    return hashlib.sha256(b"citychain/term/v1\0" + genesis + encoded).digest()


def term_id(genesis: Genesis, term: Term) -> bytes:
    """By what a proof names the term that it starts from; the genesis id for the first."""
    return genesis.id if term.link == genesis.id else _hash(genesis.id, _encoded(term))


def after(before: Term, term: Term) -> Term:
    """A term that follows on another, with what it replaced."""
    if not term.recovered:
        return term
    return replace(term, replaced=(before.as_replaced(), *before.replaced)[:REPLACED_MAX])


def follow(genesis: Genesis, start: Term | None, handovers: Sequence[Handover]) -> list[Term]:
    """The terms that handovers begin, one after the other; whether they hold was checked.

    Args:
        start: The term before them; ``None`` for the genesis'.

    Raises:
        InvalidReceipt: one of them is in itself none of this city.
    """
    terms = [start or first_term(genesis)]
    for handover in handovers:
        terms.append(after(terms[-1], term_of(genesis, handover)))
    return terms[1:]


def objects_of(genesis: bytes, terms: Iterable[Term]) -> dict[str, bytes]:
    """What the ledger keeps of terms, by object id."""
    values: dict[str, bytes] = {}
    for term in terms:
        encoded = _encoded(term)
        identity = _hash(genesis, encoded)
        for number, at in enumerate(range(0, len(encoded), CHUNK_BYTES)):
            values[term_object(genesis, identity, number)] = encoded[at : at + CHUNK_BYTES]
        for key_id, public_key in term.public_keys.items():
            values[key_object(key_id)] = public_key
    return values


def recorded_most(handovers: Sequence[Handover]) -> int:
    """The most that the terms of handovers add to a round record."""
    return sum(TERM_BYTES + SEAT_BYTES * len(handover.public_keys) for handover in handovers)


# --- from the ledger

_LOADED: Final[Remembered[tuple[bytes, bytes], Term]] = Remembered(
    LOADED_KEYS[0], least=LOADED_KEYS[1]
)
"""By genesis id and id, which is a hash of what stands there: the same in every ledger."""


async def known(
    wanted: Iterable[tuple[bytes, bytes]], state: StateView, compute: Compute
) -> Mapping[tuple[bytes, bytes], Term]:
    """Those terms that a ledger knows.

    Args:
        wanted: Genesis id and id of each.

    Raises:
        StorageError: what stands there is not what its name says.
    """
    names = {term_object(*key): key for key in wanted}
    found: dict[tuple[bytes, bytes], Term] = {}
    for name in await state.objects(list(names)) if names else ():
        key = names[name]
        if (term := _LOADED.get(key)) is None:
            term = await _loaded(*key, state, compute)
        found[key] = term
        _LOADED.put(key, term, len(term.seats))
    return found


async def _loaded(genesis: bytes, term: bytes, state: StateView, compute: Compute) -> Term:
    names = [term_object(genesis, term, number) for number in range(CHUNKS_MAX)]
    pieces = await state.objects(names)
    encoded = b"".join(pieces[name].value for name in names if name in pieces)
    if _hash(genesis, encoded) != term:
        raise StorageError(f"{names[0]} is not what its name says")
    decoded = await compute(_decoded, encoded)
    keys = {key_object(seat.key_id): seat.key_id for seat in decoded.seats}
    objects = await state.objects(list(keys))
    if missing := keys.keys() - objects.keys():
        raise StorageError(f"{min(missing)} is gone")
    return replace(
        decoded, public_keys={key_id: objects[name].value for name, key_id in keys.items()}
    )


def _decoded(encoded: bytes) -> Term:
    reader = Reader(encoded, "term")
    try:
        first_round, link, previous = reader.integer(8), reader.take(32), reader.take(32)
        seats = reader.seats()
        count = reader.integer(1)
        replaced = tuple(Replaced(reader.take(32), reader.take(32)) for _ in range(count))
        reader.end()
    except VerificationError as error:
        raise StorageError(str(error)) from None
    return Term(first_round, seats, {}, link, previous, replaced=replaced)
