"""Claims of having been at a place, on their way from witness to witness.

A claim file is JSON, bytes in hexadecimal::

    {"city": "kanazawa", "genesis": "..", "subject": "..",
     "presence": {"latitude_e7": 365614000, "longitude_e7": 1366562000, "accuracy_m": 20,
                  "first_round": 5, "last_round": 65, "anchor": "..",
                  "witnesses": [{"key_id": "..", "signature": ".."}]}}

The subject makes it, each witness signs it, and the subject submits what it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citychain.client.files import read_bounded, write_whole
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SIGNATURE_BYTES, SigningKey
from citychain.errors import ConfigurationError
from citychain.presence import WITNESS_CONTEXT, witness_message
from citychain.types import Presence, WitnessSignature

__all__ = ["Claim", "PresenceForm", "load_claim", "save_claim"]

FILE_BYTES_MAX: Final = 1 << 20

Id = Annotated[bytes, Field(min_length=32, max_length=32)]
Signature = Annotated[bytes, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Round = Annotated[int, Field(ge=0, lt=1 << 64)]


class Claim(NamedTuple):
    """A claim in one city, and what witnesses have signed of it so far."""

    city: str
    """A name by which its servers know it."""
    genesis: bytes
    subject: bytes
    """Key id of whoever claims it."""
    presence: Presence

    def witnessed(self, key: SigningKey) -> Claim:
        """The claim with this witness's signature, instead of an earlier one by the same key."""
        witness = key_id(key.public_key)
        message = witness_message(self.genesis, self.subject, self.presence)
        signature = WitnessSignature(witness, key.sign(message, WITNESS_CONTEXT))
        others = (other for other in self.presence.witnesses if other.key_id != witness)
        return self._replace(presence=self.presence._replace(witnesses=(*others, signature)))


class _Form(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, val_json_bytes="hex", ser_json_bytes="hex"
    )


class WitnessForm(_Form):
    """A witness's signature in JSON."""

    key_id: Id
    signature: Signature


class PresenceForm(_Form):
    """A presence in JSON."""

    latitude_e7: Annotated[int, Field(ge=-900_000_000, le=900_000_000)]
    longitude_e7: Annotated[int, Field(ge=-1_800_000_000, le=1_800_000_000)]
    accuracy_m: Annotated[int, Field(ge=0, lt=1 << 32)]
    first_round: Round
    last_round: Round
    anchor: Id
    witnesses: Annotated[tuple[WitnessForm, ...], Field(max_length=16)] = ()

    @classmethod
    def of(cls, presence: Presence) -> PresenceForm:
        """As it is written."""
        witnesses = tuple(
            WitnessForm(key_id=witness.key_id, signature=witness.signature)
            for witness in presence.witnesses
        )
        return cls(**presence._asdict() | {"witnesses": witnesses})

    @property
    def action(self) -> Presence:
        """What it says."""
        witnesses = tuple(WitnessSignature(each.key_id, each.signature) for each in self.witnesses)
        return Presence(**dict(self) | {"witnesses": witnesses})


class _ClaimForm(_Form):
    city: str
    genesis: Id
    subject: Id
    presence: PresenceForm


def save_claim(path: Path | str, claim: Claim) -> None:
    """Write a claim file, whole or not at all; an older one is replaced."""
    form = _ClaimForm(**claim._asdict() | {"presence": PresenceForm.of(claim.presence)})
    write_whole(path, form.model_dump_json(indent=1) + "\n")


def load_claim(path: Path | str) -> Claim:
    """Read a claim file. Whether the signatures hold is not looked at: the city does.

    Raises:
        ConfigurationError: the file cannot be read, or is none; names the field.
    """
    content = read_bounded(path, FILE_BYTES_MAX)
    if len(content) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{path}: more than {FILE_BYTES_MAX} bytes")
    try:
        form = _ClaimForm.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, fault["loc"])) or "the file"
        raise ConfigurationError(f"{path}: {field}: {fault['msg']}") from None
    return Claim(form.city, form.genesis, form.subject, form.presence.action)
