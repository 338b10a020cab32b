"""No call of any service is missing from the table of roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rpc.fakes import FakeDirectory, channel_to, serving

from citychain.access.table import NEEDS, need_of
from citychain.keeping.serving import open_storage_server
from citychain.rpc.storage_server import StorageServerOptions

NEWER = {"/grpc.health.v1.Health/List"}
"""Calls that older versions of libraries lack."""


async def offered(channel: Any) -> set[str]:
    """The services of a server, as it lists them itself."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
    answer = await call.read()
    await call.done_writing()
    return {service.name for service in answer.list_services_response.service}


def methods(service: str) -> dict[str, MethodDescriptor]:
    found = descriptor_pool.Default().FindServiceByName(service)
    return {f"/{service}/{method.name}": method for method in found.methods}


async def test_each_call_of_both_servers_is_in_the_table_and_nothing_else(tmp_path: Path) -> None:
    async with serving(FakeDirectory()) as core, channel_to(core) as channel:
        services = await offered(channel)
    folder = tmp_path / "fragments"
    folder.mkdir()
    options = StorageServerOptions(listen="127.0.0.1:0")
    async with (
        open_storage_server(folder, options, limit=None, owner_limit=None) as storage,
        grpc.aio.insecure_channel(storage.address) as channel,
    ):
        services |= await offered(channel)
    assert "citychain.v1.TransactionService" in services
    assert "citychain.v1.StorageService" in services
    found = {path: it for name in services for path, it in methods(name).items()}
    assert found.keys() | NEWER == NEEDS.keys()
    for path, method in found.items():
        names_a_city = "city" in method.input_type.fields_by_name
        assert names_a_city == NEEDS[path].of_city, path


def test_what_is_not_in_the_table_is_for_administrators_of_everything() -> None:
    need = need_of("/plugin.v1.Service/Call")
    assert (need.role, need.everywhere) == ("admin", True)
    assert not any(known.everywhere for known in NEEDS.values())
