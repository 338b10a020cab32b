"""Processes and throw-away plugins, as the tests of the command have them."""

from cli.conftest import install, interrupts, start, start_server

__all__ = ["install", "interrupts", "start", "start_server"]
