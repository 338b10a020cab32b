"""``citychain new-plugin``: a distribution with parts of a city that work.

`names` says what it may be called, `files` what stands in its files, which the templates beside
it have, and `command` writes them.
"""

__all__: list[str] = []
