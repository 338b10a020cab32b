"""``citychain batch``: what the pacer makes of a number of pending transactions."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from citychain.cli.options import Config
from citychain.cli.output import Json, print_json

__all__ = ["batch"]


def batch(
    pending: Annotated[int, typer.Argument(min=0, help="Transactions that wait for a round.")],
    current: Annotated[
        float | None,
        typer.Option(min=0, help="The present interval in seconds.", show_default="the shortest"),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """The interval, in seconds, after which the next round closes.

    Shortest, longest and the number of transactions that fills a round stand in the table
    `pacer` of the configuration.

    Examples:

        citychain batch 0 --current 1.0
        citychain batch 5000 --json
    """
    from citychain.config import get_dynamic_batch_interval, load_settings

    pacer = load_settings(config).pacer
    present = timedelta(seconds=pacer.min_seconds if current is None else current)
    interval = get_dynamic_batch_interval(pending, present, pacer).total_seconds()
    if json:
        print_json({"pending": pending, "current": present.total_seconds(), "interval": interval})
    else:
        print(f"{interval:g}")
