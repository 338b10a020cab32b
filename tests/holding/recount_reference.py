"""The recount once more, from the whole history each time, without a proof: slow and plain.

Of an answer it is told whether its proof holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from citychain.ports import FragmentKey


@dataclass
class Deed:
    """What one transaction states, and who states it."""

    who: bytes
    rules: tuple[int, int] | None = None
    """Rounds between challenges, and for an answer."""
    announced: dict[FragmentKey, int] = field(default_factory=dict)
    """Chunks of each fragment."""
    held: set[FragmentKey] = field(default_factory=set)
    until: int = 0
    challenge: int = 0
    answers: dict[FragmentKey, tuple[int, bool]] = field(default_factory=dict)
    """Chunk, and whether the proof is one of it."""


@dataclass
class Round:
    time_ms: int
    checkpoint_hash: bytes
    deeds: list[Deed]


def challenges(
    history: Sequence[Round], operator: bytes, who: bytes
) -> list[tuple[int, set[FragmentKey], set[FragmentKey]]]:
    """Of each challenge that was over: in which round, what was asked, what was answered."""
    found: list[tuple[int, set[FragmentKey], set[FragmentKey]]] = []
    for number, round in enumerate(history, start=1):
        before = [deed for past in history[: number - 1] for deed in past.deeds]
        every, within = (3_600, 600)
        for deed in before:
            if deed.rules is not None and deed.who == operator:
                every, within = deed.rules
        if number % every:
            continue
        chunks = chunks_held(history[: number - 1], operator, who, round.time_ms)
        over = [it for it in found if it[0] < number]
        last = {key: key in answered for _, asked, answered in over for key in asked}
        order = sorted(
            chunks, key=lambda key: (last.get(key, True), draw(round.checkpoint_hash, who, key, 0))
        )
        asked = {
            key: int.from_bytes(draw(round.checkpoint_hash, who, key, 1)[:8], "big") % chunks[key]
            for key in order[:3]
        }
        end = number + within
        answered = {
            key
            for later in history[number:end]
            for deed in later.deeds
            if deed.who == who and deed.challenge == number
            for key, (chunk, is_proven) in deed.answers.items()
            if asked.get(key) == chunk and is_proven
        }
        if asked and end <= len(history):
            found.append((end, {*asked}, answered))
            found.sort(key=lambda it: it[0])
    return found


def chunks_held(
    history: Sequence[Round], operator: bytes, who: bytes, at_ms: int
) -> dict[FragmentKey, int]:
    """Of each fragment that somebody has a live receipt of."""
    announced: dict[FragmentKey, int] = {}
    until: dict[FragmentKey, int] = {}
    for round in history:
        for deed in round.deeds:
            if deed.who == operator:
                announced |= deed.announced
            if deed.who == who:
                end = min(deed.until, round.time_ms + 366 * 24 * 60 * 60 * 1_000)
                until |= dict.fromkeys(deed.held & announced.keys(), end)
    return {key: announced[key] for key, end in until.items() if end > at_ms}


def draw(digest: bytes, who: bytes, key: FragmentKey, n: int) -> bytes:
    text = b"citychain/challenge/v1\0" + digest + who + key.object_id + key.root
    return hashlib.sha256(text + bytes((0, key.index)) + n.to_bytes(4, "big")).digest()
