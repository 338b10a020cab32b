from collections.abc import Sequence
from typing import Final

NUM_HASHES_MAX: Final = 4294967296

def extend(prev: bytes, num_hashes: int, mixin: bytes) -> bytes: ...
def verify(entries: Sequence[tuple[bytes, int, bytes, bytes]], *, max_num_hashes: int) -> None: ...
