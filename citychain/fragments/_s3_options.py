"""Options of the ``s3`` fragment store. The driver is not imported here: it is an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from citychain.hooks.definitions import ConfigPath, SourceUnreadable

__all__ = ["AccessKey", "S3Options"]


class AccessKey(NamedTuple):
    """What requests are signed with: neither log it nor put it into an error."""

    key_id: str
    secret: str


class S3Options(BaseModel):
    """Options of the ``s3`` fragment store.

    A key that is not given here is found as other programs find it: ``AWS_ACCESS_KEY_ID`` and
    ``AWS_SECRET_ACCESS_KEY`` of the environment, or the role of the machine.
    """

    # Inputs stay out of errors: they may be secrets.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$")]
    """Name of the bucket, which must be there."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", max_length=200)] = (
        "fragments"
    )
    """What the names of its fragments begin with, without the ``/`` at the end. Stores of one
    bucket have each its own."""
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$")] | None = None
    """Address of the service, such as ``https://s3.example.org``; absent for that of AWS."""
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,63}$")] = "us-east-1"
    """Region of the bucket."""
    bucket_in_host: bool = False
    """The bucket's name is part of the host's: then ``endpoint`` has it, too."""
    access_key_id: SecretStr | None = None
    """Name of the key that requests are signed with."""
    secret_access_key: SecretStr | None = None
    """That key; better by ``secret_access_key_file``."""
    secret_access_key_file: ConfigPath | None = None
    """File with the key, instead of ``secret_access_key``."""
    certificates: ConfigPath | None = None
    """PEM file of the certificates that the service's is signed with, where those of the system do
    not do."""
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """For one request, which sends or reads a few MiB; one that failed is made again, up to three
    times and for as long as twice that time."""
    limit_mib: int | None = Field(default=None, ge=1)
    """Most that the fragments may take, counted by each process from what it found when it began;
    absent for as much as the service takes."""

    @model_validator(mode="after")
    def _have_a_whole_key(self) -> S3Options:
        if self.secret_access_key is not None and self.secret_access_key_file is not None:
            raise ValueError("has both secret_access_key and secret_access_key_file: give one")
        has_secret = self.secret_access_key is not None or self.secret_access_key_file is not None
        if has_secret != (self.access_key_id is not None):
            raise ValueError(
                "give both access_key_id and secret_access_key_file (or secret_access_key), or "
                "neither"
            )
        self.access_key()
        self.trusted()
        return self

    def access_key(self) -> AccessKey | None:
        """The key, if it is given here.

        Raises:
            SourceUnreadable: its file cannot be read.
        """
        if self.access_key_id is None:
            return None
        if self.secret_access_key is not None:
            secret = self.secret_access_key.get_secret_value()
        else:
            assert self.secret_access_key_file is not None
            secret = _read("secret_access_key_file", self.secret_access_key_file).strip()
        return AccessKey(self.access_key_id.get_secret_value(), secret)

    def trusted(self) -> str | None:
        """Certificates to trust besides the system's, as PEM.

        Raises:
            SourceUnreadable: their file cannot be read.
        """
        return None if self.certificates is None else _read("certificates", self.certificates)


def _read(option: str, file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnreadable(f"{option} {file} cannot be read: {error}") from None
