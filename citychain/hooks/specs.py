"""The hooks: everything that a plugin may offer.

A plugin is a module or object named by an entry point of the group
``citychain`` in its distribution's ``pyproject.toml``::

    [project.entry-points.citychain]
    kanazawa = "citychain_kanazawa"

Hooks are called at start-up and for administration, never for a transaction.
They return descriptors; nothing is built until a city is opened.

A function takes those of a hook's arguments that it names. What it raises is
logged with the plugin's name: at start-up the whole plugin is left out, later
the one call counts as if the plugin had said nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from citychain.hooks.definitions import (
        CityDefinition,
        CommandDefinition,
        ConsensusDefinition,
        DagDefinition,
        FragmentStoreDefinition,
        StorageDefinition,
    )
    from citychain.ports import StoredRound
    from citychain.types import SealedRound

__all__ = [
    "citychain_cities",
    "citychain_commands",
    "citychain_consensus_steps",
    "citychain_dag_handlers",
    "citychain_find_city",
    "citychain_fragment_stores",
    "citychain_interceptors",
    "citychain_round_approved",
    "citychain_round_sealed",
    "citychain_storage_backends",
    "hookimpl",
    "hookspec",
]

hookspec = pluggy.HookspecMarker("citychain")
hookimpl = pluggy.HookimplMarker("citychain")
"""Marks a function of a plugin as the implementation of the hook of that name."""


@hookspec
def citychain_cities() -> Iterable[CityDefinition]:  # type: ignore[empty-body]
    """Cities of a list short enough to read at start-up.

    Called:
        Once each time that plugins are loaded: by a server at start-up, and by each command that
        asks what there is.

    Returns:
        A `CityDefinition` for each, with slugs that no other plugin has; 100,000 at most.

    A complete plugin::

        from citychain import CityDefinition, hookimpl

        @hookimpl
        def citychain_cities():
            yield CityDefinition(
                slug="kanazawa",
                titles={"en": "Kanazawa", "ja": "金沢市"},
                aliases=("金沢",),
            )
    """


@hookspec(firstresult=True)
def citychain_find_city(name: str) -> CityDefinition | None:
    """The city of this name from a catalogue too large to list.

    Called:
        When somebody asks for a city that is not listed, in a worker thread: it may read a file.
        A city that is found is remembered for a while.

    Args:
        name: A slug, a title or an alias, normalised (NFKC, case folded, spaces trimmed).

    Returns:
        The city, always the same for the same name, also when asked by its slug; ``None`` where
        the catalogue has none.

    A complete plugin::

        from citychain import CityDefinition, hookimpl

        @hookimpl
        def citychain_find_city(name):
            district, _, number = name.rpartition("-")
            if district == "district" and number.isdigit() and int(number) < 100_000:
                return CityDefinition(slug=f"district-{int(number)}")
            return None
    """


@hookspec
def citychain_storage_backends() -> Iterable[StorageDefinition]:  # type: ignore[empty-body]
    """Storage backends, chosen by name in citychain.toml.

    Called:
        Once each time that plugins are loaded: by a server at start-up, and by each command that
        asks what there is.

    Returns:
        A `StorageDefinition` for each. Its factory is called when the first city that uses it is
        opened.

    A complete plugin::

        from citychain import StorageDefinition, hookimpl
        from citychain.storage.memory import MemoryBackend

        @hookimpl
        def citychain_storage_backends():
            yield StorageDefinition(
                name="scratch",
                factory=lambda options, context: MemoryBackend(context),
                durable=False,
                api_version=2,
            )
    """


@hookspec
def citychain_dag_handlers() -> Iterable[DagDefinition]:  # type: ignore[empty-body]
    """DAG handlers, chosen by name in citychain.toml.

    Called:
        Once each time that plugins are loaded: by a server at start-up, and by each command that
        asks what there is.

    Returns:
        A `DagDefinition` for each. Its factory is called each time that a city is opened.

    A complete plugin, a rule of validity on top of the default handler::

        from citychain import DagDefinition, Rejection, SealedRounds, hookimpl

        class NoEmptyContent(SealedRounds):
            def validate(self, transaction, round):
                if transaction.action == "data" and not transaction.content:
                    return Rejection("RULE", "the content is empty")
                return None

        @hookimpl
        def citychain_dag_handlers():
            yield DagDefinition(
                name="no-empty-content",
                factory=lambda options, city: NoEmptyContent(city),
                api_version=2,
            )
    """


@hookspec
def citychain_consensus_steps() -> Iterable[ConsensusDefinition]:  # type: ignore[empty-body]
    """Consensus steps, chosen by name in citychain.toml.

    Called:
        Once each time that plugins are loaded: by a server at start-up, and by each command that
        asks what there is.

    Returns:
        A `ConsensusDefinition` for each. Its factory is called each time that a city is opened.

    A complete plugin, the built-in step with a longer wait::

        from citychain import ConsensusDefinition, hookimpl
        from citychain.consensus.solo import Solo, SoloOptions

        class Deliberate(Solo):
            async def approve(self, round):
                await self.city.clock.sleep(1)
                return await super().approve(round)

        @hookimpl
        def citychain_consensus_steps():
            yield ConsensusDefinition(
                name="deliberate",
                factory=lambda options, city: Deliberate(options, city),
                options=SoloOptions,
                api_version=2,
            )
    """


@hookspec
def citychain_fragment_stores() -> Iterable[FragmentStoreDefinition]:  # type: ignore[empty-body]
    """Kinds of fragment stores, chosen by ``kind`` in a ``[fragments.stores.NAME]``.

    Called:
        Once each time that plugins are loaded: by a server at start-up, and by each command that
        asks what there is.

    Returns:
        A `FragmentStoreDefinition` for each. Its factory is called for each store of the kind,
        when stores are opened.

    A complete plugin, the built-in kind where a company's disks are mounted::

        from pathlib import Path
        from citychain import FragmentStoreDefinition, hookimpl
        from citychain.fragments.directory import DirectoryOptions, DirectoryStore

        def shelf(options, context):
            path = Path("/srv/shelves") / context.directory.name
            return DirectoryStore(DirectoryOptions(path=path), context)

        @hookimpl
        def citychain_fragment_stores():
            yield FragmentStoreDefinition(name="shelf", factory=shelf, api_version=2)
    """


@hookspec
def citychain_interceptors() -> Iterable[Any]:  # type: ignore[empty-body]
    """Interceptors for every call of the server.

    Called:
        Once each time that plugins are loaded: by a server at start-up, and by each command that
        asks what there is.

    Returns:
        A `grpc.aio.ServerInterceptor` for each, the outermost first. They stand behind the one
        that makes statuses of errors, so what they raise becomes a status too.

    A complete plugin::

        import grpc
        from citychain import hookimpl

        class CountCalls(grpc.aio.ServerInterceptor):
            calls = 0

            async def intercept_service(self, continuation, handler_call_details):
                CountCalls.calls += 1
                return await continuation(handler_call_details)

        @hookimpl
        def citychain_interceptors():
            yield CountCalls()
    """


@hookspec
def citychain_commands() -> Iterable[CommandDefinition]:  # type: ignore[empty-body]
    """Sub-commands of the ``citychain`` command.

    Called:
        When ``citychain`` lists its sub-commands, or runs one that is not its own.

    Returns:
        A `CommandDefinition` for each, with names that no other plugin has. Citychain's own
        commands go before those of the same name.

    A complete plugin::

        from citychain import CommandDefinition, hookimpl

        def hello(name: str = "city") -> None:
            "Say hello."
            print(f"hello, {name}")

        @hookimpl
        def citychain_commands():
            yield CommandDefinition(name="hello", app=hello)
    """


@hookspec
def citychain_round_sealed(city: str, sealed: SealedRound) -> None:
    """Told that a round was committed.

    Called:
        Soon after, in one thread that all listeners share, round by round. What it raises is
        logged and hurts nothing. While 1,000 events wait for slow listeners, further ones are
        dropped, and that is logged: read the ledger where nothing may be missed.

    Args:
        city: The city's slug.
        sealed: The round as it was committed.

    Returns:
        Nothing.

    A complete plugin::

        from citychain import hookimpl

        @hookimpl
        def citychain_round_sealed(city, sealed):
            print(city, "sealed round", sealed.round, "with", len(sealed.transactions))
    """


@hookspec
def citychain_round_approved(city: str, approved: StoredRound) -> None:
    """Told that a round has its certificate.

    Called:
        As `citychain_round_sealed` is; rounds may be approved in another order.

    Args:
        city: The city's slug.
        approved: The round as it is stored, with its certificate.

    Returns:
        Nothing.

    A complete plugin::

        from citychain import hookimpl

        @hookimpl
        def citychain_round_approved(city, approved):
            print(city, "approved round", approved.round)
    """
