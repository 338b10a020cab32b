from collections.abc import Mapping, Sequence
from typing import Final, final

from citychain._native.transactions import Transaction
from citychain.types import ObjectWrite, Rejection

REJECTION_CODES: Final[Mapping[str, str]]
"""What each code that `settle` gives means."""

@final
class Settlement:
    @property
    def order(self) -> list[int]: ...
    @property
    def verdicts(self) -> list[Rejection | None]: ...
    @property
    def held(self) -> list[int]: ...
    @property
    def writes(self) -> list[ObjectWrite]: ...

def needs(candidates: Sequence[Transaction]) -> tuple[list[bytes], list[str]]: ...
def settle(
    *,
    round: int,
    time_ms: int,
    hold_rounds: int,
    candidates: Sequence[Transaction],
    held_since: Sequence[int],
    refused: Mapping[int, Rejection],
    dependencies: Mapping[bytes, bool],
    objects: Mapping[str, tuple[int, bytes]],
) -> Settlement: ...
