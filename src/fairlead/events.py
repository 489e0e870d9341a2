"""What happened, as frozen facts. A sink is any callable that takes one; logs, traces and metrics are sinks.

`call` is the same object in every event of one call, and says no more than that. Seconds are floats.
A sink may have a method `listens()`: where it answers False at a call's start, it is not told of that call's start and end, only
of what goes wrong in between. They are named tuples and
no frozen dataclasses, because two are made in every call and a frozen dataclass takes three times as long to make; their
annotations are no strings, because those are compiled one by one when this is imported.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from fairlead.message import Request, Response


class Started(NamedTuple):
    """A call begins. Its request may still be given headers that carry a trace on."""

    upstream: str
    call: Hashable
    request: Request


class Retried(NamedTuple):
    """Attempt number `attempt` failed by `cause`; the next follows after `delay` seconds."""

    upstream: str
    call: Hashable
    request: Request
    attempt: int
    delay: float
    cause: Response | BaseException


class GaveUp(NamedTuple):
    """Attempt number `attempt` failed by `cause` and might have been followed by another: why it is not."""

    upstream: str
    call: Hashable
    request: Request
    attempt: int
    reason: str
    cause: Response | BaseException


class Hedged(NamedTuple):
    """Attempt number `attempt` was sent beside those that had not answered within `delay` seconds."""

    upstream: str
    call: Hashable
    request: Request
    attempt: int
    delay: float


class Refused(NamedTuple):
    """A policy of ours sent nothing, and why."""

    upstream: str
    call: Hashable
    request: Request
    error: BaseException


class FellBack(NamedTuple):
    """The call failed by `cause` and was answered by something else: `to` names it."""

    upstream: str
    call: Hashable
    request: Request
    cause: Response | BaseException
    to: str = ""


class Held(NamedTuple):
    """The upstream asked for `seconds` without calls to `origin`, and gets them."""

    upstream: str
    origin: str
    seconds: float


class CircuitOpened(NamedTuple):
    """Calls to `origin`, or to whatever else has a circuit of its own, are refused for `seconds` (`inf`: until told otherwise).

    In `shadow` they would have been, and go through. `told`: an operator or another process said so, and nobody found out here.
    """

    upstream: str
    origin: str
    seconds: float
    reason: str
    shadow: bool = False
    told: bool = False


class CircuitHalfOpened(NamedTuple):
    """A call to `origin` is let through, to see."""

    upstream: str
    origin: str
    shadow: bool = False


class CircuitClosed(NamedTuple):
    """Calls to `origin` go through again."""

    upstream: str
    origin: str
    shadow: bool = False
    told: bool = False


class SharingLost(NamedTuple):
    """The store that processes share their limits in is gone or slow: each goes on with its share, `members` being the last count."""

    upstream: str
    store: str
    members: int
    error: BaseException


class SharingResumed(NamedTuple):
    """The store that processes share their limits in is there again."""

    upstream: str
    store: str


class Finished(NamedTuple):
    """A call ended: by a response (its body here, or ended) or by an error, after `attempt` attempts and `elapsed` seconds."""

    upstream: str
    call: Hashable
    request: Request
    attempt: int
    elapsed: float
    response: Response | None
    error: BaseException | None


Event = (
    Started | Retried | GaveUp | Hedged | Refused | FellBack | Held
    | CircuitOpened | CircuitHalfOpened | CircuitClosed | SharingLost | SharingResumed | Finished
)  # fmt: skip
Sink = Callable[[Event], object]
