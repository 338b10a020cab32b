"""Certificates for tests, as `citychain certs dev` makes them."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import run_here

__all__ = ["dev_certificates"]


def dev_certificates(directory: Path) -> Path:
    """Make them in a folder, which is returned."""
    ran = run_here("certs", "dev", "--dir", directory, cwd=directory.parent)
    assert ran.code == 0, ran.err
    return directory
