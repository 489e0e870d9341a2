"""The answer is late: ask once more beside it, and take whichever comes first.

Only what means the same twice is hedged (RFC 9110 section 9.2.2, or a key), and what is sent beside a first attempt is charged to
the budget that retries have too: what makes one slow answer fast would make a slow upstream slower. `race.py` has the attempts.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections import deque
from dataclasses import dataclass, field
from math import ceil, inf
from typing import ClassVar, Final

from fairlead.core import Call, Send, Timeout, Upstream
from fairlead.errors import ConfigError
from fairlead.message import Response
from fairlead.policies.budget import Budget, is_number
from fairlead.policies.race import Outcome, Race, Terms
from fairlead.policies.retry import STATUSES, check_statuses
from fairlead.policies.worst import Worst

KEPT: Final = 128
"""Latencies that are remembered."""
EVERY: Final = 16
"""Latencies after which the delay is found anew: to sort them for each call would cost more than the call."""
MOST: Final = 10
"""Attempts of one call. gRPC allows 5, .NET 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """Up to `attempts` attempts of a call, each `delay` seconds after the one before it, or at once when one failed.

    `delay=None` is the `quantile` of what first attempts took lately, at most `max_delay`; until `samples` of them answered, none
    is late. An answer with a status in `statuses`, a transport fault and an attempt's time-out are failures; any other answer or
    error ends the call. A body that is read while it is sent is only sent again after a failure. `budget=None` bounds nothing but
    each call's own attempts.
    """

    delay: float | None = None
    quantile: float = 0.95
    samples: int = 20
    max_delay: float = 10.0
    attempts: int = 2
    statuses: frozenset[int] = STATUSES
    budget: Budget | None = field(default_factory=Budget)
    name: str = "default"
    place: ClassVar[str] = "Hedge"

    def __post_init__(self) -> None:
        if self.delay is not None and not (is_number(self.delay) and 0 <= self.delay < inf):
            raise ConfigError(f"Hedge: delay={self.delay!r} is not a number of seconds from 0 on; None finds it")
        if not isinstance(self.budget, Budget | None):
            raise ConfigError(f"Hedge: budget={self.budget!r} is no budget: pass Budget(...), or None for no bound")
        if not is_number(self.quantile) or not 0 < self.quantile < 1:
            raise ConfigError(f"Hedge: quantile={self.quantile!r} is not a share between 0 and 1, such as 0.95")
        if not is_number(self.max_delay) or not 0 < self.max_delay < inf:
            raise ConfigError(f"Hedge: max_delay={self.max_delay!r} is not a number of seconds above 0")
        check_statuses(self)
        for name, most in (("samples", KEPT), ("attempts", MOST)):
            number = getattr(self, name)
            if type(number) is not int or not 1 <= number <= most:
                raise ConfigError(f"Hedge: {name}={number!r} is not a whole number from 1 to {most}")

    def explain(self) -> str:
        if self.attempts == 1:
            return "hedge: never"
        late = f"the p{100 * self.quantile:g} of the last {KEPT} calls (at most {self.max_delay:g} s)"
        if self.delay is not None:
            late = f"{self.delay:g} s"
        return (
            f"hedge: up to {self.attempts} attempts where that is safe, one more after {late}, or at once when one failed;"
            f" {self.budget.explain() if self.budget else 'without a budget'}"
        )

    def worst(self, attempt: Worst, timeout: Timeout) -> Worst:
        return attempt.times(self.attempts)

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        if self.attempts == 1:
            return send
        latencies = upstream.state(self, lambda: Latencies(self)) if self.delay is None else None
        spending = self.budget.of(upstream) if self.budget is not None else None
        fixed, statuses = self.delay or 0.0, self.statuses
        terms = Terms(send, upstream, spending, self.attempts, statuses)

        async def hedge(call: Call) -> Response:
            now = call.clock()
            if spending is not None:
                spending.call(now)
            request = call.request
            if not request.idempotent:
                return await send(call)
            if type(request.content) is bytes:
                after = fixed if latencies is None else latencies.delay
            elif request.replayable:
                after = inf  # two that read one file beside each other would each get a part of it
            else:
                return await send(call)
            race = Race(terms, call, after)
            race.arm(now)
            outcome: Outcome | None = None
            try:
                try:
                    outcome = await send(race.fork())
                except (Exception, CancelledError) as error:
                    outcome = error
                race.inline = False
                answered = isinstance(outcome, Response) and outcome.status_code not in statuses
                if latencies is not None and (answered or call.clock() - now >= after):
                    latencies.note(call.clock() - now)
                if not answered or race.sent > 1:
                    outcome = await race.settle(outcome)
                if isinstance(outcome, Response):
                    return outcome
                raise outcome
            finally:
                race.end()
                del outcome, race  # an error's traceback leads here, and a circle would keep all that it leads past

        return hedge


class Latencies:
    """What first attempts took lately, and when one is late: numbers in, a number out.

    Each call gives one at most, its first attempt's. One that was given up when it was late counts with the time it had: less than
    it would have taken, but no less than the delay. So hedging never makes an upstream look faster than it is, as it would if the
    winners alone were noted: then each slow first attempt would be replaced by a fast second one, and the delay would shrink.
    """

    __slots__ = ("_due", "_kept", "_recipe", "delay")

    def __init__(self, recipe: Hedge) -> None:
        self._recipe = recipe
        self._kept: deque[float] = deque(maxlen=KEPT)
        self._due = recipe.samples
        self.delay = inf
        """Seconds after which a first attempt is late; `inf` until there are enough samples."""

    def note(self, seconds: float) -> None:
        kept = self._kept
        kept.append(seconds)
        self._due -= 1
        if self._due == 0:
            self._due = EVERY
            rank = ceil(self._recipe.quantile * len(kept)) - 1
            self.delay = min(self._recipe.max_delay, sorted(kept)[rank])

    def __repr__(self) -> str:
        return f"<{len(self._kept)} latencies, late after {self.delay:.3g} s>"
