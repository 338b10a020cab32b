"""One city, followed once for all who look at it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from citychain import record
from citychain.city.retry import pause_seconds
from citychain.client.city import CityClient
from citychain.errors import CitychainError, ServerUnavailable
from citychain.explorer.failures import in_words
from citychain.explorer.shown import head_shown, nodes_shown, round_shown, text
from citychain.explorer.viewer import Viewer
from citychain.handler import TransactionEvent
from citychain.ports import StoredRound
from citychain.types import Head, SealedNode, State

__all__ = ["FollowedCity"]

logger = logging.getLogger(__name__)

RECENT: Final = 20
"""Rounds that somebody who comes is told of at once."""
NODES_MAX: Final = 500
"""Nodes of a round that are told."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at what waits."""


class FollowedCity:
    """Follows a city while somebody looks at it.

    Each round is asked for, read and written once, and the same text goes to all. What fails is
    told, and tried again from where the city then stands.

    Args:
        connect: Makes a client of the city.
        skipped: Told of each round that a viewer was too slow for.
    """

    def __init__(
        self, slug: str, connect: Callable[[], CityClient], skipped: Callable[[], object]
    ) -> None:
        self.slug = slug
        self._connect = connect
        self._skipped = skipped
        self._viewers: set[Viewer] = set()
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._certified: deque[str] = deque(maxlen=RECENT)
        self._head: Head | None = None
        self._last = 0
        self._progress = asyncio.Event()
        """Set when a round was told."""
        self._approved = 0
        self._latest: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._viewers)

    def join(self, viewer: Viewer) -> None:
        """Tell a viewer of the city from now on."""
        self._viewers.add(viewer)
        if self._head is not None:
            viewer.outbox.start(self._start())
        for kind, told in self._latest.items():
            viewer.outbox.latest(kind, told)
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    def remove(self, viewer: Viewer) -> None:
        """Tell a viewer no more."""
        self._viewers.discard(viewer)

    async def close(self) -> None:
        """Follow the city no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def follow(self, viewer: Viewer, tx_ids: Sequence[bytes]) -> None:
        """Tell a viewer what becomes of these transactions, and first what did.

        Raises:
            InvalidRequest: these would be too many.
        """
        viewer.follow(tx_ids)
        async with self._connect() as client:
            await self._catch_up(client, viewer, tx_ids)

    async def _catch_up(self, client: CityClient, viewer: Viewer, tx_ids: Sequence[bytes]) -> None:
        found = await client.status(tx_ids)
        if viewer not in self._viewers:
            # They look at another city by now, whose rounds are others.
            return
        for status in found.values():
            viewer.stands(status)
        # While it was asked, what it says may have been approved, and nobody says that again.
        viewer.approved(self._approved)

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                async with self._connect() as client:
                    await self._begin(client)
                    failures = 0
                    async with asyncio.TaskGroup() as parts:
                        assert self._head is not None
                        first = self._head
                        parts.create_task(self._seal(client, first.round + 1))
                        parts.create_task(self._approve(client, first.certified_round + 1))
                        parts.create_task(self._look(client))
            except* (CitychainError, TimeoutError) as error:
                words = in_words(error)
                logger.warning("%s cannot be followed for now: %s", self.slug, words)
            except* Exception:
                words = "a fault of the explorer: its log explains it"
                logger.exception("%s cannot be followed for now", self.slug)
            if not self.is_watched:
                # A group of tasks that fails may swallow that it is cancelled.
                return
            self._tell_latest("trouble", {"trouble": words})
            failures += 1
            await asyncio.sleep(pause_seconds(failures))

    async def _begin(self, client: CityClient) -> None:
        """Tell where the city stands; there may be rounds that nobody was told of, or others."""
        head = (await client.info()).head
        first = max(1, head.round - RECENT + 1)
        told: list[str] = []
        certified: list[str] = []
        if head.round:
            for stored in await client.rounds(first, head.round - first + 1):
                told.append((await self._told(client, stored)).text)
                if stored.certificate is not None:
                    certified.append(_certified(stored))
        self._recent.clear()
        self._recent.extend(told)
        self._certified.clear()
        self._certified.extend(certified)
        self._head = head
        self._last = head.round
        self._approved = head.certified_round
        self._latest.clear()
        for viewer in self._viewers:
            viewer.outbox.start(self._start())
        for viewer in [*self._viewers]:
            await self._catch_up(client, viewer, viewer.followed)

    def _start(self) -> str:
        assert self._head is not None
        parts = (
            f'"city":{text(self.slug)}',
            f'"head":{text(head_shown(self._head))}',
            f'"rounds":[{",".join(self._recent)}]',
            f'"certified":[{",".join(self._certified)}]',
        )
        return f"{{{','.join(parts)}}}"

    async def _seal(self, client: CityClient, first: int) -> None:
        async with aclosing(client.follow_rounds(first, sealed=True)) as rounds:
            async for stored in rounds:
                told = await self._told(client, stored)
                self._recent.append(told.text)
                for viewer in self._viewers:
                    if viewer.outbox.round(told.text):
                        self._skipped()
                    viewer.sealed(told.events)
                self._last = stored.round
                self._progress.set()
        raise ServerUnavailable("the server ended the stream of rounds")

    async def _told(self, client: CityClient, stored: StoredRound) -> _Told:
        found = await client.nodes(stored.round, limit=NODES_MAX)
        nodes = {it.node.seq: it.node for it in found}
        return await asyncio.to_thread(_round, stored, nodes)

    async def _approve(self, client: CityClient, first: int) -> None:
        async with aclosing(client.follow_rounds(first)) as rounds:
            async for stored in rounds:
                # To tell of a round takes a call more than to tell that it is certified.
                while stored.round > self._last:
                    self._progress.clear()
                    await self._progress.wait()
                self._certify(stored.round, _certified(stored))
        raise ServerUnavailable("the server ended the stream of approved rounds")

    def _certify(self, round: int, told: str) -> None:
        self._certified.append(told)
        self._approved = round
        for viewer in self._viewers:
            viewer.outbox.certified(told)
            viewer.approved(round)

    async def _look(self, client: CityClient) -> None:
        while True:
            info = await client.info()
            self._head = info.head
            waiting = {"pending": info.pending, "head": head_shown(info.head)}
            self._tell_latest("waiting", {"waiting": waiting})
            await asyncio.sleep(LOOK_SECONDS)

    def _tell_latest(self, kind: str, value: Any) -> None:
        told = text(value)
        if self._latest.get(kind) == told:
            return
        self._latest[kind] = told
        for viewer in self._viewers:
            viewer.outbox.latest(kind, told)


class _Told(NamedTuple):
    """What is told of a round."""

    text: str
    events: Mapping[bytes, TransactionEvent]
    """By transaction id."""


def _round(stored: StoredRound, nodes: Mapping[int, SealedNode]) -> _Told:
    decided = record.decode(stored.record)
    told = {"round": round_shown(stored, decided), **nodes_shown(decided, nodes, NODES_MAX)}
    pairs = zip(decided.tx_ids, decided.verdicts, strict=True)
    events = {
        tx_id: TransactionEvent(
            tx_id, State.SEALED, stored.round, seq, verdict.code if verdict else ""
        )
        for seq, (tx_id, verdict) in enumerate(pairs)
    }
    return _Told(text(told), events)


def _certified(stored: StoredRound) -> str:
    assert stored.certificate is not None
    votes = [vote.key_id for vote in stored.certificate.votes]
    return text({"certified": {"round": stored.round, "votes": votes}})
