"""The genesis of a city: what it is, before anything happened in it.

A JSON file, each member given once. Its id, 32 bytes, stands in everything that is
signed or hashed::

    genesis id = SHA-256("citychain/genesis/v1\\0" || the file, byte for byte)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citychain.crypto.keys import key_id
from citychain.errors import ConfigurationError
from citychain.json_members import read_json
from citychain.types import ObjectWrite, Quorum, Seat

__all__ = [
    "GENESIS_BYTES_MAX",
    "Genesis",
    "Representative",
    "balance_object",
    "city_name",
    "escrow_account",
    "stake_account",
]

GENESIS_BYTES_MAX: Final = 16 << 20
AMOUNT_MAX: Final = (1 << 63) - 1
"""No asset has more in all, so no sum of balances overflows 64 bits."""

Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Asset = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
KeyIdHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PublicKeyHex = Annotated[str, Field(pattern=r"^[0-9a-f]{5184}$")]
Amount = Annotated[int, Field(ge=0, le=AMOUNT_MAX)]


class Representative(BaseModel):
    """A member of the first committee."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_key: PublicKeyHex
    """ML-DSA-87, hexadecimal."""
    stake: Annotated[int, Field(ge=1, le=AMOUNT_MAX)] = 1
    """Its weight among the committee's."""

    @cached_property
    def key_id(self) -> bytes:
        """Id of the key, 32 bytes."""
        return key_id(bytes.fromhex(self.public_key))


class Genesis(BaseModel):
    """A genesis file, parsed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    network: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """Keeps a test city apart from a real one of the same name."""
    city: Slug
    rule: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}/[0-9]{1,9}$")]
    """The DAG handler's name and version."""
    rule_options: Mapping[str, Any] = Field(default_factory=dict)
    """The DAG handler's options, all of them."""
    consensus: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}/[0-9]{1,9}$")]
    """The consensus step's name and version."""
    consensus_options: Mapping[str, Any] = Field(default_factory=dict)
    """The consensus step's options, all of them."""
    quorum: Quorum = "two-thirds"
    """How much of the committee's stake makes a certificate."""
    operator: PublicKeyHex
    """The operator's public key: registers witnesses, recovers a lost committee, and signs
    acknowledgements."""
    num_hashes: Annotated[int, Field(ge=1, le=1 << 32)] = 10_000
    """Sequential hashes that a round's proof-of-history entry takes."""
    hold_rounds: Annotated[int, Field(ge=1, le=1_000)] = 8
    """Rounds that a transaction waits for a dependency."""
    committee: Annotated[tuple[Representative, ...], Field(min_length=1, max_length=1_024)]
    balances: Mapping[Asset, Mapping[KeyIdHex, Amount]] = Field(default_factory=dict)
    """First balances: asset, then key id in hexadecimal."""

    def to_bytes(self) -> bytes:
        """The genesis file."""
        text = json.dumps(
            self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False
        )
        return text.encode() + b"\n"

    @staticmethod
    def id_of(file: bytes) -> bytes:
        """Id of a genesis file, 32 bytes."""
        return hashlib.sha256(b"citychain/genesis/v1\0" + file).digest()

    @classmethod
    def read(cls, path: Path) -> Genesis:
        """Read a genesis file.

        Raises:
            ConfigurationError: it is none; names the file.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            content = file.read(GENESIS_BYTES_MAX + 1)
        try:
            return cls.from_bytes(content)
        except ConfigurationError as error:
            fault = str(error).removeprefix("genesis file: ")
            raise ConfigurationError(f"{path}: is no genesis file: {fault}") from None

    @classmethod
    def from_bytes(cls, file: bytes) -> Genesis:
        """Parse a genesis file.

        Raises:
            ConfigurationError: naming the field that is wrong.
        """
        if len(file) > GENESIS_BYTES_MAX:
            raise ConfigurationError(f"genesis file: more than {GENESIS_BYTES_MAX} bytes")
        try:
            read_json(file)
            genesis = cls.model_validate_json(file, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the file"
            raise ConfigurationError(f"genesis file: {field}: {first['msg']}") from None
        except ValueError as error:
            raise ConfigurationError(f"genesis file: {error}") from None
        if len({seat.key_id for seat in genesis.seats}) != len(genesis.seats):
            raise ConfigurationError("genesis file: committee: a key stands in it twice")
        for asset, balances in genesis.balances.items():
            if sum(balances.values()) > AMOUNT_MAX:
                raise ConfigurationError(
                    f"genesis file: balances.{asset}: more than {AMOUNT_MAX} in all"
                )
        genesis.__dict__["file"] = file
        return genesis

    @cached_property
    def file(self) -> bytes:
        """The file this was read from, byte for byte, or the one that it makes."""
        return self.to_bytes()

    @cached_property
    def id(self) -> bytes:
        """Id of the city, 32 bytes."""
        return self.id_of(self.file)

    @property
    def name(self) -> str:
        """``NETWORK/CITY``, by which people and storages tell cities apart."""
        return f"{self.network}/{self.city}"

    @cached_property
    def operator_id(self) -> bytes:
        """Id of the operator's key, 32 bytes."""
        return key_id(bytes.fromhex(self.operator))

    @cached_property
    def seats(self) -> tuple[Seat, ...]:
        """The first committee."""
        return tuple(Seat(member.key_id, member.stake) for member in self.committee)

    def initial_objects(self) -> tuple[ObjectWrite, ...]:
        """The states that objects have before the first round."""
        return tuple(
            ObjectWrite(balance_object(asset, bytes.fromhex(key)), 1, amount.to_bytes(8, "big"))
            for asset, balances in sorted(self.balances.items())
            for key, amount in sorted(balances.items())
        )


def city_name(file: bytes) -> str | None:
    """`Genesis.name` of a genesis file, of which a storage has one city until that is forgotten;
    ``None`` if it is none."""
    try:
        genesis = Genesis.from_bytes(file)
    except ConfigurationError:
        return None
    return genesis.name


def balance_object(asset: str, key: bytes) -> str:
    """Object id under which a balance stands; its value is 8 bytes, big-endian."""
    return f"$balance/{asset}/{key.hex()}"


def stake_account(key_id: bytes) -> bytes:
    """Whose balance is the stake of a key: 32 bytes in the place of a key id."""
    return hashlib.sha256(b"citychain/stake/v1\0" + key_id).digest()


def escrow_account(genesis: bytes) -> bytes:
    """Whose balance is on its way to the city with this genesis id: 32 bytes in the place of a
    key id."""
    return hashlib.sha256(b"citychain/escrow/v1\0" + genesis).digest()
