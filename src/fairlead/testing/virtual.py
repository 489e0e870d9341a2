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
from itertools import count
from math import inf, ulp
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Jump(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.turn()
        events = super().select(0)
        if not events and not self.loop._ready and (timeout is None or timeout > 0):
            self.loop.jump()
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` stands still while something is ready, and then jumps to the next timer."""

    def __init__(self, *, step_by_step: bool = False) -> None:
        self.now = 0.0
        self.steps = 0
        self._victim: tuple[asyncio.Task[Any], int] | None = None
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)
        self._ready: deque[Any] = _OneByOne() if step_by_step else deque()
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

    def turn(self) -> None:
        """Between two turns of the loop: count them, and cancel whom `Cut` chose."""
        self.steps += 1
        if self._victim is not None and self.steps > self._victim[1]:
            self._victim[0].cancel()
            self._victim = None

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        raise RuntimeError("virtual time has no threads: script what they would answer")


class _OneByOne(deque[Any]):
    """The loop's ready callbacks, one in each turn, so that a cancellation can fall between any two."""

    def __len__(self) -> int:
        return min(1, super().__len__())


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


class Cut:
    """Runs a coroutine and cancels it after so many steps of the loop; `reached` says whether it got that far."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.reached = False

    async def __call__(self, work: Coroutine[Any, Any, Any]) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        task = loop.create_task(work)
        loop._victim = task, loop.steps + self.step
        try:
            await task
        except asyncio.CancelledError:
            self.reached = True
        finally:
            self.reached = self.reached or loop._victim is None
            loop._victim = None


def at_every_step(story: Callable[[Cut], Coroutine[Any, Any, None]]) -> int:
    """Tell a story again and again, its `await cut(work)` cancelled one step later each time; returns how many cuts there were.

    A step is one callback of the loop, so a cancellation falls between any two. What must hold afterwards, the story asserts.
    """
    for step in count():
        cut = Cut(step)
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(step_by_step=True)) as runner:
            runner.run(story(cut))
        if not cut.reached:
            return step
    raise AssertionError
