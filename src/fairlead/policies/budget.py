"""One budget for all that is sent beside first attempts: retries and hedges of one upstream together, whoever asks for them.

A fifth of the calls of the last ten seconds, and ten in each second beside, so that little traffic can be tried again too
(Finagle's RetryBudget has these numbers). Charged before the pause: what is charged after it comes too late for those who pause
(envoyproxy/envoy#30205). A first attempt is never held up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from fairlead.core import Send, Upstream
from fairlead.errors import ConfigError

BUCKETS: Final = 10
"""Parts of the window, which are dropped one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Attempts beside the first: `share` of the calls of the last `window` seconds, and `floor` in each second.

    Of the share no more at once than a tenth of the window earns. A `floor` that is no whole number is kept over longer than a second: 0.5 is one in every two, 2.5 is three in every 1.2. What of a
    share was not spent is lost with its calls, at the end of the window.
    """

    share: float = 0.2
    floor: float = 10.0
    window: float = 10.0
    name: str = "default"

    def __post_init__(self) -> None:
        for name in ("share", "floor"):
            if not is_number(number := getattr(self, name)) or not 0 <= number < inf:
                raise ConfigError(f"Budget: {name}={number!r} is not a number from 0 on")
        if not is_number(self.window) or not 0 < self.window < inf:
            raise ConfigError(f"Budget: window={self.window!r} is not a number of seconds above 0")

    def __str__(self) -> str:
        return f"{self.share * 100:.4g}% of the calls of {self.window:g} s and {self.floor:g} in each second"

    def explain(self) -> str:
        return f"from a budget of {self}"

    def of(self, upstream: Upstream) -> Spending:
        """What is spent of it on this upstream. Raises ConfigError where another budget there has the same name."""
        return upstream.state(self, lambda: Spending(self))

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        """Nothing: what sends more than once asks for it."""
        return send


class Spending:
    """Counts calls and what was sent beside them: numbers in, verdicts out.

    Both are only ever counted up. What they were at the beginning of each bucket is remembered, so a call costs a comparison and an
    addition, and a verdict no sum.
    """

    __slots__ = (
        "_calls",
        "_edge",
        "_floor",
        "_heard",
        "_marks",
        "_period",
        "_slot",
        "_spent",
        "_told",
        "_turn",
        "recipe",
    )

    def __init__(self, recipe: Budget) -> None:
        self.recipe = recipe
        self._calls = self._spent = 0
        self._marks = deque([(0, 0)] * BUCKETS, BUCKETS)
        self._slot = 0
        self._edge = 0.0
        """When the current bucket ends."""
        self._period = ceil(recipe.floor) / recipe.floor if recipe.floor else inf
        """Seconds in which the floor is a whole number."""
        self._turn = -1
        """Which of these periods it is."""
        self._floor = 0
        """Charged to the floor in it."""
        self._told = self._heard = (0, 0)

    @property
    def calls(self) -> int:
        """Calls within the window, as it was at the last count."""
        return self._calls - self._marks[0][0]

    @property
    def spent(self) -> int:
        """What was charged to their share."""
        return self._spent - self._marks[0][1]

    def call(self, now: float) -> None:
        """A first attempt is made."""
        if now >= self._edge:
            self._advance(now)
        self._calls += 1

    def charge(self, now: float) -> bool:
        """Whether one more may be sent beside the first attempts; if so, it is charged."""
        if now >= self._edge:
            self._advance(now)
        share, (calls, spent) = self.recipe.share, self._marks[-1]
        # No more at once than the traffic of one bucket earns: a fleet that had saved up for ten seconds would spend it all in the
        # first of an outage, and again ten seconds later.
        earned = max(1.0, share * (self._calls - calls), share * self.calls / BUCKETS)
        if self.spent + 1 <= share * self.calls and self._spent - spent + 1 <= earned:
            self._spent += 1
            return True
        if (turn := int(now // self._period)) != self._turn:
            self._turn, self._floor = turn, 0
        if self._floor >= ceil(self.recipe.floor):
            return False
        self._floor += 1
        return True

    def taken(self) -> tuple[int, int]:
        """Calls, and what was charged to their share, since this was last asked: of this process alone, for others to hear."""
        calls, spent = self._calls - self._heard[0], self._spent - self._heard[1]
        since, self._told = self._told, (calls, spent)
        return calls - since[0], spent - since[1]

    def heard(self, calls: int, spent: int, now: float) -> None:
        """Count what other processes told of themselves as if it happened now. The floor stays each process's own."""
        if now >= self._edge:
            self._advance(now)
        self._calls += calls
        self._spent += spent
        self._heard = self._heard[0] + calls, self._heard[1] + spent

    def _advance(self, now: float) -> None:
        """Drop what is older than the window."""
        width = self.recipe.window / BUCKETS
        slot = int(now // width)
        mark = self._calls, self._spent
        for _ in range(min(BUCKETS, slot - self._slot)):
            self._marks.append(mark)
        self._slot, self._edge = slot, (slot + 1) * width

    def __repr__(self) -> str:
        return f"<budget: {self.spent} sent beside {self.calls} calls, {self._floor} of the floor>"


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
