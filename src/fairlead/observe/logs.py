"""What happens, as records of the logger `fairlead`: facts as `extra` fields, so that any formatter shows them.

DEBUG at a call's start and at a hedge, INFO at its end (DEBUG where it was cancelled: a race has losers), WARNING for a retry and
for one that was given up, a refusal, a fallback, an opened circuit, an upstream that asks to be left alone, and a lost store. Values of a query and sensitive headers are never shown; below its level nothing is formatted.
"""

from __future__ import annotations

from asyncio import CancelledError
from logging import DEBUG, INFO, WARNING, getLogger
from math import inf
from typing import Any, Final

from fairlead.errors import FairleadError
from fairlead.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Event,
    FellBack,
    Finished,
    GaveUp,
    Hedged,
    Held,
    Refused,
    Retried,
    SharingLost,
    SharingResumed,
    Started,
)
from fairlead.message import Request, Response
from fairlead.url import shown

logger: Final = getLogger("fairlead")


class Log:
    """The sink."""

    def listens(self) -> bool:
        return logger.isEnabledFor(INFO)

    def __call__(self, event: Event) -> None:
        _log(event)


log: Final = Log()


def _log(event: Event) -> None:
    if isinstance(event, Started):
        if logger.isEnabledFor(DEBUG):
            url = shown(event.request.url)
            extra = {
                **_request(event.request, url),
                "headers": event.request.headers.redacted(),
                "upstream": event.upstream,
            }
            logger.debug("%s %s", event.request.method, url, extra=extra)
    elif isinstance(event, Finished):
        level = DEBUG if isinstance(event.error, CancelledError) else INFO
        if logger.isEnabledFor(level):
            _finished(level, event)
    elif isinstance(event, Hedged):
        if logger.isEnabledFor(DEBUG):
            url = shown(event.request.url)
            extra = {**_request(event.request, url), "attempt": event.attempt, "delay_seconds": event.delay}
            extra["upstream"] = event.upstream
            logger.debug(
                "%s %s: attempt %d beside, after %.3f s",
                event.request.method,
                url,
                event.attempt,
                event.delay,
                extra=extra,
            )
    elif logger.isEnabledFor(WARNING):
        if isinstance(event, Retried | GaveUp | Refused | FellBack):
            _noted(event)
        else:
            _noted_of_upstream(event)


def _finished(level: int, event: Finished) -> None:
    url = shown(event.request.url)
    error = type(event.error).__name__ if event.error is not None else None
    status = event.response.status_code if event.response is not None else None
    extra = {
        **_request(event.request, url),
        "status_code": status,
        "elapsed_seconds": event.elapsed,
        "attempt": event.attempt,
        "upstream": event.upstream,
        "error": error,
    }
    answer = " ".join([str(part) for part in (status, error) if part is not None])
    logger.log(level, "%s %s: %s in %.3f s", event.request.method, url, answer, event.elapsed, extra=extra)


def _noted_of_upstream(
    event: Held | CircuitOpened | CircuitHalfOpened | CircuitClosed | SharingLost | SharingResumed,
) -> None:
    extra: dict[str, Any] = {"upstream": event.upstream}
    if isinstance(event, SharingLost | SharingResumed):
        extra["store"] = event.store
        if isinstance(event, SharingLost):
            extra |= {"members": event.members, "cause": told(event.error)}
            message = "%s: %s does not answer (%s): limits go on at a share of 1/%d"
            logger.warning(message, event.upstream, event.store, extra["cause"], event.members, extra=extra)
        else:
            logger.info("%s: %s answers again: limits are shared", event.upstream, event.store, extra=extra)
        return
    extra["origin"] = event.origin
    if isinstance(event, Held):
        extra["seconds"] = event.seconds
        logger.warning("%s: asks to be left alone for %.3g s", event.origin, event.seconds, extra=extra)
    elif isinstance(event, CircuitOpened):
        extra |= {"seconds": event.seconds, "reason": event.reason, "shadow": event.shadow, "told": event.told}
        opened = "circuit would have opened" if event.shadow else "circuit opened"
        until = "until told otherwise" if event.seconds == inf else f"for {event.seconds:.3g} s"
        logger.warning("%s: %s %s: %s", event.origin, opened, until, event.reason, extra=extra)
    else:
        extra["shadow"] = event.shadow
        told_state = "closed" if isinstance(event, CircuitClosed) else "half-open"
        logger.info("%s: circuit %s%s", event.origin, told_state, " in shadow" if event.shadow else "", extra=extra)


def _noted(event: Retried | GaveUp | Refused | FellBack) -> None:
    extra: dict[str, Any] = {"upstream": event.upstream}
    url = shown(event.request.url)
    extra |= _request(event.request, url)
    method = event.request.method
    if isinstance(event, Retried):
        cause = told(event.cause)
        extra |= {"attempt": event.attempt, "delay_seconds": event.delay, "cause": cause}
        message = "%s %s: attempt %d failed (%s), the next in %.3f s"
        logger.warning(message, method, url, event.attempt, cause, event.delay, extra=extra)
    elif isinstance(event, GaveUp):
        cause = told(event.cause)
        extra |= {"attempt": event.attempt, "reason": event.reason, "cause": cause}
        message = "%s %s: attempt %d failed (%s) and is not tried again: %s"
        logger.warning(message, method, url, event.attempt, cause, event.reason, extra=extra)
    elif isinstance(event, FellBack):
        extra |= {"cause": told(event.cause), "to": event.to}
        logger.warning("%s %s: fell back to %s (%s)", method, url, event.to, extra["cause"], extra=extra)
    else:
        extra["cause"] = told(event.error)
        logger.warning("%s %s: refused (%s)", method, url, extra["cause"], extra=extra)


def told(cause: Response | BaseException) -> str:
    """A cause in few words. Only our own errors are known to carry no secret; of others the name must do."""
    if isinstance(cause, Response):
        return str(cause.status_code)
    name = type(cause).__name__
    return f"{name}: {cause.message}" if isinstance(cause, FairleadError) else name


def _request(request: Request, url: str) -> dict[str, Any]:
    return {"method": request.method, "url": url}
