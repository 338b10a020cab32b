"""Every city of 15,000 people or more, with its country and continent, by any of its names."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from citychain import CityDefinition, Disc, hookimpl

INDEX: Final = Path(__file__).with_name("places.sqlite3")
"""Made by build_index.py when the package is built."""

COLUMNS: Final = "slug, titles, aliases, latitude_e7, longitude_e7, radius_m, parent"
NUMBERED: Final = re.compile(r"[a-z0-9-]+-([a-z]{2})-([0-9]{1,12})")
"""Name, country and GeoNames number; the name may be one of former times."""


@hookimpl
def citychain_find_city(name: str) -> CityDefinition | None:
    """A place by its slug, by its number, or by the name that it is the largest to have."""
    if not INDEX.exists():
        raise FileNotFoundError(f"no {INDEX}: it was not built; install citychain-world again")
    # Opened anew each time: it takes a tenth of a millisecond, and is safe in any thread.
    with closing(sqlite3.connect(f"{INDEX.as_uri()}?mode=ro&immutable=1", uri=True)) as index:
        place = index.execute(f"SELECT {COLUMNS} FROM places WHERE slug = ?", (name,)).fetchone()
        if place is None and (numbered := NUMBERED.fullmatch(name)):
            place = index.execute(
                f"SELECT {COLUMNS} FROM places WHERE country = ? AND geonameid = ?",
                numbered.groups(),
            ).fetchone()
        if place is None:
            place = index.execute(
                f"SELECT {COLUMNS} FROM places JOIN names USING (slug) WHERE name = ?", (name,)
            ).fetchone()
    if place is None:
        return None
    slug, titles, aliases, latitude_e7, longitude_e7, radius_m, parent = place
    return CityDefinition(
        slug=slug,
        titles=json.loads(titles),
        aliases=tuple(json.loads(aliases)),
        region=Disc(latitude_e7, longitude_e7, radius_m) if radius_m else None,
        parent=parent,
    )
