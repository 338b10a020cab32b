"""The committed generated code is what the protos give."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2, transaction_pb2

TREE = Path(__file__).parents[2]


def test_files_keep_their_names_in_the_descriptor_pool() -> None:
    names = {module.DESCRIPTOR.name for module in (ledger_pb2, services_pb2, transaction_pb2)}
    assert names == {f"citychain/v1/{stem}.proto" for stem in ("ledger", "services", "transaction")}


def test_generating_again_changes_nothing() -> None:
    try:
        version = metadata.version("grpcio-tools")
        metadata.version("mypy-protobuf")
    except metadata.PackageNotFoundError as error:
        pytest.skip(f"{error.name} is not installed: pip install --group build")
    if not version.startswith("1.76."):
        pytest.skip(f"grpcio-tools is {version}; the code is made with 1.76")
    check = [sys.executable, str(TREE / "proto" / "generate.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
