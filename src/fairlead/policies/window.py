"""How many calls went well and how many failed lately: numbers in, numbers out, the time an argument.

Ten buckets that are dropped one by one: exact to a tenth of the window, in a space that does not grow with the calls.
"""

from __future__ import annotations

from collections import deque
from typing import Final

BUCKETS: Final = 10


class Window:
    """Of the last `seconds` seconds: `good` and `failed`, as they were at the last count."""

    __slots__ = ("_buckets", "_current", "_edge", "_slot", "_width", "failed", "good")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self.clear()

    def clear(self) -> None:
        self._slot = 0
        self._edge = 0.0
        self._buckets: deque[list[int]] = deque([[0, 0] for _ in range(BUCKETS)], BUCKETS)
        self._current = self._buckets[-1]
        self.good = self.failed = 0

    def count(self, now: float, *, failed: bool) -> None:
        if now >= self._edge:
            self._turn(now)
        if failed:
            self._current[1] += 1
            self.failed += 1
        else:
            self._current[0] += 1
            self.good += 1

    def _turn(self, now: float) -> None:
        slot = int(now // self._width)
        for _ in range(min(BUCKETS, slot - self._slot)):
            good, failed = self._buckets[0]
            self.good -= good
            self.failed -= failed
            self._current = [0, 0]
            self._buckets.append(self._current)
        self._slot, self._edge = slot, (slot + 1) * self._width
