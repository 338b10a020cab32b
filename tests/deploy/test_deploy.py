"""What deploy/ asks for is what citychain has. Docker itself runs in the workflow alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
from building import TREE
from cli.conftest import Server

from citychain.cli.app import app
from citychain.config import Settings, load_settings
from citychain.storage._mongodb_options import MongodbOptions
from citychain.storage._mongodb_schema import INDEXES

yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install --group test")

DEPLOY = TREE / "deploy"
WORKFLOW = TREE / ".github" / "workflows" / "mongodb.yml"
DEPLOYMENTS = ("replica-set", "sharded")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}")


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """As Compose does it, for the forms that are used here."""
    return VARIABLE.sub(lambda it: variables.get(it[1], it[2] or ""), text).replace("$$", "$")


def loaded(name: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A compose file, with what its services extend."""
    text = (DEPLOY / name).read_text()
    document: dict[str, Any] = yaml.safe_load(interpolated(text, variables or {}))
    for service in document["services"].values():
        if extends := service.pop("extends", None):
            base = loaded(extends["file"], variables)["services"][extends["service"]]
            service.update({**base, **service})
    return document


def compose(deployment: str) -> dict[str, Any]:
    return loaded(f"{deployment}.compose.yml")


def servers(deployment: str) -> dict[str, Any]:
    services: dict[str, Any] = compose(deployment)["services"]
    return {name: it for name, it in services.items() if name.startswith("server")}


def example() -> dict[str, str]:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_what_services_name_is_there(deployment: str) -> None:
    document = compose(deployment)
    tests = yaml.safe_load((DEPLOY / f"{deployment}.tests.yml").read_text())
    assert tests["services"].keys() <= document["services"].keys()
    used: set[str] = set()
    for service in document["services"].values():
        assert service.get("depends_on", {}).keys() <= document["services"].keys()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), source
            else:
                used.add(source)
        if build := service.get("build"):
            assert (DEPLOY / build["context"]).resolve() == TREE
            assert (TREE / build["dockerfile"]).is_file()
    assert used == document["volumes"].keys()
    for name, service in document["services"].items():
        for needed, how in service.get("depends_on", {}).items():
            other = document["services"][needed]
            if how["condition"] == "service_healthy":
                assert other["healthcheck"]["test"], f"{name} waits for {needed}"
            else:
                assert "restart" not in other, f"{name} waits for the end of {needed}"


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_ports_on_the_host_are_free_of_each_other_and_of_the_world(deployment: str) -> None:
    tests = yaml.safe_load((DEPLOY / f"{deployment}.tests.yml").read_text())
    ports = [
        port
        for services in (compose(deployment)["services"], tests["services"])
        for service in services.values()
        for port in service.get("ports", ())
    ]
    published = [port.rsplit(":", 1)[0] for port in ports]
    assert len(published) == len(set(published)) >= 5
    assert all(address.startswith("127.0.0.1:") for address in published)


def test_the_variables_are_those_of_the_example() -> None:
    asked = {
        name for file in DEPLOY.glob("*.yml") for name, _ in VARIABLE.findall(file.read_text())
    }
    assert asked == example().keys()
    for deployment in DEPLOYMENTS:
        assert loaded(f"{deployment}.compose.yml", example()) == compose(deployment)


def settings(deployment: str) -> Iterator[Settings]:
    for service in servers(deployment).values():
        assert "./citychain.toml:/etc/citychain/citychain.toml:ro" in service["volumes"]
        yield load_settings(DEPLOY / "citychain.toml", environment=service["environment"])


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_servers_have_settings_of_citychain_and_all_the_same(deployment: str) -> None:
    first, *others = settings(deployment)
    assert len(others) == 2
    assert all(other.model_dump() == first.model_dump() for other in others)
    assert first.server.open == "eager"
    [city] = first.cities.values()
    assert city.storage is not None
    storage = first.storage[city.storage]
    assert storage.backend == "mongodb"
    for service in servers(deployment).values():
        folders = [volume.split(":")[1] for volume in service["volumes"]]
        assert str(first.operator_key.parent) in folders
    options = MongodbOptions.model_validate(storage.options)
    assert options.acknowledge == "majority"
    hosts = urlsplit(options.address()).netloc.split(",")
    known = compose(deployment)["services"]
    for host in hosts:
        name, port = host.split(":")
        command = known[name]["command"]
        assert command[command.index("--port") + 1] == port


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_commands_are_those_of_the_command_line(deployment: str) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    commands = [json.loads(re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)[-1])]
    for service in servers(deployment).values():
        commands.append(service["command"])
        commands.append(service["healthcheck"]["test"][2:])
        assert service["healthcheck"]["test"][:2] == ["CMD", "citychain"]
    [script] = compose(deployment)["services"]["identity"]["command"]
    commands.append(shlex.split(script.partition("||")[2])[1:])
    group: Any = typer.main.get_command(app)
    for command in commands:
        name, *arguments = command
        context = group.make_context("citychain", [name], resilient_parsing=True)
        sub = group.get_command(context, name)
        sub.make_context(name, [*arguments], parent=context)  # Raises what a user would be told.


def test_the_image_is_built_from_what_a_package_is_and_runs_unprivileged() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    manifest = (TREE / "MANIFEST.in").read_text().splitlines()
    grafted = {line.split()[1] for line in manifest if line.startswith("graft ")}
    assert grafted <= sent
    assert {"pyproject.toml", "setup.py", "MANIFEST.in"} <= sent
    assert all((TREE / name).exists() for name in sent)
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    last = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert "\nUSER citychain\n" in last
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"\[([\w,]+)\]\"", last)
    assert extras == "explorer,mongodb,otel"
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    [rust] = re.findall(r"^FROM rust:(\d+)\.(\d+)", dockerfile, re.MULTILINE)
    lowest = tomllib.loads((TREE / "native" / "Cargo.toml").read_text())["workspace"]["package"]
    assert tuple(map(int, rust)) >= tuple(map(int, lowest["rust-version"].split(".")))


