"""Transactions as people write them: by options, or a JSON object a line."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from citychain.cli.action_drafts import (
    AnchorDraft,
    CandidacyDraft,
    DeliveryDraft,
    EquivocationDraft,
    PeerDraft,
    RecoveryDraft,
    RemittanceDraft,
    RewardDraft,
    SettlementDraft,
    TransferDraft,
    WithdrawalDraft,
    WitnessDraft,
)
from citychain.client.actions import Action, Data
from citychain.client.claims import PresenceForm
from citychain.client.keys import load_public_key
from citychain.errors import InvalidRequest
from citychain.json_members import read_json
from citychain.nearest import did_you_mean

__all__ = ["Draft", "TimedDraft", "from_options", "parse_draft", "parse_line"]

ACTIONS: Final = (
    "data",
    "data_base64",
    "transfer",
    "presence",
    "candidacy",
    "withdrawal",
    "witness",
    "equivocation",
    "recovery",
    "peer",
    "remittance",
    "delivery",
    "settlement",
    "anchor",
    "reward",
)
OPTIONS: Final = {
    "data_base64": "--data",
    "reads": "--read",
    "writes": "--write",
    "line": "options",
}
"""Where an option is not called as its field is."""
ACTION_OPTIONS: Final = (
    "--data",
    "--transfer",
    "--candidacy",
    "--withdrawal",
    "--witness",
    "--revoke-witness",
)
UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _hex(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise ValueError("not hexadecimal") from None
    return value


def _base64(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
    return value


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", value)
        if match is None:
            raise ValueError("write it as 30s, 10m, 2h or 1d")
        return timedelta(seconds=int(match[1]) * UNITS[match[2]])
    return value


Id = Annotated[bytes, BeforeValidator(_hex), Field(min_length=32, max_length=32)]
Version = Annotated[int, Field(ge=0, lt=1 << 64)]


D = TypeVar("D", bound="Draft")


class Draft(BaseModel):
    """One transaction to sign, with one action; ids are hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    data: str | None = None
    """The content as text."""
    data_base64: Annotated[bytes | None, BeforeValidator(_base64)] = None
    content_type: str = ""
    transfer: TransferDraft | None = None
    presence: PresenceForm | None = None
    candidacy: CandidacyDraft | None = None
    withdrawal: WithdrawalDraft | None = None
    witness: WitnessDraft | None = None
    equivocation: EquivocationDraft | None = None
    recovery: RecoveryDraft | None = None
    peer: PeerDraft | None = None
    remittance: RemittanceDraft | None = None
    delivery: DeliveryDraft | None = None
    settlement: SettlementDraft | None = None
    anchor: AnchorDraft | None = None
    reward: RewardDraft | None = None
    depends_on: list[Id] = []
    """Ids of transactions that must be approved first."""
    reads: dict[str, Version] = {}
    """Objects, and the version at which each must stand."""
    writes: dict[str, Version] = {}
    """Objects to write, and the version of each before."""
    valid_for: Annotated[timedelta | None, BeforeValidator(_duration)] = None
    """``30s``, ``10m``, ``2h``, ``1d``."""

    @model_validator(mode="after")
    def _one_action(self) -> Draft:
        if sum(getattr(self, name) is not None for name in ACTIONS) != 1:
            raise ValueError(f"needs one of {', '.join(ACTIONS[:-1])} and {ACTIONS[-1]}")
        return self

    @property
    def action(self) -> Action:
        """What it says."""
        if self.data is not None:
            return Data(self.data.encode(), self.content_type)
        if self.data_base64 is not None:
            return Data(self.data_base64, self.content_type)
        [form] = (form for name in ACTIONS if (form := getattr(self, name)) is not None)
        action: Action = form.action
        return action


class TimedDraft(Draft):
    """A draft that can say when it was made: signed again, it is the same transaction."""

    created_at_ms: Annotated[int, Field(ge=1, lt=1 << 63)] | None = None
    """Milliseconds since 1970 UTC."""


def parse_line(line: str | bytes) -> Draft:
    """A draft from a JSON object.

    Raises:
        InvalidRequest: names the field that is wrong.
    """
    return parse_draft(line, Draft)


def parse_draft(line: str | bytes, form: type[D]) -> D:
    """As `parse_line`, for a form that may have more fields."""
    try:
        draft = form.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, fault["loc"])) or "line"
        raise InvalidRequest(field, _in_words(fault, form)) from None
    try:
        read_json(line.encode() if isinstance(line, str) else line)
    except ValueError as error:  # Which of the two it means nobody can say, and it is signed.
        raise InvalidRequest("line", str(error)) from None
    return draft


