"""HTTP/2 and gRPC by hand: what no well-behaved library would send."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

__all__ = ["Gone", "Raw", "bomb", "connect", "frame", "message", "wait_for_end"]

SECONDS_MAX = 120


class Gone(Exception):
    """The server ended the connection."""


def connect(address: str, source: str = "127.0.0.1") -> socket.socket:
    """A connection that has said nothing yet."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), SECONDS_MAX, (source, 0))


def wait_for_end(connection: socket.socket) -> None:
    """Wait until the server closes it."""
    with suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass


def message(payload: bytes, length: int | None = None, compressed: bool = False) -> bytes:
    """A message as gRPC has it on the wire; ``length`` may be a lie."""
    return struct.pack(">?I", compressed, len(payload) if length is None else length) + payload


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def bomb(mib: int) -> bytes:
    """In gzip, so many MiB of zeros."""
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    once = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(mib):
        crc = zlib.crc32(block, crc)
    head = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    return head + once * mib + packer.flush() + struct.pack("<II", crc, (mib << 20) & 0xFFFFFFFF)


class Raw:
    """A connection that speaks HTTP/2, with no more manners than it needs.

    Args:
        window: Bytes that the server may send on each stream; 0 for an answer that is never read.
    """

    def __init__(self, address: str, source: str = "127.0.0.1", window: int = 1 << 20) -> None:
        self.socket = connect(address, source)
        self.http = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.http.initiate_connection()
        self.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self._authority = address
        self._answers: dict[int, dict[str, str]] = {}
        self._ended: set[int] = set()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Send what is to be sent."""
        self.socket.sendall(self.http.data_to_send())

    def open(self, method: str, headers: Iterable[tuple[str, str]] = ()) -> int:
        """Begin a call; returns its stream."""
        stream = self.http.get_next_available_stream_id()
        self.http.send_headers(
            stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", method),
                (":authority", self._authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                *headers,
            ],
        )
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send all of it, as the server lets us.

        Raises:
            Gone: the server has ended the connection.
        """
        view = memoryview(data)
        while view and stream not in self._ended:
            room = min(
                self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size
            )
            if not room:
                self._hear()
                continue
            self.http.send_data(stream, bytes(view[:room]))
            view = view[room:]
            self.flush()
        if end and stream not in self._ended:
            self.http.end_stream(stream)
            self.flush()

    def call(self, method: str, data: bytes, headers: Iterable[tuple[str, str]] = ()) -> int:
        """Begin a call and send its one message; returns the stream."""
        stream = self.open(method, headers)
        self.send(stream, data)
        return stream

    def status(self, stream: int) -> tuple[int, str]:
        """How a call ended: gRPC's code and words; code -1 for a stream that was reset.

        Raises:
            Gone: the server has ended the connection.
        """
        while stream not in self._ended:
            self._hear()
        headers = self._answers.get(stream, {})
        return int(headers.get("grpc-status", "-1")), headers.get("grpc-message", "")

    def _hear(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise Gone
        for event in self.http.receive_data(data):
            self._heard(event)
        self.flush()

    def _heard(self, event: Event) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            headers = {_text(name): _text(value) for name, value in event.headers or ()}
            self._answers.setdefault(event.stream_id or 0, {}).update(headers)
        elif isinstance(event, DataReceived):
            if event.flow_controlled_length:
                self.http.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id or 0
                )
        elif isinstance(event, StreamEnded | StreamReset):
            self._ended.add(event.stream_id or 0)
        elif isinstance(event, ConnectionTerminated):
            raise Gone


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
