"""Thin typed faces of the native code, one module a subject.

`signatures` signs and verifies with ML-DSA-87.
`poh` makes and verifies proof-of-history entries.
`places` says which region a point lies in.
`merkle` is the tree of a city's log and its proofs.
`erasure` cuts data into fragments, some of which may be lost.
"""

__all__: list[str] = []
