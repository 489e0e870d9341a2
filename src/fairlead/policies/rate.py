"""A call goes when it is its turn: as often as the upstream allows, and not before the time it asks for.

Each call knows its turn as it comes, and waits once and exactly so long, or is refused at once: by a wait that it could not outlast
nobody is helped. It stands inside retry, as a quota is of attempts, and outside the concurrency limit, so that nobody holds a slot
while waiting for a turn.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from math import inf
from time import time
from typing import ClassVar, Generic, TypeVar

from fairlead.core import Call, Send, Timeout, Upstream
from fairlead.errors import ConfigError, DeadlineExceeded, Knowledge, LimitReached
from fairlead.events import Held
from fairlead.message import Response
from fairlead.policies.gcra import GRAIN, Paced
from fairlead.policies.hints import THROTTLED, hold, speaks
from fairlead.policies.line import Line
from fairlead.policies.opening import Opening
from fairlead.policies.worst import Worst
from fairlead.url import Origin

L = TypeVar("L", bound=Line)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `rate` calls in any `per` seconds to each origin (None: any number); the rest wait for their turn.

    Up to `burst` go at once, after as long without any as they take up. Nobody waits longer than its deadline, `Timeout.wait` or
    `wait` seconds (None: no bound of its own; 0: nobody waits): LimitReached, with `retry_after`, says so at once. With `hints`, an
    upstream that asks to be left alone is, for at most `max_hold` seconds each time. What is known is kept for `origins` of them.
    """

    rate: float | None
    per: float = 1.0
    _: KW_ONLY
    burst: int = 1
    wait: float | None = None
    hints: bool = True
    max_hold: float = 120.0
    origins: int = 1024
    name: str = "default"
    clock: Callable[[], float] = field(default=time, repr=False, compare=False)
    """Seconds since 1970, which some upstreams count in."""
    place: ClassVar[str] = "RateLimit"

    def __post_init__(self) -> None:
        for name, meant in (
            ("rate", "a number above 0; None sets no rate"),
            ("per", "a number of seconds above 0"),
            ("wait", "a number of seconds from 0 on; None sets no bound"),
            ("max_hold", "a number of seconds above 0"),
        ):
            number = getattr(self, name)
            if number is None and name in {"rate", "wait"}:
                continue
            plain = isinstance(number, int | float) and not isinstance(number, bool)
            if not plain or not 0 <= number < inf or (number == 0 and name != "wait"):
                raise ConfigError(f"RateLimit: {name}={number!r} is not {meant}")
        if self.rate is not None and not 0 < self.per / self.rate < inf:
            raise ConfigError(
                f"RateLimit: rate={self.rate!r} in per={self.per!r} s is more or less than can be counted"
            )
        for name in ("burst", "origins"):
            number = getattr(self, name)
            if type(number) is not int or number < 1:
                raise ConfigError(f"RateLimit: {name}={number!r} is not a whole number above 0")
        if self.rate is None and self.burst != 1:
            raise ConfigError(
                f"RateLimit: burst={self.burst} says nothing without a rate: leave it out, or give a rate"
            )

    def explain(self) -> str:
        said = []
        if self.rate is not None:
            at_once = f", up to {self.burst} at once" if self.burst > 1 else ""
            line = "no longer than their deadline" if self.wait is None else f"at most {self.wait:g} s"
            said.append(
                f"{self.told}{at_once}; the rest {f'wait for their turn, {line}' if self.wait != 0 else 'are refused'}"
            )
        if self.hints:
            said.append(f"an upstream that asks for it is left alone, for at most {self.max_hold:g} s")
        return f"rate limit, one for each origin: {'; '.join(said) or 'none'}"

    def worst(self, one: Worst, timeout: Timeout) -> Worst:
        waits = [seconds for seconds in (self.wait, timeout.wait) if seconds is not None]
        return one.times(1, min(waits, default=inf))

    @property
    def told(self) -> str:
        return f"at most {self.rate:g} calls in {self.per:g} s"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        if self.rate is None:
            return self._obeying(send, upstream) if self.hints else send
        interval, hints = self.per / self.rate, self.hints

        def make(origin: str) -> Paced:
            return Paced(upstream, origin, self.told, interval, self.burst, self.name)

        lines = upstream.state(self, lambda: Lines(self, make))

        async def pace(call: Call) -> Response:
            began = now = call.clock()
            while True:
                line, had = lines[call.request.origin], False
                try:
                    if upstream.shared is not None:
                        await line.share(upstream.shared, call, self.until(call, began, now), now)
                    elif line.waiting or not line.turns.take(now):
                        await line.turn(call, self.until(call, began, now), now)
                    had = True
                    response = await send(call)
                except Recalled as recalled:
                    if had and recalled.by is not lines:
                        raise
                    now = call.clock()
                    continue
                if hints and speaks(response.status_code, response._pairs):
                    self.listen(response, call, lines, upstream)
                return response

        return pace

    def _obeying(self, send: Send, upstream: Upstream) -> Send:
        lines = upstream.state(self, lambda: Lines(self, lambda origin: Opening(upstream, origin)))

        async def obey(call: Call) -> Response:
            began = call.clock()
            while True:
                line, had = lines[call.request.origin], False
                ticket, good = None, False
                try:
                    if line.room:
                        now = call.clock()
                        ticket = await line.turn(call, self.until(call, began, now), now)
                    had = True
                    response = await send(call)
                    good = response.status_code not in THROTTLED
                    if speaks(response.status_code, response._pairs):
                        self.listen(response, call, lines, upstream)
                    return response
                except Recalled as recalled:
                    if had and recalled.by is not lines:
                        raise
                finally:
                    if ticket is not None:
                        line.ended(ticket, call.clock(), good=good)

        return obey

    def until(self, call: Call, began: float, now: float) -> float:
        """How long a call that came here when it `began` may wait, in loop time: a turn at the deadline itself would be of no use.

        Raises DeadlineExceeded for one whose time is up, ConfigError for a priority that is none.
        """
        if not isinstance(call.priority, int):
            raise ConfigError(f"priority={call.priority!r} is not a whole number")
        if now >= call.deadline:
            raise DeadlineExceeded(
                "in line for a turn: the deadline passed",
                request=call.request,
                phase="waiting",
                knowledge=Knowledge.NOT_SENT,
            )
        until = call.deadline - GRAIN
        for wait in (self.wait, call.timeout.wait):
            if wait is not None:
                until = min(until, began + wait + GRAIN)
        return until

    def listen(self, response: Response, call: Call, lines: Lines[L], upstream: Upstream) -> None:
        """Leave an origin alone for as long as it asks in this answer, if it does."""
        if (seconds := hold(response.status_code, response.headers, self.clock())) is None:
            return
        seconds, now = min(seconds, self.max_hold), call.clock()
        line = lines[call.request.origin]
        if line.hold(now + seconds, now):
            upstream.emit(Held(upstream.name, line.origin, seconds))
            lines.recall(call.request.origin, upstream)


