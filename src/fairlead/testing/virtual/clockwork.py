"""An event loop of nothing but a clock: timers in one heap, and what is ready in one line.

Policies ask a loop for its time, timers, futures and tasks. `VirtualLoop` has them too, beside sockets, signals and threads, and in
every turn asks the system whether any of those came: too much, where calls come by the million. What this one has not raises
NotImplementedError, as `asyncio.AbstractEventLoop` does. What asks for no task is `played`, as a task costs half as much again: it has
a context of its own, as a task has, but nobody can cancel it.
"""

from __future__ import annotations

import asyncio
from asyncio import events, tasks
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from heapq import heappop, heappush
from itertools import count
from types import coroutine
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")

Ended = Callable[[int, Any, Exception | None], None]
"""Told of the end of what was played: the number it began with, what it returned, what it raised."""


class Timer(list[Any]):
    """When, a number that tells those of one moment apart, what, its arguments, its context. A list: C compares those by itself."""

    __slots__ = ()

    def cancel(self) -> None:
        self[2] = None

    def cancelled(self) -> bool:
        return self[2] is None

    def when(self) -> float:
        when: float = self[0]
        return when


class Clockwork(asyncio.AbstractEventLoop):
    """Its time is that of the last timer. `run` plays everything until nothing is left to come."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = count().__next__
        self._timers: list[Timer] = []
        self._ready: deque[Timer] = deque()
        self._running = False
        self._faults: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        timer = Timer((self.now, 0, callback, args, context))
        self._ready.append(timer)
        return timer

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Any:
        timer = Timer((when, self._number(), callback, args, context))
        heappush(self._timers, timer)
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Any:
        timer = Timer((self.now + delay, self._number(), callback, args, context))
        heappush(self._timers, timer)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def play(self, number: int, work: Coroutine[Any, Any, Any], ended: Ended) -> None:
        """Begin this now, and tell `ended` when it is over. For what never asks which task it is in, and cancels none."""
        _Played(self, number, work, ended)

    def start(self, number: int, work: Coroutine[Any, Any, Any], ended: Ended) -> None:
        """The same in a task, for what does."""
        task = asyncio.Task(work, loop=self, name="call")  # a name of its own would cost as much as the task
        task.add_done_callback(partial(_tell, number, ended))

    def until(self, when: float) -> Awaitable[None]:
        """That time: for what is played without a future."""
        if asyncio.current_task(self) is None:
            return _nap(when)
        future = self.create_future()
        self.call_at(when, _come, future)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._faults.append(context)

    def run(self) -> None:
        """Until nothing is ready and no timer is left. What a callback raises ends it, and what a task raised that nobody asked.

        Within another loop, whose task stands still meanwhile, it is the one that runs.
        """
        outer = events._get_running_loop()
        caller = asyncio.current_task(outer) if outer is not None else None
        if outer is not None and caller is not None:
            tasks._leave_task(outer, caller)
        events._set_running_loop(self)
        self._running = True
        timers, ready = self._timers, self._ready
        take = ready.popleft
        callback: Any
        args: Any
        try:
            while True:
                if ready:
                    _, _, callback, args, context = take()
                elif timers:
                    when, _, callback, args, context = heappop(timers)
                    if when > self.now:  # noqa: PLR1730  # half the cost of max()
                        self.now = when
                else:
                    break
                if callback is None:
                    continue
                if context is None:
                    callback(*args)
                else:
                    context.run(callback, *args)
        finally:
            self._running = False
            events._set_running_loop(outer)
            if outer is not None and caller is not None:
                tasks._enter_task(outer, caller)
        callback = args = context = None  # the last task, which tells what it failed with when nobody has it any more
        for fault in self._faults:
            raise fault.get("exception") or RuntimeError(fault["message"])


class _Played:
    """A coroutine on its way."""

    __slots__ = ("_context", "_ended", "_loop", "_number", "_send")

    def __init__(self, loop: Clockwork, number: int, work: Coroutine[Any, Any, Any], ended: Ended) -> None:
        self._loop = loop
        self._number = number
        self._ended = ended
        self._send = work.send
        self._context = context = copy_context()
        context.run(self)

    def __call__(self, _come: object = None) -> None:
        """As far as it goes now."""
        try:
            awaited = self._send(None)
        except StopIteration as stop:
            self._ended(self._number, stop.value, None)
        except Exception as error:
            self._ended(self._number, None, error)
        else:
            if type(awaited) is float:
                self._loop.call_at(awaited, self, context=self._context)
            elif awaited is None:
                self._loop.call_soon(self, context=self._context)
            else:
                # What a task does with a future it is given: its first half says so, and is taken back.
                awaited._asyncio_future_blocking = False
                awaited.add_done_callback(self, context=self._context)


def _tell(number: int, ended: Ended, task: asyncio.Task[Any]) -> None:
    error = task.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    ended(number, None if error is not None else task.result(), error)


@coroutine
def _nap(when: float) -> Generator[float, None, None]:
    yield float(when)


def _come(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
