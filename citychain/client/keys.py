"""Key files: a secret key on disk.

JSON, readable and writable by its owner alone (mode 0600)::

    {"format": 1, "scheme": "ML-DSA-87", "key_id": "<64 hex digits>", "seed": "<64 hex digits>"}

The seed is the ξ of FIPS 204, from which the key pair follows; the key id is there for people,
and shows when a file was damaged.

A public key file is text: 5,184 hex digits on a line.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from citychain.crypto.keys import key_id
from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SEED_BYTES, SigningKey
from citychain.errors import ConfigurationError

__all__ = ["create_key", "load_key", "load_public_key", "save_public_key"]

FILE_BYTES_MAX: Final = 4_096
PUBLIC_FILE_BYTES_MAX: Final = 8_192


class _KeyFile(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    format: Literal[1]
    scheme: Literal["ML-DSA-87"]
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    seed: SecretStr


def create_key(path: Path | str) -> SigningKey:
    """Make a key and write its file, whole or not at all, and never over another file.

    Raises:
        ConfigurationError: the file exists, or cannot be written.
    """
    path = Path(path)
    seed = secrets.token_bytes(SEED_BYTES)
    key = SigningKey(seed)
    content = {
        "format": 1,
        "scheme": "ML-DSA-87",
        "key_id": key_id(key.public_key).hex(),
        "seed": seed.hex(),
    }
    try:
        _write_new(path, json.dumps(content, indent=1).encode() + b"\n")
    except FileExistsError:
        raise ConfigurationError(
            f"{path}: a file of this name exists, and keys are never written over; choose another"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    return key


def load_key(path: Path | str) -> SigningKey:
    """Read a key file.

    Raises:
        ConfigurationError: it cannot be read, is no key file, or others may read it.
    """
    path = Path(path)
    try:
        # Not to wait for a writer if it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path}: is no file")
        content = os.read(descriptor, PUBLIC_FILE_BYTES_MAX)
        if _parse_public(content) is not None:
            raise ConfigurationError(f"{path}: is a public key; give the key file")
        if status.st_mode & 0o077:
            raise ConfigurationError(
                f"{path}: others than its owner may use this key; run: chmod 600 {path}"
            )
        return _parse(path, content[:FILE_BYTES_MAX])
    finally:
        os.close(descriptor)


def save_public_key(path: Path | str, public_key: bytes) -> None:
    """Write a public key file, and never over another.

    Raises:
        ConfigurationError: the file exists, or cannot be written.
    """
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(f"{public_key.hex()}\n")
    except FileExistsError:
        raise ConfigurationError(f"{path}: a file of this name exists; choose another") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error


def load_public_key(path: Path | str) -> bytes:
    """Read a public key file.

    Raises:
        ConfigurationError: it cannot be read, or is no public key.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(PUBLIC_FILE_BYTES_MAX)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    public_key = _parse_public(content)
    if public_key is None:
        raise ConfigurationError(
            f"{path}: is no public key of {2 * PUBLIC_KEY_BYTES} hex digits; "
            "citychain keygen --public writes one"
        )
    return public_key


def _parse_public(content: bytes) -> bytes | None:
    """The public key in a file's content; ``None`` if it is something else."""
    try:
        public_key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        return None
    return public_key if len(public_key) == PUBLIC_KEY_BYTES else None


def _parse(path: Path, content: bytes) -> SigningKey:
    """The key in a file's content; no error shows any of it."""
    try:
        parsed = _KeyFile.model_validate_json(content)
        key = SigningKey(bytes.fromhex(parsed.seed.get_secret_value()))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigurationError(f"{path}: is no key file: {field}: {first['msg']}") from None
    except ValueError:
        raise ConfigurationError(f"{path}: is no key file: seed: not {SEED_BYTES} bytes") from None
    if key_id(key.public_key).hex() != parsed.key_id:
        raise ConfigurationError(f"{path}: is damaged: the seed does not give this key_id")
    return key


def _write_new(path: Path, content: bytes) -> None:
    """Make a file with this content appear at once; `FileExistsError` if there is one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o600), "wb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            # A link, not a renaming: it fails where the name is taken.
            os.link(draft, path)
        finally:
            draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
