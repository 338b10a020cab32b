"""Generates `citychain/rpc/_generated` from these protos.

    python proto/generate.py            writes it
    python proto/generate.py --check    prints what differs, and fails if anything does

Generated code must not be newer than the protobuf and grpcio that run it, so it is made with
the oldest grpcio-tools that the project supports: the group ``build`` in pyproject.toml.

The protos' package is ``citychain.v1``, and ``citychain`` is our own Python package; so imports
between generated modules are rewritten to where they are. File names in the descriptor pool
stay ``citychain/v1/...``: reflection tells them to others.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
TARGET = PROTOS.parent / "citychain" / "rpc" / "_generated"
PACKAGE = "citychain.rpc._generated.citychain.v1"
PACKAGE_FILES = ("__init__.py", "citychain/__init__.py", "citychain/v1/__init__.py")


def generate() -> dict[str, str]:
    """Every generated file's text, by its path below the target."""
    protos = sorted(PROTOS.glob("citychain/v1/*.proto"))
    services = [path for path in protos if "\nservice " in path.read_text()]
    with TemporaryDirectory() as directory:
        run_protoc(protos, f"--python_out={directory}", f"--mypy_out=quiet:{directory}")
        run_protoc(services, f"--grpc_python_out={directory}", f"--mypy_grpc_out=quiet:{directory}")
        generated = read(Path(directory))
    own_import = re.compile(r"^from citychain\.v1 import ", re.MULTILINE)
    generated = {
        path: own_import.sub(f"from {PACKAGE} import ", text) for path, text in generated.items()
    }
    return generated | dict.fromkeys(PACKAGE_FILES, "")


def run_protoc(sources: list[Path], *outputs: str) -> None:
    """Run protoc with the plugins of this Python's environment."""
    scripts = Path(sysconfig.get_path("scripts"))
    plugins = (f"--plugin={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"))
    included = files("grpc_tools") / "_proto"
    paths = (f"--proto_path={PROTOS}", f"--proto_path={included}")
    if protoc.main(["protoc", *plugins, *paths, *outputs, *map(str, sources)]) != 0:
        raise SystemExit("protoc failed")


def read(directory: Path) -> dict[str, str]:
    """Texts of the Python files and stubs below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.suffix in {".py", ".pyi"}
    }


def differences(committed: dict[str, str], generated: dict[str, str]) -> list[str]:
    """What to change in the first to have the second, as unified diffs."""
    lines: list[str] = []
    for path in sorted(committed.keys() | generated.keys()):
        old, new = committed.get(path), generated.get(path)
        if old is None or new is None:
            lines.append(f"{path}: {'is missing' if old is None else 'has no proto any more'}")
        else:
            lines += difflib.unified_diff(old.splitlines(), new.splitlines(), path, "", lineterm="")
    return lines


def main() -> int:
    """Generate or check."""
    parser = argparse.ArgumentParser(description="Generate citychain/rpc/_generated.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it differs")
    check = parser.parse_args().check
    generated = generate()
    if check:
        lines = differences(read(TARGET), generated)
        print("\n".join(lines), file=sys.stderr)
        return 1 if lines else 0
    for path, text in generated.items():
        (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / path).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
