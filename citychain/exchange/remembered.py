"""What is remembered for the whole process, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Remembered"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """What was put last, by a key; for threads, and for several event loops.

    Args:
        most: All weights together.
        least: What counts for the weight of an item that has less.
    """

    def __init__(self, most: int, *, least: int = 1) -> None:
        self._most = most
        self._least = least
        self._total = 0
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        """What was put there, if it is remembered."""
        with self._lock:
            found = self._items.get(key)
            return None if found is None else found[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Remember this, also if it is there already, and for it forget what was put first. One
        that is heavier than all together may be is not remembered."""
        weight = max(weight, self._least)
        with self._lock:
            self._total -= self._items.pop(key, (value, 0))[1]
            if weight > self._most:
                return
            self._items[key] = (value, weight)
            self._total += weight
            while self._total > self._most:
                self._total -= self._items.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self._total = 0
