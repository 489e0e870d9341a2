"""Who asked, and until when: a call made for a caller ends by that caller's deadline, and is given up when the caller leaves.

Both are kept in a context variable, so nobody has to hand them on: they reach every call of the task that is running, and of the
tasks it starts meanwhile. What is to outlive its caller says so, by `detached()`.
"""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from math import inf
from time import monotonic
from types import TracebackType
from typing import Any, Final

from fairlead.core import Call, Send
from fairlead.errors import ConfigError
from fairlead.message import Response


class Asked:
    """What every call inherits: a `deadline` (absolute, `inf` for none), and, through `outer`, a caller who may leave."""

    __slots__ = ("clock", "deadline", "outer")

    def __init__(self, deadline: float, outer: Asked | None = None, clock: Callable[[], float] | None = None) -> None:
        self.deadline = deadline
        self.outer = outer
        self.clock = clock or clock_here(outer)
        """The time that the deadline is meant in: mostly that of the loop that runs, and of another one in a thread."""

    def carry(self, send: Send, call: Call) -> Awaitable[Response]:
        """Send, while the caller is there to wait for it."""
        return send(call) if self.outer is None else self.outer.carry(send, call)


_asked: Final[ContextVar[Asked | None]] = ContextVar("fairlead.asked", default=None)
asked: Final = _asked.get
"""What calls inherit here; None where nobody asked. Every call asks this: bound once, it costs half as much."""
ask: Final = _asked.set
end: Final = _asked.reset


def clock_here(inherited: Asked | None) -> Callable[[], float]:
    """The loop's time; in a thread that runs none, that of whoever asked, or else the system's."""
    if (loop := _get_running_loop()) is not None:
        return loop.time
    return monotonic if inherited is None else inherited.clock


def within(seconds: float | None) -> Bounded:
    """`with within(2.0):` every call made inside ends 2 s from now, also in tasks that are started inside. None adds no bound.

    Nested, and inside a request with a deadline, the earlier counts. 0 or less, as what is left may be, and nothing is sent any
    more: DeadlineExceeded. `as due` is the deadline in loop time, `inf` for none.
    """
    given: Any = seconds
    if given is not None and (type(given) not in {int, float} or not -inf < given < inf):
        raise ConfigError(f"within({seconds!r}) is not a number of seconds; None adds no bound")
    return Bounded(seconds)


def detached() -> Detached:
    """`with detached():` calls made inside, and in tasks that are started inside, have no caller: no deadline but their own.

    Nor are they given up when somebody leaves. For what was begun and must be brought to its end, and for what outlives the request.
    """
    return Detached()


def remaining() -> float:
    """Seconds until the inherited deadline: 0 when it has passed, `inf` where there is none."""
    inherited = asked()
    if inherited is None or inherited.deadline == inf:
        return inf
    return max(0.0, inherited.deadline - inherited.clock())


class Bounded:
    """What `within` returns. No generator: that would also be a decorator, which bounds nothing of an async function."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __enter__(self) -> float:
        outer = asked()
        due = inf if outer is None else outer.deadline
        inner = outer
        # Without a bound of its own it changes nothing, and what is lifted outside is lifted inside too.
        if self._seconds is not None:
            clock = clock_here(outer)
            due = min(due, clock() + self._seconds)
            inner = Asked(due, outer, clock)
        self._token: Token[Asked | None] = ask(inner)
        return due

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._token)


class Detached:
    """What `detached` returns."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: Token[Asked | None] = ask(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._token)