def test_nothing_secret_is_in_the_folder() -> None:
    for file in (it for it in DEPLOY.rglob("*") if it.is_file()):
        text = file.read_text()
        assert not re.search(r"mongodb(\+srv)?://[^/\s]*@", text), file
        assert "PRIVATE KEY" not in text, file


# --- scripts ---------------------------------------------------------------------------

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node")

SHELL = """
const said = [];
const note = (...words) => said.push(words);
global.print = () => {};
global.sleep = () => {};
"""
"""What the scripts use of mongosh, noted down."""


def run_script(name: str, shell: str, **environment: str) -> Any:
    """What a script asked of MongoDB's shell."""
    assert NODE
    statements = (
        f"{SHELL}{shell}\nrequire({str(DEPLOY / name)!r});\nconsole.log(JSON.stringify(said));"
    )
    done = subprocess.run(
        [NODE, "-e", statements],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_the_members_are_those_of_the_compose_file() -> None:
    shell = """
    let made = false;
    global.rs = {
        status() {
            if (!made) throw Object.assign(new Error("no configuration"), { code: 94 });
            return { members: [{ stateStr: "SECONDARY" }, { stateStr: "PRIMARY" }] };
        },
        initiate(configuration) { made = true; note(configuration); },
    };
    """
    [[configuration]] = run_script("replica-set.js", shell)
    services = compose("replica-set")["services"]
    commands = {name: it["command"] for name, it in services.items() if re.match(r"mongo\d", name)}
    assert {member["host"] for member in configuration["members"]} == {
        f"{name}:{command[command.index('--port') + 1]}" for name, command in commands.items()
    }
    for command in commands.values():
        assert command[command.index("--replSet") + 1] == configuration["_id"]
    uri = urlsplit(next(settings("replica-set")).storage["shared"].options["uri"])
    assert uri.query == f"replicaSet={configuration['_id']}"


@needs_node
@pytest.mark.parametrize("name", ["config", "shard-a", "shard-b"])
def test_each_part_of_the_cluster_is_a_replica_set(name: str) -> None:
    services = compose("sharded")["services"]
    initiated = services[f"{name}-initiated"]
    shell = """
    global.rs = {
        status() { throw Object.assign(new Error("no configuration"), { code: 94 }); },
        initiate: note,
    };
    global.db = { hello: () => ({ isWritablePrimary: true }) };
    """
    [[made]] = run_script("replica-set-of-one.js", shell, **initiated["environment"])
    command = services[name]["command"]
    assert made["_id"] == command[command.index("--replSet") + 1]
    assert made["members"] == [{"_id": 0, "host": f"{name}:27017"}]
    assert made.get("configsvr", False) is ("--configsvr" in command)
    assert f"{name}:27017" in initiated["command"][2]


@needs_node
def test_shards_are_added_and_collections_sharded() -> None:
    sharded = compose("sharded")["services"]["sharded"]
    shell = "global.sh = { addShard: (s) => note(s), shardCollection: (c, k) => note(c, k) };"
    said = run_script("shard.js", shell, **sharded["environment"])
    assert said[:2] == [["shard-a/shard-a:27017"], ["shard-b/shard-b:27017"]]
    keys = json.loads((DEPLOY / "shard-keys.json").read_text())
    assert said[2:] == [[f"citychain.{name}", key] for name, key in keys.items()]
    database = next(settings("sharded")).storage["shared"].options["database"]
    assert sharded["environment"]["DATABASE"] == database


def test_what_is_unique_is_so_on_all_shards() -> None:
    """A unique index of a sharded collection begins with the shard key."""
    keys = json.loads((DEPLOY / "shard-keys.json").read_text())
    for name, key in keys.items():
        unique = [index.fields for index in INDEXES if index.collection == name and index.unique]
        for fields in unique:
            assert [*key] == [*fields[: len(key)]], name
        # By another key, ids are unique on each shard alone, so something else must be.
        assert [*key] == ["_id"] or unique, name
    assert not {"cities", "leases", "servers", "notes"} & keys.keys()


def test_what_is_submitted_through_each_server_is_told_final(
    start_server: Callable[..., Server], process: Callable[..., Any], tmp_path: Path
) -> None:
    process("init", ".", cwd=tmp_path)
    server = start_server(tmp_path)
    command = tmp_path / "citychain"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m citychain "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        [DEPLOY / "try.sh", server.address, server.address],
        env={**os.environ, "CITYCHAIN": str(command)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"APPROVED", done.stdout)) == 2


# --- the workflow ----------------------------------------------------------------------


def test_the_workflow_runs_each_deployment_on_files_that_are_there() -> None:
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["tests"]
    found = {it["deployment"]: it for it in job["strategy"]["matrix"]["include"]}
    assert found.keys() == set(DEPLOYMENTS)
    for deployment, entry in found.items():
        files = job["env"]["COMPOSE_FILE"].replace("${{ matrix.deployment }}", deployment)
        assert all((TREE / file).is_file() for file in files.split(":"))
        assert entry["ready"] in compose(deployment)["services"]
        tests = yaml.safe_load((DEPLOY / f"{deployment}.tests.yml").read_text())
        published = {
            port.split(":")[1] for it in tests["services"].values() for port in it["ports"]
        }
        hosts = urlsplit(entry["uri"]).netloc.split(",")
        assert {host.split(":")[1] for host in hosts} <= published
    assert (TREE / job["env"]["COMPOSE_ENV_FILES"]).is_file()
    assert job["env"]["MONGO_TEST_COMMANDS"] == "1"
