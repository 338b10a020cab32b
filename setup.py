"""Builds the Rust extension; everything else stands in pyproject.toml."""

from setuptools import setup
from setuptools_rust import Binding, RustExtension

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
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
