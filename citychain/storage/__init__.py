"""Built-in storage backends: what survives a power cut.

=========================== =====================================================
`citychain.storage.sqlite`  the default: one database file for many cities
`citychain.storage.memory`  plain dicts: for tests, and the model to read first
=========================== =====================================================

Nothing is imported here, so that a server loads the drivers of the backends it
uses and no others. A backend of your own is tested with
`citychain.testing.conformance.storage`.
"""

__all__: list[str] = []
