"""How far a holder has followed its city, kept in a file.

A start goes on from there, instead of from the city's first round. The file has what is counted of
this one holder; whoever loses it loses nothing but time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from citychain.client.files import write_whole
from citychain.errors import ConfigurationError
from citychain.holding.recount import Challenge, HolderState, HoldingReceipt, Recount
from citychain.ports import FragmentKey
from citychain.statements import HoldingRules, Segment

__all__ = ["load_recount", "save_recount"]

MENDED: Final = "give another file, or remove it: what it has is counted anew then"

Fragment = tuple[int, int]
"""Number of its segment in the file, and index."""


class _Open(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    round: int
    last_round: int
    asked: list[tuple[Fragment, int]]
    answered: list[Fragment]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1] = 1
    genesis: str
    holder: str
    round: int
    time_ms: int
    checkpoint_hash: str
    rules: HoldingRules
    segments: list[Segment]
    receipts: list[tuple[Fragment, int, int]]
    ended: list[Fragment] = []
    failed: list[Fragment]
    open: list[_Open]
    closed_in: list[int]
    asked: list[int]
    answered: list[int]


def save_recount(path: Path, genesis: bytes, holder: bytes, recount: Recount) -> None:
    """Write the file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    numbers = {root: number for number, root in enumerate(recount.segments)}
    state = recount.states.get(holder, HolderState())

    def named(key: FragmentKey) -> Fragment:
        return numbers[key.root], key.index

    kept = _Kept(
        genesis=genesis.hex(),
        holder=holder.hex(),
        round=recount.round,
        time_ms=recount.time_ms,
        checkpoint_hash=recount.checkpoint_hash.hex(),
        rules=recount.rules,
        segments=list(recount.segments.values()),
        receipts=[(named(key), it.since, it.until_ms) for key, it in state.receipts.items()],
        ended=[named(key) for key in state.ended],
        failed=[named(key) for key in state.failed],
        open=[
            _Open(
                round=it.round,
                last_round=it.last_round,
                asked=[(named(key), chunk) for key, chunk in it.asked.items()],
                answered=[named(key) for key in it.answered],
            )
            for it in state.open.values()
        ],
        closed_in=state.closed_in,
        asked=state.asked,
        answered=state.answered,
    )
    write_whole(path, kept.model_dump_json())


def load_recount(path: Path, genesis: bytes, operator: bytes, holder: bytes) -> Recount:
    """What the file has; a new recount if there is none.

    Raises:
        ConfigurationError: it cannot be read, or is of another key or city.
    """
    recount = Recount(operator, only=holder)
    try:
        kept = _Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return recount
    except ValidationError:
        raise ConfigurationError(f"{path}: cannot be read as a holder's state: {MENDED}") from None
    if (kept.genesis, kept.holder) != (genesis.hex(), holder.hex()):
        raise ConfigurationError(f"{path}: is of another key or another city: {MENDED}")
    try:
        _restore(recount, kept, holder)
    except (IndexError, ValueError):
        raise ConfigurationError(f"{path}: cannot be read as a holder's state: {MENDED}") from None
    return recount


def _restore(recount: Recount, kept: _Kept, holder: bytes) -> None:
    """Raises IndexError, ValueError: it is inconsistent."""
    recount.rules = kept.rules
    for segment in kept.segments:
        recount.announce(segment)
    keys = [segment.keys for segment in kept.segments]

    def key(fragment: Fragment) -> FragmentKey:
        number, index = fragment
        return keys[number][index]

    state = HolderState(
        receipts={
            key(it): HoldingReceipt(since, until_ms) for it, since, until_ms in kept.receipts
        },
        ended={key(it) for it in kept.ended},
        failed={key(it) for it in kept.failed},
        open={
            it.round: Challenge(
                it.round,
                it.last_round,
                {key(fragment): chunk for fragment, chunk in it.asked},
                {key(fragment) for fragment in it.answered},
            )
            for it in kept.open
        },
        closed_in=kept.closed_in,
        asked=kept.asked,
        answered=kept.answered,
    )
    recount.resume(holder, state)
    recount.round, recount.time_ms = kept.round, kept.time_ms
    recount.checkpoint_hash = bytes.fromhex(kept.checkpoint_hash)
