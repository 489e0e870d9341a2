"""What can go wrong with a call, and what is known of the request when it does.

    FairleadError
    +- ConfigError (ValueError)
    +- Refused                       nothing was sent, by our own decision; has retry_after
    |  +- CircuitOpen
    |  +- LimitReached
    +- TransportError (ConnectionError)
    |  +- ConnectFailed              not_sent
    |  +- Disconnected               unknown
    |  +- ProtocolError              unknown: what came back is not HTTP, or broke a limit
    +- TimedOut (TimeoutError)
    |  +- AttemptTimedOut            the upstream had its time and did not answer
    |  +- DeadlineExceeded           the caller's time was up; says nothing about the upstream
    +- StatusError                   has response
    +- DecodeError (ValueError)      has response

Every error carries its `request`, the `upstream`'s name, the `phase` it happened in and the `knowledge` of what became of
the request. No message carries a query, a header or a body: those hold secrets.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:  # names for the checker: messages raise errors, so at run time they import from here
    from fairlead.request import Request
    from fairlead.response import Response

Phase = Literal["waiting", "connecting", "sending", "head", "body", "decoding"]


class Knowledge(StrEnum):
    """What is known of a request after a fault. Retry decides from this, not from exception names."""

    NOT_SENT = "not_sent"
    """No byte of it left: any method may try again."""
    REJECTED = "rejected"
    """The peer answered that it did nothing."""
    UNKNOWN = "unknown"
    """It may have been carried out: only an idempotent or keyed request may try again."""


class FairleadError(Exception):
    """The root of all errors that a call can raise."""

    default: ClassVar[str] = "the call failed"
    knowledge: Knowledge = Knowledge.UNKNOWN

    def __init__(
        self,
        message: str = "",
        *,
        request: Request | None = None,
        upstream: str | None = None,
        phase: Phase | None = None,
        knowledge: Knowledge | None = None,
    ) -> None:
        super().__init__(message or self.default)
        self.request = request
        self.upstream = upstream
        self.phase = phase
        if knowledge is not None:
            self.knowledge = knowledge

    @property
    def message(self) -> str:
        """What happened, without the request it happened to."""
        return str(self.args[0])

    def __str__(self) -> str:
        where = f"{self.upstream}: " if self.upstream else ""
        what = f" ({self.request.method} {self.request.place})" if self.request is not None else ""
        return f"{where}{self.message}{what}"


class ConfigError(FairleadError, ValueError):
    """What was written cannot work; the message names the place, the value and the mend."""

    default = "what was configured cannot work"
    knowledge = Knowledge.NOT_SENT


class Refused(FairleadError):
    """Our own refusal: nothing was sent. `retry_after` is in seconds, or None where no time can be named."""

    default = "refused before sending"
    knowledge = Knowledge.NOT_SENT

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        request: Request | None = None,
        upstream: str | None = None,
    ) -> None:
        super().__init__(message, request=request, upstream=upstream, phase="waiting")
        self.retry_after = retry_after


class CircuitOpen(Refused):
    """The upstream failed too often; calls go through again after `retry_after` seconds."""

    default = "circuit open"


class LimitReached(Refused):
    """Too many calls are under way or waiting already."""

    default = "limit reached"


class TransportError(FairleadError, ConnectionError):
    """The connection failed, before, during or after the request."""

    default = "the connection failed"


class ConnectFailed(TransportError):
    """No connection could be made: unknown host, refused, unreachable, or TLS did not agree."""

    default = "could not connect"
    knowledge = Knowledge.NOT_SENT


class Disconnected(TransportError):
    """The connection ended before the answer did."""

    default = "disconnected before the answer was complete"


class ProtocolError(TransportError):
    """What came back is not HTTP, does not match its own framing, or broke a limit."""

    default = "what came back is not valid HTTP"
    too_large = False
    """Whether the body was right, but more than we hold: to ask again would not help, and the upstream did nothing wrong."""


class TimedOut(FairleadError, TimeoutError):
    """Time was up."""

    default = "timed out"


class AttemptTimedOut(TimedOut):
    """The upstream had (nearly) all of an attempt's time and did not answer: a failure of the upstream."""

    default = "the attempt timed out"


class DeadlineExceeded(TimedOut):
    """The call's deadline passed: too little time was left to blame the upstream."""

    default = "the deadline passed"


class StatusError(FairleadError):
    """The upstream answered 4xx or 5xx."""

    def __init__(self, response: Response) -> None:
        status = response.status_code
        super().__init__(
            f"answered {status} {_reason(status)}".rstrip(),
            request=response.request,
            upstream=response.upstream,
            phase="head",
            knowledge=Knowledge.REJECTED if status in {429, 503} else Knowledge.UNKNOWN,
        )
        self.response = response

    @property
    def message(self) -> str:
        said = super().message
        return said if (seconds := self.retry_after) is None else f"{said} and asks for {seconds:.10g} s without calls"

    @property
    def status_code(self) -> int:
        return self.response.status_code

    @property
    def retry_after(self) -> float | None:
        """Seconds that the upstream asks to be left alone, or None."""
        return self.response.retry_after

    def __reduce__(self) -> tuple[type[StatusError], tuple[Response]]:
        return type(self), (self.response,)


class DecodeError(FairleadError, ValueError):
    """The body is not what it was asked to be; the message says where, and repeats none of it."""

    default = "the body could not be decoded"

    def __init__(self, message: str = "", *, response: Response) -> None:
        super().__init__(message, request=response.request, upstream=response.upstream, phase="decoding")
        self.response = response

    def __reduce__(self) -> tuple[object, ...]:
        return _decode_error, (self.args[0], self.response)


def _decode_error(message: str, response: Response) -> DecodeError:
    return DecodeError(message, response=response)


def _reason(status: int) -> str:
    """The registered phrase: the one on the wire is the peer's to choose, so it is never shown."""
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
