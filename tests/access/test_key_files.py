"""What becomes of the keys of tokens while a server runs."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from access.conftest import AUDIENCE, public_pem, token
from access.test_access_calls import Code, bearer, outcome
from rpc.fakes import FakeCity, FakeDirectory, channel_to, serving, until

from citychain.access.composing import guard
from citychain.access.key_files import KeyFiles
from citychain.clock import SystemClock
from citychain.config_auth import AuthSettings, RatesSettings
from citychain.errors import ConfigurationError

PATH = "/citychain.v1.CityService/ListCities"


async def test_a_changed_file_is_used_without_a_signal_and_a_broken_one_changes_nothing(
    keys: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "tokens.pub"

    def put(content: bytes) -> None:
        draft = tmp_path / "draft"
        draft.write_bytes(content)
        draft.replace(file)

    put(public_pem(keys["EdDSA"]))
    old, new = (bearer(token(keys[it], {"read": ["*"]})) for it in ("EdDSA", "ES256"))
    directory, clock = FakeDirectory(kanazawa=FakeCity()), SystemClock()
    auth = AuthSettings(keys=(file,), audience=AUDIENCE)
    judge = await guard(auth, RatesSettings(), directory, clock)
    async with (
        KeyFiles(judge, auth, clock, timedelta(milliseconds=10)) as files,
        serving(directory, interceptors=(judge,)) as server,
        channel_to(server) as channel,
    ):
        assert await outcome(channel, PATH, old) == (Code.OK, "")
        put(b"half of a key")
        await until(lambda: "is neither a public key as PEM nor a JWK Set" in caplog.text)
        file.unlink()
        await until(lambda: "tokens.pub: cannot be read" in caplog.text)
        with pytest.raises(ConfigurationError, match=r"tokens\.pub: cannot be read"):
            await files.read_again()
        assert await outcome(channel, PATH, old) == (Code.OK, "")
        put(public_pem(keys["ES256"]))
        await until(lambda: "the keys of tokens were read again" in caplog.text)
        assert await outcome(channel, PATH, new) == (Code.OK, "")
        assert (await outcome(channel, PATH, old))[0] == Code.UNAUTHENTICATED
    assert caplog.text.count("is neither a public key") == 1  # Each state is read once.
