"""``citychain init``: a directory in which a server can be started."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from contextlib import ExitStack
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from citychain.cli.output import Json, print_json, say

__all__ = ["init"]

TEMPLATE = """\
# A citychain server. Paths are relative to this file.
#
# A variable of the environment goes before this file: CITYCHAIN_SERVER__LISTEN is `listen` of
# [server]. A key that does not exist is an error.

# Stands in the genesis of every city, so that a test city is never taken for a real one.
network = {network}

# All that the cities remember.
data_dir = "data"

# The key with which this server signs for its cities. Keep it secret, and keep a copy.
operator_key = "operator.key"

[server]
listen = "127.0.0.1:50051"
# How long calls under way may take to finish when the server is told to stop.
# drain_seconds = 10.0

[pacer]
# A round closes when it is full, or after an interval between these two.
# min_seconds = 0.1
# max_seconds = 2.0
# max_tx = 2000

# Cities also come from plugins: `citychain plugins` lists them.
[cities.{key}]
# titles = {{ en = "{title}" }}
# aliases = []
# storage = "sqlite"
# dag = "sealed-rounds"
"""
SOLO = """\
# consensus = "solo"
"""
COMMITTEE = """\
# A round is final when two thirds of the stake have signed it. This is part of the genesis.
consensus = "poh-pop"
committee = [
"""
BALANCES = """
# First balances, by key id. They are part of the genesis: changes here come too late.
[cities.{key}.balances.{asset}]
"""

OPERATOR = "operator"
"""Whose balance is that of the key that is made here."""


def init(
    directory: Annotated[Path, typer.Argument(help="Made if it is not there.")] = Path(),
    city: Annotated[str, typer.Option(help="The slug of the first city.")] = "hometown",
    network: Annotated[str, typer.Option(help="The name of the network.")] = "local",
    balance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ASSET=KEY:AMOUNT",
            help="A first balance of a key, given by its file, its public key file or its id; "
            "`operator` is the key that is made here. Can be repeated.",
        ),
    ] = None,
    representative: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PUBLIC_KEY_FILE[:STAKE]",
            help="A member of the city's first committee, which then approves its rounds instead "
            "of this server. Can be repeated.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Prepare a directory for a server: configuration, operator key, a first city.

    Nothing that is there is written over.

    Examples:

        citychain init
        citychain init town --city hometown --balance coin=alice.key:1000
        citychain init town --balance coin=operator:1000000 --json
        citychain init town --representative ana.pub --representative ben.pub:2
    """
    from citychain.city.founding import found_city, genesis_path, keep_genesis
    from citychain.city.plan import plan_city
    from citychain.client.keys import create_key
    from citychain.config import load_settings
    from citychain.containers import BUILTIN
    from citychain.crypto.keys import key_id
    from citychain.hooks.registry import load_plugins

    config, operator_key = directory / "citychain.toml", directory / "operator.key"
    # What is no slug must come as far as the settings, which say so.
    key = city if re.fullmatch(r"[a-z0-9-]+", city) else dumps(city)
    text = TEMPLATE.format(network=dumps(network), key=key, title=city.replace("-", " ").title())
    text += _committee(representative, directory) if representative else SOLO
    balances = _balances(balance or [])

    directory.mkdir(parents=True, exist_ok=True)
    with config.open("x", encoding="utf-8") as file, ExitStack() as undo:
        undo.callback(config.unlink)
        operator = create_key(operator_key)
        undo.callback(operator_key.unlink)  # Nobody has seen it yet.
        for asset, owners in balances.items():
            text += BALANCES.format(key=key, asset=asset)
            for owner, amount in owners.items():
                owner = key_id(operator.public_key).hex() if owner == OPERATOR else owner
                text += f'"{owner}" = {amount}\n'
        file.write(text)
        file.flush()
        # The file alone: the environment of this moment is no part of the genesis.
        settings = load_settings(config, environment={})
        registry = load_plugins(builtin=BUILTIN, **settings.plugins.model_dump())
        plan = plan_city(city, settings, registry)
        undo.pop_all()
    genesis = found_city(settings.data_dir, settings.network, plan, operator.public_key)
    keep_genesis(settings.data_dir, plan, genesis)
    genesis_file = genesis_path(settings.data_dir, plan)
    if json:
        print_json(
            {
                "config": config,
                "operator_key": operator_key,
                "city": city,
                "genesis": genesis.id,
                "genesis_file": genesis_file,
            }
        )
    else:
        print(f"{config}\n{operator_key}\n{genesis_file}")
        where = "" if directory == Path() else f" --config {config}"
        say(f"Start the server with: citychain serve{where}")


def _committee(options: list[str], directory: Path) -> str:
    """The lines that name the first committee; files are found from the directory."""
    text = COMMITTEE
    for option in options:
        match = re.fullmatch(r"(.+?)(?::([1-9][0-9]{0,18}))?", option)
        assert match is not None
        path = os.path.relpath(match[1], directory)
        text += f"    {{ key = {dumps(path)}, stake = {match[2] or 1} }},\n"
    return text + "]\n"


def _balances(options: list[str]) -> dict[str, dict[str, int]]:
    """Amounts by asset and by key id, or `OPERATOR`."""
    from citychain.crypto.keys import key_id

    balances: dict[str, dict[str, int]] = defaultdict(dict)
    for option in options:
        match = re.fullmatch(r"([a-z0-9-]{1,32})=(.+):([0-9]{1,19})", option)
        if match is None:
            raise typer.BadParameter(f"{option!r} is not ASSET=KEY:AMOUNT", param_hint="--balance")
        asset, key, amount = match.groups()
        if key != OPERATOR and not re.fullmatch(r"[0-9a-f]{64}", key):
            key = key_id(_public_key(Path(key))).hex()
        balances[asset][key] = balances[asset].get(key, 0) + int(amount)
    return balances


def _public_key(path: Path) -> bytes:
    """The public key of a public key file, or of a key file."""
    from citychain.client.keys import load_key, load_public_key
    from citychain.errors import ConfigurationError

    try:
        return load_public_key(path)
    except ConfigurationError:
        return load_key(path).public_key
