"""Stop calling an upstream that is down: its callers learn so at once, and it is left alone to recover.

*When* to open is the rule in `circuit_rule.py`; *what open means* is the closure below; `circuits.py` has the live state between
them. A closed circuit costs a call a look at its state, a clock and two counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from inspect import iscoroutinefunction
from math import inf
from typing import ClassVar, get_args

from fairlead.core import Call, Send, Upstream
from fairlead.errors import ConfigError
from fairlead.message import Response
from fairlead.policies.circuit_rule import CLOSED
from fairlead.policies.circuits import By, Circuits, Mode
from fairlead.policies.jitter import chance


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """Open after `consecutive` failures, or when of at least `minimum` calls in `window` seconds too many failed or were slow.

    Too many are `failure_rate` of them, or `slow_rate` that took `slow_after` seconds or longer; None switches one way of opening off.
    Open for `open_for` seconds, `growth` times as long each time up to `max_open_for`, at random 80 to 100 % of that, or as long as
    the failing answer's `Retry-After`. Then `at_once` calls at a time probe, and `probes` good ones close it; a probe has `lease`
    seconds to report.

    `by` says what has a circuit of its own: an "origin", the "upstream", a "route", or what a function of the request gives, of which
    `kept` are remembered. `mode` "shadow" tells and refuses nothing, "open" refuses everything, "off" is no circuit breaker at all.

    A failure is a transport fault, an attempt's time-out or a 5xx; a refusal, a passed deadline or a cancellation is no verdict.
    `failure` may know better: True for a failure, False for a success, None for what the rule says.
    """

    failure_rate: float | None = 0.5
    window: float = 30.0
    minimum: int = 20
    consecutive: int | None = 5
    slow_after: float | None = None
    slow_rate: float = 0.5
    open_for: float = 5.0
    growth: float = 2.0
    max_open_for: float = 60.0
    probes: int = 1
    at_once: int = 1
    lease: float = 30.0
    by: By = "origin"
    kept: int = 1024
    mode: Mode = "on"
    failure: Callable[[Response | BaseException], bool | None] | None = None
    name: str = "default"
    random: Callable[[], float] = field(default=chance, repr=False, compare=False)
    """Uniform in [0, 1)."""
    place: ClassVar[str] = "CircuitBreaker"

    def __post_init__(self) -> None:
        for name, off in (("failure_rate", True), ("slow_rate", False)):
            share = getattr(self, name)
            if not (share is None and off) and not (_is_number(share) and 0 < share <= 1):
                raise _wrong(name, share, "a share above 0 and up to 1", off)
        for name, off in (
            ("window", False), ("slow_after", True), ("open_for", False), ("max_open_for", False), ("lease", False),
        ):  # fmt: skip
            seconds = getattr(self, name)
            if not (seconds is None and off) and not (_is_number(seconds) and 0 < seconds < inf):
                raise _wrong(name, seconds, "a number of seconds above 0", off)
        for name in ("minimum", "consecutive", "probes", "at_once", "kept"):
            number = getattr(self, name)
            off = name == "consecutive"
            if not (number is None and off) and (type(number) is not int or number < 1):
                raise _wrong(name, number, "a whole number above 0", off)
        if not _is_number(self.growth) or not 1 <= self.growth < inf:
            raise _wrong("growth", self.growth, "a number from 1 on")
        if self.max_open_for < self.open_for:
            raise _wrong("max_open_for", self.max_open_for, f"at least open_for={self.open_for!r}: raise it too")
        if self.at_once > self.probes:
            raise _wrong("at_once", self.at_once, f"at most probes={self.probes!r}, as that many good ones close it")
        if self.mode not in get_args(Mode):
            raise _wrong("mode", self.mode, f"one of {', '.join(get_args(Mode))}")
        if not _is_plain(self.by) and self.by not in ("origin", "upstream", "route"):
            raise _wrong("by", self.by, "origin, upstream, route or a plain function of the request")
        if self.failure is not None and not _is_plain(self.failure):
            raise _wrong("failure", self.failure, "a plain function of an outcome")

    def explain(self) -> str:
        if self.mode == "off":
            return "circuit breaker: off"
        ways, among = [], f" of at least {self.minimum} calls in {self.window:g} s"
        if self.consecutive is not None:
            ways.append(f"{self.consecutive} failures in a row" if self.consecutive > 1 else "a failure")
        if self.failure_rate is not None:
            ways.append(f"{self.failure_rate:.0%}{among}")
        if self.slow_after is not None:
            ways.append(f"{self.slow_rate:.0%}{among} taking {self.slow_after:g} s or longer")
        when = f"after {', or '.join(ways)}" if ways else "when it is told"
        grows = "doubling" if self.growth == 2 else f"{self.growth:g} times as long each time"
        spans = f"{self.open_for:g} s, {grows} to {self.max_open_for:g} s"
        probes = (
            f"{'one call' if self.at_once == 1 else f'{self.at_once} calls'} at a time probe{'s' * (self.at_once == 1)}"
        )
        closes = f", and {self.probes} good ones close it" if self.probes > 1 else ""
        each = {"origin": "one for each origin", "upstream": "one for all", "route": "one for each route"}
        known = each[self.by] if isinstance(self.by, str) else "one for each that its function names"
        mode = {"on": "", "shadow": "; in shadow: nothing is refused", "open": "; forced open: everything is refused"}
        return f"circuit breaker, {known}: open {when}; for {spans}; then {probes}{closes}{mode[self.mode]}"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        if self.mode == "off":
            return send
        circuits = upstream.state(self, lambda: Circuits(self, upstream))
        admit, report, closed = circuits.admit, circuits.report, circuits.closed
        key = None if self.by == "origin" else circuits.key
        # Below this, a status is all there is to a verdict.
        bad = 500 if self.failure is None and self.slow_after is None else 0

        async def guard(call: Call) -> Response:
            circuit = circuits[call.request.origin if key is None else key(call.request)]
            ticket = circuit.epoch if circuit.state is CLOSED else admit(circuit, call)
            try:
                response = await send(call)
            except BaseException as error:
                report(circuit, ticket, call, error)
                raise
            if not (response.complete or response.is_closed) and response.upgraded is None:
                response.when_closed(partial(report, circuit, ticket, call, response))
                if circuit.state is not CLOSED:
                    circuits.begun(circuit, ticket, response)
            elif response.status_code >= bad:  # of another protocol, all that can be judged is that it was agreed to
                report(circuit, ticket, call, response)
            elif circuit.succeed(ticket, call.clock()):
                closed(circuit)
            return response

        return guard


def verdict(upstream: Upstream) -> str | None:
    """The worst of an upstream's circuits: open, half-open or closed; None where it has no circuit breaker."""
    found = [circuits for (kind, _), circuits in upstream.states.items() if kind == "CircuitBreaker"]
    # What stands in shadow refuses nothing.
    states = {str(circuit.state) for circuits in found if circuits.mode != "shadow" for circuit in circuits.values()}
    return next((state for state in ("open", "half-open") if state in states), "closed") if found else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(function: object) -> bool:
    return callable(function) and not iscoroutinefunction(function)


def _wrong(name: str, value: object, mend: str, off: bool = False) -> ConfigError:
    return ConfigError(f"CircuitBreaker: {name}={value!r} is not {mend}{'; None switches it off' if off else ''}")
