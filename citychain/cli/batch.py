"""``citychain batch``: what the pacer makes of a number of pending transactions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from citychain.cli.options import Config, finite
from citychain.cli.output import Json, answers, print_json, say

if TYPE_CHECKING:
    from citychain.config import PacerSettings

__all__ = ["batch"]

ROUNDS_MAX: Final = 100_000
PENDING_MAX: Final = 1_000_000_000


def batch(
    pending: Annotated[
        int, typer.Argument(min=0, max=PENDING_MAX, help="Transactions that wait for a round.")
    ],
    current: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            callback=finite,
            help="The present interval in seconds.",
            show_default="the shortest",
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Draw the rounds from then on over time.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            callback=finite,
            help="With --simulate: transactions that come each second.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            callback=finite,
            help="With --simulate: for how long.",
            show_default="10",
        ),
    ] = None,
    holding: Annotated[
        bool,
        typer.Option(
            "--holding",
            help="With --simulate: some wait for others all the time, so rounds close also when "
            "nothing comes.",
        ),
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """The interval, in seconds, after which the next round closes.

    Shortest, longest and the number of transactions that fills a round stand in the table
    `pacer` of the configuration.

    With `--simulate` it draws how rounds close from one on that closed at 0, of an ideal server
    that seals in no time: a round that is full closes at once, and without `--holding` a city in
    which nothing waits closes none. With `--json` a round has `seconds`, `sealed`, `pending` (left
    for the next) and `interval` (until the next).

    Exit codes: 0 done; 2 a number or a setting cannot be used.

    Examples:

        citychain batch 0 --current 1.0
        citychain batch 5000 --json
        citychain batch 5000 --simulate --current 2 --rate 300
        citychain batch 0 --simulate --holding --seconds 30
    """
    from citychain.config import get_dynamic_batch_interval, load_settings
    from citychain.errors import InvalidRequest

    if not simulate and (rate is not None or seconds is not None or holding):
        raise InvalidRequest("--simulate", "is what --rate, --seconds and --holding go with")
    pacer = load_settings(config).pacer
    present = timedelta(seconds=pacer.min_seconds if current is None else current)
    if simulate:
        _simulate(pacer, pending, present, rate or 0.0, 10.0 if seconds is None else seconds,
                  holding=holding, json=json)  # fmt: skip
        return
    interval = get_dynamic_batch_interval(pending, present, pacer).total_seconds()
    if json:
        print_json({"pending": pending, "current": present.total_seconds(), "interval": interval})
    else:
        print(f"{interval:g}")


def _simulate(
    pacer: PacerSettings,
    pending: int,
    current: timedelta,
    rate: float,
    seconds: float,
    *,
    holding: bool,
    json: bool,
) -> None:
    from itertools import islice, takewhile

    from citychain.cli.pacing import draw
    from citychain.cli.pacing import simulate as simulated
    from citychain.errors import InvalidRequest

    every = simulated(pacer, pending=pending, current=current, rate=rate, holding=holding)
    within = takewhile(lambda it: it.seconds <= seconds, every)
    closings = list(islice(within, ROUNDS_MAX + 1))
    if len(closings) > ROUNDS_MAX:
        # Full ones close at once: then it is what waited that is too much.
        is_at_once = closings[0].seconds == closings[-1].seconds
        detail = f"there are more than {ROUNDS_MAX} rounds in {seconds:g} s: give fewer"
        raise InvalidRequest("PENDING" if is_at_once else "--seconds", detail)
    if json:
        for closing in closings:
            print_json(closing._asdict())
        return
    if not closings:
        say(f"no round closes within {seconds:g} s")
        return
    answers().print(draw(closings, pacer))