def _in_words(fault: Any, form: type[Draft]) -> str:
    """What pydantic found, for people."""
    match fault:
        case {"type": "extra_forbidden", "loc": (str(name),)}:
            return f"there is no such field{did_you_mean(name, form.model_fields)}"
        case {"type": "greater_than_equal", "ctx": {"ge": least}}:
            return f"is at least {least}"
        case {"type": "less_than", "ctx": {"lt": beyond}}:
            return f"is at most {beyond - 1}"
        case {"type": "extra_forbidden"}:
            return "there is no such field"
        case {"type": "missing"}:
            return "is missing"
    message: str = fault["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def from_options(
    *,
    data: str | None,
    content_type: str,
    transfer: str | None,
    candidacy: str | None,
    withdrawal: str | None,
    witness: Path | None,
    revoke_witness: Path | None,
    depends_on: Sequence[str],
    reads: Sequence[str],
    writes: Sequence[str],
    valid_for: str | None,
    peer: bytes | None = None,
) -> Draft:
    """A draft from the options of ``citychain submit``.

    Args:
        data: Text, or ``@`` and the path of a file.
        transfer: ``ASSET:AMOUNT:TO``, or ``ASSET:AMOUNT:TO@CITY`` for a key in another city.
        peer: Genesis id of that city.
        candidacy: ``ASSET:AMOUNT``; ``withdrawal`` alike.
        witness: A public key file; ``revoke_witness`` alike.
        reads: Each ``OBJECT@VERSION``; ``writes`` alike.

    Raises:
        InvalidRequest: names the option that is wrong.
        OSError: the file cannot be read.
        ConfigurationError: it is no public key file.
    """
    fields: dict[str, Any] = {
        "content_type": content_type,
        "depends_on": list(depends_on),
        "reads": _versions("--read", reads),
        "writes": _versions("--write", writes),
        "valid_for": valid_for,
    }
    if data is not None and data.startswith("@"):
        fields["data_base64"] = base64.b64encode(Path(data[1:]).read_bytes()).decode()
    elif data is not None:
        fields["data"] = data
    if transfer is not None:
        if peer is None:
            fields["transfer"] = _transfer(transfer)
        else:
            fields["remittance"] = _transfer(transfer.partition("@")[0]) | {"city": peer.hex()}
    if candidacy is not None:
        fields["candidacy"] = _stake("--candidacy", candidacy)
    if withdrawal is not None:
        fields["withdrawal"] = _stake("--withdrawal", withdrawal)
    if witness is not None and revoke_witness is not None:
        raise InvalidRequest("--revoke-witness", "goes in a transaction of its own")
    if (file := witness or revoke_witness) is not None:
        public_key = load_public_key(file).hex()
        fields["witness"] = {"public_key": public_key, "revoked": witness is None}
    try:
        return parse_line(json.dumps(fields))
    except InvalidRequest as error:
        raise _of_option(error) from None


def _of_option(error: InvalidRequest) -> InvalidRequest:
    """The error of the option that a line's field came from."""
    name, _, part = error.field.partition(".")
    if name == "line":
        return InvalidRequest("options", f"give one of {', '.join(ACTION_OPTIONS)} and --jsonl")
    option = OPTIONS.get(name) or f"--{name.replace('_', '-')}"
    return InvalidRequest(option, f"{part} {error.detail}" if part else error.detail)


def _transfer(option: str) -> dict[str, Any]:
    match = re.fullmatch(r"([^:]+):([0-9]{1,20}):([0-9a-fA-F]{64})", option)
    if match is None:
        raise InvalidRequest(
            "--transfer",
            f"{option!r} is not ASSET:AMOUNT:TO or ASSET:AMOUNT:TO@CITY, TO being a key id",
        )
    return {"asset": match[1], "amount": int(match[2]), "to": match[3]}


def _stake(name: str, option: str) -> dict[str, Any]:
    match = re.fullmatch(r"([^:]+):([0-9]{1,20})", option)
    if match is None:
        raise InvalidRequest(name, f"{option!r} is not ASSET:AMOUNT")
    return {"asset": match[1], "stake": int(match[2])}


def _versions(name: str, options: Sequence[str]) -> dict[str, int]:
    versions: dict[str, int] = {}
    for option in options:
        match = re.fullmatch(r"(.+)@([0-9]{1,20})", option)
        if match is None:
            raise InvalidRequest(name, f"{option!r} is not OBJECT@VERSION")
        if match[1] in versions:
            raise InvalidRequest(name, f"{match[1]!r} is given twice")
        versions[match[1]] = int(match[2])
    return versions
