from collections.abc import Sequence
from typing import Final

FRAGMENTS_MAX: Final = 255
CHUNK_BYTES_MIN: Final = 4096
CHUNK_BYTES_MAX: Final = 1048576

def encode(
    data: bytes | bytearray, k: int, m: int, chunk: int
) -> tuple[list[bytes], list[bytes]]: ...
def decode(
    chunks: Sequence[tuple[int, bytes | bytearray]], k: int, m: int, chunk: int
) -> bytes: ...
def rebuild(
    chunks: Sequence[tuple[int, bytes | bytearray]], k: int, m: int, chunk: int, index: int
) -> bytes: ...
def leaf_hashes(chunks: bytes | bytearray, chunk: int) -> bytes: ...
