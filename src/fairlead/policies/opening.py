"""After the upstream asked to be left alone, one call goes first; each answer then lets two more go, until nobody waits.

TCP's slow start (RFC 5681 section 3.1), for an upstream whose rate is not known: all at once they would be asked to wait again, and
any pace of ours would be a guess. The answers are the pace: a quick upstream has its line empty in a few round trips, and one that
still has enough says so to few. Who is let go has a ticket of the opening it belongs to: what becomes of it in a later one counts
no more.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from math import inf

from fairlead.core import Call, Upstream
from fairlead.errors import LimitReached
from fairlead.policies.gcra import GRAIN
from fairlead.policies.line import Line, Waiting


class Opening(Line):
    """A line without a rate. `room` is how many may be under way; 0: any number, and nobody waits."""

    __slots__ = ("epoch", "out", "room")

    def __init__(self, upstream: Upstream, origin: str) -> None:
        super().__init__(upstream, origin, "the upstream asked to be left alone")
        self.room = 0
        self.out = 0
        """Under way, of those that were let go since the last hold."""
        self.epoch = 0

    async def turn(self, call: Call, until: float, now: float) -> float:
        """Wait to be let go: the ticket that `ended` is told. Raises LimitReached, at the latest at `until`, or ConfigError once the
        client is closed.
        """
        if self.held > until:
            raise self._asked(call, now)
        if not self.waiting and self.out < self.room and now + GRAIN >= self.held:
            self.out += 1
            return self.epoch
        if until <= now + GRAIN:
            raise self._full(call)
        return await self._wait(call, until, now)

    def ended(self, ticket: float, now: float, *, good: bool) -> None:
        """One that was let go was answered, or failed: a good answer makes room for one more, and where nobody waits, for all."""
        if ticket != self.epoch:
            return
        self.out -= 1
        if good and self.waiting:
            self.room += 1
        elif good:
            self._begin(0)
        self._serve(now)

    def _begin(self, room: int) -> None:
        self.room = room
        self.out = 0
        self.epoch += 1

    def _enter(self, waiting: Waiting) -> Future[bool]:
        grant = super()._enter(waiting)
        if waiting.until < inf:
            waiting.timer = get_running_loop().call_at(waiting.until, self._expire, grant, waiting)
        return grant

    def _expire(self, grant: Future[bool], waiting: Waiting) -> None:
        self._leave(grant, waiting)
        if not grant.done():
            self.upstream.refuse(grant, self._full(waiting.call))

    def _serve(self, now: float) -> None:
        held = now + GRAIN < self.held
        while self.waiting and self.out < self.room and not held:
            grant, waiting = self._first()
            self._leave(grant, waiting)
            if not grant.done():
                self.out += 1
                waiting.turn = self.epoch
                grant.set_result(True)
        self._ring(self.held if self.waiting and held else None)

    def _put_off(self, until: float, now: float) -> None:
        self._begin(1)
        self._thin(now)

    def _thin(self, now: float) -> None:
        for grant, waiting in self._all():
            if waiting.until < self.held and self._leave(grant, waiting) and not grant.done():
                self.upstream.refuse(grant, self._asked(waiting.call, now))

    def _undo(self, waiting: Waiting) -> None:
        if waiting.turn == self.epoch:
            self.out -= 1

    def _asked(self, call: Call, now: float) -> LimitReached:
        return self._refusal(call, f"for {self.held - now:.3g} s more", self.held - now)

    def _full(self, call: Call) -> LimitReached:
        return self._refusal(
            call, "calls go through again, few at a time, and it was not this one's turn in time", None
        )
