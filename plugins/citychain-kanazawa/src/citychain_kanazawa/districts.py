"""The rule ``kanazawa-districts/1``: data is a JSON object whose ``district`` is a known one."""

from __future__ import annotations

import json
from typing import Final

from pydantic import BaseModel, ConfigDict

from citychain import CityContext, Rejection, RoundContext, SealedRounds, Transaction
from citychain.statements import is_statement

# Everybody who verifies the city must get the same verdict, on every version of Python.
# They differ in how deep a JSON text may be: this bound is below all of theirs. And in how
# many digits an integer may have: numbers are left as text.
BRACKETS_MAX: Final = 64


class DistrictOptions(BaseModel):
    """Options of `Districts`; pinned by the city's genesis."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    districts: tuple[str, ...] = (
        "higashiyama",
        "izumino",
        "kanaiwa",
        "katamachi",
        "kazuemachi",
        "kodatsuno",
        "korinbo",
        "morimoto",
        "musashi",
        "nagamachi",
        "teramachi",
        "yuwaku",
    )
    """Those that data may name."""


class Districts(SealedRounds):
    """`SealedRounds`, and data must name a district."""

    def __init__(self, options: DistrictOptions, city: CityContext) -> None:
        super().__init__(city)
        self.districts = frozenset(options.districts)

    def validate(self, transaction: Transaction, round: RoundContext) -> Rejection | None:
        """Reject data that names no known district; transfers pass, and what holders state."""
        content = transaction.content or b""
        if transaction.action != "data" or is_statement(transaction.content_type or "", content):
            return None
        return self.judge(content)

    def judge(self, content: bytes) -> Rejection | None:
        """Reject content that names no known district."""
        if content.count(b"[") + content.count(b"{") > BRACKETS_MAX:
            return Rejection("RULE", f"the data has more than {BRACKETS_MAX} brackets")
        try:
            data = json.loads(content.decode(), parse_int=str, parse_float=str)
        except ValueError:
            return Rejection("RULE", "the data is not JSON in UTF-8")
        if not isinstance(data, dict) or "district" not in data:
            return Rejection("RULE", 'the data is no JSON object with a "district"')
        district = data["district"]
        if not isinstance(district, str) or district not in self.districts:
            return Rejection("RULE", "the district is not one of Kanazawa")
        return None
