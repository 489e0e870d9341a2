"""Try again what is safe to try again: decided by what is known of the request, never by the name of an exception.

Not sent: any method may try again. Answered or unknown: only a request that means the same twice (RFC 9110 section 9.2.2), or
carries an idempotency key. The pause is fully jittered, so that callers who failed together do not return together; it never
outlasts the deadline, and what lost is closed before it. Nothing is held while pausing: limits and circuits stand inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import ClassVar, Final

from fairlead.core import Call, Send, Upstream
from fairlead.errors import AttemptTimedOut, ConfigError, Knowledge, ProtocolError, TransportError
from fairlead.events import Retried
from fairlead.headers import Headers
from fairlead.message import Response
from fairlead.policies.jitter import chance

STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
PATIENCE: Final = 120.0
"""Seconds that a peer may ask to wait where no deadline says it."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?").fullmatch
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Up to `retries` more attempts, after a random pause of at most `min(max_delay, delay * backoff**n)` seconds.

    `Retry-After` is added to the pause; asked to wait longer than the deadline leaves, the answer is handed out at once.
    """

    retries: int = 2
    delay: float = 0.05
    backoff: float = 2.0
    max_delay: float = 20.0
    statuses: frozenset[int] = STATUSES
    name: str = "default"
    random: Callable[[], float] = field(default=chance, repr=False, compare=False)
    """Uniform in [0, 1)."""
    place: ClassVar[str] = "Retry"

    def __post_init__(self) -> None:
        if type(self.retries) is not int or self.retries < 0:
            raise ConfigError(f"Retry: retries={self.retries!r} is not a whole number from 0 on")
        for name, least in (("delay", 0), ("backoff", 1), ("max_delay", 0)):
            if not least <= (number := getattr(self, name)) < inf:
                raise ConfigError(f"Retry: {name}={number!r} is not a number from {least} on")

    def explain(self) -> str:
        if not self.retries:
            return "retry: never"
        attempts = "1 more attempt" if self.retries == 1 else f"{self.retries} more attempts"
        pauses = ", ".join(f"{self.cap(attempt):g}" for attempt in range(1, min(self.retries, 4) + 1))
        return (
            f"retry: up to {attempts} where that is safe, after a random pause of at most {pauses}"
            f"{', ...' if self.retries > 4 else ''} s; Retry-After is kept, the deadline never passed"
        )

    def cap(self, attempt: int) -> float:
        """The longest pause after attempt number `attempt`."""
        try:
            return min(self.max_delay, self.delay * self.backoff ** (attempt - 1))
        except OverflowError:
            return self.max_delay

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        if not self.retries:
            return send
        name, retries, statuses, cap, jitter = (
            upstream.name,
            self.retries,
            self.statuses,
            self.cap,
            self.random,
        )

        async def retry(call: Call) -> Response:
            request = call.request
            if type(request.content) is not bytes and not request.replayable:
                return await send(call)
            idempotent = request.idempotent
            attempt = 1
            while True:
                fork = call.fork(attempt)
                if idempotent:
                    fork.allowance = call.timeout.among
                cause: Response | BaseException
                try:
                    response = await send(fork)
                except (TransportError, AttemptTimedOut) as error:
                    if attempt > retries or not (idempotent or error.knowledge is Knowledge.NOT_SENT):
                        raise
                    if isinstance(error, ProtocolError) and error.too_large:
                        raise  # it would be again
                    pause = cap(attempt) * jitter()
                    if pause >= remaining(call):
                        raise
                    cause = error
                else:
                    if response.status_code not in statuses or not idempotent or attempt > retries:
                        return response
                    pause = cap(attempt) * jitter() + (retry_after(response.headers) or 0.0)
                    if pause >= remaining(call):
                        return response
                    response.close()
                    cause = response
                upstream.emit(Retried(name, call, request, attempt, pause, cause))
                del cause  # its traceback leads here, and a circle would keep all that it leads past
                await upstream.pause(pause)
                attempt += 1
                call.attempt = attempt

        return retry


def remaining(call: Call) -> float:
    """Seconds that a pause may take."""
    return call.deadline - call.clock() if call.deadline < inf else PATIENCE


def retry_after(headers: Headers, now: Callable[[], float] = time) -> float | None:
    """Seconds a peer asks to wait: `retry-after-ms`, or `Retry-After` (RFC 9110 section 10.2.3); None for what is neither.

    A date is read against the answer's own `Date`, so that clocks that differ do no harm.
    """
    if (milliseconds := headers.get("retry-after-ms")) is not None and _SECONDS(milliseconds):
        return float(milliseconds) / 1000
    if (value := headers.get("retry-after")) is None:
        return None
    if _SECONDS(value):
        return float(value)
    if (until := _timestamp(value)) is None:
        return None
    since = _timestamp(headers.get("date", ""))
    return max(0.0, until - (now() if since is None else since))


def _timestamp(date: str) -> float | None:
    """Seconds since 1970 of an IMF-fixdate (RFC 9110 section 5.6.7)."""
    if _DATE(date) is None:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
