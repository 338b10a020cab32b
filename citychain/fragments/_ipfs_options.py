"""Options of the ``ipfs`` fragment store. The client is not imported here: it is an extra."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from citychain.hooks.definitions import ConfigPath, SourceUnreadable

__all__ = ["IpfsOptions"]

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
"""What a header can hold. A client that is given more tells it in its error."""


class IpfsOptions(BaseModel):
    """Options of the ``ipfs`` fragment store."""

    # Inputs stay out of errors: they may be secrets.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+$")]
    """Address of the node's RPC API, such as ``http://127.0.0.1:5001``. It gives whoever reaches it
    power over the node."""
    path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_-]+)+$", max_length=200)] = "/citychain"
    """Folder of the fragments among the node's files (its MFS); made where it is not there."""
    token: SecretStr | None = None
    """Bearer token, where the node's ``API.Authorizations`` asks for one; better by
    ``token_file``."""
    token_file: ConfigPath | None = None
    """File with the token, instead of ``token``."""
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """How long the node may be silent."""
    limit_mib: int | None = Field(default=None, ge=1)
    """Most that the fragments may take, counted by each process from what it found when it began;
    absent for as much as fits on the node's disk."""

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        if not parts.hostname or parts.port == 0:  # A port that is no number raises.
            raise ValueError("is no address such as http://127.0.0.1:5001")
        return endpoint

    @model_validator(mode="after")
    def _have_one_token(self) -> IpfsOptions:
        if self.token is not None and self.token_file is not None:
            raise ValueError("has both token and token_file: give one")
        token = self.bearer()
        if token is not None and not _TOKEN.fullmatch(token):
            where = "token" if self.token_file is None else f"token_file {self.token_file}"
            raise ValueError(f"{where}: give a token of one line, in ASCII and without spaces")
        return self

    def bearer(self) -> str | None:
        """The token: neither log it nor put it into an error.

        Raises:
            SourceUnreadable: its file cannot be read.
        """
        if self.token is not None:
            return self.token.get_secret_value().strip()
        if self.token_file is None:
            return None
        try:
            return self.token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceUnreadable(
                f"token_file {self.token_file} cannot be read: {error}"
            ) from None
