"""Objects kept as erasure-coded fragments: any k of an object's n restore it.

Nothing is imported here, so that a server loads the drivers of the stores it uses and no others.
A store of your own is tested with `citychain.testing.conformance.fragments`.
"""

__all__: list[str] = []
