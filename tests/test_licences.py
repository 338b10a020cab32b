"""What citychain is made of may be used by a program under its licence.

The licences are those of deny.toml, one list for all languages. What an environment
lacks of the extras is not looked at.
"""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from building import TREE, run, rust_variables
from license_expression import LicenseExpression, Licensing
from packaging.requirements import Requirement

DENY: Final = TREE / "deny.toml"
ALLOWED: Final = frozenset(tomllib.loads(DENY.read_text())["licenses"]["allow"])
LICENSING: Final = Licensing()

SPDX: Final = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    # apsw: whichever of the Open Source Initiative's list one likes.
    "any-OSI": "MIT",
}
"""What packages say in words, from before metadata had SPDX expressions (PEP 639)."""


def allowed(expression: str | LicenseExpression) -> bool:
    """Whether an SPDX expression leaves a way that is allowed; Cargo once wrote "/" for OR."""
    if isinstance(expression, str):
        expression = LICENSING.parse(expression.replace("/", " OR "))
    if isinstance(expression, LICENSING.AND):
        return all(map(allowed, expression.args))
    if isinstance(expression, LICENSING.OR):
        return any(map(allowed, expression.args))
    return expression.render() in ALLOWED


def licence(package: Distribution) -> str:
    """The SPDX expression of an installed package; what it says itself, where that is none."""
    told: Any = package.metadata
    if expression := told.get("License-Expression"):
        return str(expression)
    said = [it for it in told.get_all("Classifier") or [] if it.startswith("License ::")]
    said = said or [(told.get("License") or "none").partition("\n")[0]]
    known = {**SPDX, **{it: it for it in ALLOWED}}
    return " AND ".join(known.get(it, f"LicenseRef-{it.replace(' ', '-')}") for it in said)


def made_of(requirements: list[str], *, needed: bool) -> dict[str, str]:
    """The licence of each package that these lead to, by name."""
    found: dict[str, str] = {}
    waiting = [(Requirement(text), {""}) for text in requirements]
    while waiting:
        requirement, extras = waiting.pop()
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            if needed:
                raise
            continue
        found[name] = licence(package)
        further = package.requires or []
        waiting += [(Requirement(text), {"", *requirement.extras}) for text in further]
    return found


def test_an_expression_is_allowed_where_each_part_leaves_a_way() -> None:
    assert allowed("GPL-3.0-only OR MIT")
    assert allowed("(MIT OR GPL-3.0-only) AND Unicode-3.0")
    assert allowed("Apache-2.0 WITH LLVM-exception")
    assert not allowed("MIT AND GPL-3.0-only")
    assert not allowed("LicenseRef-none")
    assert not allowed("GPL-2.0-only WITH Classpath-exception-2.0")


def test_each_python_package_may_be_used() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    assert allowed(project["license"])
    found = made_of(project["dependencies"], needed=True)
    assert {"grpcio", "typing-extensions"} <= found.keys()
    for extra in project["optional-dependencies"].values():
        found |= made_of(extra, needed=False)
    assert {name: it for name, it in found.items() if not allowed(it)} == {}


def test_each_package_of_the_explorers_page_may_be_used() -> None:
    lock = json.loads((TREE / "citychain/explorer/page/package-lock.json").read_text())
    shown = {name: it for name, it in lock["packages"].items() if not it.get("dev")}
    found = {name or "the page itself": it.get("license", "none") for name, it in shown.items()}
    assert {"the page itself", "node_modules/preact"} <= found.keys()
    assert {name: it for name, it in found.items() if not allowed(it)} == {}


def test_each_crate_may_be_used(tmp_path: Path) -> None:
    manifest = TREE / "native" / "Cargo.toml"
    command = ("cargo", "metadata", "--locked", "--format-version=1", "--manifest-path")
    done = run(*command, manifest, cwd=tmp_path, **rust_variables())
    assert done.returncode == 0, done.stderr
    packages = json.loads(done.stdout)["packages"]
    found = {it["name"]: it["license"] or "LicenseRef-none" for it in packages}
    assert {"citychain-native", "citychain-core", "pyo3"} <= found.keys()
    assert {name: it for name, it in found.items() if not allowed(it)} == {}
