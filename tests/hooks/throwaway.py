"""Throwaway distributions, installed for one test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from citychain.hooks.loading import LOAD_SECONDS
from citychain.hooks.registry import ENTRY_POINT_GROUP, Registry, load_plugins

PREAMBLE = "from citychain.hooks import *\n"


Reason = Callable[..., str]
"""The fixture `reason`."""

CITY = """
@hookimpl
def citychain_cities():
    yield CityDefinition(slug="{slug}")
"""


STORAGE = """
@hookimpl
def citychain_storage_backends():
    yield StorageDefinition(name="{name}", factory=print)
"""


class Site:
    """A site-packages folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        distribution: str,
        source: str,
        *,
        entry: str | None = None,
        target: str = "",
        version: str = "1.0",
        requires: Sequence[str] = (),
        preamble: str = PREAMBLE,
        group: str = ENTRY_POINT_GROUP,
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Install a distribution with one module and one entry point.

        Args:
            source: The module's text, below ``preamble``.
            entry: The entry point's name; the distribution's if absent.
            target: Appended to the module's name: an object in it, or extras.
            group: Of the entry point; none if empty.
            files: Makes the module a package, and these files its others.

        Returns:
            The module's name.
        """
        module = "throwaway_" + distribution.replace("-", "_")
        if files is None:
            (self.folder / f"{module}.py").write_text(preamble + source)
        else:
            package = self.folder / module
            package.mkdir()
            for name, text in {**files, "__init__.py": preamble + source}.items():
                (package / name).write_text(text)
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
            + "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        )
        if group:
            (info / "entry_points.txt").write_text(
                f"[{group}]\n{entry or distribution} = {module}{target}\n"
            )
        return module

    def load(
        self,
        builtin: Sequence[object] = (),
        allow: Sequence[str] | None = None,
        disabled: Sequence[str] = (),
        load_seconds: float = LOAD_SECONDS,
    ) -> Registry:
        """Load what is installed here, and nothing else."""
        return load_plugins(
            builtin=builtin,
            allow=allow,
            disabled=disabled,
            load_seconds=load_seconds,
            entry_points=[
                entry
                for distribution in metadata.distributions(path=[str(self.folder)])
                for entry in distribution.entry_points
                if entry.group == ENTRY_POINT_GROUP
            ],
        )
