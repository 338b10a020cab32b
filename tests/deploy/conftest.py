"""Processes of the command, as its own tests have them."""

from cli.conftest import process, start_server

__all__ = ["process", "start_server"]
