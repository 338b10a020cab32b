"""The Helm chart: what it renders are settings, ports and keys as the server takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from building import TREE, run

from citychain.client.keys import load_key
from citychain.config import load_settings
from citychain.errors import ConfigurationError

yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install --group test")

CHART = TREE / "deploy" / "chart"
HELM = shutil.which("helm")
needs_helm = pytest.mark.skipif(HELM is None, reason="needs helm")


def rendered(folder: Path, *sets: str) -> dict[str, Any]:
    """What helm makes of the chart and these values, by kind and name."""
    chosen = [part for it in ("operatorKey.existingSecret=key", *sets) for part in ("--set", it)]
    command = ("template", "town", CHART, "--kube-version", "1.33.0", *chosen)
    done = run(str(HELM), *command, cwd=folder, HOME=str(folder))
    assert done.returncode == 0, done.stderr
    return {
        f"{it['kind']} {it['metadata']['name']}": it for it in yaml.safe_load_all(done.stdout) if it
    }


def container(documents: dict[str, Any]) -> dict[str, Any]:
    [found] = documents["StatefulSet town"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


@needs_helm
@pytest.mark.parametrize("several", [False, True])
def test_the_server_takes_what_is_rendered(several: bool, tmp_path: Path) -> None:
    sets = ["tls.existingSecret=tls", "mongodb.existingSecret=db", "replicas=3"] if several else []
    documents = rendered(tmp_path, *sets)
    server = container(documents)
    variables = {it["name"]: it["value"] for it in server["env"]}
    mounted = {it["mountPath"]: it.get("readOnly", False) for it in server["volumeMounts"]}
    config = Path(variables.pop("CITYCHAIN_CONFIG"))
    text = documents["ConfigMap town"]["data"][config.name]
    if several:
        uri = Path(variables["MONGODB_URI_FILE"])
        assert mounted[str(uri.parent)] is True
        (tmp_path / "uri").write_text("mongodb://database/")
        variables["MONGODB_URI_FILE"] = str(tmp_path / "uri")
        text += 'storage = "shared"\n[storage.shared]\nbackend = "mongodb"\n'
    (tmp_path / config.name).write_text(text)
    settings = load_settings(tmp_path / config.name, environment=variables)
    assert settings.cities.keys() == {"hometown"}
    assert settings.server.plaintext is not several
    if several:
        assert settings.storage["shared"].options["uri"] == "mongodb://database/"
        assert settings.server.tls
        assert mounted[str(settings.server.tls.key.parent)] is True
    # It writes to its volume, and to /tmp.
    assert {path for path, read_only in mounted.items() if not read_only} == {"/data", "/tmp"}
    assert str(settings.data_dir) == "/data"
    assert mounted[str(settings.operator_key.parent)] is True
    assert server["securityContext"]["readOnlyRootFilesystem"] is True
    ports = {it["name"]: it["containerPort"] for it in server["ports"]}
    assert settings.server.listen == f"0.0.0.0:{ports['grpc']}"
    assert settings.metrics.listen == f"0.0.0.0:{ports['metrics']}"
    spec = documents["StatefulSet town"]["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > 2 * settings.server.drain_seconds
    [user] = re.findall(r"--uid (\d+)", (TREE / "deploy" / "Dockerfile").read_text())
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == int(user)


@needs_helm
def test_the_key_is_handed_over_with_a_mode_that_the_server_takes(tmp_path: Path) -> None:
    spec = rendered(tmp_path)["StatefulSet town"]["spec"]["template"]["spec"]
    [first] = spec["initContainers"]
    *command, source, target = first["command"]
    [path] = [it["value"] for it in container(rendered(tmp_path))["env"] if "KEY" in it["name"]]
    assert target == path
    key = tmp_path / "secret.key"
    done = run(sys.executable, "-m", "citychain", "keygen", key, cwd=TREE)
    assert done.returncode == 0, done.stderr
    [secret] = [it["secret"] for it in spec["volumes"] if it["name"] == "operator-key"]
    assert secret["secretName"] == "key"
    assert source.endswith("/operator.key")
    key.chmod(secret["defaultMode"])
    with pytest.raises(ConfigurationError, match="others than its owner"):
        load_key(key)
    subprocess.run([*command, key, tmp_path / "operator.key"], check=True)
    load_key(tmp_path / "operator.key")


@needs_helm
@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["operatorKey.existingSecret="], "name a Secret with the operator key"),
        (["replicas=2"], "several servers need mongodb.existingSecret"),
        (["replica=2"], "replica"),
        (["service.type=Any"], "/service/type"),
    ],
)
def test_values_that_cannot_work_are_refused(sets: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=re.escape(said)):
        rendered(tmp_path, *sets)


@needs_helm
def test_metrics_are_collected_under_the_job_that_alerts_ask_for(tmp_path: Path) -> None:
    assert not [name for name in rendered(tmp_path) if name.startswith("ServiceMonitor")]
    documents = rendered(tmp_path, "serviceMonitor.enabled=true")
    monitor = documents["ServiceMonitor town"]["spec"]
    matched = {
        name
        for name, it in documents.items()
        if monitor["selector"]["matchLabels"].items() <= it["metadata"]["labels"].items()
        and name.startswith("Service ")
    }
    assert matched == {"Service town-servers"}
    service = documents["Service town-servers"]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "citychain"
    assert monitor["endpoints"][0]["port"] in {it["name"] for it in service["spec"]["ports"]}
    pods = documents["StatefulSet town"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pods.items()


def test_the_chart_is_of_this_version_and_probes_outlast_the_servers_own_limit() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["version"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    tomllib.loads(values["config"])
    template = (CHART / "templates" / "statefulset.yaml").read_text()
    waits = [int(it) for it in re.findall(r"timeoutSeconds: (\d+)", template)]
    assert len(waits) == 3
    assert min(waits) > 5
