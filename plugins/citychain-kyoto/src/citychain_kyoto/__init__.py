"""Kyoto: a city of built-in parts."""

from __future__ import annotations

from collections.abc import Iterable

from citychain import CityDefinition, Disc, hookimpl


@hookimpl
def citychain_cities() -> Iterable[CityDefinition]:
    """Kyoto."""
    yield CityDefinition(
        slug="kyoto",
        titles={"en": "Kyoto", "ja": "京都市", "ko": "교토시", "zh-Hans": "京都市", "ru": "Киото"},
        aliases=("京都", "きょうと", "Kyōto", "교토", "Кіото", "เกียวโต", "كيوتو", "Miyako"),
        region=Disc(latitude_e7=35_0116000, longitude_e7=135_7681000, radius_m=20_000),
        storage="sqlite",
        dag="random-tips",
        dag_options={"tips": 3, "window": 4},
    )
