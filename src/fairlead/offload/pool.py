"""The places for blocking work, and the line before them: what waits is seen and bounded, and waits no longer than its deadline.

asyncio's own executor queues without a bound, and host names are looked up in it: work there makes every new connection wait. Here
the executor below never queues.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, CancelledError, get_running_loop, to_thread, wait
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from logging import getLogger
from math import inf
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast
from weakref import ref

from fairlead import forks
from fairlead.caller import within
from fairlead.core import Call, Timeout
from fairlead.errors import ConfigError, DeadlineExceeded, FairleadError
from fairlead.keywords import patience
from fairlead.offload.life import Life, settle, tell
from fairlead.offload.work import Running, end, packed

P = ParamSpec("P")
R = TypeVar("R")

THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""As many as `concurrent.futures` has where nothing is said: most such work waits for a disk or a driver."""
WAITING: Final = 1000
DRAIN: Final = 1.0
"""Seconds that what is under way has to end, once it is told to close."""
_log: Final = getLogger("fairlead")


class Offload:
    """So many `threads`, or so many `processes`, and a line of at most `waiting` before them (None: no bound): `await pool(fn, *args)`.

    `timeout` bounds each call in seconds, its wait included; the deadline of whoever asked does so anyway. When it passes in line, the
    work is never begun. When it passes later, a thread cannot be stopped: its caller goes, and the place is taken until the work ends.
    A process is killed, and its place has a new one. A caller that is cancelled leaves in the same way.

    It opens by its first call. Close it, by `async with` or in a `lifespan`; entered again, it begins anew.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        processes: int | None = None,
        waiting: int | None = WAITING,
        timeout: float | None = None,
        name: str = "offload",
    ) -> None:
        for place, number in (("threads", threads), ("processes", processes)):
            if number is not None and (type(number) is not int or number < 1):
                raise ConfigError(f"Offload: {place}={number!r} is not a whole number from 1 on")
        if threads is not None and processes is not None:
            raise ConfigError("Offload: threads= and processes= are two kinds of places: make one for each")
        if waiting is not None and (type(waiting) is not int or waiting < 0):
            raise ConfigError(f"Offload: waiting={waiting!r} is not a whole number from 0 on; None sets no bound")
        if timeout is not None and (type(timeout) not in {int, float} or not 0 < timeout < inf):
            raise ConfigError(f"Offload: timeout={timeout!r} is not a number of seconds above 0; None sets no bound")
        self.name = name
        self.timeout = timeout
        self.limit = processes or threads or THREADS
        self._by_process = processes is not None
        self._bound = inf if waiting is None else waiting
        self._begin()

    @property
    def under_way(self) -> int:
        """Places that are taken."""
        return self._life.slots.taken

    @property
    def abandoned(self) -> int:
        """Of those, by works that nobody waits for any more."""
        return sum([running.left for running in self._life.running])

    @property
    def waiting(self) -> int:
        return self._life.slots.waiting

    @property
    def waited(self) -> tuple[float, ...]:
        """Seconds that the last ones were in line, of those who had to wait."""
        return tuple(self._life.slots.waited)

    @property
    def shed(self) -> int:
        """How many found the line full."""
        return self._life.slots.shed

    async def __call__(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What `work(*args, **kwargs)` returns, or raises. In a thread, it sees the context variables of whoever calls.

        Raises DeadlineExceeded; LimitReached where the line is full; ConfigError for what cannot be called there, or once it is closed.
        """
        loop = self._here()
        life = self._life
        told = getattr(work, "__qualname__", None) or type(work).__name__
        parcel = self._checked(told, work, args, kwargs)
        with within(self.timeout) as due:
            context = copy_context()
        if due <= loop.time():
            raise self._late(told, "was not begun, as no time was left")
        slots = life.slots
        life.calls += 1
        try:
            if slots.taken < slots.limit:
                slots.taken += 1
            else:
                await slots.turn(Call(cast("Any", None), Timeout.of(None), due, clock=loop.time))
            running = Running(loop.create_future(), told)
            try:
                if parcel is None:
                    running.work = life.executor.submit(partial(context.run, work, *args, **kwargs))
                else:
                    running.work = life.executor.submit(running.in_process, life.idle, parcel, f"{self.name}: {told}")
            except BaseException:
                slots.release()
                raise
            life.running.add(running)
            running.work.add_done_callback(partial(tell, loop, partial(self._ended, life, running)))
            timer = None if due == inf else loop.call_at(due, settle, running.outcome)
            try:
                await running.outcome
            finally:
                if timer is not None:
                    timer.cancel()
                if not running.work.done():
                    running.leave()
            if not running.left:
                try:
                    answer: R = running.work.result()
                except CancelledError:  # the work's own: whoever awaits it was not cancelled
                    raise FairleadError(f"{told} was cancelled", upstream=self.name) from None
                return answer
        finally:
            life.leave()
        if life.closed:
            raise ConfigError(f"{self.name}: it was closed while {told} ran")
        what = (
            "its thread cannot be stopped, and is taken until it ends" if parcel is None else "its process was killed"
        )
        raise self._late(told, f"was still running: {what}")

    async def close(self, drain: float | None = None) -> None:
        """Nothing begins any more; what is under way has `drain` seconds to end (1 s, if nothing is said), and is then abandoned.

        For a thread that is still at work then nobody waits but the interpreter, when it ends. May be called again.
        """
        seconds = patience(self.name, drain, DRAIN)
        life, loop = self._life, get_running_loop()
        here = life.loop() is loop
        if life.elsewhere(loop):
            raise ConfigError(f"{self.name}: close it on the event loop that opened it, which still runs")
        life.closed = True
        try:
            if here and life.calls and seconds:
                life.emptied = life.emptied or loop.create_future()
                await wait({life.emptied}, timeout=seconds)
        finally:
            life.slots.upstream.close()
            for running in life.running:
                running.leave()
                if here:
                    settle(running.outcome)
            life.executor.shutdown(wait=False)
            idle, life.idle[:] = life.idle[:], []
            if idle:
                await to_thread(end, idle)

    async def __aenter__(self) -> Self:
        if self._life.closed:
            self._begin()
        self._here()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(None if kind is None else 0.0)

    def explain(self) -> str:
        """How many at once, and how the others wait, in words."""
        kind = "process" if self._by_process else "thread"
        kind += "" if self.limit == 1 else "es" if self._by_process else "s"
        line = "" if self._bound == inf else f" of at most {self._bound}"
        bound = "" if self.timeout is None else f" {self.timeout:g} s or"
        return f"{self.name}: {self.limit} {kind}; the rest wait in a line{line}, no longer than{bound} their deadline"

    def forked(self) -> None:
        """In a child: the threads and processes are its parent's, and it begins with its own."""
        self._begin()

    def _begin(self) -> None:
        self._life = Life(self.name, self.limit, self._bound)

    def _here(self) -> AbstractEventLoop:
        loop = get_running_loop()
        life = self._life
        if life.closed:
            raise ConfigError(f"{self.name}: it is closed; open it once and close it when the application ends")
        if life.loop() is not loop:
            if life.elsewhere(loop):
                raise ConfigError(f"{self.name}: it was opened on another event loop: make one for each loop")
            self._begin()
            self._life.loop = ref(loop)
            forks.settle(self, None, forked=False)
        return loop

    def _checked(self, told: str, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
        """What a process is sent. Raises ConfigError for what cannot be called, or not be sent."""
        if not callable(work):
            raise ConfigError(f"{self.name}: {told} cannot be called: pass the function, and its arguments after it")
        for called in (work, type(work).__call__):
            if iscoroutinefunction(called):
                raise ConfigError(f"{self.name}: {told} is async: await it where you are")
            if isgeneratorfunction(called) or isasyncgenfunction(called):
                raise ConfigError(f"{self.name}: {told} is a generator, and would run where it is read: return a list")
        if not self._by_process:
            return None
        try:
            return packed(work, args, kwargs)
        except Exception as error:
            raise ConfigError(
                f"{self.name}: {told} cannot be sent to a process ({type(error).__name__}): "
                "define it at the top of a module, and pass what can be pickled"
            ) from error

    def _ended(self, life: Life, running: Running) -> None:
        life.ended(running)
        if running.left and not self._by_process and (error := running.work.exception()) is not None:
            _log.warning(
                "%s: %s failed, when nobody waited for it any more: %s", self.name, running.told, type(error).__name__
            )

    def _late(self, told: str, why: str) -> DeadlineExceeded:
        return DeadlineExceeded(f"{told} {why}", upstream=self.name)

    def __repr__(self) -> str:
        return f"<Offload {self.name}: {self.under_way} of {self.limit} taken, {self.waiting} waiting>"
