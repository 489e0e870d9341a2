"""Stop calling an upstream that is down: its callers learn so at once, and it is left alone to recover.

*When* to open is the rule below, in numbers, with the time as an argument; *what open means* is the closure at the end. Each
call let through carries a ticket of the epoch it began in, so that an answer to an older state changes nothing. The one call
that probes holds a lease: a probe that never reports does not keep the circuit shut for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import ClassVar, Final

from fairlead.core import Call, Send, Upstream
from fairlead.errors import AttemptTimedOut, CircuitOpen, ConfigError, ProtocolError, TransportError
from fairlead.events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from fairlead.message import Response
from fairlead.policies.jitter import chance
from fairlead.policies.window import Window
from fairlead.url import Origin

FAILURES: Final = (TransportError, AttemptTimedOut)


class State(StrEnum):
    """What a circuit does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


CLOSED, OPEN, HALF_OPEN = State  # read several times in each call: a module's name costs half of an enum's


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """Open after `consecutive` failures, or when `failure_rate` of at least `minimum` calls in `window` seconds failed.

    Open for `open_for` seconds, doubling to `max_open_for`, each time 80 to 100 % of that; then one call at a time probes, and
    `probes` good ones in a row close it. A probe has `lease` seconds to report. One circuit for each origin, of at most `origins`.
    A failure is a transport fault, an attempt's time-out or a 5xx; a refusal, a passed deadline or a cancellation is no verdict.
    """

    failure_rate: float = 0.5
    window: float = 30.0
    minimum: int = 20
    consecutive: int = 5
    open_for: float = 5.0
    max_open_for: float = 60.0
    probes: int = 1
    lease: float = 30.0
    origins: int = 1024
    name: str = "default"
    random: Callable[[], float] = field(default=chance, repr=False, compare=False)
    """Uniform in [0, 1)."""
    place: ClassVar[str] = "CircuitBreaker"

    def __post_init__(self) -> None:
        if not 0 < self.failure_rate <= 1:
            raise ConfigError(f"CircuitBreaker: failure_rate={self.failure_rate!r} is not a share above 0 and up to 1")
        for name in ("window", "open_for", "max_open_for", "lease"):
            if not 0 < (seconds := getattr(self, name)) < inf:
                raise ConfigError(f"CircuitBreaker: {name}={seconds!r} is not a number of seconds above 0")
        for name in ("minimum", "consecutive", "probes", "origins"):
            number = getattr(self, name)
            if type(number) is not int or number < 1:
                raise ConfigError(f"CircuitBreaker: {name}={number!r} is not a whole number above 0")

    def explain(self) -> str:
        return (
            f"circuit breaker, one for each origin: open after {self.consecutive} failures in a row, or {self.failure_rate:.0%} of at"
            f" least {self.minimum} calls in {self.window:g} s; for {self.open_for:g} s, doubling to {self.max_open_for:g} s; then one"
            " call at a time probes"
        )

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        circuits = upstream.state(self, lambda: Circuits(self))
        name, jitter = upstream.name, self.random

        def report(circuit: Circuit, ticket: int, now: float, *, good: bool | None) -> None:
            if good:
                if circuit.succeed(ticket, now):
                    upstream.emit(CircuitClosed(name, circuit.origin))
            elif good is None:
                circuit.release(ticket, now)
            elif seconds := circuit.fail(ticket, now, jitter()):
                upstream.emit(CircuitOpened(name, circuit.origin, seconds, circuit.reason))

        def admitted(circuit: Circuit, call: Call) -> int:
            now = call.clock()
            if (ticket := circuit.admit(now)) is None:
                seconds = circuit.retry_after(now)
                told = f"circuit {circuit.state} ({circuit.reason}): calls go through again in {seconds:.3g} s"
                raise CircuitOpen(told, retry_after=seconds, request=call.request, upstream=name)
            upstream.emit(CircuitHalfOpened(name, circuit.origin))
            return ticket

        async def guard(call: Call) -> Response:
            circuit = circuits[call.request.origin]
            clock = call.clock
            ticket = circuit.epoch if circuit.state is CLOSED else admitted(circuit, call)
            try:
                response = await send(call)
            except BaseException as error:
                report(circuit, ticket, clock(), good=went_well(error))
                raise
            if not response.is_closed:
                response.when_closed(lambda: report(circuit, ticket, clock(), good=went_well(response)))
            elif response.status_code >= 500:
                report(circuit, ticket, clock(), good=False)
            elif circuit.succeed(ticket, clock()):
                upstream.emit(CircuitClosed(name, circuit.origin))
            return response

        return guard


