"""The keys of tokens, as the tests of access have them."""

from access.conftest import keys, public_files

__all__ = ["keys", "public_files"]
