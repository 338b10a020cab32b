"""``citychain cities import``: a city of each region of a map."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from citychain.cli.options import Config
from citychain.cli.output import Json, print_json, say

if TYPE_CHECKING:
    from citychain.crypto.places import Features

__all__ = ["cities_import"]

HEAD: Final = """\
# Cities that `citychain cities import` made of {file}.
#
# Paths are relative to citychain.toml, which names this file in cities_from; a [cities.SLUG] table
# there goes over the one of that slug here.
"""
CITY: Final = """
[cities.{slug}]
titles = {titles}
aliases = {aliases}
consensus = "poh-pop"
consensus_options.place = {place}
"""
SLUG: Final = r"[a-z][a-z0-9-]{0,62}"
TOLD_MAX: Final = 5
"""Names that are told of one kind."""


def cities_import(
    file: Annotated[
        Path,
        typer.Argument(help="GeoJSON in WGS 84, plain or as .gz.", exists=True, dir_okay=False),
    ],
    code_property: Annotated[
        str,
        typer.Option(help="The property that is a region's code; its value ends the city's slug."),
    ],
    name_property: Annotated[
        list[str] | None,
        typer.Option(help="The property that is its name. Repeated, they are joined with spaces."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="What the slugs begin with, such as jp-.")] = "",
    language: Annotated[
        str, typer.Option(help="The names' language, as a BCP 47 tag.", metavar="TAG")
    ] = "und",
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write.",
            dir_okay=False,
            show_default="beside the configuration, named as FILE",
        ),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a city of each region of a map: all features with one code are one.

    Writes a [cities.SLUG] table for each into a file of its own, and the name of that file into the
    configuration: cities_from. Their consensus step is poh-pop, their place the region of the map.
    Such a city costs nothing until it is used.

    Examples:

        citychain cities import municipalities.geojson --code-property N03_007
            --name-property N03_003 --name-property N03_004 --prefix jp- --language ja
    """
    from citychain.config import load_settings
    from citychain.errors import ConfigurationError
    from citychain.region import read_map

    settings = load_settings(config)
    if settings.file is None:
        raise ConfigurationError(
            "there is no citychain.toml here: `citychain init` makes one, --config names another"
        )
    folder = settings.file.absolute().parent
    output = output or folder / re.sub(r"(\.(geo)?json)?(\.gz)?$", ".toml", file.name, count=1)
    names = tuple(name_property or ())
    try:
        features = read_map(file, code_property, names)
        # What people call it: the last name alone, if that is one region's.
        short = read_map(file, code_property, names[-1:])
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    place: dict[str, Any] = {"file": _relative(file, folder), "property": code_property}
    if names:
        place["name_property"] = list(names)
    cities = list(_cities(features, short, prefix))
    if not cities:
        raise ConfigurationError(f"{file}: no feature has a property {code_property!r}")
    text = HEAD.format(file=file.name) + "".join(city.table(language, place) for city in cities)
    _write(output, text)
    where = _relative(output, folder)
    is_named = output.absolute() in [path.absolute() for path in settings.cities_from]
    if not is_named:
        _name_in(settings.file, where)
    load_settings(config)
    if json:
        print_json({"cities": len(cities), "output": output, "config": settings.file})
        return
    print(output)
    without = features.codes.count(None)
    say(f"{len(cities)} cities" + (f"; {without} features without a code left out" * bool(without)))
    counts = Counter(city.name for city in cities if city.name)
    if several := [name for name, count in counts.items() if count > 1]:
        told = ", ".join(several[:TOLD_MAX]) + ", ..." * (len(several) > TOLD_MAX)
        say(f"names of several cities, to be called by their slugs: {told}")


@dataclass(frozen=True, slots=True)
class _City:
    slug: str
    code: str
    name: str
    aliases: tuple[str, ...]

    def table(self, language: str, place: dict[str, Any]) -> str:
        return CITY.format(
            slug=self.slug,
            titles=_toml({language: self.name} if self.name else {}),
            aliases=_toml(list(self.aliases)),
            place=_toml(place | {"value": self.code}),
        )


def _cities(features: Features, short: Features, prefix: str) -> Iterator[_City]:
    """A city of each code.

    Raises:
        ConfigurationError: a code makes no slug, or two make one.
    """
    from citychain.errors import ConfigurationError

    codes: dict[str, str] = {}
    times = Counter(short.names)
    for code, name, short_name in zip(features.codes, features.names, short.names, strict=True):
        if code is None:
            continue
        slug = prefix + re.sub(r"[\s_./]+", "-", code.strip().lower())
        if not re.fullmatch(SLUG, slug):
            raise ConfigurationError(
                f"code {code!r} makes no slug: {slug!r} is not 1 to 63 of a-z, 0-9 and -, a letter "
                f"first; --prefix gives it a beginning"
            )
        if (other := codes.setdefault(slug, code)) != code:
            raise ConfigurationError(f"codes {other!r} and {code!r} both make the slug {slug}")
        others = ["".join((name or "").split())]
        if short_name and times[short_name] == 1:
            others.append(short_name)
        aliases = tuple(dict.fromkeys(it for it in others if it and it != name))
        yield _City(slug, code, name or "", aliases)


def _toml(value: Any) -> str:
    """A value in TOML, on one line: a text, a list or a table of them."""
    match value:
        case dict():
            pairs = ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
    return dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _relative(path: Path, folder: Path) -> str:
    """As it is written into a file of that folder."""
    absolute = path.absolute()
    return str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)


def _write(path: Path, text: str) -> None:
    """Write a new file; one that says the same already is left alone.

    Raises:
        ConfigurationError: it says something else.
    """
    from citychain.errors import ConfigurationError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if path.read_text("utf-8") != text:
            raise ConfigurationError(
                f"{path} is there already and says something else: remove it, or name another "
                f"with --output"
            ) from None


def _name_in(config: Path, where: str) -> None:
    """Add ``cities_from`` to a configuration, before its first table.

    Raises:
        ConfigurationError: it has other such files already, or is too odd to be edited.
    """
    from citychain.errors import ConfigurationError

    text = config.read_text("utf-8")
    line = f"cities_from = {_toml([where])}\n"
    table = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    at = table.start() if table else len(text)
    # Comments right before a table are about that table.
    at -= len(re.search(r"(^[ \t]*#[^\n]*\n)*\Z", text[:at], re.MULTILINE)[0])  # type: ignore[index]
    gap = "" if at == 0 or text[:at].endswith("\n") else "\n"
    edited = f"{text[:at]}{gap}{line}\n{text[at:]}"
    try:
        is_right = tomllib.loads(edited) == tomllib.loads(text) | {"cities_from": [where]}
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right or "cities_from" in tomllib.loads(text):
        raise ConfigurationError(f"add {_toml(where)} to cities_from at the top of {config}")
    new = config.with_name(f"{config.name}.new")
    new.write_text(edited, "utf-8")
    new.chmod(config.stat().st_mode & 0o777)
    os.replace(new, config)
