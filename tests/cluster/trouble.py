"""Somebody who breaks one server after the other, by a seed, and writes down when and what."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.nodes import Node
from cluster.witness import Lease

KINDS = ("SIGKILL", "SIGSTOP", "refused", "silent")
"""The last two: for a while its connections to the database are broken, or carry nothing."""


@dataclass(slots=True)
class Fault:
    """One thing that was broken."""

    at: float
    """Seconds, monotonic."""
    kind: str
    server: str
    led: Mapping[str, int] = field(default_factory=dict)
    """Epochs of the cities that it led then."""
    mended_at: float = 0.0


class Trouble:
    """Makes trouble for one server at a time.

    Args:
        leases: Gives who leads which city, as somebody else sees it.
        lease: Seconds; faults that hide a server last longer.
        calm: Seconds between a mend and the next fault, least and most.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        leases: Callable[[], Mapping[str, Lease]],
        *,
        lease: float,
        calm: tuple[float, float],
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self._nodes = nodes
        self._leases = leases
        self._lease = lease
        self._calm = calm
        self._choose = random.Random(seed)
        self._say = say
        self.faults: list[Fault] = []

    async def make(self, until: float) -> None:
        """Go on until that time, seconds, monotonic; leave nothing broken."""
        kinds: list[str] = []
        while True:
            await asyncio.sleep(self._choose.uniform(*self._calm))
            longest = self._lease * 2 + 10
            if time.monotonic() + longest > until and self.faults:
                return
            if not kinds:  # Each once before any twice.
                kinds = self._choose.sample(KINDS, len(KINDS))
            await self._break(self._target(), kinds.pop())

    def _target(self) -> Node:
        """Mostly one that leads something."""
        pids = {lease.pid for lease in self._leases().values()}
        leading = [node for node in self._nodes if node.pid in pids]
        return self._choose.choice(leading or self._nodes)

    async def _break(self, node: Node, kind: str) -> None:
        if kind in ("refused", "silent") and node.proxy is None:
            kind = "SIGKILL"
        led = {city: lease.epoch for city, lease in self._leases().items() if lease.pid == node.pid}
        fault = Fault(time.monotonic(), kind, node.name, led)
        self.faults.append(fault)
        self._say(f"{kind}: {node.name}, which leads {', '.join(sorted(led)) or 'nothing'}")
        away = self._lease + 1 + self._choose.uniform(0.5, 2)
        if kind == "SIGKILL":
            await node.kill()
            await asyncio.sleep(away)
            await node.start()
        elif kind == "SIGSTOP":
            node.pause()
            await asyncio.sleep(away)
            node.resume()
        else:
            assert node.proxy is not None
            # Refused connections are noticed at once, silence only by its length.
            if kind == "refused":
                node.proxy.refuse()
            else:
                node.proxy.hold()
            await asyncio.sleep(away)
            node.proxy.heal()
        fault.mended_at = time.monotonic()
        self._say(f"{node.name} is back")
