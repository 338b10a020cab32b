"""What a city keeps beside its ledger: names and layouts of its notes.

Integers are big-endian; ``<round>`` is 16 hexadecimal digits, so that notes of one kind come in
order of round::

    recovery/<from_round>/<number, 4 hexadecimal digits>
                            length of the envelope 4 | envelope | public keys, 2,592 each, in
                            order of the seats
    handover/<round>        empty: that round's checkpoint names the next committee
    late-votes/<slot, 2 hexadecimal digits>
                            round 8 | key id 32, signature 4,627 each, sorted by key id: those
                            that are not in the round's certificate; the slot is the round
                            modulo 32, so that a later round takes the place of an old one
    conflict/<key id hex>   public key 2,592 | round 8 | checkpoint hash 32, signature 4,627
                            | another checkpoint hash 32, signature 4,627
    accusation/<key id hex> envelope of the transaction that is to bring the conflict into the
                            ledger
    accused/<key id hex>    id of that transaction, which is approved
    relayed-votes/<slot, 1 hexadecimal digit>/<group, 2 hexadecimal digits>
                            round 8, checkpoint hash 32, key id 32, signature 4,627 of votes that
                            came to a server which does not lead the city: those for rounds that
                            wait, of the oldest first, and a few others; the slot is at first one of
                            that server's name, and another one when it sees that a server shares
                            it; the group is that of the keys, the first byte of their ids modulo 64
    relayed-objections/<slot>/<group>
                            latest objections there: round 8 | checkpoint hash 32 | check: length 1,
                            UTF-8 | detail: length 2, UTF-8 | key id 32 | signature 4,627
    courier                 round 8 | number of cities 2 | their genesis ids, 32 each | ids of
                            remittances, 32 each: all others to these cities up to that round are
                            settled
    anchored                parent's genesis id 32 | round 8 | log size 8 | id of the approved
                            transaction there 32
    anchoring               likewise, of the latest that was submitted
    archive/last            round 8 | object id 32: the last round that an announced segment has,
                            and that segment
    archive/next            round 8: the last one of the segment that is being archived; once its
                            fragments are stored, behind it the announcement's transaction id 32
                            | `citychain.statements.Segment`: length 4 | envelope; empty if there
                            is none
    segment/<round>         transaction id 32 | `citychain.statements.Segment`: the approved
                            announcement of the segment that ends with this round
    segment-read/<round>    time 8, milliseconds: when all fragments of the segment that ends with
                            this round were read last
    retention-scanned       round 8: up to here it was looked for statements of retention
    retention-stated/<round>
                            ids of that round's approved statements, 32 each
    retention-pruned        round 8: all segments up to the one that ends here were pruned
    retention-kept/<round>  time 8, milliseconds: when to look again at the segment that ends with
                            this round, which was pruned but for what stays; 2^63 - 1 for never,
                            empty for what retention-pruned says
    known/<round>           checkpoint hash 32: while the city is rebuilt, a round that a receipt
                            shows to be certified; empty when it is done. In a backup, the last
                            certified round of each time that it was taken
    home                    `citychain.moving.mark`: whether this storage is where the city lives
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from citychain.crypto.keys import key_id
from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from citychain.layout import Reader
from citychain.types import CastVote, ConflictingVotes, Objection, Vote

__all__ = [
    "ACCUSATION",
    "ACCUSED",
    "ANCHORED",
    "ANCHORING",
    "ARCHIVE_LAST",
    "ARCHIVE_NEXT",
    "CONFLICT",
    "COURIER",
    "HANDOVER",
    "HOME",
    "KNOWN",
    "LATE_ROUNDS",
    "LATE_VOTES",
    "LATE_VOTES_MAX",
    "RECOVERY",
    "RELAYED_OBJECTIONS",
    "RELAYED_VOTES",
    "RELAYED_VOTES_MAX",
    "RETENTION_KEPT",
    "RETENTION_PRUNED",
    "RETENTION_SCANNED",
    "RETENTION_STATED",
    "SEGMENT",
    "SEGMENT_READ",
    "AnchorNote",
    "ArchivedNote",
    "ArchivingNote",
    "RecoveryNote",
    "anchor_bytes",
    "archived_bytes",
    "archiving_bytes",
    "conflict_bytes",
    "courier_bytes",
    "decode_anchor",
    "decode_archived",
    "decode_archiving",
    "decode_conflict",
    "decode_courier",
    "decode_late_votes",
    "decode_number",
    "decode_recovery",
    "decode_relayed_objections",
    "decode_relayed_votes",
    "digest",
    "ids_of",
    "late_votes_bytes",
    "late_votes_name",
    "not_known",
    "number_bytes",
    "recovery_bytes",
    "recovery_name",
    "relay_group",
    "relay_slot",
    "relayed_name",
    "relayed_objections_bytes",
    "relayed_votes_bytes",
    "round_name",
    "round_of",
]

RECOVERY: Final = "recovery/"
HOME: Final = "home"
KNOWN: Final = "known/"
HANDOVER: Final = "handover/"
LATE_VOTES: Final = "late-votes/"
CONFLICT: Final = "conflict/"
ACCUSATION: Final = "accusation/"
ACCUSED: Final = "accused/"
COURIER: Final = "courier"
ANCHORED: Final = "anchored"
ANCHORING: Final = "anchoring"
ARCHIVE_LAST: Final = "archive/last"
ARCHIVE_NEXT: Final = "archive/next"
SEGMENT: Final = "segment/"
SEGMENT_READ: Final = "segment-read/"
RETENTION_SCANNED: Final = "retention-scanned"
RETENTION_STATED: Final = "retention-stated/"
RETENTION_PRUNED: Final = "retention-pruned"
RETENTION_KEPT: Final = "retention-kept/"
RELAYED_VOTES: Final = "relayed-votes/"
RELAYED_OBJECTIONS: Final = "relayed-objections/"

LATE_ROUNDS: Final = 32
"""So many of the latest certified rounds have a place for late votes."""
LATE_VOTES_MAX: Final = 225
"""In one note: a note has at most 1 MiB."""
RELAYED_VOTES_MAX: Final = 64
"""In one note: of a few keys, for the rounds that wait for their certificates."""
RELAY_SLOTS: Final = 16
RELAY_GROUPS: Final = 64
"""Keys are many in the course of time, and their notes are never deleted."""


class RecoveryNote(NamedTuple):
    """An operator's recovery, as it came."""

    envelope: bytes
    """The signed transaction in its stored form."""
    public_keys: tuple[bytes, ...]
    """Of the new committee, in order of its seats."""


