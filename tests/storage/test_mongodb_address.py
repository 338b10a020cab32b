"""An address of MongoDB that cannot be read rightly is refused, and does not show its password."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from citychain.storage._mongodb_options import MongodbOptions


@pytest.mark.parametrize("password", ["pa/ss", "pa?ss", "p@a/ss", "?w=1"])
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MongodbOptions(uri=f"mongodb://user:{password}@host/?replicaSet=city")
    assert "%40" in str(refused.value)
    assert password not in str(refused.value)


def test_an_encoded_one_is_taken() -> None:
    options = MongodbOptions(uri="mongodb://user:pa%2Fss%40@one,two/?replicaSet=city")
    assert "pa%2Fss" in options.address()
    assert "pa%2Fss" not in repr(options)
