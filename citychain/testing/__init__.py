"""For those who write parts of a city, and those who test against one.

Installing citychain gives pytest the fixtures of `citychain.testing.plugin`:
``city_server``, ``city_client``, ``server_factory`` and ``signed_transactions``;
docs/testing.md has recipes. Beside them:

==================================== ==================================================
`FailingStorage`, `StallingStorage`  parts that fail or stall at a chosen call, to be
and the same for ``Dag`` and         given as overrides (`citychain.testing.faults`)
``Consensus``
`CrashingStorage`                    a storage that dies at a chosen write
`FaultProxy`                         a network between a client and a server that cuts,
                                     refuses, delays, or holds what passes
`citychain.testing.liars`            parts that lie, and votes for what nobody sealed
`Recording`                          in front of any part: tells which calls it got
`FakeClock`                          a clock that a test moves
`SharedMemory`                       a storage that servers of one process share
`citychain.testing.conformance`      suites that a part must pass
==================================== ==================================================

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from citychain._lazy import lazy_names

if TYPE_CHECKING:
    from citychain.testing.clock import FakeClock as FakeClock
    from citychain.testing.crashes import CrashingStorage as CrashingStorage
    from citychain.testing.faults import EVERY as EVERY
    from citychain.testing.faults import FailingConsensus as FailingConsensus
    from citychain.testing.faults import FailingDag as FailingDag
    from citychain.testing.faults import FailingStorage as FailingStorage
    from citychain.testing.faults import StallingConsensus as StallingConsensus
    from citychain.testing.faults import StallingDag as StallingDag
    from citychain.testing.faults import StallingStorage as StallingStorage
    from citychain.testing.proxy import FaultProxy as FaultProxy
    from citychain.testing.recording import Recording as Recording
    from citychain.testing.shared import SharedMemory as SharedMemory

_HOME: Final = {
    "CrashingStorage": "testing.crashes",
    "EVERY": "testing.faults",
    "FakeClock": "testing.clock",
    "FailingConsensus": "testing.faults",
    "FailingDag": "testing.faults",
    "FailingStorage": "testing.faults",
    "FaultProxy": "testing.proxy",
    "StallingConsensus": "testing.faults",
    "StallingDag": "testing.faults",
    "StallingStorage": "testing.faults",
    "Recording": "testing.recording",
    "SharedMemory": "testing.shared",
}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(globals(), _HOME)
