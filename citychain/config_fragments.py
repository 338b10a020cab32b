"""``[fragments]``: how objects are cut, and where their fragments are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, field_validator, model_validator

from citychain.config_tables import PartName, Table
from citychain.genesis import KeyIdHex

__all__ = ["FragmentStoreSettings", "FragmentsSettings"]

FRAGMENTS_MAX: Final = 255
"""Of one object."""
STRIPE_KIB_MAX: Final = 64 << 10
"""A chunk of each fragment, all together: they are in memory at once."""
DEFAULT_DATA: Final = 2
DEFAULT_PARITY: Final = 2
DEFAULT_CHUNK_KIB: Final = 64
DEFAULT_WEIGHT: Final = 1.0
DEFAULT_REPAIR_MIB_S: Final = 16.0
DEFAULT_SCRUB_MIB_S: Final = 1.0


class FragmentStoreSettings(Table):
    """``[fragments.stores.NAME]``: a place for fragments, and the options of its kind."""

    model_config = ConfigDict(extra="allow")

    kind: PartName
    """Name of a kind of fragment store; all keys of the table that are not named here are its
    options."""
    weight: Annotated[float, Field(ge=0, le=1_000_000)] = DEFAULT_WEIGHT
    """How much it gets, compared with the other stores; 0 for nothing more."""
    domain: PartName | None = None
    """What fails together: stores of one disk, machine or house have the same. Absent for a
    domain of its own."""
    holder: KeyIdHex | None = None
    """Id of the key that proves what is in it (`citychain hold`). With `citychain rebalance --city`
    what is not proven any more is made anew in other stores."""

    @property
    def options(self) -> Mapping[str, Any]:
        """All other keys, as they stand; the kind's model checks them."""
        return self.model_extra or {}

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # Options may hold passwords.
        return [("kind", self.kind), ("weight", self.weight), ("domain", self.domain)]


class FragmentsSettings(Table):
    """``[fragments]``: of an object any ``data`` of its fragments restore it."""

    data: Annotated[int, Field(ge=1, le=FRAGMENTS_MAX)] = DEFAULT_DATA
    """Fragments that have an object's content; any so many restore it."""
    parity: Annotated[int, Field(ge=0, le=FRAGMENTS_MAX - 1)] = DEFAULT_PARITY
    """Fragments besides: so many may be lost."""
    chunk_kib: Annotated[int, Field(ge=4, le=1_024)] = DEFAULT_CHUNK_KIB
    """What is checked by itself: a power of two; one of each fragment are 64 MiB at most."""
    repair_mib_s: Annotated[float, Field(gt=0, le=1_000_000)] = DEFAULT_REPAIR_MIB_S
    """Most that a server reads and writes to make anew what is lost of the archives of all its
    cities."""
    scrub_mib_s: Annotated[float, Field(gt=0, le=1_000_000)] = DEFAULT_SCRUB_MIB_S
    """Most that it reads to find what is wrong in them."""
    stores: dict[PartName, FragmentStoreSettings] = Field(default_factory=dict)

    @field_validator("chunk_kib")
    @classmethod
    def _is_power_of_two(cls, kib: int) -> int:
        if kib & (kib - 1):
            raise ValueError("must be a power of two, such as 64")
        return kib

    @model_validator(mode="after")
    def _few_enough(self) -> FragmentsSettings:
        if self.data + self.parity > FRAGMENTS_MAX:
            raise ValueError(f"data and parity must not be more than {FRAGMENTS_MAX} together")
        if (self.data + self.parity) * self.chunk_kib > STRIPE_KIB_MAX:
            raise ValueError(
                f"chunk_kib must not be more than {STRIPE_KIB_MAX} for all of data and parity "
                "together: set a smaller one"
            )
        return self

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk."""
        return self.chunk_kib << 10
