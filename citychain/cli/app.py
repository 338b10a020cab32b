"""The command as a whole: its sub-commands, its global options, its end."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from citychain.cli import (
    audit,
    backup,
    batch,
    certs,
    cities,
    cities_import,
    dag,
    db,
    election,
    explorer,
    fragments,
    hold,
    holding_rules,
    holdings,
    init,
    keep,
    keygen,
    move,
    objects,
    peers,
    plugins,
    plugins_doctor,
    prune,
    rebalance,
    rebuild,
    recover,
    representative,
    restore_city,
    reward_distribute,
    save,
    scrub,
    serve,
    storage_server,
    submit,
    tokens,
    transactions,
    verify,
)
from citychain.cli.bench import command as bench
from citychain.cli.checkup import command as checkup
from citychain.cli.demo import command as demo
from citychain.cli.exits import Exit, failure
from citychain.cli.logs import Log, LogFormat, LogLevel
from citychain.cli.new_plugin import command as new_plugin
from citychain.cli.plugin_commands import plugin_commands
from citychain.cli.presence import presence
from citychain.cli.top import command as top

__all__ = ["run"]

EXIT_CODES = """\
Exit codes: 0 done; 1 the answer is no (refused, rejected, invalid, unknown); 2 wrong usage, or a
file or setting that cannot be used; 3 the server or city cannot be had now; 70 a fault of
citychain itself; 130 interrupted."""


class _Commands(TyperGroup):
    """The sub-commands of citychain itself, then those of plugins.

    Plugins are loaded only to list all sub-commands or to run one that is not citychain's own.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(name for name in plugin_commands() if name not in own)]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        words = " ".join(args[:2])
        if words in super().list_commands(ctx):
            return words, self.get_command(ctx, words), args[2:]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or plugin_commands().get(cmd_name)


TWO_WORDS: Final[Mapping[object, str]] = {
    cities_import.cities_import: "cities import",
    plugins_doctor.plugins_doctor: "plugins doctor",
}
"""Commands that are called by two words, of which the first alone is another command."""

app = typer.Typer(
    cls=_Commands,
    invoke_without_command=True,
    rich_markup_mode="markdown",
    epilog=EXIT_CODES,
)
for command in (
    init.init,
    serve.serve,
    checkup.doctor,
    top.top,
    plugins.plugins,
    plugins_doctor.plugins_doctor,
    new_plugin.new_plugin,
    keygen.keygen,
    cities.cities,
    cities_import.cities_import,
    peers.peers,
    submit.submit,
    save.save,
    transactions.get,
    transactions.watch,
    transactions.receipt,
    verify.verify,
    audit.audit,
    representative.representative,
    dag.dag,
    batch.batch,
    recover.recover,
    move.move,
    rebuild.rebuild,
    backup.backup,
    restore_city.restore_city,
    objects.store,
    objects.restore,
    scrub.scrub,
    rebalance.rebalance,
    prune.prune,
    keep.keep,
    hold.hold,
    holdings.holdings,
    holding_rules.holding_rules,
    reward_distribute.reward_distribute,
    storage_server.storage_server,
    explorer.explorer,
    demo.demo,
    bench.bench,
):
    app.command(TWO_WORDS.get(command))(command)
app.add_typer(election.election, name="election")
app.add_typer(tokens.token, name="token")
app.add_typer(db.db, name="db")
app.add_typer(certs.certs, name="certs")
app.add_typer(fragments.fragments, name="fragments")
app.add_typer(presence)


@dataclass
class _Globals:
    debug: bool = False
    log: Log = field(default_factory=Log)


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"citychain {version('citychain')}")
        raise typer.Exit


@app.callback()
def citychain(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show where an error comes from.")
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            envvar="CITYCHAIN_LOG_LEVEL",
            help="Show the log from this level on: debug, info, warning or error.",
            show_default="info where a command runs until it is stopped; others show none",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="CITYCHAIN_LOG_FORMAT", help="Write the log for people, or as JSON."),
    ] = LogFormat.CONSOLE,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    """Many verifiable city ledgers behind one server."""
    options = context.ensure_object(_Globals)
    options.debug = debug
    options.log.format = log_format
    if debug or log_level is not None:
        options.log.level = LogLevel.DEBUG if debug else log_level or LogLevel.INFO
        options.log.show()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(Exit.UNUSABLE)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Args:
        arguments: Instead of the process's own.
    """
    options = _Globals()
    # Nobody is shown a log, but who asks for it, or runs what runs until it is stopped.
    logging.basicConfig(level=logging.CRITICAL + 1)
    # The core of gRPC writes a line for each handshake that fails to standard error by itself; what
    # went wrong is told by who called.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        result = typer.main.get_command(app).main(
            arguments, prog_name="citychain", standalone_mode=False, obj=options
        )
    except Exception as error:
        code, message = failure(error)
        options.log.fail(message, error if options.debug else None)
        return code
    finally:
        options.log.close()
    return result if isinstance(result, int) else Exit.OK