class Recalled(LimitReached):
    """The upstream asked to be left alone while a call that had had its turn waited for a slot: it waits for another turn."""

    by: object = None


class Lines(dict[Origin, L], Generic[L]):
    """The lines of an upstream, by origin; with too many, one that nobody waits in makes room."""

    def __init__(self, recipe: RateLimit, make: Callable[[str], L]) -> None:
        super().__init__()
        self.recipe = recipe
        self.make = make

    def recall(self, origin: Origin, upstream: Upstream) -> None:
        """Have those who were let go, and wait for a slot by now, come back: they would be sent in the midst of a hold."""
        limits: list[Lines[L]] = [state for (kind, _), state in upstream.states.items() if kind == "RateLimit"]
        here = {id(call) for lines in limits if origin in lines for call in lines[origin].calls()}

        def recalled(call: Call) -> Recalled | None:
            if call.request.origin != origin or id(call) in here:
                return None
            error = Recalled("the upstream asked to be left alone", request=call.request, upstream=upstream.name)
            error.by = self
            return error

        upstream.turn_away(recalled)

    def __missing__(self, origin: Origin) -> L:
        if len(self) >= self.recipe.origins:
            now = get_running_loop().time()
            spent = None
            for one, line in self.items():
                if not line.waiting:
                    if max(line.held, line.next) <= now:
                        spent = one
                        break
                    spent = spent or one
            if spent is not None:
                del self[spent]
        line = self[origin] = self.make(str(origin))
        return line
