"""How a file of vectors is written: good bytes whole, bad ones by where they differ."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Cases:
    """Named bytes, each with the check that fails first, or none."""

    about: str
    shared: dict[str, Any] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)
    _bytes: dict[str, bytes] = field(default_factory=dict)

    def good(self, name: str, data: bytes, **more: Any) -> None:
        self._bytes[name] = data
        self.cases.append({"name": name, "bytes": b64(data), "check": None, **more})

    def bad(self, name: str, check: str | None, of: str, data: bytes, **more: Any) -> None:
        """One that differs from the good one named ``of``; without a check it is good too."""
        good = self._bytes[of]
        assert data != good, name
        start, end = 0, 0
        while start < min(len(good), len(data)) and good[start] == data[start]:
            start += 1
        room = min(len(good), len(data)) - start
        while end < room and good[-1 - end] == data[-1 - end]:
            end += 1
        self.cases.append(
            {
                "name": name,
                "of": of,
                "at": start,
                "cut": len(good) - end - start,
                "put": b64(data[start : len(data) - end]),
                "check": check,
                **more,
            }
        )

    def to_bytes(self) -> bytes:
        """The file."""
        names = [case["name"] for case in self.cases]
        assert len(set(names)) == len(names)
        return to_file({"about": self.about, **self.shared, "cases": self.cases})


def to_file(content: Any) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def bytes_of(cases: list[dict[str, Any]]) -> dict[str, bytes]:
    """What each case of a file stands for, by name."""
    found: dict[str, bytes] = {}
    for case in cases:
        if "of" in case:
            good, at = found[case["of"]], case["at"]
            put = base64.b64decode(case["put"])
            found[case["name"]] = good[:at] + put + good[at + case["cut"] :]
        else:
            found[case["name"]] = base64.b64decode(case["bytes"])
    return found
