"""One call on its way from where it is made to the loop of a client, and back.

It keeps the context of whoever makes it, and the deadline. Who waits is told whatever happens, and who waits no longer leaves nothing.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, CancelledError, Task
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any, Protocol

from fairlead import caller
from fairlead.errors import ConfigError, FairleadError
from fairlead.message import Response


class Loop(Protocol):
    """What it knows of where it goes to."""

    name: str
    loop: AbstractEventLoop
    ended: bool
    crossing: set[Crossing]
    """Those that are under way."""

    def no_more(self) -> ConfigError:
        """Why nothing runs there any more."""
        ...


class Crossing:
    """One call, from where it is made to the loop and back. `over` is called there once it has come to its end."""

    __slots__ = ("_background", "_due", "_function", "_given", "_left", "_named", "_over", "_task", "error", "value")

    def __init__(
        self,
        background: Loop,
        function: Callable[..., Awaitable[Any]],
        given: tuple[Any, ...],
        named: Mapping[str, Any],
        over: Callable[[], object],
    ) -> None:
        self._background = background
        self._function, self._given, self._named = function, given, named
        inherited = caller.asked()
        # The deadline is of another loop's time, and whoever asked may be told only there.
        self._due = None if inherited is None else background.loop.time() + inherited.deadline - inherited.clock()
        self._task: Task[None] | None = None
        self._left = False
        self._over = over
        self.value: Any = None
        self.error: BaseException | None = None

    def begin(self) -> None:
        if self._background.ended:  # a task that is made now may never run
            self.end()
        else:
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
        self._end()

    def answer(self) -> Any:
        """What it came to, for whoever waited."""
        if (error := self.error) is not None:
            self.error = None  # its traceback leads to the crossing
            try:
                if isinstance(error, CancelledError):
                    background = self._background
                    cancelled = FairleadError(f"{background.name}: the call was cancelled")
                    raise background.no_more() if background.ended else cancelled
                raise error
            finally:
                del error  # what is raised knows this frame
        return self.value

    async def _carry(self) -> None:
        try:
            if (due := self._due) is not None:
                caller.ask(None if due == inf else caller.Asked(due, None, self._background.loop.time))
            self.value = await self._function(*self._given, **self._named)
        except BaseException as error:
            self.error = error
        self._end()

    def _end(self) -> None:
        self._background.crossing.discard(self)
        if self._left:
            self._discard()
        self._over()

    def _discard(self) -> None:
        if isinstance(self.value, Response):
            self.value.close()
