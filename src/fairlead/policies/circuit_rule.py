"""When a circuit opens, whom it lets probe and what closes it: numbers in, verdicts out, the time an argument.

Each call let through has a ticket. Closed, all have the same, that of the epoch; half-open, each probe has its own, with a lease: a
probe that never reports loses both, and keeps no circuit shut for ever. What another state has begun changes nothing any more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fairlead.policies.window import Window

if TYPE_CHECKING:
    from fairlead.policies.circuit import CircuitBreaker

NOBODY: Final = -1
"""The ticket of a call that is sent and not counted."""
SPREAD: Final = 0.2
"""The share of a time that is left to chance, so that a fleet does not probe as one."""


class State(StrEnum):
    """What a circuit does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


CLOSED, OPEN, HALF_OPEN = State  # read several times in each call: a module's name costs half of an enum's


class Circuit:
    """One circuit. `admit` gives a ticket or None; a ticket is reported once: `succeed`, `fail` or `release`."""

    __slots__ = (
        "_next", "epoch", "key", "leases", "pace", "proven", "reason", "recipe", "refused", "row", "seconds", "state",
        "until", "well", "window",
    )  # fmt: skip

    def __init__(self, recipe: CircuitBreaker, key: str = "") -> None:
        self.recipe = recipe
        self.key = key
        """What it is for, in words: an origin, a route."""
        self.window = Window(recipe.window)
        self.pace = Window(recipe.window)
        """Calls in time and slow calls: `good` and `failed`."""
        self.state = CLOSED
        self.epoch = 0
        """The ticket given last; while it is closed, everybody's."""
        self.leases: dict[int, float] = {}
        """Probes under way, by ticket, and when each loses its place."""
        self.well: set[int] = set()
        """Of these, whose answer has begun and was good so far."""
        self.row = 0
        """Failures since the last success."""
        self.proven = 0
        """Good probes since it is half-open."""
        self.refused = 0
        """Calls that had no place since it opened; in shadow they went through all the same."""
        self.reason = ""
        self.seconds = 0.0
        """For how long it was opened last; `inf` for until it is told otherwise."""
        self.until = 0.0
        self._next = recipe.open_for

    def admit(self, now: float) -> int | None:
        """A ticket; half-open, one with a lease. None while no call may go."""
        if self.state is CLOSED:
            return self.epoch
        if self.state is OPEN:
            if now < self.until:
                return None
            self.state = HALF_OPEN
            self.proven = 0
        leases, recipe = self.leases, self.recipe
        for lost in [ticket for ticket, end in leases.items() if end <= now]:
            del leases[lost]
            self.proven += lost in self.well  # a body of hours, which would keep everybody else out as long
        if self.proven >= recipe.probes:
            self.close()
            return self.epoch
        if len(leases) >= min(recipe.at_once, recipe.probes - self.proven):
            return None
        self.epoch += 1
        leases[self.epoch] = now + recipe.lease
        return self.epoch

    def succeed(self, ticket: int, now: float) -> bool:
        """Whether this closed the circuit."""
        if self.state is CLOSED:
            if ticket == self.epoch:
                self.row = 0
                self.window.count(now, False)
            return False
        if self.leases.pop(ticket, None) is None:
            return False
        self.proven += 1
        if self.proven < self.recipe.probes:
            return False
        self.close()
        return True

    def fail(self, ticket: int, now: float, random: float = 1.0) -> bool:
        """Whether this opened the circuit."""
        if self.state is not CLOSED:
            return ticket in self.leases and self._fall(now, random, "the probe failed")
        if ticket != self.epoch:
            return False
        recipe = self.recipe
        self.row += 1
        self.window.count(now, True)
        if recipe.consecutive is not None and self.row >= recipe.consecutive:
            return self._fall(now, random, f"{self.row} failures in a row" if self.row > 1 else "a failure")
        told = _too_many(self.window, recipe.failure_rate, recipe.minimum)
        return told is not None and self._fall(now, random, f"{told} calls failed in {recipe.window:g} s")

    def time(self, ticket: int, now: float, slow: bool, random: float = 1.0) -> bool:
        """Whether a call, for being slow, opened the circuit. Told before it succeeds and after it failed."""
        if self.state is not CLOSED:
            return slow and ticket in self.leases and self._fall(now, random, "the probe was slow")
        if ticket != self.epoch:
            return False
        recipe = self.recipe
        self.pace.count(now, slow)
        told = _too_many(self.pace, recipe.slow_rate, recipe.minimum) if slow else None
        return told is not None and self._fall(
            now, random, f"{told} calls in {recipe.window:g} s took {recipe.slow_after:g} s or longer"
        )

    def begin(self, ticket: int) -> None:
        """The head of an answer was good: if a probe's body outlasts its lease, that is all there is to prove."""
        if ticket in self.leases:
            self.well.add(ticket)

    def release(self, ticket: int) -> None:
        """No verdict: the place of a probe is free again."""
        self.leases.pop(ticket, None)
        self.well.discard(ticket)

    def open(self, now: float, seconds: float, reason: str) -> None:
        """Open, whatever it was; `inf` seconds are until it is closed by hand."""
        if self.state is CLOSED:
            self.refused = 0
        self.state, self.reason = OPEN, reason
        self.seconds, self.until = seconds, now + seconds
        self.leases.clear()
        self.well.clear()

    def hold(self, now: float, seconds: float) -> None:
        """If open, stay so for `seconds` from now at least."""
        if self.state is OPEN and now + seconds > self.until:
            self.seconds, self.until = seconds, now + seconds

    def close(self) -> None:
        """Closed, and all is forgotten."""
        self.state = CLOSED
        self.epoch += 1
        self.leases.clear()
        self.well.clear()
        self.window.clear()
        self.pace.clear()
        self.row = 0
        self._next = self.recipe.open_for

    def retry_after(self, now: float) -> float:
        """Seconds until a call may go through; while probes are out, that is soon. `inf` where nobody can know."""
        if self.state is OPEN:
            return max(0.0, self.until - now)
        free = min(self.leases.values(), default=now)
        return min(max(0.0, free - now), self.recipe.open_for)

    def _fall(self, now: float, random: float, reason: str) -> bool:
        self.open(now, self._next * (1 - SPREAD + SPREAD * random), reason)
        self._next = min(self.recipe.max_open_for, self._next * self.recipe.growth)
        return True

    def __repr__(self) -> str:
        return f"<circuit {self.state}, {self.window.failed} of {self.window.good + self.window.failed} calls failed>"


def _too_many(window: Window, rate: float | None, minimum: int) -> str | None:
    """How many of how many, where that is too many."""
    if rate is None:
        return None
    failed = window.failed
    calls = window.good + failed
    return f"{failed} of {calls}" if calls >= minimum and failed >= rate * calls else None
