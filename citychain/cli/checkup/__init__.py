"""``citychain doctor``: whether a server with this configuration can do its work on this machine.

`examination` has the table of checks, each a function with one subject. None of them changes
anything, and none asks a server for more than anybody may: they are safe beside a running server.
"""

__all__: list[str] = []
