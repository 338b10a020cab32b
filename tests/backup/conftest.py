"""Processes of the command, as its own tests have them."""

from cli.conftest import citychain, start_server

__all__ = ["citychain", "start_server"]
