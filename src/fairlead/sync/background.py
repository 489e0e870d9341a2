"""One event loop in a thread of its own, for threads that have none: each hands over a call, and waits for what becomes of it.

A call crosses twice: it is put on the loop, in the context of the thread that makes it, and what it came to wakes that thread. The
thread may be gone without an end, in a forked child or as the interpreter ends: nobody may wait for it then.
"""

from __future__ import annotations

from _thread import allocate_lock
from asyncio import (
    AbstractEventLoop,
    Event,
    Future,
    Runner,
    _get_running_loop,
    get_running_loop,
    new_event_loop,
)
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from sys import is_finalizing
from threading import Thread
from typing import Any, Final, NoReturn, TypeVar, cast

from fairlead.errors import ConfigError
from fairlead.message import Response
from fairlead.sync.crossing import Crossing

T = TypeVar("T")

ENDING: Final = 5.0
"""Seconds that the thread has to end: a name that is being looked up holds it, and nobody can hurry that."""
HEARING: Final = 1.0
"""Seconds after which a thread that waits looks for an interrupt: one that comes as the wait begins, and on Windows any, wakes nobody."""


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
        try:
            self._thread.start()
        except RuntimeError:  # there are too many
            self.loop.close()
            raise
        except BaseException:  # an interrupt, and the thread is there
            self.end()
            raise

    @property
    def lost(self) -> bool:
        """Whether the thread is gone without an end: it is the parent's, or the interpreter is ending. Whoever waits for it, waits for ever."""
        return self.forked_away or is_finalizing()

    def run(
        self, function: Callable[..., Awaitable[T]], given: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None
    ) -> T:
        """What comes of `await function(*given, **named)` on the loop. An exception that ends the waiting cancels the call."""
        if (running := _get_running_loop()) is not None:
            raise self._in_a_loop(running)
        gate = allocate_lock()
        gate.acquire()
        crossing = Crossing(self, function, given, named or {}, gate.release)
        try:
            self._set_out(crossing)
            while not gate.acquire(timeout=HEARING):
                pass
        except BaseException:
            self._give_up(crossing)
            raise
        return cast("T", crossing.answer())

    async def reach(self, function: Callable[..., Awaitable[T]], *given: Any) -> T:
        """The same for who runs a loop, and waits without holding it up."""
        loop = get_running_loop()
        over = loop.create_future()
        crossing = Crossing(self, function, given, {}, partial(_tell, loop, over))
        try:
            self._set_out(crossing)
            await over
        except BaseException:
            self._give_up(crossing)
            raise
        return cast("T", crossing.answer())

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

    def no_more(self) -> ConfigError:
        if self.forked_away:
            return ConfigError(f"{self.name}: the client was opened in another process, before a fork: open one here")
        if not self.ended and is_finalizing():
            return ConfigError(f"{self.name}: the interpreter is ending, and so did the thread that carries the calls")
        return closed(self.name)

    def _set_out(self, crossing: Crossing) -> None:
        self.crossing.add(crossing)
        try:
            if is_finalizing():
                raise RuntimeError
            self.hand_over(crossing.begin)
        except RuntimeError:
            self.crossing.discard(crossing)
            raise self.no_more() from None

    def _give_up(self, crossing: Crossing) -> None:
        with suppress(RuntimeError):
            self.hand_over(crossing.leave)

    def _in_a_loop(self, running: AbstractEventLoop) -> ConfigError:
        if running is self.loop:
            return ConfigError(
                f"{self.name}: an event loop runs in this thread, which is the client's own, and would wait for itself: "
                "what policies call may be async, and of an upload the pieces are fetched before"
            )
        return ConfigError(
            f"{self.name}: an event loop runs in this thread, and would stand still meanwhile: await the async client here"
        )

    def _live(self) -> None:
        try:
            with Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self._until_the_end())
        finally:
            for crossing in tuple(self.crossing):
                crossing.end()

    async def _until_the_end(self) -> None:
        try:
            await self._ends.wait()
        finally:
            self.ended = True  # whatever ended it
            for response in tuple(self.streams):
                with suppress(Exception):  # of whoever wants to know that it is closed
                    response.close()


def closed(name: str) -> ConfigError:
    return ConfigError(f"{name}: the client is closed; open it once and close it when the application ends")


def _new_loop() -> AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return new_event_loop()
    made: AbstractEventLoop = uvloop.new_event_loop()
    return made


def _tell(loop: AbstractEventLoop, over: Future[None]) -> None:
    with suppress(RuntimeError):  # a loop that is closed: nobody is there to be told
        loop.call_soon_threadsafe(_settle, over)


def _settle(over: Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _refuse(_: Callable[[], object]) -> NoReturn:
    raise RuntimeError("no loop")
