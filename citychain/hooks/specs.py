"""The hooks: everything that a plugin may offer.

A plugin is a module or object named by an entry point of the group
``citychain`` in its distribution's ``pyproject.toml``::

    [project.entry-points.citychain]
    kanazawa = "citychain_kanazawa"

Hooks are called at start-up and for administration, never for a transaction.
They return descriptors; nothing is built until a city is opened.
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
    """The city of this name from a catalogue too large to list, or ``None``.

    ``name`` is normalised (NFKC, case folded, spaces trimmed). The answer is
    remembered for a while. It must always be the same for the same name.

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
def citychain_interceptors() -> Iterable[Any]:  # type: ignore[empty-body]
    """Interceptors (`grpc.aio.ServerInterceptor`) for every call of the server.

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
    """Told, soon after, that a round was committed. Runs in a thread of its own;
    what it raises is logged and hurts nothing.

    A complete plugin::

        from citychain import hookimpl

        @hookimpl
        def citychain_round_sealed(city, sealed):
            print(city, "sealed round", sealed.round, "with", len(sealed.transactions))
    """


@hookspec
def citychain_round_approved(city: str, approved: StoredRound) -> None:
    """Told, soon after, that a round has its certificate. Like `citychain_round_sealed`.

    A complete plugin::

        from citychain import hookimpl

        @hookimpl
        def citychain_round_approved(city, approved):
            print(city, "approved round", approved.round)
    """