class AnchorNote(NamedTuple):
    """A checkpoint that the parent city has, or was sent."""

    parent: bytes
    """Genesis id."""
    round: int
    size: int
    """Of the log after the round."""
    tx_id: bytes
    """The parent's transaction with it."""


class ArchivedNote(NamedTuple):
    """How far a city is archived."""

    round: int
    """The last round that an announced segment has; 0 before the first."""
    object_id: bytes
    """That segment; 32 zero bytes before the first."""


class ArchivingNote(NamedTuple):
    """A segment that is being archived."""

    round: int
    """Its last round."""
    tx_id: bytes = b""
    """Of its announcement; empty until its fragments are stored, as the next two."""
    content: bytes = b""
    envelope: bytes = b""


def digest(note: bytes) -> bytes:
    """By which who has read a note says that it is known."""
    return hashlib.sha256(note).digest()


def not_known(notes: Mapping[str, bytes], known: Mapping[str, bytes] | None) -> dict[str, bytes]:
    """Notes without those that are `CityStorage.notes`'s ``known``."""
    if not known:
        return dict(notes)
    return {name: note for name, note in notes.items() if known.get(name) != digest(note)}


def round_name(kind: str, round: int) -> str:
    """Name of the note of a round."""
    return f"{kind}{round:016x}"


def recovery_name(from_round: int, number: int) -> str:
    """Name of the note of a recovery; ``number`` counts those from the same round."""
    return f"{round_name(RECOVERY, from_round)}/{number:04x}"


