"""Look-ups of points among 1,900 municipalities, and loading them; prints JSON.

    python bench/places.py [--points 1000000]

With the borders of ``$CITYCHAIN_SHARED/data/municipalities.geojson.gz`` (Ministry of Land,
Infrastructure, Transport and Tourism of Japan, National Land Numerical Information, administrative
areas, N03, 2021) if they are there, else with as many made-up cells and vertices.

Points are evenly spread over the box around all regions, or over the regions alone. Rates are by
processor time, of one core, medians over repetitions. shapely's STRtree has the same points in the
same run (``pip install --group bench``).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from citychain.crypto.places import Features, Places

SHARED = Path(os.environ.get("CITYCHAIN_SHARED", Path(__file__).parents[2] / "shared"))
MUNICIPALITIES = SHARED / "data" / "municipalities.geojson.gz"
CODE = "N03_007"
REPETITIONS = 5
SHAPELY_POINTS = 100_000

Points: TypeAlias = "tuple[array[int], array[int]]"
"""Latitudes and longitudes."""


def made_up(side: int = 44, steps: int = 25) -> bytes:
    """GeoJSON of side * side cells whose edges have ``steps`` crooked pieces each."""
    pick = random.Random(1)

    def crooked(a: tuple[float, float], b: tuple[float, float]) -> list[tuple[float, float]]:
        bend = 0.002
        line = [a]
        for step in range(1, steps):
            x, y = (p + (q - p) * step / steps for p, q in zip(a, b, strict=True))
            line.append((x + pick.uniform(-bend, bend), y + pick.uniform(-bend, bend)))
        return [*line, b]

    corners = [[(130 + x / 4, 30 + y / 5) for x in range(side + 1)] for y in range(side + 1)]
    across = [[crooked(row[x], row[x + 1]) for x in range(side)] for row in corners]
    up = [[crooked(corners[y][x], corners[y + 1][x]) for y in range(side)] for x in range(side + 1)]
    features = []
    for y in range(side):
        for x in range(side):
            ring = across[y][x][:-1] + up[x + 1][y][:-1]
            ring += across[y + 1][x][:0:-1] + up[x][y][:0:-1]
            geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
            properties = {CODE: f"{x}-{y}"}
            features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def spread(features: Features, count: int) -> Points:
    """Points over the box around all regions."""
    numbers = [
        number
        for index in range(len(features))
        for polygon in features.polygons(index)
        for number in polygon[0]
    ]
    pick = random.Random(2)
    latitudes, longitudes = numbers[::2], numbers[1::2]
    south, north, west, east = *_ends(latitudes), *_ends(longitudes)
    return (
        array("i", (pick.randint(south, north) for _ in range(count))),
        array("i", (pick.randint(west, east) for _ in range(count))),
    )


def _ends(numbers: list[int]) -> tuple[int, int]:
    return min(numbers), max(numbers)


def inside(places: Places, points: Points) -> Points:
    """As many points that lie in regions: those that do, moved about by up to 300 m."""
    pick = random.Random(3)
    found = places.locate(*points)
    kept = [it for it, region in zip(zip(*points, strict=True), found, strict=True) if region >= 0]
    moved = [
        (lat + pick.randint(-27_000, 27_000), lon + pick.randint(-27_000, 27_000))
        for lat, lon in pick.choices(kept, k=len(found))
    ]
    latitudes, longitudes = zip(*moved, strict=True)
    return array("i", latitudes), array("i", longitudes)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, and the result."""
    began = time.process_time()
    result = call()
    return time.process_time() - began, result


def rate(count: int, call: Callable[[], Any]) -> int:
    """Points a second of one core."""
    return round(count / statistics.median(timed(call)[0] for _ in range(REPETITIONS)))


def shapely_rates(file: bytes, features: Features, kinds: dict[str, Points]) -> dict[str, Any]:
    """The same with shapely, and on how many points the first region is another one."""
    try:
        import numpy as np
        import shapely
    except ImportError:
        return {"skipped": "shapely is not installed: pip install --group bench"}
    places = features.places()

    def load() -> Any:
        raw = json.loads(file)["features"]
        shapes = [shapely.geometry.shape(it["geometry"]) for it in raw]
        return shapely.STRtree(shapes)

    seconds, tree = timed(load)
    result: dict[str, Any] = {"version": shapely.__version__, "load_seconds": round(seconds, 3)}
    for kind, (latitudes, longitudes) in kinds.items():
        few = latitudes[:SHAPELY_POINTS], longitudes[:SHAPELY_POINTS]
        y, x = (np.asarray(it) / 1e7 for it in few)
        result[f"{kind}_points_per_s"] = rate(
            len(x), lambda x=x, y=y: tree.query(shapely.points(x, y), predicate="intersects")
        )
        hits = tree.query(shapely.points(x, y), predicate="intersects")
        first = np.full(len(x), len(features))
        np.minimum.at(first, hits[0], hits[1])
        ours = np.asarray(places.locate(*few))
        result[f"{kind}_different"] = int((np.where(ours < 0, len(features), ours) != first).sum())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if MUNICIPALITIES.is_file():
        file = gzip.decompress(MUNICIPALITIES.read_bytes())
        source = MUNICIPALITIES.name
    else:
        print(f"no {MUNICIPALITIES}: made-up cells instead", file=sys.stderr)
        file = made_up()
        source = "made up"
    read_seconds, features = timed(lambda: Features(file, CODE))
    index_seconds, places = timed(features.places)
    over_all = spread(features, arguments.points)
    kinds = {"box": over_all, "inside": inside(places, over_all)}
    rates = {
        f"{kind}_points_per_s": rate(arguments.points, lambda points=points: places.locate(*points))
        for kind, points in kinds.items()
    }
    # One at a time, what a call costs is most of it.
    one = array("i", [over_all[0][0]]), array("i", [over_all[1][0]])
    singles = rate(10_000, lambda: [places.locate(*one) for _ in range(10_000)])
    share = sum(region >= 0 for region in places.locate(*over_all)) / arguments.points
    report = {
        "source": source,
        "regions": len(features),
        "read_seconds": round(read_seconds, 3),
        "index_seconds": round(index_seconds, 3),
        **rates,
        "single_calls_per_s": singles,
        "box_share_inside": round(share, 3),
        "shapely": shapely_rates(file, features, kinds),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
