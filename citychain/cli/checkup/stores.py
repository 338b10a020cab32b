"""Fragment stores: those in folders, and those elsewhere."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from citychain.cli.checkup.disk import room_results
from citychain.cli.checkup.examined import Examined, nearest
from citychain.cli.checkup.results import Result, fault, ok
from citychain.client.channels import ChannelFactory
from citychain.client.health import is_serving
from citychain.client.tls import read_credentials
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
    for plan in examined.stores:
        subject, kind = f"fragments.stores.{plan.name}", plan.definition.name
        if kind == "directory":
            yield from _folder(subject, plan, examined.settings.data_dir)
        elif kind == "remote":
            yield _server(subject, plan, examined.seconds)
        elif endpoint := getattr(plan.options, "endpoint", None):
            yield _address(subject, str(endpoint), examined.seconds)
        else:
            yield ok(subject, f"was not looked at: a store of kind {kind} has to be opened for it")


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


def _server(subject: str, plan: StorePlan, seconds: float) -> Result:
    """A storage server."""
    tls, endpoint = getattr(plan.options, "tls", None), getattr(plan.options, "endpoint", "")
    try:
        credentials = None if tls is None else read_credentials(tls.ca, tls.certificate, tls.key)
        channels = ChannelFactory([endpoint], credentials=credentials)
        serving = asyncio.run(is_serving(channels, timeout=timedelta(seconds=seconds)))
    except (CitychainError, TimeoutError) as error:
        what = f"{endpoint}: {error}" if str(error) else f"{endpoint}: no answer in time"
        return fault(subject, what, "start it (citychain storage-server), or mend its table")
    if serving:
        return ok(subject, f"{endpoint} answers")
    return fault(subject, f"{endpoint} says that it does not serve", "its log says why")


def _address(subject: str, endpoint: str, seconds: float) -> Result:
    """Whatever else has an address; what it says, and whether it lets us in, is not asked."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), seconds).close()
    except OSError as error:
        what = f"{endpoint} cannot be reached: {error.strerror or error}"
        return fault(subject, what, "start it, or mend its table")
    return ok(subject, f"{endpoint} can be reached")
