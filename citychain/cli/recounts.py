"""The recount of a city's holdings, as commands make it: all of the city is checked meanwhile."""

from __future__ import annotations

from citychain.cli.auditing import Seen, run_audit
from citychain.cli.reaching import Servers
from citychain.committee import CommitteeChain
from citychain.config import Settings
from citychain.genesis import Genesis
from citychain.holding.reading import recounting
from citychain.holding.recount import Recount

__all__ = ["recount_city"]


async def recount_city(
    *,
    city: str,
    given: Genesis | None,
    servers: Servers | None,
    timeout: float,
    settings: Settings,
    progress: bool,
) -> Recount:
    """The recount after the last certified round; the arguments are those of `run_audit`.

    Raises:
        InvalidRound: the first thing that does not hold.
    """
    recounts: list[Recount] = []

    def watch(genesis: Genesis, _: CommitteeChain) -> Seen:
        recounts.append(Recount(genesis.operator_id))
        return recounting(recounts[0])

    await run_audit(
        city=city,
        given=given,
        first=1,
        promise=None,
        servers=servers,
        timeout=timeout,
        settings=settings,
        progress=progress,
        watch=watch,
    )
    return recounts[0]
