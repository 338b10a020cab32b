"""Options of ``poh-pop``: pinned by the genesis, so a city keeps those that it began with."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from citychain.crypto.poh import NUM_HASHES_MAX
from citychain.genesis import AMOUNT_MAX, Asset
from citychain.presence import Policy
from citychain.region import Region, RegionOptions

__all__ = ["CANDIDATES_MAX", "WITNESSES_MAX", "Event", "PohPopOptions"]

CANDIDATES_MAX: Final = 256
"""What ``$candidates`` and ``$election/..`` have room for."""
WITNESSES_MAX: Final = 16
"""Signatures that a presence has room for."""
ROUNDS_MAX: Final = 1 << 32

Rounds = Annotated[int, Field(ge=1, le=ROUNDS_MAX)]


class Event(BaseModel):
    """An occasion that brings people to a place: whose presence is of there and then weighs more.

    Where several apply the greatest factor counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: Region
    from_ms: Annotated[int, Field(ge=0, lt=1 << 63)]
    """From this round time on, in milliseconds since 1970 UTC."""
    until_ms: Annotated[int, Field(ge=0, lt=1 << 63)]
    """Before this one."""
    factor_permille: Annotated[int, Field(ge=1_000, le=10_000)]
    """Thousandths by which the stake weighs in an election."""

    @model_validator(mode="after")
    def _ordered(self) -> Event:
        if self.from_ms >= self.until_ms:
            raise ValueError("from_ms must be before until_ms")
        return self


class PohPopOptions(BaseModel):
    """Options of the consensus step ``poh-pop``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: RegionOptions | None = None
    """The city's region, and its neighbours' for naming them: ``disc``, ``polygons``, or a GeoJSON
    ``file`` or ``resource`` (`citychain.region`), which is copied into the genesis. Needed by every
    policy but ``none``, which judges none."""
    policy: Policy = "none"
    """What an author must show before anything else of theirs is approved.

    ``none``: nothing. ``claimed``: a presence in the region, as they say. ``witnessed``: one
    that ``witnesses`` registered witnesses signed.
    """
    witnesses: Annotated[int, Field(ge=0, le=WITNESSES_MAX)] = 0
    """Witnesses that a presence needs under ``witnessed``; 0 under the other policies."""
    accuracy_max_m: Annotated[int, Field(ge=1, le=100_000)] = 100
    """The poorest accuracy of a position that counts."""
    window_rounds_max: Annotated[int, Field(ge=1, le=100_000)] = 600
    """The most rounds for which a presence may be made: from the one it is anchored in to the
    last in which it can be sealed."""
    validity_rounds: Rounds = 50_000
    """Rounds for which a sealed presence holds."""
    speed_max_mps: Annotated[int, Field(ge=1, le=1_000_000)] = 300
    """The fastest that a key can have travelled between two presences."""
    events: Annotated[tuple[Event, ...], Field(max_length=256)] = ()
    """Occasions whose presences weigh more in an election: ``{ region, from_ms, until_ms,
    factor_permille }``, the factor 1,000 to 10,000. Where several apply the greatest counts."""
    epoch_rounds: Annotated[int, Field(ge=2, le=ROUNDS_MAX)] = 1_000
    """Rounds of an epoch; a committee is elected for the next one in its last round."""
    seats: Annotated[int, Field(ge=1, le=CANDIDATES_MAX)] = 7
    """Seats to elect; with fewer candidates as many, so that a single one is elected alone."""
    seed_rounds: Rounds = 10
    """Rounds between the closing of the candidacy and the end of the epoch."""
    seed_hashes: Annotated[int, Field(ge=1, le=NUM_HASHES_MAX)] = 10_000_000
    """Sequential hashes from the last proof of history to the seed: what each try costs whoever
    would choose the seed. Every verifier of an election repeats them."""
    stake_asset: Asset = "stake"
    """The asset that candidates lock."""
    stake_min: Annotated[int, Field(ge=1, le=AMOUNT_MAX)] = 1
    """The least stake of a candidate."""
    candidates_max: Annotated[int, Field(ge=1, le=CANDIDATES_MAX)] = CANDIDATES_MAX
    """The most candidates that stand at once."""

    @model_validator(mode="after")
    def _fits_together(self) -> PohPopOptions:
        if self.policy != "none" and self.place is None:
            raise ValueError(f"policy {self.policy!r} needs a place: give the city's region")
        if self.policy == "witnessed" and not self.witnesses:
            raise ValueError("policy 'witnessed' needs witnesses: say how many, 1 to 16")
        if self.policy != "witnessed" and self.witnesses:
            raise ValueError("witnesses are for policy 'witnessed' alone: leave them out")
        if self.policy == "none" and self.place is not None:
            raise ValueError(
                "place is for policies that judge presences: choose one, or leave it out"
            )
        if self.policy == "none" and self.events:
            raise ValueError("events are for policies that judge presences: leave them out")
        if self.epoch_rounds <= self.seed_rounds:
            raise ValueError(
                f"epoch_rounds ({self.epoch_rounds}) must be more than seed_rounds "
                f"({self.seed_rounds})"
            )
        return self
