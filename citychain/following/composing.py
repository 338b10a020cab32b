"""Puts together what follows a city: the rules that its genesis pins, and a representative."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citychain.city.replay import PublicKeys, Replay
from citychain.city.state import LedgerState
from citychain.client.city import CityClient
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, DirectoryInUse, InvalidRound, NameTaken
from citychain.following.representative import Representative
from citychain.genesis import Genesis
from citychain.ports import CityContext, StateView, StorageContext

if TYPE_CHECKING:
    from citychain.containers import CoreContainer

__all__ = ["open_replay", "open_representative"]


@asynccontextmanager
async def open_replay(
    core: CoreContainer, genesis: Genesis, state: StateView, public_keys: PublicKeys
) -> AsyncIterator[Replay]:
    """The rules that a genesis pins, to repeat its city's rounds with.

    Args:
        core: Its registry has the parts; its compute is entered.
        state: The ledger, at its beginning or where the replay is to be resumed.
        public_keys: Gives keys by id.

    Raises:
        ConfigurationError: no installed package has a part of this version.
    """
    context = CityContext(
        slug=genesis.city,
        genesis=genesis,
        compute=core.compute(),
        clock=core.clock(),
        operator=None,
    )
    registry = core.registry()
    async with AsyncExitStack() as stack:
        dag = await _follow(
            stack, registry.dag_handler, genesis.rule, genesis.rule_options, context
        )
        consensus = await _follow(
            stack, registry.consensus_step, genesis.consensus, genesis.consensus_options, context
        )
        yield Replay(
            genesis=genesis,
            dag=dag,
            consensus=consensus,
            state=state,
            compute=core.compute(),
            keys=core.keys(),
            public_keys=public_keys,
        )


async def _follow(
    stack: AsyncExitStack,
    find: Callable[[str], Any],
    pinned: str,
    options: Mapping[str, Any],
    context: CityContext,
) -> Any:
    """The part that a genesis pins."""
    definition = find(pinned.partition("/")[0])
    if (here := f"{definition.name}/{definition.version}") != pinned:
        raise ConfigurationError(
            f"the genesis of {context.slug} pins {pinned}, and {here} is installed"
        )
    part = definition.factory(definition.options.model_validate(dict(options)), context)
    if isinstance(part, AbstractAsyncContextManager):
        part = await stack.enter_async_context(part)
    return part


@asynccontextmanager
async def open_representative(
    core: CoreContainer,
    *,
    genesis: Genesis,
    key: SigningKey,
    client: CityClient,
    directory: Path,
    objected: Callable[[InvalidRound], None] | None = None,
) -> AsyncIterator[Representative]:
    """A representative of one city; run it.

    Args:
        core: Its compute is entered.
        directory: Keeps its copy of the ledger; of this key alone.

    Raises:
        DirectoryInUse: another process has the directory open.
        ConfigurationError: no installed package has a part that the genesis pins.
    """
    compute, clock = core.compute(), core.clock()
    definition = core.registry().storage_backend("sqlite")
    context = StorageContext(directory=directory, compute=compute, clock=clock)
    async with AsyncExitStack() as stack:
        try:
            backend = await stack.enter_async_context(
                definition.factory(definition.options(), context)
            )
        except DirectoryInUse as error:
            # Not the advice that servers get: a key on two directories can vote twice.
            raise DirectoryInUse(
                error.directory,
                error.process,
                "stop it first, since a representative has one state directory, ever",
            ) from None
        try:
            storage = await backend.city(genesis.id, genesis.file, genesis.initial_objects())
        except NameTaken as error:
            raise ConfigurationError(
                f"{directory} has what the representative did in another city {error.name}, with "
                "another genesis: give this one a state directory of its own"
            ) from None
        state = LedgerState(storage)
        async with open_replay(core, genesis, state, client.public_keys) as replay:
            await replay.resume(storage)
            yield Representative(
                genesis=genesis,
                key=key,
                client=client,
                storage=storage,
                state=state,
                replay=replay,
                compute=compute,
                clock=clock,
                objected=objected,
            )
