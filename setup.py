"""Builds the Rust extension; everything else stands in pyproject.toml."""

import atexit
from tempfile import TemporaryDirectory

from setuptools import setup
from setuptools_rust import Binding, RustExtension

# A new folder for each build. setuptools would use build/ again and pack whatever earlier builds
# left there: modules since removed, libraries by other names.
build = TemporaryDirectory(prefix="citychain-build-")
atexit.register(build.cleanup)

setup(
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
        "build": {"build_base": build.name},
        "bdist_wheel": {"py_limited_api": "cp311"},
    },
)
