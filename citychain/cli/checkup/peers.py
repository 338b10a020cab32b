"""Other servers whose cities those of this one exchange with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from citychain.city.neighbours import peer_channels, peer_genesis
from citychain.cli.checkup.at_once import all_at_once
from citychain.cli.checkup.clocks import before_newest
from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok
from citychain.client.city import CityClient, CityInfo
from citychain.clock import SystemClock
from citychain.config import PeerSettings
from citychain.errors import CitychainError, ConfigurationError, NotAllowed, NotAuthenticated

__all__ = ["check_peers"]


def check_peers(examined: Examined) -> Iterator[Result]:
    """Whether each answers, and is the city that its genesis file says."""
    peers = examined.settings.peers
    if not peers:
        yield ok("peers", "there are none")
    yield from all_at_once(
        [partial(_peer, slug, table, examined.seconds) for slug, table in peers.items()]
    )


async def _peer(slug: str, table: PeerSettings, seconds: float) -> list[Result]:
    subject, where = f"peers.{slug}", ", ".join(table.endpoints)
    if not table.endpoints:
        return [ok(subject, "is a city of this server")]
    assert table.genesis is not None  # As `PeerSettings` has it.
    try:
        pinned = await asyncio.to_thread(peer_genesis, slug, table.genesis)
        info, newest_ms = await _ask(slug, table, seconds)
    except ConfigurationError as error:
        return [fault(subject, str(error), "mend its table, or the file")]
    except (NotAuthenticated, NotAllowed) as error:
        return [fault(subject, f"{where}: {error}", "give it a token_file with the roles it needs")]
    except (CitychainError, TimeoutError) as error:
        what = str(error) or f"no answer within {seconds:g} s"
        return [fault(subject, f"{where}: {what}", "ask who runs it, or mend its endpoints")]
    if info.genesis != pinned.id:
        what = f"{where} has another city of this name: its genesis is not {table.genesis}"
        return [fault(subject, what, "ask who runs it which is right; believe no server")]
    has_it = ok(subject, f"{where} has it, at round {info.head.round:,}")
    late = before_newest(f"peer {slug}", newest_ms, SystemClock().time_ms())
    return [has_it, late] if late else [has_it]


async def _ask(slug: str, table: PeerSettings, seconds: float) -> tuple[CityInfo, int]:
    """What it says of itself, and the time of its latest approved round; 0 before there is one."""
    channels = await asyncio.to_thread(peer_channels, slug, table)
    async with CityClient(slug, channels, timeout=timedelta(seconds=seconds)) as client:
        info = await client.info()
        certified = info.head.certified_round
        return info, (await client.checkpoint(certified)).time_ms if certified else 0
