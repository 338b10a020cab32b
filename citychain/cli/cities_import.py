"""``citychain cities import``: a city of each region of a map."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from citychain.cli.options import Config
from citychain.cli.output import Json, print_json, say

if TYPE_CHECKING:
    from citychain.crypto.places import Features

__all__ = ["cities_import"]

HEAD: Final = "# Cities that `citychain cities import` made of "
"""How a file begins that may be written anew."""
ABOUT: Final = """\
{file}.
#
# Paths are relative to citychain.toml, which names this file in cities_from; a [cities.SLUG] table
# there goes over the one of that slug here.
"""
CITY: Final = """
[cities.{slug}]
titles = {titles}
aliases = {aliases}
consensus = "poh-pop"
consensus_options.policy = "{policy}"
"""
PLACE: Final = "consensus_options.place = {place}\n"
SLUG: Final = r"[a-z][a-z0-9-]{0,62}"
TOLD_MAX: Final = 5
"""Names that are told of one kind."""


class ImportPolicy(StrEnum):
    """Policies of ``poh-pop`` that need no more than a map."""

    NONE = "none"
    CLAIMED = "claimed"


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
    policy: Annotated[
        ImportPolicy,
        typer.Option(
            help="What an author must show: claimed: a presence in the region, as they say; none: "
            "nothing, and then the region itself is left out."
        ),
    ] = ImportPolicy.CLAIMED,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write.",
            dir_okay=False,
            show_default="beside the configuration, named as FILE",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Write over the file of an earlier import. A city that was opened since keeps "
            "what it began with, and is refused where it is changed.",
        ),
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a city of each region of a map: all features with one code are one.

    Writes a [cities.SLUG] table for each into a file of its own, and adds the name of that file to
    cities_from in the configuration. Their consensus step is poh-pop, their place the region of the
    map. Such a city costs nothing until it is used.

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
        unknown = [name for name in names if not any(read_map(file, code_property, (name,)).names)]
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    for name in unknown:
        raise ConfigurationError(f"{file}: no feature has a property {name!r} (--name-property)")
    place: dict[str, Any] = {"file": _relative(file, folder), "property": code_property}
    if names:
        place["name_property"] = list(names)
    cities = list(_cities(features, short, prefix))
    if not cities:
        raise ConfigurationError(f"{file}: no feature has a property {code_property!r}")
    is_named = output.absolute() in [path.absolute() for path in settings.cities_from]
    imported = settings.cities.keys() - set(settings.own_cities)
    if not is_named and (taken := [city.slug for city in cities if city.slug in imported]):
        raise ConfigurationError(
            f"{taken[0]} is a city of another file of cities_from already: --prefix makes other "
            f"slugs, --output names the file to --replace"
        )
    text = HEAD + ABOUT.format(file=file.name)
    for city in cities:
        text += city.table(language, policy)
        if policy is not ImportPolicy.NONE:
            text += PLACE.format(place=_toml(place | {"value": city.code}))
    _write(output, text, replace)
    if not is_named:
        _name_in(settings.file, _relative(output, folder), output)
    load_settings(config)
    left_out = features.codes.count(None)
    if json:
        print_json(
            {
                "cities": len(cities),
                "left_out": left_out,
                "policy": policy,
                "output": output,
                "config": settings.file,
            }
        )
        return
    print(output)
    say(
        f"{len(cities)} cities"
        + (f"; {left_out} features left out: no {code_property}" * bool(left_out))
    )
    if policy is ImportPolicy.NONE:
        say("no place was written: with policy none nobody's presence is judged")
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

    def table(self, language: str, policy: str) -> str:
        return CITY.format(
            slug=self.slug,
            titles=_toml({language: self.name} if self.name else {}),
            aliases=_toml(list(self.aliases)),
            policy=policy,
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


def _write(path: Path, text: str, replace: bool) -> None:
    """Write a new file, or one of an earlier import anew; one that says the same is left alone.

    Raises:
        ConfigurationError: it says something else, and is not to be replaced or not ours.
    """
    from citychain.errors import ConfigurationError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return
    except FileExistsError:
        old = path.read_text("utf-8", errors="replace")
    if old == text:
        return
    if not old.startswith(HEAD):
        raise ConfigurationError(f"{path} is there already and no file of an import: name another")
    if not replace:
        raise ConfigurationError(
            f"{path} is there already and says something else: --replace writes it anew, --output "
            f"names another"
        )
    _write_over(path, text)


def _name_in(config: Path, where: str, output: Path) -> None:
    """Add a file to ``cities_from`` of a configuration.

    Raises:
        ConfigurationError: the configuration is too odd to be edited; says what to do by hand.
    """
    from citychain.errors import ConfigurationError

    text = config.read_text("utf-8")
    values = tomllib.loads(text)
    is_first = "cities_from" not in values
    wanted = values | {"cities_from": [*([] if is_first else values["cities_from"]), where]}
    edited = _with_line(text, where) if is_first else _with_item(text, wanted["cities_from"])
    try:
        is_right = tomllib.loads(edited) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise ConfigurationError(
            f"{output} is written, but no server reads it yet: add {_toml(where)} to the list "
            f"cities_from at the top of {config}"
        )
    _write_over(config, edited)


def _with_line(text: str, where: str) -> str:
    """A configuration with ``cities_from`` before its first table."""
    line = f"cities_from = {_toml([where])}\n"
    table = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    at = table.start() if table else len(text)
    # Comments right before a table are about that table.
    at -= len(re.search(r"(^[ \t]*#[^\n]*\n)*\Z", text[:at], re.MULTILINE)[0])  # type: ignore[index]
    gap = "" if at == 0 or text[:at].endswith("\n") else "\n"
    return f"{text[:at]}{gap}{line}\n{text[at:]}"


def _with_item(text: str, files: list[str]) -> str:
    """A configuration with another list ``cities_from``; as it was if that has comments in it."""
    old = re.compile(
        r"""^([ \t]*cities_from[ \t]*=[ \t]*)\[(?:[^]"'#]|"[^"\n]*"|'[^'\n]*')*\]""", re.M
    )
    return old.sub(lambda match: match[1] + _toml(files), text, count=1)


def _write_over(path: Path, text: str) -> None:
    """Whole or not at all, with the rights that it had."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, "utf-8")
    new.chmod(path.stat().st_mode & 0o777)
    os.replace(new, path)
