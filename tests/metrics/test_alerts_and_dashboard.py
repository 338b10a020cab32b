"""What docs/observability offers asks for what a server tells, and fires when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs.markdown import DOCS
from metrics.asking import asked
from prometheus_client.parser import text_string_to_metric_families

from citychain.testing.server import make_plan

HERE = DOCS / "observability"
ALERTS = [
    rule
    for group in yaml.safe_load((HERE / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
FOREIGN = {"up"}
"""Of Prometheus itself."""


def panels() -> Iterator[dict[str, Any]]:
    for file in sorted(HERE.glob("dashboard*.json")):
        panels = json.loads(file.read_text())["panels"]
        yield from (panel for panel in panels if panel["type"] != "row")


def expressions() -> dict[str, str]:
    """Each with where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in ALERTS}
    found |= {panel["title"]: panel["targets"][0]["expr"] for panel in panels()}
    page = (DOCS / "observability.md").read_text()
    questions = page.partition("## Questions")[2].partition("\n## ")[0]
    for question, expression in re.findall(r"^\| (.*?) \| `(.*?)`", questions, re.MULTILINE):
        found[question] = expression
    return found


def names(expression: str) -> set[str]:
    """Metrics that an expression names: what is no label, function or string."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\b(by|on) \([^)]*\)|\{[^}]*\}", "", bare)
    return set(re.findall(r"\b(?:citychain|grpc|process)_\w+|\bup\b", bare))


async def test_every_expression_names_metrics_that_a_server_has(tmp_path: Path) -> None:
    plan = make_plan(
        tmp_path,
        ["nara"],
        {},
        storage="memory",
        clock=None,
        operator=None,
        settings={"plugins": {"allow": ()}, "metrics": {"listen": "127.0.0.1:0"}},
    )
    async with plan.open() as running:
        _, text = await asked(running.metrics_address, "/metrics")
    told = {
        f"{family.name}{suffix}"
        for family in text_string_to_metric_families(text)
        for suffix in SUFFIXES.get(family.type, ())
    }
    asked_for = {where: names(expression) for where, expression in expressions().items()}
    assert len(asked_for) > 60
    assert {where for where, named in asked_for.items() if not named} == set()
    unknown = {where: named - told - FOREIGN for where, named in asked_for.items()}
    assert {where: named for where, named in unknown.items() if named} == {}


def test_every_alert_says_what_to_do_and_is_tested() -> None:
    tests = yaml.safe_load((HERE / "alerts.tests.yml").read_text())["tests"]
    wrong = tests[-1]["promql_expr_test"][0]["exp_samples"]
    tested = {re.search(r'"(\w+)"', sample["labels"])[1] for sample in wrong}  # type: ignore[index]
    assert tested == {rule["alert"] for rule in ALERTS}
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]


def test_the_alerts_fire_when_something_is_wrong_and_not_before() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("there is no promtool: on Debian it is in the package prometheus")
    result = subprocess.run(
        [promtool, "test", "rules", HERE / "alerts.tests.yml"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_dashboards_are_as_their_script_writes_them() -> None:
    from observability import dashboard

    assert {file.name for file in HERE.glob("dashboard*.json")} == dashboard.BOARDS.keys()
    for name in dashboard.BOARDS:
        written = (HERE / name).read_text("utf-8")
        assert written == dashboard.page(name), f"{name}; run: python {dashboard.__file__}"
