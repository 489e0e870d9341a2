"""A count of calls under way, and the line of those that wait for one of them to end: nobody overtakes, nothing is lost.

A slot that is freed is handed to the first in line; one that is cancelled in the turn of its grant hands it on. The number of
slots may change meanwhile: fewer cut nobody short, more let those in line through at once.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, TimerHandle, get_running_loop
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from math import inf
from typing import Any, Final

from fairlead.core import Call, Upstream
from fairlead.errors import ConfigError, DeadlineExceeded, Knowledge, LimitReached

LAST: Final = 64
"""Of how many that waited it is kept how long."""


class Line:
    """Who waits, by priority: a higher one first, and first come, first served among equals."""

    __slots__ = ("_equals", "ranks")

    def __init__(self) -> None:
        self.ranks: list[int] = []
        """The priorities of those who wait, lowest first: mostly none, or one."""
        self._equals: dict[int, OrderedDict[Future[bool], tuple[Call, float]]] = {}

    def join(self, grant: Future[bool], call: Call, priority: int, until: float) -> None:
        equals = self._equals.get(priority)
        if equals is None:
            insort(self.ranks, priority)
            equals = self._equals[priority] = OrderedDict()
        equals[grant] = call, until

    def leave(self, grant: Future[bool], priority: int) -> bool:
        """Whether it was in line."""
        equals = self._equals.get(priority)
        if equals is None or equals.pop(grant, None) is None:
            return False
        self._tidy(priority)
        return True

    def first(self) -> Future[bool]:
        """Take out who is served next."""
        priority = self.ranks[-1]
        grant, _ = self._equals[priority].popitem(last=False)
        self._tidy(priority)
        return grant

    def last(self) -> tuple[Future[bool], Call]:
        """Who would be served last."""
        equals = self._equals[self.ranks[0]]
        grant = next(reversed(equals))
        return grant, equals[grant][0]

    def late(self, now: float) -> list[tuple[Future[bool], int]]:
        """Whose time is up, and their priorities."""
        return [
            (grant, priority)
            for priority, equals in self._equals.items()
            for grant, (_, until) in equals.items()
            if until <= now
        ]

    def soonest(self) -> float:
        """When the next one's time is up."""
        return min([until for equals in self._equals.values() for _, until in equals.values()], default=inf)

    def __len__(self) -> int:
        return sum(map(len, self._equals.values()))

    def _tidy(self, priority: int) -> None:
        if not self._equals[priority]:
            del self._equals[priority]
            del self.ranks[bisect_left(self.ranks, priority)]


class Slots:
    """Counts calls under way, and keeps those who wait. Who finds `taken` below `limit` adds one to it, and gives it back by `release`."""

    __slots__ = ("_rings", "_timer", "bound", "limit", "line", "rule", "shed", "taken", "upstream", "waited")

    def __init__(self, upstream: Upstream, limit: int, bound: float = inf, rule: Any = None) -> None:
        self.upstream = upstream
        self.limit = limit
        self.bound = bound
        """How many may wait."""
        self.rule = rule
        """What moves the limit, if anything does."""
        self.taken = 0
        """Calls under way: more than `limit` only while it has just become less."""
        self.line = Line()
        self._timer: TimerHandle | None = None
        self._rings = inf
        """When it rings."""
        self.shed = 0
        """How many were refused because the line was full."""
        self.waited: deque[float] = deque(maxlen=LAST)
        """Seconds that the last ones in line were there, however that ended."""

    @property
    def waiting(self) -> int:
        return len(self.line)

    def release(self) -> None:
        """Free a slot; if anyone waits, it is the next one's."""
        self.taken -= 1
        if self.line.ranks:
            self._fill()

    def resize(self, limit: int) -> None:
        """From now on so many slots."""
        self.limit = limit
        self._fill()

    async def turn(self, call: Call) -> None:
        """Wait for a slot and take it.

        Raises LimitReached where the line is full, or becomes so by calls of a higher priority; DeadlineExceeded; what
        `Upstream.turn_away` refuses it with; ConfigError once the client is closed.
        """
        priority = call.priority
        if not isinstance(priority, int):
            raise ConfigError(f"priority={priority!r} is not a whole number")
        if not self._make_room(priority):
            raise self._full(call)
        clock = call.clock
        began = clock()
        until, told = call.deadline, "the deadline passed"
        if (patience := call.timeout.wait) is not None and began + patience < until:
            until, told = began + patience, f"none was free for {patience:g} s"
        loop = get_running_loop()
        grant: Future[bool] = loop.create_future()
        self.line.join(grant, call, priority, until)
        if until < self._rings:
            self._ring(until, loop)
        try:
            granted = await self.upstream.wait(grant, Knowledge.NOT_SENT, call)
        except BaseException:
            if not self.line.leave(grant, priority) and _served(grant):
                self.release()
            raise
        finally:
            if not self.line.ranks and self._timer is not None:
                self._ring(inf, loop)
            now = clock()
            self.waited.append(now - began)
        if granted:
            if now < call.deadline:
                return
            self.release()
            told = "the deadline passed"
        raise DeadlineExceeded(
            f"in line for a slot ({self._state()}): {told}",
            request=call.request,
            upstream=self.upstream.name,
            phase="waiting",
            knowledge=Knowledge.NOT_SENT,
        )

    def _fill(self) -> None:
        """Hand out what is free."""
        while self.line.ranks and self.taken < self.limit:
            grant = self.line.first()
            if not grant.done():  # one that is gives up, in this very turn
                self.taken += 1
                grant.set_result(True)

    def _ring(self, at: float, loop: AbstractEventLoop) -> None:
        """Look for those whose time is up then; `inf`: for nobody. One timer serves the line: next to none of its waits ends by it."""
        if self._timer is not None:
            self._timer.cancel()
        self._rings = at
        self._timer = loop.call_at(at, self._expire, loop) if at < inf else None

    def _expire(self, loop: AbstractEventLoop) -> None:
        # A timer may come early, by the clock's resolution.
        for grant, priority in self.line.late(max(loop.time(), self._rings)):
            if not grant.done():
                self.line.leave(grant, priority)
                grant.set_result(False)
        self._ring(self.line.soonest(), loop)

    def _make_room(self, priority: int) -> bool:
        """Whether there is a place in line, if need be that of the last one, whose priority is lower."""
        while self.line.ranks and len(self.line) >= self.bound:
            grant, call = self.line.last()
            lowest = self.line.ranks[0]
            if not grant.done():
                if lowest >= priority:
                    return False
                self.upstream.refuse(grant, self._full(call, "; one of a higher priority came"))
            self.line.leave(grant, lowest)
        return len(self.line) < self.bound

    def _full(self, call: Call, why: str = "") -> LimitReached:
        self.shed += 1
        return LimitReached(
            f"the line is full ({self._state()}){why}", request=call.request, upstream=self.upstream.name
        )

    def _state(self) -> str:
        return f"limit {self.limit}, {self.taken} under way and {len(self.line)} waiting"

    def __repr__(self) -> str:
        return f"<{self.taken} of {self.limit} slots taken, {len(self.line)} waiting>"


def _served(grant: Future[bool]) -> bool:
    """Whether who is no longer in line has a slot: it may have been refused, or have given up, or its time was over."""
    return not grant.cancelled() and grant.result()
