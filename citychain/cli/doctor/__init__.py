"""``citychain plugins doctor``: all that is wrong with one distribution, each with its fix.

What loading stops at is found by `citychain.hooks.checks`; what only an author wants to know is
found here. `examination` goes from the outside in: the distribution, what it offers, its options,
its parts, and at last a city that lives with them for a moment.
"""

from citychain.cli.doctor.examination import examine
from citychain.cli.doctor.findings import FINDINGS, Finding

__all__ = ["FINDINGS", "Finding", "examine"]
