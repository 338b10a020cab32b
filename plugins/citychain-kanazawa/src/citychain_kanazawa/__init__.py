"""Kanazawa: what is recorded there names one of the city's districts."""

from __future__ import annotations

from collections.abc import Iterable

from citychain import CityDefinition, DagDefinition, Disc, hookimpl
from citychain_kanazawa.districts import DistrictOptions, Districts


@hookimpl
def citychain_cities() -> Iterable[CityDefinition]:
    """Kanazawa."""
    yield CityDefinition(
        slug="kanazawa",
        titles={"en": "Kanazawa", "ja": "金沢市"},
        aliases=("金沢", "金澤", "かなざわ", "가나자와", "Канадзава"),
        region=Disc(latitude_e7=36_5613000, longitude_e7=136_6562000, radius_m=15_000),
        dag="kanazawa-districts",
    )


@hookimpl
def citychain_dag_handlers() -> Iterable[DagDefinition]:
    """The rule; a change of what it approves is a new ``version``."""
    yield DagDefinition(
        name="kanazawa-districts",
        factory=Districts,
        options=DistrictOptions,
        version=1,
        api_version=2,
    )
