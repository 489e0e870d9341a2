"""What happened, as frozen facts. A sink is any callable that takes one; logs, traces and metrics are sinks.

`call` is the same object in every event of one call, and says no more than that. Seconds are floats.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from fairlead.message import Request, Response


@dataclass(frozen=True, slots=True)
class Started:
    """A call begins. Its request may still be given headers that carry a trace on."""

    upstream: str
    call: Hashable
    request: Request


@dataclass(frozen=True, slots=True)
class Retried:
    """Attempt number `attempt` failed by `cause`; the next follows after `delay` seconds."""

    upstream: str
    call: Hashable
    request: Request
    attempt: int
    delay: float
    cause: Response | BaseException


@dataclass(frozen=True, slots=True)
class Refused:
    """A policy of ours sent nothing, and why."""

    upstream: str
    call: Hashable
    request: Request
    error: BaseException


@dataclass(frozen=True, slots=True)
class FellBack:
    """The call failed by `cause` and was answered by something else."""

    upstream: str
    call: Hashable
    request: Request
    cause: Response | BaseException


@dataclass(frozen=True, slots=True)
class CircuitOpened:
    """Calls to `origin` are refused for `seconds`."""

    upstream: str
    origin: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class CircuitHalfOpened:
    """One call to `origin` is let through, to see."""

    upstream: str
    origin: str


@dataclass(frozen=True, slots=True)
class CircuitClosed:
    """Calls to `origin` go through again."""

    upstream: str
    origin: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A call ended: by a response (its body here, or ended) or by an error, after `attempt` attempts and `elapsed` seconds."""

    upstream: str
    call: Hashable
    request: Request
    attempt: int
    elapsed: float
    response: Response | None
    error: BaseException | None


Event = Started | Retried | Refused | FellBack | CircuitOpened | CircuitHalfOpened | CircuitClosed | Finished
Sink = Callable[[Event], object]
