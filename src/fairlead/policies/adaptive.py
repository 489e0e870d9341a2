"""How many calls an upstream bears, learnt from its answers: numbers in, a limit out, the time an argument.

Who is told too much says so (a time-out, 503, 429), or answers more slowly. `Aimd` hears the first, as TCP does: one more for each
round trip that went well, a tenth less where it did not. `Gradient` hears the second too. Both look at answers only: what was
cancelled, refused by ourselves or failed in another way says nothing. A limit that is not used is not raised: it would not be known
to hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf
from typing import Final

from fairlead.errors import ConfigError
from fairlead.policies.budget import is_number

STALE: Final = 30.0
"""Seconds after which the answers of a window are too old to be compared with later ones."""
STEEPEST: Final = 0.5
"""How much of a limit a gradient leaves at most."""
DEEP: Final = 0.7
"""What is left of a limit when it is asked whether the descent was of use,"""
SAME: Final = 0.9
"""and of how long answers took, if it was not."""
FALL: Final = 0.05
"""How far a baseline comes down in a window that is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aimd:
    """Additive increase, multiplicative decrease: from `initial`, and never outside `least` and `most`.

    One more after as many good answers as the limit says, with at least half of it in use; times `backoff` after a time-out, a 503 or
    a 429, once in each round trip. An answer that took longer than `slow` seconds is none that is good.
    """

    initial: int = 20
    least: int = 2
    most: int = 200
    backoff: float = 0.9
    slow: float | None = None

    def __post_init__(self) -> None:
        _check(self)
        if self.slow is not None and not (is_number(self.slow) and 0 < self.slow < inf):
            raise ConfigError(f"Aimd: slow={self.slow!r} is not a number of seconds above 0; None takes any time")

    def explain(self) -> str:
        slow = " or 429" if self.slow is None else f", 429 or an answer that took more than {self.slow:g} s"
        return (
            f"{self.initial} calls under way at first, then {self.least} to {self.most}: one more for each round trip that goes well,"
            f" times {self.backoff:g} after a time-out, 503{slow}"
        )

    def start(self) -> AimdRule:
        return AimdRule(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """Less as answers become slower than `tolerance` times what is usual, `queue` more while they do not; Netflix's Gradient2 with mends.

    Compared are the mean of a window (a round trip, and at least `samples` answers) and a mean that follows it over `baseline` seconds.
    A step goes `smoothing` of the way. Times `backoff` after a time-out, a 503 or a 429, once in each round trip.
    """

    initial: int = 20
    least: int = 2
    most: int = 200
    backoff: float = 0.9
    smoothing: float = 0.2
    tolerance: float = 1.5
    queue: int = 4
    samples: int = 50
    baseline: float = 60.0

    def __post_init__(self) -> None:
        _check(self)
        if not is_number(self.smoothing) or not 0 < self.smoothing <= 1:
            raise ConfigError(f"Gradient: smoothing={self.smoothing!r} is not a share above 0 and up to 1")
        if not is_number(self.tolerance) or not 1 <= self.tolerance < inf:
            raise ConfigError(f"Gradient: tolerance={self.tolerance!r} is not a number from 1 on")
        for name in ("queue", "samples"):
            if type(number := getattr(self, name)) is not int or number < 1:
                raise ConfigError(f"Gradient: {name}={number!r} is not a whole number from 1 on")
        if not is_number(self.baseline) or not 0 < self.baseline < inf:
            raise ConfigError(f"Gradient: baseline={self.baseline!r} is not a number of seconds above 0")

    def explain(self) -> str:
        return (
            f"{self.initial} calls under way at first, then {self.least} to {self.most}: fewer while answers take more than"
            f" {self.tolerance:g} times as long as usual, times {self.backoff:g} after a time-out, 503 or 429"
        )

    def start(self) -> GradientRule:
        return GradientRule(self)


class AimdRule:
    """The limit as it is. `epoch` goes up with each decrease, so that a failure of a call that was sent before it is not held against it."""

    __slots__ = ("answers", "epoch", "exact", "limit", "recipe")

    def __init__(self, recipe: Aimd) -> None:
        self.recipe = recipe
        self.exact = float(recipe.initial)
        self.limit = recipe.initial
        self.epoch = 0
        self.answers = 0
        """Good ones since the limit last moved. As many as the limit are a round trip: to ask for more would let the rare failure win."""

    def answered(self, epoch: int, inflight: int, seconds: float, now: float) -> int:
        """A call of that epoch was answered after so many seconds, with so many under way: the limit from now on."""
        recipe = self.recipe
        if recipe.slow is not None and seconds > recipe.slow:
            return self.failed(epoch)
        if epoch == self.epoch and 2 * inflight >= self.limit:
            self.answers += 1
            if self.answers >= self.limit:
                self.answers = 0
                self.exact = min(self.exact + 1.0, recipe.most)
                self.limit = int(self.exact)
        return self.limit

    def failed(self, epoch: int) -> int:
        """A call of that epoch met a time-out, a 503 or a 429: the limit from now on."""
        if epoch == self.epoch:
            self.epoch += 1
            self.answers = 0
            self.exact = max(self.exact * self.recipe.backoff, self.recipe.least)
            self.limit = int(self.exact)
        return self.limit

    def __repr__(self) -> str:
        return f"<aimd: {self.exact:.1f}>"


class GradientRule:
    """The limit as it is, and the window that decides about the next. Its `epoch` is that of an `AimdRule`."""

    __slots__ = (
        "baseline",
        "closed",
        "descent",
        "epoch",
        "exact",
        "limit",
        "most_inflight",
        "opened",
        "recipe",
        "samples",
        "total",
    )

    def __init__(self, recipe: Gradient) -> None:
        self.recipe = recipe
        self.exact = float(recipe.initial)
        self.limit = recipe.initial
        self.epoch = 0
        self.baseline = 0.0
        """Seconds that an answer usually takes: 0.0 as long as that is not known."""
        self.descent: tuple[float, float] | None = None
        """Limit, and seconds an answer took, when it began to shrink."""
        self.closed = 0.0
        """When the last window ended."""
        self.opened = 0.0
        self.samples = 0
        self.total = 0.0
        self.most_inflight = 0

    def answered(self, epoch: int, inflight: int, seconds: float, now: float) -> int:
        """A call was answered after so many seconds, with so many under way: the limit from now on."""
        if not self.samples or now - self.opened > STALE:
            self.opened, self.samples, self.total, self.most_inflight = now, 0, 0.0, 0
        self.samples += 1
        self.total += seconds
        self.most_inflight = max(self.most_inflight, inflight)
        if self.samples >= self.recipe.samples and now - self.opened >= (mean := self.total / self.samples) > 0.0:
            self._step(mean, now)
        return self.limit

    def _step(self, mean: float, now: float) -> None:
        """A window has ended."""
        recipe = self.recipe
        since, self.closed, self.samples = now - self.closed, now, 0
        if not self.baseline:
            self.baseline = mean
        elif mean < self.baseline:
            self.baseline += (mean - self.baseline) * FALL
        elif self.most_inflight < self.limit:  # else it may be slower because of us
            self.baseline += (mean - self.baseline) * (1.0 - exp(-since / recipe.baseline))
        if 2 * self.most_inflight < self.limit:
            return
        gradient = min(1.0, max(STEEPEST, recipe.tolerance * self.baseline / mean))
        if gradient == 1.0:
            # The queue is not for those that are slower: with it the limit creeps up under mild overload (concurrency-limits#134).
            self.descent = None
            self._move(self.exact + recipe.queue * recipe.smoothing)
            return
        if self.descent is None or mean > self.descent[1]:
            self.descent = self.exact, mean
        elif self.exact <= max(DEEP * self.descent[0], recipe.least):
            if mean > SAME * self.descent[1]:  # fewer calls are no faster: this is how long it takes now
                self.baseline = mean
                return
            self.descent = self.exact, mean
        self._move(self.exact * (1.0 - recipe.smoothing * (1.0 - gradient)))

    def failed(self, epoch: int) -> int:
        """A call of that epoch met a time-out, a 503 or a 429: the limit from now on."""
        if epoch == self.epoch:
            self.epoch += 1
            self._move(self.exact * self.recipe.backoff)
        return self.limit

    def _move(self, exact: float) -> None:
        self.exact = min(max(exact, self.recipe.least), self.recipe.most)
        self.limit = int(self.exact)

    def __repr__(self) -> str:
        return f"<gradient: {self.exact:.1f}, usually {self.baseline:.3g} s>"


def _check(recipe: Aimd | Gradient) -> None:
    kind = type(recipe).__name__
    for name in ("initial", "least", "most"):
        if type(number := getattr(recipe, name)) is not int or number < 1:
            raise ConfigError(f"{kind}: {name}={number!r} is not a whole number from 1 on")
    if not recipe.least <= recipe.initial <= recipe.most:
        raise ConfigError(
            f"{kind}: initial={recipe.initial!r} is not between least={recipe.least!r} and most={recipe.most!r}"
        )
    if not is_number(recipe.backoff) or not 0 < recipe.backoff < 1:
        raise ConfigError(f"{kind}: backoff={recipe.backoff!r} is not a share above 0 and below 1")
