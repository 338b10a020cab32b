"""Options of the MongoDB backend: where it is, what may weaken it, and who sees the password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import StorageError
from citychain.hooks.definitions import FOLDER
from citychain.ports import StorageContext
from citychain.storage._mongodb_options import MongodbOptions
from citychain.storage.builtin import citychain_storage_backends

SECRET = "hunter%2F2"
URI = f"mongodb://ana:{SECRET}@127.0.0.1:9/?replicaSet=r"


def test_an_address_is_needed_and_only_one() -> None:
    with pytest.raises(ValidationError, match="needs uri, uri_file or the environment's MONGODB_"):
        MongodbOptions()
    with pytest.raises(ValidationError, match="both uri and uri_file"):
        MongodbOptions.model_validate({"uri": URI, "uri_file": "address"})


def test_a_file_with_the_address_is_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "address").write_text(f"{URI}\n")
    given = {"uri_file": "address"}
    options = MongodbOptions.model_validate(given, context={FOLDER: tmp_path})
    assert options.address() == URI
    with pytest.raises(ValidationError, match=r"uri_file .*absent cannot be read"):
        MongodbOptions.model_validate({"uri_file": "absent"}, context={FOLDER: tmp_path})


@pytest.mark.parametrize(
    "query", ["w=1", "w=0", "journal=false", "readConcernLevel=local", "retryWrites=false"]
)
def test_an_address_that_weakens_what_is_acknowledged_is_refused(query: str) -> None:
    with pytest.raises(ValidationError, match=f"leave {query} out of the address"):
        MongodbOptions.model_validate({"uri": f"mongodb://h/?{query}"})
    harmless = "retryWrites=true&w=majority&journal=true&appName=x"
    MongodbOptions.model_validate({"uri": f"mongodb://h/?{harmless}"})


@pytest.mark.parametrize(
    "options", [{"uri": f"http://ana:{SECRET}@h"}, {"uri": f"{URI}&w=1"}, {"uri": URI, "colour": 1}]
)
def test_no_error_shows_the_password(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        MongodbOptions.model_validate(options)
    assert "hunter" not in str(caught.value)


async def test_a_server_that_does_not_answer_is_named_without_the_password(
    tmp_path: Path,
) -> None:
    options = MongodbOptions.model_validate({"uri": URI, "timeout_seconds": 0.2})
    assert "hunter" not in repr(options)
    assert "hunter" not in str(options.model_dump())
    [mongodb] = [d for d in citychain_storage_backends() if d.name == "mongodb"]
    async with Executor(2) as compute:
        backend = mongodb.factory(options, StorageContext(tmp_path, compute, SystemClock()))
        with pytest.raises(StorageError, match=r"MongoDB at 127\.0\.0\.1:9: no primary") as caught:
            await backend.__aenter__()
    assert "hunter" not in str(caught.value)