def verdict(upstream: Upstream) -> str | None:
    """The worst of an upstream's circuits: open, half-open or closed; None where it has no circuit breaker."""
    found = [circuits for (kind, _), circuits in upstream.states.items() if kind == "CircuitBreaker"]
    states = {str(circuit.state) for circuits in found for circuit in circuits.values()}
    return next((state for state in ("open", "half-open") if state in states), "closed") if found else None


def went_well(outcome: Response | BaseException) -> bool | None:
    """The verdict: None for what says nothing about the upstream, such as a refusal, a cancellation or a caller's deadline."""
    if isinstance(outcome, Response):
        return outcome.status_code < 500 if outcome.error is None else went_well(outcome.error)
    if isinstance(outcome, ProtocolError) and outcome.too_large:
        return None
    return False if isinstance(outcome, FAILURES) else None


class Circuit:
    """The state of one origin. `admit` gives a ticket or None; a ticket is reported once: `succeed`, `fail` or `release`."""

    __slots__ = ("epoch", "opened", "origin", "proven", "reason", "recipe", "row", "state", "until", "window")

    def __init__(self, recipe: CircuitBreaker, origin: str = "") -> None:
        self.recipe = recipe
        self.origin = origin
        self.window = Window(recipe.window)
        self.state = CLOSED
        self.epoch = 0
        self.until = 0.0
        """Open: when a probe may go. Half-open: when the probe's lease ends."""
        self.row = 0
        """Failures since the last success."""
        self.opened = 0
        """How often it opened since it was last closed."""
        self.proven = 0
        self.reason = ""

    def admit(self, now: float) -> int | None:
        if self.state is not CLOSED:
            if now < self.until:
                return None
            if self.state is OPEN:
                self.state = HALF_OPEN
                self.proven = 0
            self.epoch += 1
            self.until = now + self.recipe.lease
        return self.epoch

    def succeed(self, ticket: int, now: float) -> bool:
        """Whether this closed the circuit."""
        if ticket != self.epoch:
            return False
        if self.state is CLOSED:
            self.row = 0
            self.window.count(now, False)
            return False
        self.epoch += 1
        self.until = now
        self.proven += 1
        if self.proven < self.recipe.probes:
            return False
        self.state = CLOSED
        self.row = self.opened = 0
        self.window.clear()
        return True

    def fail(self, ticket: int, now: float, random: float = 1.0) -> float:
        """For how many seconds this opened the circuit: 0.0 if it did not."""
        if ticket != self.epoch:
            return 0.0
        recipe = self.recipe
        if self.state is CLOSED:
            self.row += 1
            self.window.count(now, True)
            failed = self.window.failed
            calls = self.window.good + failed
            if self.row >= recipe.consecutive:
                self.reason = f"{self.row} failures in a row" if self.row > 1 else "a failure"
            elif calls >= recipe.minimum and failed >= recipe.failure_rate * calls:
                self.reason = f"{failed} of {calls} calls failed in {recipe.window:g} s"
            else:
                return 0.0
        else:
            self.reason = "the probe failed"
        self.state = OPEN
        self.epoch += 1
        seconds = min(recipe.max_open_for, recipe.open_for * 2.0 ** min(self.opened, 64)) * (0.8 + 0.2 * random)
        self.opened += 1
        self.until = now + seconds
        return seconds

    def release(self, ticket: int, now: float) -> None:
        """No verdict: the place of a probe is free again."""
        if self.state is HALF_OPEN and ticket == self.epoch:
            self.epoch += 1
            self.until = now

    def retry_after(self, now: float) -> float:
        """Seconds until a call may go through; while a probe is out, that is soon."""
        return min(max(0.0, self.until - now), self.recipe.open_for if self.state is HALF_OPEN else inf)

    def __repr__(self) -> str:
        return f"<circuit {self.state}, {self.window.failed} of {self.window.good + self.window.failed} calls failed>"


class Circuits(dict[Origin, Circuit]):
    """The circuits of an upstream, by origin; with too many, one that is closed makes room."""

    def __init__(self, recipe: CircuitBreaker) -> None:
        super().__init__()
        self.recipe = recipe

    def __missing__(self, origin: Origin) -> Circuit:
        if len(self) >= self.recipe.origins:
            del self[next((one for one, circuit in self.items() if circuit.state is CLOSED), next(iter(self)))]
        circuit = self[origin] = Circuit(self.recipe, str(origin))
        return circuit
