"""Storage tests: notes beside the ledger, and the checkpoint hashes that rules ask for."""

from __future__ import annotations

import asyncio

from citychain.notes import digest
from citychain.testing.conformance._storage_session import Session, cancel_soon, fill
from citychain.testing.conformance.ledger import Ledger

__all__ = ["NoteTests"]

NAMES = ("", "a", "a/", "a/1", "a/10", "a/2", "a0", "b", "é", "ä", "金", "金/沢", "￿", "😀", "😀/x")
"""In no order; UTF-8 puts the last ones behind others that UTF-16 puts before."""
PATTERNS = ("%", "_", "*", "?", ".", "[a]", "a%", "a_", "a*", "a?", "a.", "^a", "\\", "'")
"""They mean something to LIKE, GLOB or a regular expression, and nothing here."""


class NoteTests:
    """Part of `StorageSuite`."""

    async def test_notes_are_kept_and_replaced(self, session: Session) -> None:
        ledger = Ledger(110)
        city = await session.city(ledger)
        assert await city.notes("") == {}, "a new city has no notes"
        await city.keep({})
        await city.keep({"vote": b"first", "empty": b"", "zero": b"\0" * 3})
        await city.keep({"vote": b"second", "more": bytes(range(256))})
        expected = {
            "empty": b"",
            "more": bytes(range(256)),
            "vote": b"second",
            "zero": b"\0" * 3,
        }
        for _ in range(2):
            assert await city.notes("") == expected, (
                "notes() of no prefix are all, each as it was kept last"
            )
            assert await city.notes("vote") == {"vote": b"second"}, (
                "notes() are those whose names begin so"
            )
            assert await city.notes("votes") == {}, "no name begins so"
            await session.reopen()
            city = await session.city(ledger)
        ledger.keep(expected)
        await ledger.check(city)

    async def test_notes_that_are_known_are_left_out(self, session: Session) -> None:
        ledger = Ledger(119)
        city = await session.city(ledger)
        await city.keep({"v/1": b"one", "v/2": b"two", "other": b"one"})
        await city.keep({"v/3": b"three"})
        known = {name: digest(note) for name, note in (await city.notes("v/")).items()}
        known |= {"v/never": digest(b"")}
        assert await city.notes("v/", known) == {}, "notes() of what is known are none"
        await city.keep({"v/2": b"two again", "v/4": b"three"})
        await city.keep({"v/3": b"three"})
        for _ in range(2):
            assert await city.notes("v/", known) == {"v/2": b"two again", "v/4": b"three"}, (
                "notes() without those that are known are the new ones and the replaced ones"
            )
            assert await city.notes("v/", known | {"v/2": digest(b"two again")}) == {
                "v/4": b"three"
            }, "notes() of what is known are left out, by what they say"
            assert len(await city.notes("v/", {})) == 4, "nothing is known: nothing is left out"
            await session.reopen()
            city = await session.city(ledger)

    async def test_notes_come_by_prefix_in_order_of_their_bytes(self, session: Session) -> None:
        ledger = Ledger(111)
        city = await session.city(ledger)
        names = [*NAMES[1:], "a" * 255, *PATTERNS, "\0", "a\0b", "A"]
        await city.keep({name: name.encode() for name in names})
        for prefix in (*NAMES, *PATTERNS, "A", "\0", "a\0", "\U0010ffff"):
            found = await city.notes(prefix)
            expected = sorted(
                (name for name in names if name.startswith(prefix)), key=lambda name: name.encode()
            )
            assert list(found) == expected, (
                f"notes({prefix!r}) must be those whose names begin so, in order of UTF-8 bytes"
            )
            assert found == {name: name.encode() for name in expected}, (
                "a note must come back byte by byte"
            )

    async def test_a_note_may_be_as_large_as_is_allowed(self, session: Session) -> None:
        ledger = Ledger(112)
        city = await session.city(ledger)
        note = ledger.random.randbytes(1 << 20)
        name = "金" * 85  # 255 bytes
        await city.keep({name: note, "other": note[::-1]})
        await session.reopen()
        city = await session.city(ledger)
        assert await city.notes("") == {"other": note[::-1], name: note}, (
            "a note of 1 MiB under a name of 255 bytes must come back"
        )

    async def test_each_city_has_notes_of_its_own(self, session: Session) -> None:
        one, two = Ledger(113), Ledger(114)
        cities = [await session.city(one), await session.city(two)]
        await cities[0].keep({"a": b"one", "b": b"one"})
        assert await cities[1].notes("") == {}, "a city sees the notes of another"
        await cities[1].keep({"a": b"two"})
        assert await cities[0].notes("") == {"a": b"one", "b": b"one"}
        assert await cities[1].notes("") == {"a": b"two"}, "a city sees the notes of another"

    async def test_notes_of_overlapping_calls_are_all_kept(self, session: Session) -> None:
        ledger = Ledger(115)
        city = await session.city(ledger)
        await asyncio.gather(
            *(city.keep({f"{number:02}": b"%d" % number, "last": b""}) for number in range(40)),
            fill(city, ledger, rounds=2, per_round=5),
        )
        ledger.keep({f"{number:02}": b"%d" % number for number in range(40)} | {"last": b""})
        await ledger.check(city, sample=2)

    async def test_a_cancelled_note_is_kept_whole_or_not_at_all(self, session: Session) -> None:
        ledger = Ledger(116)
        city = await session.city(ledger)
        for number in range(40):
            notes = {f"{number:02}/{part}": b"%d" % number for part in range(5)}
            await cancel_soon(asyncio.create_task(city.keep({**notes, "all": b"x"})), ledger)
        await city.keep({"after": b""})
        await session.reopen()
        city = await session.city(ledger)
        for number in range(40):
            found = await city.notes(f"{number:02}/")
            assert len(found) in (0, 5), "notes of one call are kept all or none"
            assert set(found.values()) <= {b"%d" % number}, (
                "a note must be of the call that kept it"
            )

    async def test_checkpoint_hashes_are_of_committed_rounds(self, session: Session) -> None:
        ledger, other = Ledger(117), Ledger(118)
        city = await session.city(ledger)
        assert await city.checkpoint_hashes([0, 1]) == {}, "there are no rounds yet"
        await fill(city, ledger, rounds=5, per_round=2)
        await fill(await session.city(other), other, rounds=7, per_round=1)
        hashes = {sealed.round: sealed.checkpoint_hash for sealed in ledger.rounds}
        for _ in range(2):
            assert await city.checkpoint_hashes(range(1, 6)) == hashes, (
                "checkpoint_hashes() of all rounds"
            )
            # They are asked for as a transaction names them, in any order and beyond all bounds.
            strange = [5, 0, 6, 2, 2, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
            assert await city.checkpoint_hashes(strange) == {5: hashes[5], 2: hashes[2]}, (
                "rounds that are not there are left out"
            )
            assert await city.checkpoint_hashes([]) == {}, "nothing is asked for"
            await session.reopen()
            city = await session.city(ledger)
