"""What is printed as JSON is JSON, and steers no terminal."""

from __future__ import annotations

import json

import pytest

from citychain.cli.output import print_json


def test_no_control_of_others_words_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = {"words": "".join(map(chr, range(0xA1))) + "金沢"}
    print_json(record)
    shown = capsys.readouterr().out
    assert json.loads(shown) == record
    assert all(it.isprintable() or it == "\xa0" for it in shown.removesuffix("\n"))
    assert "金沢" in shown
