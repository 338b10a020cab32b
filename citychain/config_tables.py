"""What the tables of ``citychain.toml`` have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PartName", "Table"]

PartName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]


class Table(BaseModel):
    """A table in which a key that does not exist is an error."""

    # Inputs stay out of errors: they may be secrets.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
