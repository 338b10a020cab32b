from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey
from hypothesis import given
from hypothesis import strategies as st

from citychain.client import Presence, WitnessSignature
from citychain.client.claims import Claim, load_claim, save_claim
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError

GENESIS, SUBJECT, ANCHOR = (bytes((letter,)) * 32 for letter in b"gsa")
CLAIM = Claim(
    "kanazawa", GENESIS, SUBJECT, Presence(365_614_000, -1_366_562_000, 20, 5, 65, ANCHOR)
)
BOB, CAROL = SigningKey(b"b" * 32), SigningKey(b"c" * 32)


def test_a_witness_signs_every_part_of_the_claim() -> None:
    [witness] = CLAIM.witnessed(BOB).presence.witnesses
    assert witness.key_id == key_id(BOB.public_key)
    message = struct.pack(
        ">32s32siiIQQ32s", GENESIS, SUBJECT, 365_614_000, -1_366_562_000, 20, 5, 65, ANCHOR
    )
    bob = MLDSA87PublicKey.from_public_bytes(BOB.public_key)
    bob.verify(witness.signature, message, b"citychain/presence/v1")


def test_each_witness_stands_once_in_the_order_of_signing() -> None:
    once = CLAIM.witnessed(BOB).witnessed(CAROL)
    again = once.witnessed(BOB)
    ids = [key_id(key.public_key) for key in (BOB, CAROL)]
    assert [witness.key_id for witness in once.presence.witnesses] == ids
    assert [witness.key_id for witness in again.presence.witnesses] == ids[::-1]


@given(
    st.integers(-900_000_000, 900_000_000),
    st.integers(-1_800_000_000, 1_800_000_000),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 64) - 1),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2),
)
def test_a_file_gives_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory,
    latitude: int,
    longitude: int,
    accuracy: int,
    round: int,
    anchor: bytes,
    witnesses: int,
) -> None:
    signatures = tuple(
        WitnessSignature(bytes((number,)) * 32, bytes((number,)) * 4627)
        for number in range(witnesses)
    )
    presence = Presence(latitude, longitude, accuracy, round, round, anchor, signatures)
    path = tmp_path_factory.mktemp("claims") / "claim.json"
    save_claim(path, Claim("kanazawa", GENESIS, SUBJECT, presence))
    loaded = load_claim(path)
    assert loaded == Claim("kanazawa", GENESIS, SUBJECT, presence)
    assert all(isinstance(each, WitnessSignature) for each in loaded.presence.witnesses)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genesis": "ab"}, "genesis: .*32 bytes"),
        ({"colour": 1}, "colour: "),
        ({"presence": {"latitude_e7": 900_000_001}}, "presence.latitude_e7: .*900000000"),
        ({"presence": {"anchor": "xy" * 32}}, "presence.anchor: .*hex"),
        ({"presence": {"witnesses": [{"key_id": "ab" * 32}]}}, "presence.witnesses.0.signature: "),
    ],
)
def test_a_wrong_file_is_told_by_its_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "claim.json"
    save_claim(path, CLAIM)
    content = json.loads(path.read_text())
    presence = content["presence"] | change.pop("presence", {})
    path.write_text(json.dumps(content | {"presence": presence} | change))
    with pytest.raises(ConfigurationError, match=f"claim.json: {message}"):
        load_claim(path)


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b"\xff", bytes(2 << 20)])
def test_what_is_no_claim_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "claim.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"claim\.json: "):
        load_claim(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_claim(tmp_path / "none")
