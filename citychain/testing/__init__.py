"""For those who write parts of a city: conformance suites and fakes.

`citychain.testing.conformance` holds one suite a part; pick yours there.
Nothing is imported here.
"""

__all__: list[str] = []
