"""The live circuits of an upstream: which one a call belongs to, what they are told, and who hears of it.

The rule of each is in `circuit_rule.py`. Here it meets the rest: outcomes become verdicts, a circuit that opens or closes is told to
the sinks, calls in line behind one that opens are turned away, and an operator or another process may know better.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal

from fairlead.core import Call, Upstream
from fairlead.errors import AttemptTimedOut, CircuitOpen, ConfigError, ProtocolError, Refused, TransportError
from fairlead.events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from fairlead.message import Request, Response
from fairlead.policies.circuit_rule import CLOSED, NOBODY, OPEN, SPREAD, Circuit
from fairlead.url import Origin

if TYPE_CHECKING:
    from fairlead.policies.circuit import CircuitBreaker

By = Literal["origin", "upstream", "route"] | Callable[[Request], Hashable]
Mode = Literal["on", "shadow", "open", "off"]
Judge = Callable[[Response | BaseException], bool | None]

ASKED: Final = 120.0
"""Seconds of a `Retry-After` that are kept: who asks for more is asked again."""
FORCED: Final = "forced open"
TOLD: Final = "told by another process"
MODES: Final = ("on", "shadow", "open")
"""What circuits can be forced to be while they live."""


def went_well(outcome: Response | BaseException) -> bool | None:
    """The verdict: None for what says nothing about the upstream, such as a refusal, a cancellation or a caller's deadline."""
    if isinstance(outcome, Response):
        return outcome.status_code < 500 if outcome.error is None else went_well(outcome.error)
    if isinstance(outcome, ProtocolError) and outcome.too_large:
        return None
    return False if isinstance(outcome, TransportError | AttemptTimedOut) else None


