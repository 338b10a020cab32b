"""Options of ``poh-pop``: pinned by the genesis, so a city keeps those that it began with."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from citychain.crypto.poh import NUM_HASHES_MAX
from citychain.genesis import AMOUNT_MAX, Asset

__all__ = ["CANDIDATES_MAX", "PohPopOptions"]

CANDIDATES_MAX: Final = 256
"""What ``$candidates`` and ``$election/..`` have room for."""
ROUNDS_MAX: Final = 1 << 32

Rounds = Annotated[int, Field(ge=1, le=ROUNDS_MAX)]


class PohPopOptions(BaseModel):
    """Options of the consensus step ``poh-pop``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["none"] = "none"
    """What an author must show before anything else of theirs is approved: nothing."""
    epoch_rounds: Annotated[int, Field(ge=2, le=ROUNDS_MAX)] = 1_000
    """Rounds of an epoch; a committee is elected for the next one in its last round."""
    seats: Annotated[int, Field(ge=1, le=CANDIDATES_MAX)] = 7
    """Seats to elect; with fewer candidates, as many."""
    seed_rounds: Rounds = 10
    """Rounds between the closing of the candidacy and the end of the epoch."""
    seed_hashes: Annotated[int, Field(ge=1, le=NUM_HASHES_MAX)] = 1_000_000
    """Sequential hashes from the last proof of history to the seed: what each try costs whoever
    would choose the seed. Every verifier of an election repeats them."""
    stake_asset: Asset = "stake"
    """The asset that candidates lock."""
    stake_min: Annotated[int, Field(ge=1, le=AMOUNT_MAX)] = 1
    """The least stake of a candidate."""
    candidates_max: Annotated[int, Field(ge=1, le=CANDIDATES_MAX)] = CANDIDATES_MAX

    @model_validator(mode="after")
    def _fits_together(self) -> PohPopOptions:
        if self.epoch_rounds <= self.seed_rounds:
            raise ValueError(
                f"epoch_rounds ({self.epoch_rounds}) must be more than seed_rounds "
                f"({self.seed_rounds})"
            )
        return self
