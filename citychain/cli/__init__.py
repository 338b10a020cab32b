"""The command ``citychain``: one module a sub-command, put together in `app`.

Modules here import little at the top and the rest inside the command that needs
it, so that ``citychain --help`` is there at once.
"""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command and exit with its code."""
    from citychain.cli.app import run

    sys.exit(run())