class Circuits(dict[Hashable, Circuit]):
    """The circuits, by what `by` gives; with too many, one that is closed makes room."""

    def __init__(self, recipe: CircuitBreaker, upstream: Upstream) -> None:
        super().__init__()
        self.recipe = recipe
        self.upstream = upstream
        self.mode = recipe.mode
        self.key, self._words = _naming(recipe.by, upstream.name)
        self._judge = went_well if recipe.failure is None else _judging(recipe.failure)

    def __missing__(self, key: Hashable) -> Circuit:
        words = self._words(key)
        if (circuit := self.pop(words, None)) is None:  # under these, if it was heard of before it was called
            circuit = Circuit(self.recipe, words)
            if self.mode == "open":
                circuit.open(0.0, inf, FORCED)
        if len(self) >= self.recipe.kept:
            del self[next((one for one, other in self.items() if other.state is CLOSED), next(iter(self)))]
        self[key] = circuit
        return circuit

    # What a call asks and tells

    def admit(self, circuit: Circuit, call: Call) -> int:
        """A ticket through a circuit that is not closed; raises CircuitOpen for a call that may not go."""
        now, before = call.clock(), circuit.state
        if (ticket := circuit.admit(now)) is None:
            circuit.refused += 1
            if self.mode == "shadow":
                return NOBODY
            raise self._refusal(circuit, call)
        if before is OPEN:
            self.upstream.emit(CircuitHalfOpened(self.upstream.name, circuit.key, self.mode == "shadow"))
        elif circuit.state is CLOSED:
            self.closed(circuit)
        return ticket

    def begun(self, circuit: Circuit, ticket: int, response: Response) -> None:
        """The answer to a probe is a stream, and here is its head."""
        slow = self.recipe.slow_after
        if self.recipe.failure is None and went_well(response) and (slow is None or response.elapsed < slow):
            circuit.begin(ticket)

    def report(self, circuit: Circuit, ticket: int, call: Call, outcome: Response | BaseException) -> None:
        """How a call ended. A stream is reported at its end, and timed to its head: how long it lasts is up to who reads it."""
        try:
            good = self._judge(outcome)
        except BaseException:
            circuit.release(ticket)
            raise
        if good is None:
            circuit.release(ticket)
            return
        now, recipe = call.clock(), self.recipe
        slow, random = False, 1.0
        if (timed := recipe.slow_after) is not None:
            slow = _seconds(outcome) >= timed
        if slow or not good:
            random = recipe.random()
        if not good and circuit.fail(ticket, now, random):
            if isinstance(outcome, Response) and (asked := outcome.retry_after) is not None:
                circuit.hold(now, min(asked, ASKED) * (1 + SPREAD * random))
            self._opened(circuit)
        elif timed is not None and circuit.time(ticket, now, slow, random):
            self._opened(circuit)
        elif good and circuit.succeed(ticket, now):
            self.closed(circuit)

    # What others tell

    def force(self, mode: Mode) -> None:
        """Begin anew as "on" or "shadow", every circuit closed; or "open": refuse every call until told otherwise."""
        if mode not in MODES:
            raise ConfigError(
                f"{self.upstream.name}: circuits cannot be forced {mode!r}: use one of {', '.join(MODES)}"
            )
        for circuit in tuple(self.values()):
            before = circuit.state
            if mode == "open":
                circuit.open(0.0, inf, FORCED)
            else:
                circuit.close()
                if before is not CLOSED:
                    self.closed(circuit, told=True)
        self.mode = mode
        if mode == "open":
            for circuit in tuple(self.values()):
                self._tell(circuit, told=True)
            self.upstream.turn_away(self._overtaken)

    def opened_elsewhere(self, key: str, seconds: float, now: float, reason: str = "") -> None:
        """Another process opened its circuit of this key for `seconds`. A closed one opens, an open one stays so at least as long.

        A half-open one has a probe of its own to tell. What is heard here is opened a little longer than there, so that who
        opened it first probes first, and tells.
        """
        longest = max(self.recipe.max_open_for, ASKED) * (1 + SPREAD)
        if not 0 < seconds < inf:
            return
        seconds = min(seconds * (1 + SPREAD * self.recipe.random()), longest)
        circuit = self._named(key) or self[key]
        if circuit.state is CLOSED:
            circuit.open(now, seconds, TOLD + (f": {reason}" if reason else ""))
            self._opened(circuit, told=True)
        else:
            circuit.hold(now, seconds)

    def closed_elsewhere(self, key: str) -> None:
        """Another process closed its circuit of this key: its probes went well."""
        circuit = self._named(key)
        if circuit is not None and circuit.state is not CLOSED and self.mode != "open":
            circuit.close()
            self.closed(circuit, told=True)

    def _named(self, key: str) -> Circuit | None:
        return next((circuit for circuit in self.values() if circuit.key == key), None)

    # Who hears of it

    def closed(self, circuit: Circuit, told: bool = False) -> None:
        self.upstream.emit(CircuitClosed(self.upstream.name, circuit.key, self.mode == "shadow", told))

    def _opened(self, circuit: Circuit, told: bool = False) -> None:
        self._tell(circuit, told)
        if self.mode != "shadow":
            self.upstream.turn_away(self._overtaken)

    def _tell(self, circuit: Circuit, told: bool) -> None:
        name, shadow = self.upstream.name, self.mode == "shadow"
        self.upstream.emit(CircuitOpened(name, circuit.key, circuit.seconds, circuit.reason, shadow, told))

    def _overtaken(self, call: Call) -> CircuitOpen | None:
        """The refusal of a call in line, if its circuit is open. A probe's is half-open."""
        circuit = self.get(self.key(call.request))
        return None if circuit is None or circuit.state is not OPEN else self._refusal(circuit, call)

    def _refusal(self, circuit: Circuit, call: Call) -> CircuitOpen:
        seconds = circuit.retry_after(call.clock())
        told = "" if seconds == inf else f": calls go through again in {seconds:.3g} s"
        return CircuitOpen(
            f"circuit {circuit.state} for {circuit.key} ({circuit.reason}){told}",
            retry_after=None if seconds == inf else seconds,
            request=call.request,
            upstream=self.upstream.name,
        )


def _judging(failure: Callable[[Response | BaseException], bool | None]) -> Judge:
    """`went_well`, where the user's own function does not know better."""

    def judge(outcome: Response | BaseException) -> bool | None:
        told = outcome.error if isinstance(outcome, Response) and outcome.error is not None else outcome
        # Who cancels or refuses is no upstream: nobody can be asked to blame it for that.
        if isinstance(told, Response | Exception) and not isinstance(told, Refused | ConfigError):
            failed = failure(told)
            if failed is not None:
                return not failed
        return went_well(outcome)

    return judge


def _naming(by: By, upstream: str) -> tuple[Callable[[Request], Hashable], Callable[[Hashable], str]]:
    """What a call's circuit is kept under, and that in words which are the same in every process."""
    if by == "origin":
        return attrgetter("origin"), str
    if by == "upstream":
        return lambda _: upstream, str
    if by == "route":
        return _route, _route_in_words
    return by, str


def _route(request: Request) -> tuple[str, Origin, str]:
    return request.method, request.origin, request.route or request.target.partition("?")[0]


def _route_in_words(key: Any) -> str:
    return key if isinstance(key, str) else f"{key[0]} {key[1]}{key[2]}"


def _seconds(outcome: Response | BaseException) -> float:
    """How long an attempt took. The engine has timed it, without the wait in line for a slot of ours."""
    if isinstance(outcome, Response):
        return outcome.elapsed
    return inf if isinstance(outcome, AttemptTimedOut) else 0.0
