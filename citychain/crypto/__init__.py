"""Thin typed faces of the native code, one module a subject.

`signatures` signs and verifies with ML-DSA-87.
"""

__all__: list[str] = []
