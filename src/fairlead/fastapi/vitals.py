"""How the last attempts of a client went: noted around its engine, and only where somebody may ask for it.

Bound to a client when its application opens it; a client of an application without health routes is as it was. An attempt that goes
well costs one more `await` and the end of a list.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import ceil
from time import time
from typing import Any, Final, NamedTuple

from fairlead.base import BaseAPIClient
from fairlead.core import Call, Send, Upstream
from fairlead.errors import FairleadError, StatusError
from fairlead.message import Response
from fairlead.policies.circuit import verdict
from fairlead.policies.circuits import went_well
from fairlead.tasks import safe

LAST: Final = 128
"""Of how many answers it is known how long they took."""


class Failure(NamedTuple):
    """What an attempt failed by. `message` is for our own eyes, `public` for anyone's; `at` is the system's time."""

    error: str
    message: str
    public: str
    at: float


class Seen:
    """What was noted, newest last."""

    __slots__ = ("last", "seconds")

    def __init__(self) -> None:
        self.last: Failure | None = None
        self.seconds: deque[float] = deque(maxlen=LAST)
        """To the head of the answers, whatever their status."""

    def fail(self, outcome: Response | BaseException) -> None:
        """Note it if it speaks against the upstream, as its circuit would count it. No error is kept: it holds a request."""
        if went_well(outcome) is not False:
            return
        error = outcome
        if isinstance(outcome, Response):
            error = StatusError(outcome) if outcome.error is None else outcome.error
        if isinstance(error, FairleadError):
            self.last = Failure(type(error).__name__, error.message, safe(error), time())

    def look(self, response: Response) -> None:
        """At an answer that has not ended, or is not good."""
        self.seconds.append(response._seconds)
        if response.is_closed:
            self.fail(response)
        else:
            response.when_closed(partial(self.fail, response))

    def latency(self) -> dict[str, float] | None:
        """Seconds: the last, and of the last ones those that half, and 95 of 100, do not exceed."""
        if not self.seconds:
            return None
        ordered, size = sorted(self.seconds), len(self.seconds)
        median, high = (round(ordered[ceil(size * share) - 1], 6) for share in (0.5, 0.95))
        return {"last": round(self.seconds[-1], 6), "p50": median, "p95": high, "answers": size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Notes errors and seconds of every attempt in `upstream.states["Vitals", "default"]`."""

    name: str = "default"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        seen = upstream.state(self, Seen)
        add, look, fail = seen.seconds.append, seen.look, seen.fail

        async def note(call: Call) -> Response:
            try:
                response = await send(call)
            except FairleadError as error:
                fail(error)
                raise
            if response.status_code < 500 and response.is_closed:
                add(response._seconds)
            else:
                look(response)
            return response

        return note


def sending(client: Any) -> BaseAPIClient | None:
    """The client that sends: the one inside, of one for threads; none of somebody else's."""
    if isinstance(client, BaseAPIClient):
        return client
    inside = getattr(client, "_client", None)
    return inside if isinstance(inside, BaseAPIClient) else None


def watch(client: BaseAPIClient) -> None:
    """Note from now on how its attempts go. May be called again."""
    if ("Vitals", "default") not in client.upstream.states:
        client._surround(Vitals())


def failure(client: BaseAPIClient) -> Failure | None:
    """What its last failed attempt failed by."""
    seen: Seen | None = client.upstream.states.get(("Vitals", "default"))
    return None if seen is None else seen.last


def circuit(client: BaseAPIClient, now: float) -> str | None:
    """The worst of its circuits. One that would let the next call through is half-open, whether or not a call has come by."""
    told = verdict(client.upstream)
    if told != "open":
        return told
    return "open" if any(circuit.until > now for circuit in _open(client.upstream)) else "half-open"


def _open(upstream: Upstream) -> list[Any]:
    every = [circuits for (kind, _), circuits in upstream.states.items() if kind == "CircuitBreaker"]
    refusing = [circuits for circuits in every if circuits.mode != "shadow"]
    return [circuit for circuits in refusing for circuit in circuits.values() if circuit.state == "open"]


def report(client: BaseAPIClient) -> dict[str, Any]:
    """What its application tells of it beside its health: nothing that is secret, and nothing that has to be asked for."""
    states = client.upstream.states
    slots = next((state for (kind, _), state in states.items() if kind == "ConcurrencyLimit"), None)
    seen: Seen | None = states.get(("Vitals", "default"))
    last = failure(client)
    at = None if last is None else datetime.fromtimestamp(last.at, UTC).isoformat(timespec="milliseconds")
    return {
        "in_flight": client._under_way if slots is None else slots.taken,
        "waiting": 0 if slots is None else slots.waiting,
        "limit": None if slots is None else slots.limit,
        "latency": None if seen is None else seen.latency(),
        "last_error": None if last is None else {"error": last.error, "message": last.public, "at": at},
    }
