"""What came of each transaction, and where that is not what the plan says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from citychain.cli.demo.plan import UNKNOWN_ANSWER, UNKNOWN_CITY, CityPlan, Step

__all__ = ["CityResult", "Result", "check"]

TOLD_MAX = 5
"""Single transactions that are told of, a city."""


@dataclass(slots=True)
class Result:
    """What came of one step."""

    step: Step
    tx_id: bytes
    answer: str = "no answer"
    """``RECEIVED``, ``DUPLICATE`` or ``REFUSED <code>``."""
    answered_id: bytes = b""
    resent: bool = False
    """The connection broke before the answer came, so that it was sent again."""
    final: str = ""
    """``APPROVED`` or ``REJECTED <code>``; empty while it has no final state."""
    receipt: str = "none"
    """``valid``, or what is wrong with it."""
    sent_at: float = 0.0
    """Seconds, monotonic; as the next two."""
    answered_at: float = 0.0
    final_at: float = 0.0

    @property
    def acknowledged(self) -> bool:
        """Whether the server promised a final state."""
        return self.answer in ("RECEIVED", "DUPLICATE")

    @property
    def outcome(self) -> str:
        """In the words of `CityPlan.expected`."""
        if self.step.repeats is not None and self.answer == "DUPLICATE":
            return "DUPLICATE"
        return (self.final or "not final") if self.acknowledged else self.answer


@dataclass(slots=True)
class CityResult:
    """What came of one city's steps."""

    plan: CityPlan
    results: Sequence[Result]
    """In order of step number."""
    dag: str = ""
    """Its DAG handler, as the server says."""
    log_size: int = 0
    """Leaves of the city's log in the end."""
    seconds: float = 0.0
    """From the first transaction sent to the last one final."""

    @property
    def outcomes(self) -> Counter[str]:
        """How many transactions had each outcome."""
        return Counter(result.outcome for result in self.results)


def check(cities: Sequence[CityResult], unknown_answer: str = UNKNOWN_ANSWER) -> list[str]:
    """One line for each difference between what came and what must have come.

    Args:
        unknown_answer: What was answered for `UNKNOWN_CITY`.
    """
    differences = []
    if unknown_answer != UNKNOWN_ANSWER:
        differences.append(f"{UNKNOWN_CITY}: {unknown_answer}, not {UNKNOWN_ANSWER}")
    for city in cities:
        slug, expected = city.plan.city.slug, city.plan.expected
        differences += [
            f"{slug}: {outcome}: {city.outcomes[outcome]}, not {expected[outcome]}"
            for outcome in sorted(expected.keys() | city.outcomes.keys())
            if city.outcomes[outcome] != expected[outcome]
        ]
        faults = [fault for result in city.results for fault in _faults(result, city.results)]
        differences += [f"{slug}: {fault}" for fault in faults[:TOLD_MAX]]
        if len(faults) > TOLD_MAX:
            differences.append(f"{slug}: and {len(faults) - TOLD_MAX} more transactions")
        stored = len({result.tx_id for result in city.results if result.acknowledged})
        if city.log_size != stored:
            differences.append(
                f"{slug}: {city.log_size} entries in the log, {stored} transactions acknowledged"
            )
    return differences


def _faults(result: Result, results: Sequence[Result]) -> list[str]:
    """What is wrong with one transaction, whatever the others are."""
    step = result.step
    name = f"transaction {step.number} ({step.purpose})"
    if step.outcome.startswith("REFUSED"):
        return [] if result.answer == step.outcome else [f"{name}: {result.answer}"]
    if not result.acknowledged:
        return [f"{name}: {result.answer}"]
    faults = []
    if step.repeats is not None:
        if result.answer != "DUPLICATE":
            faults.append(f"{name}: not acknowledged as a duplicate")
        if result.answered_id != results[step.repeats].tx_id:
            faults.append(f"{name}: acknowledged under another id than the original")
    elif result.answer == "DUPLICATE" and not result.resent:
        faults.append(f"{name}: acknowledged as a duplicate, though sent once")
    if result.answered_id != result.tx_id:
        faults.append(f"{name}: acknowledged under another id than its own")
    if result.final != step.outcome:
        faults.append(f"{name}: {result.final or 'not final'}, not {step.outcome}")
    if result.receipt != "valid":
        faults.append(f"{name}: its receipt: {result.receipt}")
    return faults
