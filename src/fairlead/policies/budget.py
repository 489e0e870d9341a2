"""One budget for all that is sent beside first attempts: retries and hedges of one upstream together, whoever asks for them.

A fifth of the calls of the last ten seconds, and ten in each second beside, so that little traffic can be tried again too
(Finagle's RetryBudget has these numbers). Charged before the pause: what is charged after it comes too late for those who pause
(envoyproxy/envoy#30205). A first attempt is never held up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from fairlead.core import Send, Upstream
from fairlead.errors import ConfigError
from fairlead.policies.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Attempts beside the first: `share` of the calls of the last `window` seconds, and `floor` in each second."""

    share: float = 0.2
    floor: float = 10.0
    window: float = 10.0
    name: str = "default"

    def __post_init__(self) -> None:
        for name in ("share", "floor"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"Budget: {name}={getattr(self, name)!r} is not a number from 0 on")
        if not 0 < self.window < inf:
            raise ConfigError(f"Budget: window={self.window!r} is not a number of seconds above 0")

    def explain(self) -> str:
        return f"from a budget of {self.share:.0%} of the calls of {self.window:g} s and {self.floor:g} in each second"

    def of(self, upstream: Upstream) -> Spending:
        """What is spent of it on this upstream."""
        return upstream.state(self, lambda: Spending(self))

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        """Nothing: what sends more than once asks for it."""
        return send


class Spending:
    """Counts calls and what was sent beside them: numbers in, verdicts out."""

    __slots__ = ("_floor", "_second", "_seconds", "recipe", "window")

    def __init__(self, recipe: Budget) -> None:
        self.recipe = recipe
        self.window = Window(recipe.window)
        """Calls, and what was charged to their share: `good` and `failed`."""
        self._second = -1
        self._floor = 0.0
        """Charged to the floor of that second."""

    def call(self, now: float) -> None:
        """A first attempt is made."""
        self.window.count(now, False)

    def charge(self, now: float) -> bool:
        """Whether one more may be sent beside the first attempts; if so, it is charged."""
        recipe, window = self.recipe, self.window
        window.turn(now)
        if window.failed + 1 <= recipe.share * window.good:
            window.count(now, True)
            return True
        if (second := int(now)) != self._second:
            self._second, self._floor = second, 0.0
        if self._floor + 1 > recipe.floor:
            return False
        self._floor += 1
        return True

    def __repr__(self) -> str:
        return f"<budget: {self.window.failed} sent beside {self.window.good} calls, {self._floor:g} of the floor>"
