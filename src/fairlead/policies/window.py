"""How many calls went well and how many failed lately: numbers in, numbers out, the time an argument.

Ten buckets that are dropped one by one: exact to a tenth of the window, in a space that does not grow with the calls.
"""

from __future__ import annotations

from collections import deque
from typing import Final

BUCKETS: Final = 10


class Window:
    """Of the last `seconds` seconds: `good` and `failed`, as they were at the last count."""

    __slots__ = ("_buckets", "_current", "_edge", "_slot", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self.clear()

    def clear(self) -> None:
        self._slot = 0
        self._edge = 0.0
        self._buckets: deque[list[int]] = deque([[0, 0] for _ in range(BUCKETS)], BUCKETS)
        self._current = self._buckets[-1]

    def count(self, now: float, failed: bool) -> None:
        if now >= self._edge:
            self.turn(now)
        self._current[failed] += 1

    @property
    def good(self) -> int:
        return sum(good for good, _ in self._buckets)

    @property
    def failed(self) -> int:
        return sum(failed for _, failed in self._buckets)

    def turn(self, now: float) -> None:
        """Drop what is older than the window."""
        slot = int(now // self._width)
        for _ in range(min(BUCKETS, slot - self._slot)):
            self._current = [0, 0]
            self._buckets.append(self._current)
        self._slot, self._edge = slot, (slot + 1) * self._width
