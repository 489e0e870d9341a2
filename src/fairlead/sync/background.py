"""One event loop in a thread of its own, for threads that have none: each hands over a call, and waits for what becomes of it.

A call crosses twice: it is put on the loop, in the context of the thread that makes it, and what it came to wakes that thread. Who
waits is released whatever happens, also when the loop ends meanwhile.
"""

from __future__ import annotations

from _thread import allocate_lock
from asyncio import (
    AbstractEventLoop,
    CancelledError,
    Event,
    Runner,
    Task,
    _get_running_loop,
    new_event_loop,
    run_coroutine_threadsafe,
    wrap_future,
)
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from threading import Thread
from typing import Any, Final, NoReturn, TypeVar, cast

from fairlead import caller, forks
from fairlead.errors import ConfigError, FairleadError
from fairlead.message import Response

T = TypeVar("T")

ENDING: Final = 5.0
"""Seconds that the thread has to end: a name that is being looked up holds it, and nobody can hurry that."""
HEARING: Final = 1.0
"""Seconds after which a thread that waits looks for an interrupt: one that comes as the wait begins, and on Windows any, wakes nobody."""


class Crossing:
    """One call, from a thread to the loop and back."""

    __slots__ = ("_background", "_function", "_given", "_left", "_named", "_seconds", "_task", "error", "gate", "value")

    def __init__(
        self,
        background: Background,
        function: Callable[..., Awaitable[Any]],
        given: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> None:
        self._background = background
        self._function, self._given, self._named = function, given, named
        inherited = caller.asked()
        # The deadline is of another loop's time, and whoever asked may be told only there.
        self._seconds = None if inherited is None else inherited.deadline - inherited.clock()
        self._task: Task[None] | None = None
        self._left = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.gate = allocate_lock()
        self.gate.acquire()

    def begin(self) -> None:
        self._task = self._background.loop.create_task(self._carry())

    def leave(self) -> None:
        """Nobody waits any more: it is cancelled, or what it came to is closed."""
        self._left = True
        self._background.crossing.discard(self)
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._discard()

    def end(self) -> None:
        """The loop is no more: who waits still, waits in vain."""
        self.error = self.error or CancelledError()
        self._over()

    async def _carry(self) -> None:
        try:
            if (seconds := self._seconds) is not None:
                clock = self._background.loop.time
                caller.ask(None if seconds == inf else caller.Asked(clock() + seconds, None, clock))
            self.value = await self._function(*self._given, **self._named)
        except BaseException as error:
            self.error = error
        self._over()

    def _over(self) -> None:
        self._background.crossing.discard(self)
        if self._left:
            self._discard()
        self.gate.release()

    def _discard(self) -> None:
        if isinstance(self.value, Response):
            self.value.close()


class Background:
    """The loop and its thread. uvloop where it is installed, as a call then costs the less to hand over."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = _new_loop()
        self.hand_over: Callable[[Callable[[], object]], object] = self.loop.call_soon_threadsafe
        """Have something run on the loop; raises RuntimeError where there is none any more."""
        self.forked_away = self.ended = False
        self.crossing: set[Crossing] = set()
        self.streams: set[Response] = set()
        """Those that are open. They are closed before the loop ends."""
        self._ends = Event()
        self._thread = Thread(target=self._live, name=f"fairlead {name}", daemon=True)
        self._thread.start()

    def run(
        self, function: Callable[..., Awaitable[T]], given: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None
    ) -> T:
        """What comes of `await function(*given, **named)` on the loop. An exception that ends the waiting cancels the call."""
        if _get_running_loop() is not None:
            raise ConfigError(
                f"{self.name}: an event loop runs in this thread, and would stand still meanwhile: await the async client here"
            )
        crossing = Crossing(self, function, given, named or {})
        try:
            self.crossing.add(crossing)
            try:
                self.hand_over(crossing.begin)
            except RuntimeError:
                self.crossing.discard(crossing)
                raise self._no_more() from None
            acquire = crossing.gate.acquire
            while not acquire(timeout=HEARING):
                pass
        except BaseException:
            with suppress(RuntimeError):
                self.hand_over(crossing.leave)
            raise
        if (error := crossing.error) is not None:
            crossing.error = None  # its traceback leads to the crossing
            try:
                if isinstance(error, CancelledError):
                    raise self._no_more() if self.ended else FairleadError(f"{self.name}: the call was cancelled")
                raise error
            finally:
                del error  # what is raised knows this frame
        return cast("T", crossing.value)

    async def reach(self, function: Callable[..., Awaitable[T]], *given: Any) -> T:
        """The same for who runs a loop, and waits without holding it up."""

        async def reached() -> T:
            return await function(*given)

        return await wrap_future(run_coroutine_threadsafe(reached(), self.loop))

    def end(self) -> None:
        """The loop ends with all that is on it. May be called again, and by any thread."""
        self.ended = True
        with suppress(RuntimeError):
            self.hand_over(self._ends.set)

    def drop(self, close: Callable[[], Awaitable[None]]) -> None:
        """The same after `close`, with nobody to wait for it."""

        async def closing() -> None:
            try:
                await close()
            finally:
                self.end()

        def begin() -> None:
            self._closing = self.loop.create_task(closing())

        with suppress(RuntimeError):
            self.hand_over(begin)

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join(ENDING)

    def forked(self) -> None:
        """In a child: the thread is not here, and the loop is the parent's. What the thread held, this loop too, is never freed here."""
        self.forked_away = True
        self.hand_over = _refuse

    def _live(self) -> None:
        try:
            with Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self._until_the_end())
        finally:
            for crossing in tuple(self.crossing):
                crossing.end()

    async def _until_the_end(self) -> None:
        forks.settle(self, None, forked=False)
        await self._ends.wait()
        for response in tuple(self.streams):
            with suppress(Exception):  # of whoever wants to know that it is closed
                response.close()

    def _no_more(self) -> ConfigError:
        if self.forked_away:
            return ConfigError(f"{self.name}: the client was opened in another process, before a fork: open one here")
        return closed(self.name)


def closed(name: str) -> ConfigError:
    return ConfigError(f"{name}: the client is closed; open it once and close it when the application ends")


def _new_loop() -> AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return new_event_loop()
    made: AbstractEventLoop = uvloop.new_event_loop()
    return made


def _refuse(_: Callable[[], object]) -> NoReturn:
    raise RuntimeError("no loop")
