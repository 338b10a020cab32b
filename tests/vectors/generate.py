"""Writes the vectors: `PYTHONPATH=tests python -m vectors.generate`.

Keys come from seeds and signatures are deterministic, so that the same bytes come out.
"""

from __future__ import annotations

from pathlib import Path

from vectors import others, receipts, submitted


def files() -> dict[str, bytes]:
    """Each file by its name."""
    cases, cities = receipts.file()
    harbour, market = cities["harbour"], cities["market"]
    return {
        "acknowledgements.json": others.acknowledgements(harbour),
        "certificates.json": others.certificates(harbour, market),
        "checkpoints.json": others.layouts(harbour),
        "elections.json": others.elections(harbour),
        "ids.json": others.ids(harbour),
        "log.json": others.log(),
        "nodes.json": others.nodes(harbour),
        "receipts.json": cases.to_bytes(),
        "signed.json": others.signed_messages(harbour),
        "transactions.json": submitted.transactions(harbour),
    }


if __name__ == "__main__":
    for name, content in files().items():
        (Path(__file__).parent / name).write_bytes(content)
