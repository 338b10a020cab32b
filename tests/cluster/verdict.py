"""What came of it: is anything lost, doubled, or without an explanation?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.genesis import Genesis
from citychain.receipt import ReceiptVerifier
from citychain.types import State
from cluster.load import Written
from cluster.reading import Reading
from cluster.trouble import Fault
from cluster.witness import SeenRound, SeenTerm, Witness

Seen = TypeVar("Seen", SeenRound, SeenTerm)

RECEIPTS = 200
"""Of each city, all verified."""


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
    unseen_seconds: float
    """For how long before that nobody had looked: it may have been earlier by as much."""
    round_seconds: float | None
    """From the fault to its first round: somebody must have written something by then."""


async def judge(written: Written, reading: Reading, endpoints: Sequence[str]) -> CityVerdict:
    """Compare what was written with what was read, and ask for some receipts."""
    found = CityVerdict(
        written.city,
        len(written.sent),
        len(written.acknowledged),
        slowest_call=round(written.slowest, 2),
    )
    found.faults += [f"a call failed: {failure}" for failure in written.failures[:5]]
    found.faults += [f"refused: {refusal}" for refusal in written.refused[:5]]
    await reading.until(written.acknowledged)
    ledger = reading.ledger
    found.faults += ledger.faults[:5]
    found.rounds, found.leaders = ledger.rounds, len(ledger.epochs)
    sealed = ledger.approved | ledger.rejected
    found.approved = len(written.acknowledged & ledger.approved)
    if lost := written.acknowledged - sealed:
        found.faults.append(f"{len(lost)} acknowledged transactions are in no approved round")
    if rejected := written.acknowledged & ledger.rejected:
        found.faults.append(f"{len(rejected)} acknowledged transactions were rejected")
    if ledger.doubled:
        found.faults.append(f"{ledger.doubled} transactions were sealed twice")
    if strange := sealed - written.sent:
        found.faults.append(f"{len(strange)} sealed transactions were never sent")
    found.unanswered = len(sealed & written.sent - written.acknowledged)
    await _check_receipts(written, ledger.approved, endpoints, found)
    return found


async def _check_receipts(
    written: Written, approved: set[bytes], endpoints: Sequence[str], found: CityVerdict
) -> None:
    """Any of them: ids are hashes, so the first by id are from all times."""
    some = sorted(written.acknowledged & approved)[:RECEIPTS]
    channels = ChannelFactory(endpoints, "round_robin")
    async with CityClient(written.city, channels, timeout=timedelta(seconds=60)) as client:
        try:
            states = Counter(event.state for event in (await client.wait(some)).values())
            verifier = ReceiptVerifier(Genesis.from_bytes((await client.info()).genesis_file))
            receipts = await client.receipts(some)
        except Exception as error:
            found.faults.append(f"its receipts cannot be had: {error!r}")
            return
    if told := len(some) - states[State.APPROVED]:
        found.faults.append(f"{told} transactions that are approved are not said to be")
    if missing := len(some) - len(receipts):
        found.faults.append(f"{missing} receipts are missing")
    for receipt in receipts.values():
        verifier.verify(receipt)
        found.receipts += 1


def take_overs(faults: Sequence[Fault], witness: Witness) -> list[TakeOver]:
    """For each fault and each city that the server led: when another one went on."""
    found = []
    for fault in faults:
        for city, epoch in sorted(fault.led.items()):
            term = _first_after(fault, epoch, witness.terms[city])
            first = _first_after(fault, epoch, witness.rounds[city])
            found.append(
                TakeOver(
                    city,
                    fault.kind,
                    None if term is None else round(term.at - fault.at, 2),
                    0.0 if term is None else round(term.at - max(term.since, fault.at), 2),
                    None if first is None else round(first.at - fault.at, 2),
                )
            )
    return found


def _first_after(fault: Fault, epoch: int, seen: Sequence[Seen]) -> Seen | None:
    return next((one for one in seen if one.epoch > epoch and one.at > fault.at), None)


def late(take_over: TakeOver, lease: float, allowance: float) -> bool:
    """Whether a city stood still for longer than it may, even if it is judged mildly.

    Args:
        allowance: Within so many seconds after a lease has run out another server has to lead.
    """
    seconds = take_over.lease_seconds
    if seconds is None or take_over.round_seconds is None:
        return True
    return seconds - take_over.unseen_seconds > lease + allowance
