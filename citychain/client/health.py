"""Whether a server answers: ``grpc.health.v1``, which anybody may ask."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from citychain.client import retries
from citychain.client.channels import ChannelFactory

__all__ = ["is_serving"]


async def is_serving(channels: ChannelFactory, *, timeout: timedelta) -> bool:
    """Whether a server says that it serves; it may also be starting or stopping.

    Raises:
        CitychainError: whoever answers is no such server.
        TimeoutError: nobody answers.
    """
    async with channels.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await retries.call(stub.Check, health_pb2.HealthCheckRequest(), timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
