"""The page for operators is true: its commands run as they stand, and do what it says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from docs.markdown import DOCS, TREE, blocks
from docs.running import run_commands
from free_ports import free_port

LOSS = "kill %citychain; wait %citychain; rm -r data\n"
"""What the page is for."""
INSTALL, CITY, TLS, TOKENS, LOOK, PROMETHEUS, *ROAD = (
    block.text for block in blocks("sh") if block.page == DOCS / "operations.md"
)
BACKUP, AS_OF, REHEARSAL, RESTORE, ANEW, BEFORE, AFTER = ROAD
WAIT_FOR_RULES = """
import json, time, urllib.request
while True:
    with urllib.request.urlopen("http://127.0.0.1:9090/api/v1/rules", timeout=120) as answer:
        [group] = json.load(answer)["data"]["groups"]
    states = {rule["health"] for rule in group["rules"]}
    if "unknown" not in states:
        break
    time.sleep(0.1)
print("RULES", len(group["rules"]), *states)
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports may be others' here, so the doctor is not asked about the one of the page."""
    monkeypatch.setenv("CITYCHAIN_SERVER__LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("SOURCES", str(TREE))
    monkeypatch.setenv("PYTHON", sys.executable)


def test_a_city_goes_all_the_road_from_nothing_to_an_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = CITY + TLS + TOKENS + LOOK + BACKUP + AS_OF + REHEARSAL + ANEW + BEFORE + AFTER
    asked = "citychain get $(cat ../last.id) --city hometown\n"
    told = run_commands(
        (road + LOSS + RESTORE + asked).replace(":9464", ":0"), tmp_path, monkeypatch
    )
    assert "fault  " not in told
    assert "0 new rounds" in told
    assert told.count("BACKED UP") == 3
    assert told.count("RESTORED  hometown") == 2
    assert told.count("HOLDS") == 3
    before, _, after = told.rpartition("HOLDS")
    assert "APPROVED" in before
    assert "APPROVED" in after
    assert not (tmp_path / "town" / "rehearsal").exists()


def test_prometheus_asks_the_server_and_takes_the_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("there is no Prometheus: on Debian it is in the package prometheus")
    serve = "export CITYCHAIN_METRICS__LISTEN=127.0.0.1:9464\ncitychain serve &\n"
    resident = "citychain submit --city hometown --key resident.key --data a --wait approved\n"
    asked = 'promtool query instant http://127.0.0.1:9090 up\n"$PYTHON" -c "$WAIT_FOR_RULES"\n'
    commands = CITY + serve + resident + PROMETHEUS + asked
    ports = {":9464": f":{free_port()}", ":9090": f":{free_port()}"}
    script, waiting = commands.replace("15s", "1s"), WAIT_FOR_RULES
    for page, port in ports.items():
        script, waiting = script.replace(page, port), waiting.replace(page, port)
    monkeypatch.setenv("WAIT_FOR_RULES", waiting)
    told = run_commands(script, tmp_path, monkeypatch)
    assert f'up{{instance="127.0.0.1{ports[":9464"]}", job="citychain"}} => 1 ' in told
    rules = (DOCS / "observability" / "alerts.yml").read_text().count("- alert: ")
    assert told.splitlines()[-1] == f"RULES {rules} ok"
