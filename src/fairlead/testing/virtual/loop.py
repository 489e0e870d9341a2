"""A loop whose clock jumps to the next timer instead of waiting for it: hours of policy in milliseconds, the same every time.

Only what lives on the loop can be told this way: sleeps, timers, queues, task groups. Threads and sockets belong to the real
world's clock, so a thread is refused, and a test that waits for nothing is an error and never an end.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import wraps
from math import inf, ulp
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Jump(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and not self.loop._ready and (timeout is None or timeout > 0):
            self.loop.jump()
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` stands still while something is ready, and then jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)
        self._ready: deque[Any]
        self._scheduled: list[asyncio.TimerHandle]
        self._clock_resolution: float

    def time(self) -> float:
        return self.now

    def jump(self) -> None:
        """Make it the next timer's time; RuntimeError if there is none."""
        due = self._scheduled[0].when() if self._scheduled else inf
        if due == inf:
            raise RuntimeError("every task waits, nothing is ready and no timer is set: this would wait for ever")
        self.now = max(self.now, due)
        # A timer is due within the clock's resolution, which far from zero must be more than the last place.
        self._clock_resolution = max(1e-9, 2 * ulp(self.now))

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        raise RuntimeError("virtual time has no threads: script what they would answer")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """A plain test function from an async one, run on virtual time."""

    @wraps(test)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return told
