"""What came of it: is anything lost, doubled, or without an explanation?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from citychain import record
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.genesis import Genesis
from citychain.ports import StoredRound
from citychain.receipt import ReceiptVerifier
from citychain.types import State
from cluster.load import Written
from cluster.trouble import Fault
from cluster.witness import SeenRound, SeenTerm, Witness

ALLOWANCE_SECONDS = 1.0
"""After a lease has run out another server has to be at work within so long."""
RECEIPTS = 200
"""Of each city, evenly spread over what was acknowledged, all verified."""


@dataclass(slots=True)
class CityVerdict:
    """One city in the end."""

    city: str
    sent: int
    acknowledged: int
    approved: int = 0
    unanswered: int = 0
    """Sealed, though nobody was told that they were received: a server died before it answered."""
    rounds: int = 0
    leaders: int = 0
    """Lease epochs that sealed a round."""
    receipts: int = 0
    """That were verified."""
    slowest_call: float = 0.0
    faults: list[str] = field(default_factory=list)
    """What is wrong."""


@dataclass(slots=True)
class TakeOver:
    """How long a city stood still after a server that led it failed."""

    city: str
    kind: str
    lease_seconds: float | None
    """From the fault to another server's lease; ``None`` if there was none."""
    round_seconds: float | None
    """To its first round: somebody must have written something by then."""


async def judge(written: Written, endpoints: Sequence[str]) -> CityVerdict:
    """Ask the servers for all that one city has, and compare."""
    found = CityVerdict(
        written.city,
        len(written.sent),
        len(written.acknowledged),
        slowest_call=round(written.slowest, 2),
    )
    found.faults += [f"a call failed: {failure}" for failure in written.failures[:5]]
    found.faults += [f"refused: {refusal}" for refusal in written.refused[:5]]
    channels = ChannelFactory(endpoints, "round_robin")
    async with CityClient(written.city, channels, timeout=timedelta(seconds=60)) as client:
        ids = list(written.acknowledged)
        try:
            events = await client.wait(ids, timeout=timedelta(seconds=60))
        except Exception as error:
            found.faults.append(f"not all of it became final: {error!r}")
            return found
        states = Counter(event.state for event in events.values())
        found.approved = states[State.APPROVED]
        if lost := len(ids) - found.approved:
            found.faults.append(f"{lost} acknowledged transactions are not approved")
        await _check_rounds(client, written, found)
        verifier = ReceiptVerifier(Genesis.from_bytes((await client.info()).genesis_file))
        some = ids[:: max(1, len(ids) // RECEIPTS)]
        receipts = await client.receipts(some)
        if missing := len(some) - len(receipts):
            found.faults.append(f"{missing} receipts are missing")
        for receipt in receipts.values():
            verifier.verify(receipt)
            found.receipts += 1
    return found


async def _check_rounds(client: CityClient, written: Written, found: CityVerdict) -> None:
    """No gap, no round twice, no transaction twice, no epoch after a newer one."""
    rounds: list[StoredRound] = []
    while page := await client.rounds(len(rounds) + 1, 500):
        rounds += page
    found.rounds = len(rounds)
    if [stored.round for stored in rounds] != list(range(1, len(rounds) + 1)):
        found.faults.append("the rounds are not 1, 2, 3 and so on")
    records = [record.decode(stored.record) for stored in rounds]
    epochs = [item.epoch for item in records]
    if epochs != sorted(epochs):
        found.faults.append("a fenced server sealed a round")
    found.leaders = len(set(epochs))
    sealed = Counter(tx_id for item in records for tx_id in item.tx_ids)
    if doubled := [tx_id for tx_id, count in sealed.items() if count > 1]:
        found.faults.append(f"{len(doubled)} transactions were sealed twice")
    if lost := written.acknowledged.keys() - sealed.keys():
        found.faults.append(f"{len(lost)} acknowledged transactions were never sealed")
    if strange := sealed.keys() - written.sent:
        found.faults.append(f"{len(strange)} sealed transactions were never sent")
    found.unanswered = len(sealed.keys() & written.sent - written.acknowledged.keys())


def take_overs(faults: Sequence[Fault], witness: Witness) -> list[TakeOver]:
    """For each fault and each city that the server led: when another one went on."""

    def after(fault: Fault, epoch: int, seen: Sequence[SeenRound | SeenTerm]) -> float | None:
        later = (one.at for one in seen if one.epoch > epoch and one.at > fault.at)
        first = next(later, None)
        return None if first is None else round(first - fault.at, 2)

    return [
        TakeOver(
            city,
            fault.kind,
            after(fault, epoch, witness.terms[city]),
            after(fault, epoch, witness.rounds[city]),
        )
        for fault in faults
        for city, epoch in sorted(fault.led.items())
    ]


def late(take_over: TakeOver, lease: float) -> bool:
    """Whether a city stood still for longer than it may."""
    seconds = take_over.lease_seconds
    return seconds is None or seconds > lease + ALLOWANCE_SECONDS or not take_over.round_seconds
