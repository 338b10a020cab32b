"""Options of the MongoDB backend. The driver is not imported here: it is an optional extra."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from citychain.hooks.definitions import ConfigPath, SourceUnreadable

__all__ = ["Acknowledge", "MongodbOptions"]

Acknowledge = Literal["majority", "primary", "memory"]

_SCHEMES: Final = ("mongodb://", "mongodb+srv://")
_HARMLESS: Final = {
    # What an address may say of durability, since it says no less than we ask for.
    "w": "majority",
    "journal": "true",
    "retrywrites": "true",
    "retryreads": "true",
    "readpreference": "primary",
    "readconcernlevel": "majority",
}


class MongodbOptions(BaseModel):
    """Options of the ``mongodb`` storage backend."""

    # Inputs stay out of errors: an address may have a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    uri: SecretStr | None = None
    """Address of a replica set or of a cluster's routers, such as
    ``mongodb://db1,db2,db3/?replicaSet=city``; without it, and without ``uri_file``, what the
    environment's ``MONGODB_URI`` says."""
    uri_file: ConfigPath | None = None
    """File with the address, instead of ``uri``."""
    database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")] = "citychain"
    """Name of the database; cities of several servers that share one have it in common."""
    acknowledge: Acknowledge = "majority"
    """When a write counts as done: ``majority`` once most members have it in their journals.
    ``primary``: the primary's journal alone, and an election can take back what was acknowledged.
    ``memory``: not even that survives a power cut. The last two are for trials."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 20
    """For a call to the database, with all its repetitions: longer than an election takes."""
    connections: Annotated[int, Field(ge=4, le=1000)] = 32
    """Most connections to each member."""

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, uri: SecretStr | None) -> SecretStr | None:
        if uri is not None:
            _check(uri.get_secret_value())
        return uri

    @model_validator(mode="after")
    def _have_one(self) -> MongodbOptions:
        if self.uri is not None and self.uri_file is not None:
            raise ValueError("has both uri and uri_file: give one of them")
        if self.uri is None and self.uri_file is None:
            raise ValueError("needs uri, uri_file or the environment's MONGODB_URI")
        self.address()
        return self

    def address(self) -> str:
        """The address, with its password: neither log it nor put it into an error.

        Raises:
            ValueError: its file cannot be read, or holds no address.
        """
        if self.uri is not None:
            return self.uri.get_secret_value()
        assert self.uri_file is not None
        try:
            uri = self.uri_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceUnreadable(f"uri_file {self.uri_file} cannot be read: {error}") from None
        _check(uri)
        return uri


def _check(uri: str) -> None:
    """Refuse an address that is none, or that asks for less durability than the options say."""
    if not uri.startswith(_SCHEMES):
        raise ValueError("the address begins with mongodb:// or mongodb+srv://")
    _, _, rest = uri.partition("://")
    if re.search("[/?].*@", rest, re.DOTALL):
        # Else a part of the password would be taken for a host, and shown.
        raise ValueError("write / ? and @ in the address's user and password as %2F %3F and %40")
    for name, value in parse_qsl(uri.partition("?")[2], keep_blank_values=True):
        harmless = _HARMLESS.get(name.lower())
        if harmless is not None and value.lower() != harmless:
            raise ValueError(
                f"leave {name}={value} out of the address: the option `acknowledge` says when a "
                "write counts as done"
            )
