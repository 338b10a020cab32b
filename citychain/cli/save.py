"""``citychain save``: sign transactions and store them, without a server."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TextIO

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import DEFAULT_TIMEOUT, City, Config, finite
from citychain.cli.output import Json, print_json, say, tell_transaction

if TYPE_CHECKING:
    from citychain.cli.saving import Saved

__all__ = ["save"]

STANDARD_INPUT = "-"
REPEAT = "repeat the command: what is there stays as it is"


def save(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-", help="Transactions: a JSON object a line, or a JSON document of them."
        ),
    ],
    city: City,
    key: Annotated[Path, typer.Option("--key", "-k", help="The key file that signs.")],
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.1,
            callback=finite,
            help="Seconds to wait for room while nothing is sealed, where servers share the "
            "storage.",
        ),
    ] = DEFAULT_TIMEOUT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Sign transactions and put them into the city's storage, without a server.

    They are in its collection `transactions_raw` of what is received, durably, and a server that
    has the city open seals them: at once where it shares the storage, else when it is started. The
    storage is the one of the configuration; with MongoDB its address may come from `MONGODB_URI`.

    An object of the file is as a line of `citychain submit --jsonl`, and may have `created_at_ms`.
    What has none was made when the file was last changed; what comes through a pipe must have one.
    An object that is saved again, of the same time and by the same key, is the same transaction:
    what was broken off is repeated as it was.

    The whole file is checked first. If something in it cannot be right, each such place is told,
    and nothing is stored.

    Exit codes: 0 all are stored, now or before; 1 the city refused some, the others are stored; 2
    nothing is stored, since something is wrong with the file; 3 there is no room for more before
    some are sealed, or the storage cannot be had now, or what is stored cannot be told.

    Examples:

        citychain save deeds.jsonl --city kanazawa --key alice.key
        citychain save - --city kanazawa --key alice.key --json < deeds.json
        MONGODB_URI=mongodb://db:27017 citychain save deeds.jsonl --city kyoto --key alice.key
    """
    import asyncio
    from datetime import timedelta
    from typing import Any

    from citychain.cli.saving import Saved, run_save
    from citychain.client.keys import load_key
    from citychain.config import load_settings
    from citychain.errors import StorageError

    signer = load_key(key)
    saved = Saved()

    def told(record: dict[str, Any]) -> None:
        tell_transaction(record, json=json)

    with ExitStack() as stack:
        opened = sys.stdin.buffer if file == STANDARD_INPUT else stack.enter_context(_opened(file))
        try:
            asyncio.run(
                run_save(
                    city=city,
                    file=opened,
                    name="standard input" if file == STANDARD_INPUT else file,
                    created_at_ms=_changed_at_ms(opened),
                    signer=signer,
                    patience=timedelta(seconds=timeout),
                    settings=load_settings(config),
                    told=told,
                    saved=saved,
                )
            )
            _tell(saved, json)
        except StorageError:
            if saved.storage:
                say(f"{_in_words(saved)}; {REPEAT}")
            raise
        except OSError as error:
            if not saved.storage:
                raise
            # Most likely nobody reads the answers any more; by now some of them are stored.
            _give_up(sys.stdout)
            with suppress(OSError):
                say(f"{_in_words(saved)}, and then: {error.strerror or error}; {REPEAT}")
            _give_up(sys.stderr)
            raise typer.Exit(Exit.UNAVAILABLE) from None
    _end(saved)


def _opened(file: str) -> BinaryIO:
    return open(file, "rb")


def _changed_at_ms(file: BinaryIO) -> int | None:
    """When a file was last changed; ``None`` for what is none: that has no time which a repetition
    would find again."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, ValueError):  # It is a stand-in's.
        return None
    return max(status.st_mtime_ns // 1_000_000, 1) if stat.S_ISREG(status.st_mode) else None


def _give_up(stream: TextIO | None) -> None:
    """Lose what could not be written to it, which otherwise fails again when the process ends."""
    if stream is None:  # It was closed from the beginning.
        return
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere, suppress(OSError, ValueError):
            os.dup2(nowhere.fileno(), stream.fileno())


def _tell(saved: Saved, json: bool) -> None:
    if json:
        print_json(
            {
                "city": saved.city,
                "storage": saved.storage,
                "new": saved.new,
                "there": saved.there,
                "refused": saved.faults + saved.refused,
                "unsaved": saved.unsaved,
            }
        )
    if saved.faults:
        say(f"nothing is stored: mend {_places(saved.faults)}, and save again")
        return
    if not json:
        say(_in_words(saved))
    if saved.full:
        say(
            f"no room for the other {saved.unsaved}: {saved.full}. Let a server of {saved.city} "
            f"seal them, then {REPEAT}"
        )
    if saved.refused:
        say("what was refused goes into a file of its own, mended")


def _in_words(saved: Saved) -> str:
    return (
        f"{saved.new} stored for {saved.city}, {saved.there} were there already, "
        f"{saved.refused} refused"
    )


def _places(faults: int) -> str:
    return "one place" if faults == 1 else f"{faults} places"


def _end(saved: Saved) -> None:
    if saved.faults:
        raise typer.Exit(Exit.UNUSABLE)
    if saved.full:
        raise typer.Exit(Exit.UNAVAILABLE)
    if saved.refused:
        raise typer.Exit(Exit.NO)
