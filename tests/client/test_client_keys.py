from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from citychain.client.keys import create_key, load_key, load_public_key, save_public_key
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey, verify
from citychain.errors import ConfigurationError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alice.key"


def test_a_created_key_is_the_one_that_is_loaded(path: Path) -> None:
    created = create_key(path)
    loaded = load_key(str(path))
    assert loaded.public_key == created.public_key
    verify(created.public_key, b"message", b"test", loaded.sign(b"message", b"test"))


def test_two_keys_differ(tmp_path: Path) -> None:
    assert create_key(tmp_path / "a").public_key != create_key(tmp_path / "b").public_key


def test_only_the_owner_may_read_a_key_file(path: Path) -> None:
    before = os.umask(0)
    try:
        create_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_names_the_key(path: Path) -> None:
    key = create_key(path)
    content = json.loads(path.read_text())
    assert content["key_id"] == key_id(key.public_key).hex()
    assert content["scheme"] == "ML-DSA-87"


def test_no_file_is_written_over_and_no_draft_is_left(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="never written over"):
        create_key(path)
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        create_key(path)
    assert list(path.parent.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere/a\.key: cannot be written"):
        create_key(tmp_path / "nowhere" / "a.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_may_use_is_refused_with_the_fix(path: Path, mode: int) -> None:
    create_key(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"run: chmod 600 {path}"):
        load_key(path)


def test_a_key_file_may_be_read_only(path: Path) -> None:
    create_key(path)
    path.chmod(0o400)
    load_key(path)


def test_a_missing_key_is_named(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"alice\.key: cannot be read: No such file"):
        load_key(path)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: os.mkfifo(path, 0o600)])
def test_what_is_no_file_is_refused_at_once(path: Path, make: object) -> None:
    make(path)
    with pytest.raises(ConfigurationError, match="is no file"):
        load_key(path)


SEED = "5e" * 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": SEED[2:]}, "seed: not 32 bytes"),
        ({"seed": "x" * 64}, "seed: not 32 bytes"),
        ({"seed": SEED}, "is damaged"),
        ({"seed": None}, "seed: Input should be"),
        ({"key_id": "0"}, "key_id: String should match"),
        ({"scheme": "Ed25519"}, "scheme: Input should be 'ML-DSA-87'"),
        ({"format": 2}, "format: Input should be 1"),
        ({"more": SEED}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_damaged_file_is_refused_without_showing_the_seed(
    path: Path, change: dict[str, object], message: str
) -> None:
    create_key(path)
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_key(path)
    error: BaseException | None = caught.value
    while error is not None:
        assert str(content["seed"]) not in str(error)
        assert str(content["seed"]) not in repr(error)
        error = error.__cause__


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", '{"seed": "' + "0" * 9_000])
def test_any_other_file_is_no_key_file(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="is no key file"):
        load_key(path)


def test_a_repr_shows_no_secret(path: Path) -> None:
    key = create_key(path)
    seed = json.loads(path.read_text())["seed"]
    for text in (repr(key), str(key)):
        assert seed not in text
        assert str(bytes.fromhex(seed)) not in text


def test_a_public_key_file_gives_the_key_back(tmp_path: Path) -> None:
    key = SigningKey(b"k" * 32)
    save_public_key(tmp_path / "rep.pub", key.public_key)
    assert load_public_key(tmp_path / "rep.pub") == key.public_key
    with pytest.raises(ConfigurationError, match=r"rep\.pub: a file of this name exists"):
        save_public_key(tmp_path / "rep.pub", key.public_key)
    assert (tmp_path / "rep.pub").read_text() == key.public_key.hex() + "\n"


@pytest.mark.parametrize("content", [b"", b"ab" * 2_591, b"ab" * 2_593, b"zz" * 2_592, b"\xff"])
def test_what_is_no_public_key_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rep.pub").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"rep\.pub: is no public key of 5184 hex digits"):
        load_public_key(tmp_path / "rep.pub")
    with pytest.raises(ConfigurationError, match="nothing: cannot be read"):
        load_public_key(tmp_path / "nothing")
