"""The city runs in the demonstration, beside those of other plugins, through a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_demonstration_runs_it_beside_the_others(tmp_path: Path) -> None:
    demo = ["demo", "--city", "otsu", "--transactions", "150", "--json", "--dir", "demo"]
    ran = subprocess.run(
        [sys.executable, "-m", "citychain", *demo],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["differences"] == []
    otsu = told["cities"][-1]
    assert (otsu["city"], otsu["dag"]) == ("otsu", "otsu-loans")
    assert otsu["receipts_valid"] == otsu["log_size"] > 0
    assert (tmp_path / "demo" / "data" / "otsu-shelf" / "shelf.db").exists()
