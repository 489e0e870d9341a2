"""Those who wait for an origin, higher priority first, then in the order they came; whoever leaves, leaves no trace.

What lets them go is a rate (`fairlead.policies.gcra`) or, where none is known, the answers to those who went before
(`fairlead.policies.opening`). Both know until when the upstream asked to be left alone, and refuse at once whoever cannot wait
as long as it would have to.
"""

from __future__ import annotations

from asyncio import Future, TimerHandle, get_running_loop
from collections import OrderedDict
from collections.abc import Iterator
from math import inf

from fairlead.core import Call, Upstream
from fairlead.errors import Knowledge, LimitReached


class Waiting:
    """One in line: the last time that is of use to it, what tells it that this has come, and, once it is let go, which turn it has."""

    __slots__ = ("call", "timer", "turn", "until")

    def __init__(self, call: Call, until: float) -> None:
        self.call = call
        self.until = until
        self.timer: TimerHandle | None = None
        self.turn = -inf


class Line:
    """The line itself. Times are the loop's."""

    __slots__ = ("held", "lanes", "limit", "origin", "rings", "timer", "upstream", "waiting")

    def __init__(self, upstream: Upstream, origin: str, limit: str) -> None:
        self.upstream = upstream
        self.origin = origin
        self.limit = limit
        """In words, for who is refused."""
        self.held = -inf
        """Until when the upstream asked to be left alone."""
        self.waiting = 0
        self.lanes: dict[int, OrderedDict[Future[bool], Waiting]] = {}
        self.timer: TimerHandle | None = None
        self.rings = -inf

    @property
    def next(self) -> float:
        """When one who comes now could go, as far as is known."""
        return self.held

    def hold(self, until: float, now: float) -> bool:
        """Let nobody go before that time. Whether a hold begins: one that is under way gets longer, if anything."""
        began = self.held <= now
        if until > self.held:
            self.held = until
            self._put_off(until, now)
            self._serve(now)
        return began

    def ahead(self, priority: int) -> int:
        """How many would be served before one who comes now."""
        if len(self.lanes) == 1 and priority in self.lanes:
            return self.waiting
        return sum([len(lane) for above, lane in self.lanes.items() if above >= priority])

    async def _wait(self, call: Call, until: float, now: float) -> float:
        """In line until it is let go: its turn. Raises what it is refused by, or ConfigError once the client is closed."""
        waiting = Waiting(call, until)
        overtakes = self.ahead(call.priority) < self.waiting
        grant = self._enter(waiting)
        if overtakes:
            self._thin(now)
        self._serve(now)
        try:
            await self.upstream.wait(grant, Knowledge.NOT_SENT, call)
        except BaseException:
            if self._leave(grant, waiting):
                self._gave_up()
            elif not grant.cancelled() and grant.result():
                self._undo(waiting)
            self._serve(call.clock())
            raise
        return waiting.turn

    def _enter(self, waiting: Waiting) -> Future[bool]:
        grant: Future[bool] = get_running_loop().create_future()
        priority = waiting.call.priority
        lane = self.lanes.get(priority)
        if lane is None:
            lane = OrderedDict()
            self.lanes = dict(sorted([*self.lanes.items(), (priority, lane)], reverse=True))
        lane[grant] = waiting
        self.waiting += 1
        return grant

    def _leave(self, grant: Future[bool], waiting: Waiting) -> bool:
        """Whether it was still in line."""
        priority = waiting.call.priority
        lane = self.lanes.get(priority)
        if lane is None or lane.pop(grant, None) is None:
            return False
        if not lane:
            del self.lanes[priority]
        if waiting.timer is not None:
            waiting.timer.cancel()
        self.waiting -= 1
        return True

    def _first(self) -> tuple[Future[bool], Waiting]:
        return next(iter(next(iter(self.lanes.values())).items()))

    def calls(self) -> list[Call]:
        """Who waits."""
        return [waiting.call for _, waiting in self._all()]

    def _all(self) -> Iterator[tuple[Future[bool], Waiting]]:
        """In order, as it is now."""
        return iter([pair for lane in self.lanes.values() for pair in lane.items()])

    def _refusal(self, call: Call, why: str, seconds: float | None) -> LimitReached:
        return LimitReached(
            f"{self.limit}: {why}", retry_after=seconds, request=call.request, upstream=self.upstream.name
        )

    def _ring(self, at: float | None) -> None:
        """Wake up then, and at no other time; None: not at all."""
        if self.timer is not None:
            if self.rings == at:
                return
            self.timer.cancel()
        self.timer = None
        if at is not None:
            self.rings, self.timer = at, get_running_loop().call_at(at, self._woken)

    def _woken(self) -> None:
        self.timer = None
        self._serve(max(get_running_loop().time(), self.rings))  # a timer may come early, by the clock's resolution

    def _serve(self, now: float) -> None:
        """Let go whoever may, and see to the timer."""
        raise NotImplementedError

    def _put_off(self, until: float, now: float) -> None:
        """Let nobody go before that time, and refuse whom that makes too late."""
        raise NotImplementedError

    def _thin(self, now: float) -> None:
        """Refuse whoever would be let go too late."""
        raise NotImplementedError

    def _gave_up(self) -> None:
        """One left that was waiting."""

    def _undo(self, waiting: Waiting) -> None:
        """One left in the turn in which it was let go."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.origin}: {self.waiting} waiting, held until {self.held:g}, next turn at {self.next:g}>"
