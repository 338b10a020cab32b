"""The region of a city: where a presence must be, to be inside.

Options name a region in one of four ways, here as TOML::

    place = { disc = { latitude_e7 = 365613000, longitude_e7 = 1366562000, radius_m = 15000 } }
    place = { polygons = [[[365000000, 1366000000, 365000000, 1367000000, ...]]] }
    place = { file = "municipalities.geojson", property = "N03_007", value = "17201" }
    place = { resource = "citychain_kanazawa:wards.geojson", property = "name", value = "west" }

A polygon is a list of rings, the shell and then holes; a ring is one flat list of latitudes and
longitudes by turns, in units of 1e-7 degree, whose last position is its first again. A file is
GeoJSON in WGS 84, plain or as .gz; its region is the union of all features of which the property
has the value. With ``name_property`` its neighbours are named by that, or by several, with spaces
between; else by the value of ``property``.

A file is read when options are validated. What they hold, dump and compare from then on is the
polygons: the region's own and its neighbours', by name, so that a point outside can be told where
it is. So a city that has a genesis needs no file; one that can be read must say the same still.
``docs/design/places.md`` says which points are inside.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from citychain.crypto.places import Features, Places
from citychain.hooks.definitions import FOLDER, Disc, SourceUnreadable
from citychain.nearest import did_you_mean

__all__ = ["Location", "Region", "RegionOptions", "read_map"]

NEIGHBOUR_NAME_MAX: Final = 100
"""Characters of a neighbour's name; what a file has more of is cut off."""

FILES_MAX: Final = 4
"""Parsed files that are kept, for the next city of the same file."""

Ring = tuple[int, ...]
Polygons = Annotated[tuple[tuple[Ring, ...], ...], Field(min_length=1)]
Name = Annotated[str, Field(min_length=1, max_length=NEIGHBOUR_NAME_MAX)]


class Location(NamedTuple):
    """Where a point is, seen from a region."""

    is_inside: bool
    neighbour: str | None
    """The name of the neighbour that has it, if the region does not."""


class Region(BaseModel):
    """A disc or polygons: one of the two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    disc: Disc | None = None
    polygons: Polygons | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Region:
        if (self.disc is None) == (self.polygons is None):
            raise ValueError("a region is either a disc or polygons")
        try:
            Places([self.shape])
        except ValueError as error:
            raise ValueError(str(error).removeprefix("region 0: ")) from None
        return self

    @property
    def shape(self) -> Any:
        """As `Places` takes it."""
        if self.disc is not None:
            return (self.disc.latitude_e7, self.disc.longitude_e7, self.disc.radius_m)
        return self.polygons

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if value}


class RegionOptions(Region):
    """A city's region and its neighbours, as a consensus step's options have it.

    Validation reads the file that it is taken from, if there is one; a relative path is relative to
    the validation context's ``folder``, or to the working directory.
    """

    neighbours: Mapping[Name, Region] = Field(default_factory=dict)
    """By name. Where they overlap, the first name in the order of code points has a point."""

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, values: Any, info: ValidationInfo) -> Any:
        if isinstance(values, Mapping) and ("file" in values or "resource" in values):
            source = _Source.model_validate(dict(values))
            return source.region(Path((info.context or {}).get(FOLDER, "")))
        return values

    @cached_property
    def places(self) -> Places:
        """The region, then its neighbours by name."""
        neighbours = [region.shape for _, region in sorted(self.neighbours.items())]
        return Places([self.shape, *neighbours])

    def locate(self, latitude_e7: int, longitude_e7: int) -> Location:
        """Where a point is.

        Raises:
            ValueError: it is not on the earth.
        """
        [index] = self.places.locate([latitude_e7], [longitude_e7])
        neighbour = sorted(self.neighbours)[index - 1] if index > 0 else None
        return Location(index == 0, neighbour)


class _Source(BaseModel):
    """Where a region is taken from."""

    model_config = ConfigDict(extra="forbid")

    file: Path | None = None
    resource: Annotated[str, Field(pattern=r"^[\w.]+:[^:]+$")] | None = None
    """``package:path`` of a file that a package brings with it."""
    property: Annotated[str, Field(min_length=1)]
    value: str | int
    name_property: str | tuple[str, ...] = ()
    """One or several."""

    @model_validator(mode="after")
    def _is_one(self) -> _Source:
        if self.file is not None and self.resource is not None:
            raise ValueError("a region is taken from a file or a resource, not from both")
        return self

    def region(self, folder: Path) -> dict[str, Any]:
        """What `RegionOptions` holds instead.

        Raises:
            ValueError: the file cannot be used, or has no such feature.
        """
        names = self.name_property
        names = (names,) if isinstance(names, str) else names
        if self.file is not None:
            file = _read(folder / self.file, self.property, names)
        else:
            package, _, path = str(self.resource).partition(":")
            try:
                with as_file(files(package) / path) as found:
                    file = _read(found, self.property, names)
            except ImportError:
                raise SourceUnreadable(f"resource: there is no package {package}") from None
        return file.region(self.property, str(self.value))


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    features: Features
    indexes: Mapping[str, int]
    """By value of the property."""

    def region(self, property: str, value: str) -> dict[str, Any]:
        index = self.indexes.get(value)
        if index is None:
            if not self.indexes:
                raise ValueError(f"no feature of {self.path} has a property {property!r}")
            hint = did_you_mean(value, self.indexes)
            raise ValueError(f"no feature of {self.path} has {property} = {value!r}{hint}")
        return {
            "polygons": self.features.polygons(index),
            "neighbours": {
                name: {"polygons": self.features.polygons(neighbour)}
                for name, neighbour in self._named(self.features.touching(index))
            },
        }

    def _named(self, indexes: list[int]) -> Iterator[tuple[str, int]]:
        """Those that have a name or a value; both where a name alone would be ambiguous."""
        codes, names = self.features.codes, self.features.names
        times = Counter(names[index] for index in indexes)
        for index in indexes:
            code, name = codes[index], names[index]
            if name and times[name] > 1:
                name = f"{name[: NEIGHBOUR_NAME_MAX // 2]} ({code or index})"
            if name := (name or code or "")[:NEIGHBOUR_NAME_MAX].strip():
                yield name, index


def read_map(path: Path, property: str, names: tuple[str, ...]) -> Features:
    """The regions of a GeoJSON file, plain or as .gz.

    Args:
        property: Features with the same value of it are one region.
        names: Properties that name a region.

    Raises:
        ValueError: it cannot be read or used; names the file.
    """
    return _read(path, property, names).features


def _read(path: Path, property: str, names: tuple[str, ...]) -> _File:
    try:
        stat = path.stat()
        return _parsed(path, stat.st_mtime_ns, stat.st_size, property, names)
    except (OSError, EOFError) as error:
        raise SourceUnreadable(f"{path} cannot be read: {error}") from None


@lru_cache(FILES_MAX)
def _parsed(path: Path, mtime_ns: int, size: int, property: str, names: tuple[str, ...]) -> _File:
    """A file by all that changes when it does."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    try:
        features = Features(content, property, names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    codes = enumerate(features.codes)
    return _File(path, features, {code: index for index, code in codes if code is not None})
