"""Fragment stores: those in folders, and those elsewhere."""

from __future__ import annotations

import asyncio
import http.client
import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from citychain.asking import answered_within
from citychain.cli.checkup.at_once import all_at_once
from citychain.cli.checkup.clocks import apart
from citychain.cli.checkup.disk import room_results
from citychain.cli.checkup.examined import Examined, nearest
from citychain.cli.checkup.results import Result, fault, ok
from citychain.client.channels import ChannelFactory
from citychain.client.health import is_serving
from citychain.client.tls import read_credentials
from citychain.clock import SystemClock, ahead_ms
from citychain.errors import CitychainError
from citychain.keeping.stores import StorePlan

__all__ = ["check_stores"]


def check_stores(examined: Examined) -> Iterator[Result]:
    """Whether each can be reached. None is opened: that would make what is missing there."""
    if isinstance(examined.stores, CitychainError):
        yield fault("fragments.stores", str(examined.stores), "mend its table")
        return
    if not examined.stores:
        yield ok("fragments.stores", "there are none: cities are not archived")
    yield from all_at_once([partial(_store, plan, examined) for plan in examined.stores])


async def _store(plan: StorePlan, examined: Examined) -> list[Result]:
    subject, kind = f"fragments.stores.{plan.name}", plan.definition.name
    if kind == "directory":
        data_dir = examined.settings.data_dir
        return await asyncio.to_thread(lambda: [*_folder(subject, plan, data_dir)])
    if kind == "remote":
        return [await _server(subject, plan, examined.seconds)]
    if (endpoint := str(getattr(plan.options, "endpoint", ""))).startswith("http"):
        seconds = examined.seconds
        return await asyncio.to_thread(lambda: [*_address(subject, plan, endpoint, seconds)])
    return [ok(subject, f"was not looked at: a store of kind {kind} has to be opened for it")]


def _folder(subject: str, plan: StorePlan, data_dir: Path) -> Iterator[Result]:
    path: Path | None = getattr(plan.options, "path", None)
    if path is not None and not path.is_dir():
        yield fault(subject, f"{path}: is no folder", "mount its disk, or make it")
        return
    folder = nearest(path or data_dir / "fragments" / plan.name)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield fault(subject, f"{folder}: cannot be written", "let the server's user write there")
        return
    yield from room_results(subject, folder)


async def _server(subject: str, plan: StorePlan, seconds: float) -> Result:
    """A storage server."""
    tls, endpoint = getattr(plan.options, "tls", None), getattr(plan.options, "endpoint", "")
    try:
        credentials = None if tls is None else read_credentials(tls.ca, tls.certificate, tls.key)
        channels = ChannelFactory([endpoint], credentials=credentials)
        serving = await is_serving(channels, timeout=timedelta(seconds=seconds))
    except (CitychainError, TimeoutError) as error:
        what = f"{endpoint}: {error}" if str(error) else f"{endpoint}: no answer in time"
        return fault(subject, what, "start it (citychain storage-server), or mend its table")
    if serving:
        return ok(subject, f"{endpoint} answers")
    return fault(subject, f"{endpoint} says that it does not serve", "its log says why")


def _address(subject: str, plan: StorePlan, endpoint: str, seconds: float) -> Iterator[Result]:
    """Whatever else speaks HTTP; whether it would let us in is not asked."""
    clock = SystemClock()
    before = clock.time_ms()
    try:
        told = _date(endpoint, getattr(plan.options, "certificates", None), seconds)
    except (OSError, ValueError, http.client.HTTPException) as error:
        what = f"{endpoint} does not answer: {error or type(error).__name__}"
        yield fault(subject, what, "start it, or mend its table")
        return
    yield ok(subject, f"{endpoint} answers")
    with suppress(TypeError, ValueError):  # It has told none, or nothing of use.
        date = parsedate_to_datetime(told)
        # Of a second the beginning is told.
        ahead = ahead_ms(round(date.timestamp() * 1_000), before - 999, clock.time_ms())
        yield apart(subject, ahead)


def _date(endpoint: str, authorities: Path | None, seconds: float) -> str:
    """What an HTTP service says that time it is; empty if it does not."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme == "https":
        trusted = ssl.create_default_context()
        if authorities is not None:
            trusted.load_verify_locations(authorities)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, parts.port, timeout=seconds, context=trusted
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=seconds)
    try:
        with answered_within(connection, seconds):
            connection.request("HEAD", "/")
            return connection.getresponse().getheader("Date", "")
    finally:
        connection.close()
