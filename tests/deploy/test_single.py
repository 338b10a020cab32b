"""One server by systemd or Compose, and its wheels: the files ask for what citychain has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from building import TREE

from citychain.cli.app import app
from citychain.cli.exits import Exit
from citychain.config import ServerSettings, load_settings

yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install --group test")

DEPLOY = TREE / "deploy"
UNIT = DEPLOY / "citychain.service"
WHEELS = TREE / ".github" / "workflows" / "wheels.yml"
ANALYZE = shutil.which("systemd-analyze")


def unit() -> dict[str, list[str]]:
    """The unit's directives; each may stand more than once."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def test_the_unit_has_settings_and_commands_of_citychain(tmp_path: Path) -> None:
    said = unit()
    variables = dict(value.split("=", 1) for value in said["Environment"])
    assert variables.pop("CITYCHAIN_CONFIG") == "/etc/citychain/citychain.toml"
    [loaded] = said["LoadCredential"]
    credential, _, source = loaded.partition(":")
    assert variables["CITYCHAIN_OPERATOR_KEY"] == f"%d/{credential}"
    assert source.startswith("/etc/citychain/")
    variables["CITYCHAIN_OPERATOR_KEY"] = f"/run/credentials/citychain.service/{credential}"
    (tmp_path / "citychain.toml").write_text("")
    settings = load_settings(tmp_path / "citychain.toml", environment=variables)
    assert str(settings.operator_key) == variables["CITYCHAIN_OPERATOR_KEY"]
    # All that it writes is in the one folder that is its own.
    [state] = said["StateDirectory"]
    assert settings.data_dir.is_relative_to(f"/var/lib/{state}")
    assert said["ProtectSystem"] == ["strict"]
    _, *command = said["ExecStart"][0].split()
    group: Any = typer.main.get_command(app)
    context = group.make_context("citychain", command, resilient_parsing=True)
    group.get_command(context, command[0]).make_context(command[0], command[1:], parent=context)
    assert said["RestartPreventExitStatus"] == [str(int(Exit.UNUSABLE))]
    assert seconds(said["TimeoutStopSec"][0]) > 2 * ServerSettings().drain_seconds


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = UNIT.read_text()
    there = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(there)
    assert ANALYZE
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", tmp_path / UNIT.name],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert said == []


def test_one_server_in_a_container_writes_to_its_volumes_alone() -> None:
    document = yaml.safe_load((DEPLOY / "single.compose.yml").read_text())
    base = yaml.safe_load((DEPLOY / "servers.yml").read_text())["services"]["server"]
    service = document["services"]["server1"]
    assert service["extends"] == {"file": "servers.yml", "service": "server"}
    mounted = {
        target: (source, mode)
        for source, target, mode in (
            (*volume.split(":"), "rw")[:3] for volume in service["volumes"]
        )
    }
    config, mode = mounted.pop("/etc/citychain/citychain.toml")
    assert mode == "ro"
    settings = load_settings(DEPLOY / config, environment={})
    # Without another storage in the settings the city is in the data directory.
    assert not settings.storage
    assert mounted.pop(str(settings.data_dir)) == ("data", "rw")
    assert mounted.pop(str(settings.operator_key.parent)) == ("identity", "ro")
    assert mounted == {}
    assert document["volumes"].keys() == {"data", "identity"}
    assert base["read_only"] is True
    assert base["cap_drop"] == ["ALL"]
    assert base["security_opt"] == ["no-new-privileges:true"]
    assert seconds(base["stop_grace_period"]) > 2 * settings.server.drain_seconds
    assert all(port.startswith("${CITYCHAIN_BIND:-127.0.0.1}:") for port in service["ports"])
    port = settings.server.listen.rpartition(":")[2]
    assert all(published.endswith(f":{port}") for published in service["ports"])
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    [volumes] = re.findall(r"^VOLUME (.*)$", dockerfile, re.MULTILINE)
    assert json.loads(volumes) == [str(settings.data_dir), str(settings.operator_key.parent)]


def test_the_explorer_in_a_container_is_there_if_asked_and_asks_the_server() -> None:
    document = yaml.safe_load((DEPLOY / "single.compose.yml").read_text())
    base = yaml.safe_load((DEPLOY / "servers.yml").read_text())["services"]["explorer"]
    service = document["services"]["explorer"]
    assert service["extends"] == {"file": "servers.yml", "service": "explorer"}
    assert service["profiles"] == ["explorer"]
    assert base["read_only"] is True
    assert base["cap_drop"] == ["ALL"]
    name, port = service["environment"]["CITYCHAIN_ADDRESS"].split(":")
    settings = load_settings(DEPLOY / "single.toml", environment={})
    assert name in document["services"]
    assert settings.server.listen.endswith(f":{port}")
    command, *options = base["command"]
    group: Any = typer.main.get_command(app)
    context = group.make_context("citychain", [command], resilient_parsing=True)
    found = group.get_command(context, command).make_context(command, options, parent=context)
    port = found.params["listen"].rpartition(":")[2]
    assert f"127.0.0.1:{port}/healthz" in base["healthcheck"]["test"][-1]
    assert service["ports"] == [f"${{CITYCHAIN_BIND:-127.0.0.1}}:{port}:{port}"]


def test_wheels_are_built_for_the_oldest_python_which_serves_all() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    lowest = re.sub(r"\D", "", project["project"]["requires-python"])
    wheels = project["tool"]["cibuildwheel"]
    assert wheels["build"] == f"cp{lowest}-*"
    assert f'"py_limited_api": "cp{lowest}"' in (TREE / "setup.py").read_text()
    workflow = yaml.safe_load(WHEELS.read_text())
    [step] = [it for it in workflow["jobs"]["wheels"]["steps"] if "cibuildwheel" in str(it)]
    assert re.search(r"cibuildwheel==\d", step["run"])
    toolchain = re.search(r"--default-toolchain (\d+)\.(\d+)", wheels["linux"]["before-all"])
    needed = tomllib.loads((TREE / "native" / "Cargo.toml").read_text())["workspace"]["package"]
    assert toolchain
    assert tuple(map(int, toolchain.groups())) >= tuple(map(int, needed["rust-version"].split(".")))
    assert workflow["permissions"] == {"contents": "read"}