def round_of(name: str) -> int:
    """The round in the name of a note."""
    return int(name.split("/")[1], 16)


def recovery_bytes(note: RecoveryNote) -> bytes:
    """See the layout above."""
    length = len(note.envelope).to_bytes(4, "big")
    return b"".join((length, note.envelope, *note.public_keys))


def decode_recovery(note: bytes) -> RecoveryNote:
    """What `recovery_bytes` makes.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(note, "recovery note")
    envelope = reader.take(reader.integer(4))
    count, rest = divmod(len(note) - 4 - len(envelope), PUBLIC_KEY_BYTES)
    keys = tuple(reader.take(PUBLIC_KEY_BYTES) for _ in range(count))
    if rest:
        reader.end()
    return RecoveryNote(envelope, keys)


def late_votes_name(round: int) -> str:
    """Name of the note that may have a round's late votes, or another's."""
    return f"{LATE_VOTES}{round % LATE_ROUNDS:02x}"


def late_votes_bytes(round: int, signatures: Mapping[bytes, bytes]) -> bytes:
    """Votes of a round as signatures by key id, at most `LATE_VOTES_MAX` of them."""
    kept = sorted(signatures.items())[:LATE_VOTES_MAX]
    return round.to_bytes(8, "big") + b"".join(key + signature for key, signature in kept)


def decode_late_votes(note: bytes) -> tuple[int, dict[bytes, bytes]]:
    """What `late_votes_bytes` makes: the round, and signatures by key id.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(note, "late votes")
    round = reader.integer(8)
    signatures = {
        reader.take(32): reader.take(SIGNATURE_BYTES)
        for _ in range((len(note) - 8) // (32 + SIGNATURE_BYTES))
    }
    reader.end()
    return round, signatures


def conflict_bytes(conflict: ConflictingVotes) -> bytes:
    """See the layout above."""
    first, second = conflict.first, conflict.second
    return b"".join(
        (
            conflict.public_key,
            first.round.to_bytes(8, "big"),
            first.checkpoint_hash,
            first.vote.signature,
            second.checkpoint_hash,
            second.vote.signature,
        )
    )


def decode_conflict(note: bytes) -> ConflictingVotes:
    """What `conflict_bytes` makes.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(note, "conflict note")
    public_key, round = reader.take(PUBLIC_KEY_BYTES), reader.integer(8)
    signer = key_id(public_key)
    votes: Sequence[CastVote] = [
        CastVote(round, reader.take(32), Vote(signer, reader.take(SIGNATURE_BYTES)))
        for _ in range(2)
    ]
    reader.end()
    return ConflictingVotes(public_key, *votes)


def relay_slot(server: str, moves: int = 0) -> str:
    """The slot of a server that moved on so often. Names are many, one for each start of it."""
    first = hashlib.sha256(server.encode()).digest()[0]
    return f"{(first + moves) % RELAY_SLOTS:x}"


def relay_group(key_id: bytes) -> int:
    """The group of a key."""
    return key_id[0] % RELAY_GROUPS


def relayed_name(kind: str, slot: str, key_id: bytes) -> str:
    """Name of the note of what a key sent by way of a server."""
    return f"{kind}{slot}/{relay_group(key_id):02x}"


def relayed_votes_bytes(votes: Sequence[CastVote]) -> bytes:
    """At most `RELAYED_VOTES_MAX` votes of keys of one group."""
    return b"".join(
        vote.round.to_bytes(8, "big")
        + vote.checkpoint_hash
        + vote.vote.key_id
        + vote.vote.signature
        for vote in votes
    )


def decode_relayed_votes(note: bytes) -> list[CastVote]:
    """What `relayed_votes_bytes` made.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(note, "relayed votes")
    votes = [
        CastVote(
            reader.integer(8), reader.take(32), Vote(reader.take(32), reader.take(SIGNATURE_BYTES))
        )
        for _ in range(len(note) // (8 + 32 + 32 + SIGNATURE_BYTES))
    ]
    reader.end()
    return votes


def relayed_objections_bytes(objections: Sequence[Objection]) -> bytes:
    """See the layout above."""
    parts = []
    for objection in objections:
        check, detail = objection.check.encode(), objection.detail.encode()
        parts += [
            objection.round.to_bytes(8, "big"),
            objection.checkpoint_hash,
            len(check).to_bytes(1, "big") + check,
            len(detail).to_bytes(2, "big") + detail,
            objection.key_id,
            objection.signature,
        ]
    return b"".join(parts)


def decode_relayed_objections(note: bytes) -> list[Objection]:
    """What `relayed_objections_bytes` made.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader, objections = Reader(note, "relayed objections"), []
    while reader.left:
        objections.append(
            Objection(
                reader.integer(8),
                reader.take(32),
                reader.text(1),
                reader.text(2),
                reader.take(32),
                reader.take(SIGNATURE_BYTES),
            )
        )
    return objections


def courier_bytes(round: int, cities: Sequence[bytes], tx_ids: Sequence[bytes]) -> bytes:
    """See the layout above."""
    return b"".join((round.to_bytes(8, "big"), len(cities).to_bytes(2, "big"), *cities, *tx_ids))


def decode_courier(note: bytes) -> tuple[int, list[bytes], list[bytes]]:
    """What `courier_bytes` makes.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(note, "courier note")
    round, cities = reader.integer(8), [reader.take(32) for _ in range(reader.integer(2))]
    tx_ids = [reader.take(32) for _ in range(reader.left // 32)]
    reader.end()
    return round, cities, tx_ids


def anchor_bytes(note: AnchorNote) -> bytes:
    """See the layout above."""
    place = note.round.to_bytes(8, "big") + note.size.to_bytes(8, "big")
    return note.parent + place + note.tx_id


def decode_anchor(note: bytes) -> AnchorNote:
    """What `anchor_bytes` makes.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(note, "anchor note")
    decoded = AnchorNote(reader.take(32), reader.integer(8), reader.integer(8), reader.take(32))
    reader.end()
    return decoded


def number_bytes(number: int) -> bytes:
    """A note of one round or time."""
    return number.to_bytes(8, "big")


def decode_number(note: bytes) -> int:
    """What `number_bytes` makes; 0 of an empty note.

    Raises:
        VerificationError: it is not in this layout.
    """
    if not note:
        return 0
    reader = Reader(note, "note of a number")
    number = reader.integer(8)
    reader.end()
    return number


def ids_of(note: bytes) -> list[bytes]:
    """Ids of 32 bytes, one after the other."""
    return [note[at : at + 32] for at in range(0, len(note), 32)]


def archived_bytes(note: ArchivedNote) -> bytes:
    """See the layout above."""
    return note.round.to_bytes(8, "big") + note.object_id


def decode_archived(note: bytes) -> ArchivedNote:
    """What `archived_bytes` makes; round 0 of an empty note.

    Raises:
        VerificationError: it is not in this layout.
    """
    if not note:
        return ArchivedNote(0, bytes(32))
    reader = Reader(note, "archive note")
    decoded = ArchivedNote(reader.integer(8), reader.take(32))
    reader.end()
    return decoded


def archiving_bytes(note: ArchivingNote) -> bytes:
    """See the layout above."""
    begin = note.round.to_bytes(8, "big")
    if not note.envelope:
        return begin
    return b"".join(
        (begin, note.tx_id, len(note.content).to_bytes(4, "big"), note.content, note.envelope)
    )


def decode_archiving(note: bytes) -> ArchivingNote | None:
    """What `archiving_bytes` makes; ``None`` of an empty note.

    Raises:
        VerificationError: it is not in this layout.
    """
    if not note:
        return None
    reader = Reader(note, "archive note")
    round = reader.integer(8)
    if not reader.left:
        return ArchivingNote(round)
    return ArchivingNote(
        round, reader.take(32), reader.take(reader.integer(4)), reader.take(reader.left)
    )
