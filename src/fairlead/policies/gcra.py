"""Whoever comes is told when it is its turn, so that nobody waits for what comes too late, and nobody asks twice.

The generic cell rate algorithm (ITU-T I.371), with turns that are reserved: one number says when the next is free. Those who wait
have the reserved times between them, in the order of the line, so one who leaves moves up everyone behind, and gives the last time
back. One timer serves a line: that of its first turn.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from fairlead.core import Call, Shared, Upstream
from fairlead.errors import LimitReached
from fairlead.policies.line import Line, Waiting

GRAIN: Final = 1e-6
"""Seconds within which two times are the same: sums of intervals differ in their last places."""
LATE: Final = 0.01
"""Seconds that a loop may come late to a turn without putting off the next. A loop's timers are a millisecond late as a rule: were
each to count, a thousand turns in a second would be five hundred. After a longer delay the turns missed are not made up for."""


class Turns:
    """At what times calls may go: numbers in, times out. `times` are reserved and not used, the earliest first."""

    __slots__ = ("free", "interval", "lent", "slack", "times")

    def __init__(self, interval: float, burst: float) -> None:
        self.pace(interval, burst)
        self.free = -inf
        """When the next turn is."""
        self.lent = -inf
        """The last turn that came from a store: it cannot be given back."""
        self.times: deque[float] = deque()

    def pace(self, interval: float, burst: float) -> None:
        """One turn in each interval, and up to `burst` at once after as many intervals without."""
        self.interval = interval
        self.slack = (burst - 1) * interval

    def take(self, now: float) -> bool:
        """Use a turn that is free now, if one is: none is while any is waited for."""
        free = self.free
        if free > now + GRAIN:
            return False
        if free < (least := now - self.slack):
            free = least
        self.free = free + self.interval
        return True

    def next(self, now: float) -> float:
        return max(now, self.free)

    def reserve(self, now: float) -> float:
        turn = max(now, self.free)
        self.free = max(self.free, now - self.slack) + self.interval
        self.times.append(turn)
        return turn

    def lend(self, turn: float) -> None:
        """Add one that a store reserved. Should the store be lost, the next of our own comes an interval later."""
        behind = bool(self.times) and turn < self.times[-1]
        self.times.append(turn)
        if behind:
            self.times = deque(sorted(self.times))
        self.lent = max(self.lent, turn)
        self.free = max(self.free, turn + self.interval)

    def give_back(self) -> None:
        """One less waits: the last time is free again. One that a store reserved stays, for who comes next."""
        if self.times[-1] > self.lent:
            self.free = self.times.pop()

    def go(self, now: float) -> tuple[float, float]:
        """Use the first turn that is reserved: its time, and by how much those behind it are put off."""
        turn = self.times.popleft()
        late = max(self.slack, LATE)
        return turn, self.put_off(now - late + self.interval) if now - turn > late else 0.0

    def undo(self, turn: float) -> None:
        """The first turn was given to one who was gone: whoever is behind has it."""
        if self.times:
            self.times.appendleft(turn)
            self.give_back()
        elif turn > self.lent:
            self.free = max(turn, self.free - self.interval)

    def put_off(self, until: float) -> float:
        """No turn before that time; those reserved follow from there, an interval between them. By how much one is put off at most."""
        times, moved, most = self.times, [], 0.0
        while times and (turn := times[0]) < until:
            times.popleft()
            moved.append(until)
            most = max(most, until - turn)
            until += self.interval
        times.extendleft(reversed(moved))
        self.free = max(self.free, until)
        return most

    def forget(self, now: float, waiting: int) -> None:
        """Turns of the past that were kept for somebody who did not come."""
        while len(self.times) > waiting and self.times[waiting] < now:
            del self.times[waiting]


class Paced(Line):
    """A line with a rate: who comes knows its turn, and is refused at once where that would be too late."""

    __slots__ = ("_burst", "_interval", "_key", "_spare", "_telling", "turns")

    def __init__(self, upstream: Upstream, origin: str, limit: str, interval: float, burst: int, key: str) -> None:
        super().__init__(upstream, origin, limit)
        self._interval, self._burst, self._key = interval, burst, f"{key}:{origin}"
        self.turns = Turns(interval, burst)
        self._telling = False
        self._spare = inf
        """Seconds that everybody could be put off by, at least, and still be let go in time: nobody is looked for in vain."""

    @property
    def next(self) -> float:
        times = self.turns.times
        return times[self.waiting] if len(times) > self.waiting else self.turns.free

    def take(self, now: float) -> bool:
        """Whether one who comes now may go at once; if so, its turn is used."""
        return not self.waiting and self.turns.take(now)

    async def turn(self, call: Call, until: float, now: float) -> None:
        """Wait for a turn. Raises LimitReached for one that would come after `until`, ConfigError once the client is closed."""
        turns, ahead = self.turns, self.ahead(call.priority)
        if len(turns.times) == self.waiting:
            due = turns.times[ahead] if ahead < self.waiting else turns.next(now)
            if due > until:
                raise self._late(call, due - now)
            turns.reserve(now)
        await self._join(call, until, now, ahead)

    async def share(self, shared: Shared, call: Call, until: float, now: float) -> None:
        """The same with a turn of those that several processes share; with one of its own while the store does not answer.

        While the upstream is to be left alone the store is not asked: what follows is put off anyway, each process by its share.
        """
        turns, members = self.turns, max(1, shared.members)
        turns.pace(self._interval * members, max(1.0, self._burst / members))
        turns.forget(now, self.waiting)
        if len(turns.times) == self.waiting and self.held <= now:
            asked, patience = now, max(0.0, until - now)
            seconds = await self._reserved(shared, patience)
            now = call.clock()
            if seconds is not None and self.held <= now:
                ahead = self.ahead(call.priority)
                if seconds <= patience:
                    turns.lend(asked + max(0.0, seconds))  # from before the round trip: whose turn is now goes now
                elif ahead == self.waiting:  # else somebody behind has a turn, though nothing was reserved
                    raise self._late(call, seconds)
                await self._join(call, until, now, ahead)
                return
        if not self.take(now):
            await self.turn(call, until, now)

    async def _reserved(self, shared: Shared, patience: float) -> float | None:
        """Seconds until the turn that the store has, which is told of those we gave ourselves while it was gone."""
        turns = self.turns
        owed, last = 0, turns.times[-1] if turns.times else -inf
        if last > turns.lent and not self._telling:  # once is enough
            owed = sum([turn > turns.lent for turn in turns.times])
            self._telling = True
        try:
            seconds = await shared.reserve(
                self._key, interval=self._interval, burst=self._burst, patience=patience, owed=owed
            )
        finally:
            if owed:
                self._telling = False
        if owed and seconds is not None:
            turns.lent = max(turns.lent, last)
        return seconds

    async def _join(self, call: Call, until: float, now: float, ahead: int) -> None:
        due = self.turns.times[ahead]
        if due > until:
            raise self._late(call, due - now)
        self._spare = min(self._spare, until - due)
        await self._wait(call, until, now)

    def _serve(self, now: float) -> None:
        turns = self.turns
        while self.waiting and turns.times[0] <= now + GRAIN:
            grant, waiting = self._first()
            self._leave(grant, waiting)
            if grant.done():  # it was refused or cancelled, and has not yet left
                self._gave_up()
                continue
            waiting.turn, later = turns.go(now)
            grant.set_result(True)
            self._later(later, now)
        if self.waiting:
            self._ring(turns.times[0])
        else:
            self._spare = inf
            self._ring(None)

    def _put_off(self, until: float, now: float) -> None:
        self._later(self.turns.put_off(until), now)

    def _later(self, seconds: float, now: float) -> None:
        """All were put off by as much, at most."""
        self._spare -= seconds
        if self._spare < 0:
            self._thin(now)

    def _thin(self, now: float) -> None:
        times = [*self.turns.times]
        place = 0
        self._spare = inf
        for grant, waiting in self._all():
            due = times[place] if place < len(times) else None
            if due is not None and due <= waiting.until and not grant.done():
                self._spare = min(self._spare, waiting.until - due)
                place += 1
                continue
            self._leave(grant, waiting)
            self._gave_up()
            if not grant.done():
                self.upstream.refuse(grant, self._late(waiting.call, (self.next if due is None else due) - now))

    def _gave_up(self) -> None:
        if len(self.turns.times) > self.waiting:
            self.turns.give_back()

    def _undo(self, waiting: Waiting) -> None:
        self.turns.undo(waiting.turn)
        if self.held > waiting.turn:
            self.turns.put_off(self.held)

    def _late(self, call: Call, seconds: float) -> LimitReached:
        return self._refusal(call, f"the next turn is in {seconds:.3g} s, and the call cannot wait as long", seconds)
