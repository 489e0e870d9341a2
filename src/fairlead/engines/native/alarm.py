"""One timer for the life of a connection, moved only when its end comes nearer: a new one for each wait costs five times as much."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from math import inf

GRAIN = 0.001
"""The loops' timers have a grain of 1 ms, and may ring that much too early."""


class Alarm:
    """Rings once when its time has come. Setting it later, or clearing it, leaves the timer where it is until that goes off."""

    __slots__ = ("_at", "_handle", "_loop", "_ring", "due")

    def __init__(self, loop: AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self.due = 0.0
        self._at = inf
        self._handle: TimerHandle | None = None

    def set(self, due: float) -> None:
        """Ring at `due` (loop time), or never for inf."""
        self.due = due
        if due < self._at:
            if self._handle is not None:
                self._handle.cancel()
            self._at = due
            self._handle = self._loop.call_at(due, self._check)

    def clear(self) -> None:
        self.due = inf

    def stop(self) -> None:
        """Clear it for good, and let go of the loop's timer and of whoever was to be rung for."""
        self.due = self._at = inf
        self._ring = _nobody
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _check(self) -> None:
        self._handle, self._at = None, inf
        if self.due == inf:
            return
        if self._loop.time() + GRAIN < self.due:
            self.set(self.due)
        else:
            self.due = inf
            self._ring()


def _nobody() -> None:
    """Whom a stopped alarm rings for."""
