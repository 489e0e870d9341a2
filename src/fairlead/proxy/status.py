"""What a fault is to our own caller: a status, a problem document, and why in the words of RFC 9209 (`Proxy-Status`).

Of the upstream only its name is told. A body of its own is never repeated, nor is what the caller sent.
"""

from __future__ import annotations

import re
import socket
import ssl
import uuid
from asyncio import timeout
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import suppress
from errno import EHOSTUNREACH, ENETUNREACH
from http import HTTPStatus
from json import dumps
from typing import Any, Final

from fairlead.errors import (
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    Disconnected,
    FairleadError,
    ProtocolError,
    Refused,
    TimedOut,
)
from fairlead.headers import Pair
from fairlead.problem import MEDIA_TYPE, problem

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SANE: Final = re.compile(rb"[\w.~:/+=@-]{1,128}").fullmatch
_TOKEN: Final = re.compile(r"[A-Za-z*][\w!#$%&'*+.^`|~:/-]*", re.ASCII).fullmatch
_LATE: Final = {
    "waiting": "connection_limit_reached",
    "connecting": "connection_timeout",
    "sending": "connection_write_timeout",
    "head": "http_response_timeout",
    "body": "connection_read_timeout",
}


BREAKING: Final = 1.0
"""Seconds that whoever stands in between has to hear that an answer is broken."""
CLOSE: Final = (b"connection", b"close")
"""Beside an answer after which nobody can tell where the next request begins."""


class Refusal(Exception):
    """A request that goes no further: what the caller sent cannot be passed on. `error` is a type of RFC 9209."""

    def __init__(self, status: int, error: str, detail: str, *fields: Pair) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail
        self.fields = fields


def error_type(error: BaseException) -> str:
    """The registered error type (RFC 9209 section 2.3) of a call that failed."""
    if isinstance(error, TimedOut):
        return _LATE.get(error.phase or "head", "http_response_timeout")
    if isinstance(error, ConnectFailed):
        return _unreached(error)
    if isinstance(error, CircuitOpen):
        return "destination_unavailable"
    if isinstance(error, Refused):
        return "connection_limit_reached"
    if isinstance(error, Disconnected):
        return "http_response_incomplete" if error.phase == "body" else "connection_terminated"
    if isinstance(error, ProtocolError):
        return "http_response_header_section_size" if _too_long(error) else "http_protocol_error"
    if isinstance(error, ConfigError):
        return "proxy_configuration_error"
    return "connection_terminated" if getattr(error, "phase", None) == "sending" else "proxy_internal_error"


def _too_long(error: ProtocolError) -> bool:
    return "header fields" in error.message or "a head of more" in error.message


def _unreached(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "tls_certificate_error"
        if isinstance(cause, ssl.SSLError):
            return "tls_protocol_error"
        if isinstance(cause, socket.gaierror):
            return "dns_error"
        if isinstance(cause, ConnectionRefusedError):
            return "connection_refused"
        if isinstance(cause, OSError) and cause.errno in {EHOSTUNREACH, ENETUNREACH}:
            return "destination_ip_unroutable"
    return "destination_unavailable"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it: of several addresses that were tried, each."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one)
        error = error.__cause__ or error.__context__


def proxy_status(name: str, error: str, next_hop: str | None = None) -> bytes:
    """The value of `Proxy-Status`: who says it, what happened, and on the way to whom."""
    hop = "" if next_hop is None else f"; next-hop={_item(next_hop)}"
    return f"{_item(name)}; error={error}{hop}".encode()


def _item(text: str) -> str:
    """A token, or a string where it is none (RFC 8941)."""
    if _TOKEN(text) is not None:
        return text
    shown = "".join(character if " " <= character <= "~" else "?" for character in text)
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def request_id(headers: Any) -> str:
    """The caller's own `X-Request-ID`, where it is sane, else a new one."""
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    return given.decode() if _SANE(given) is not None else uuid.uuid4().hex


def faulty(error: FairleadError, name: str, number: str) -> tuple[int, list[Pair], bytes]:
    """Status, fields and body for a call that failed; a mistake of ours is a 500."""
    status, told, document = problem(error, number)
    if isinstance(error, ConfigError):
        status = document["status"] = 500
        document["title"] = HTTPStatus(status).phrase
    fields = [(field.lower().encode(), value.encode()) for field, value in told.items()]
    return _whole(status, fields, document, proxy_status(name, error_type(error), error.upstream))


def refused(refusal: Refusal, name: str, number: str) -> tuple[int, list[Pair], bytes]:
    """Status, fields and body for a request that goes no further. The connection ends: its framing may be what is wrong, and nobody can
    tell whether a body that was to be asked for still comes (RFC 9110 section 10.1.1)."""
    document = {
        "type": "about:blank",
        "title": _phrase(refusal.status),
        "status": refusal.status,
        "detail": refusal.detail,
        "request_id": number,
    }
    if refusal.status == HTTPStatus.NO_CONTENT:
        return refusal.status, list(refusal.fields), b""
    fields = [(b"x-request-id", number.encode()), (b"cache-control", b"no-store"), *refusal.fields, CLOSE]
    return _whole(refusal.status, fields, document, proxy_status(name, refusal.error))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _whole(status: int, fields: list[Pair], document: dict[str, Any], told: bytes) -> tuple[int, list[Pair], bytes]:
    body = dumps(document).encode()
    fields += [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"proxy-status", told),
    ]
    return status, fields, body


async def say(send: Send, status: int, fields: list[Pair], body: bytes, *, head: bool = False) -> None:
    """An answer of our own; of a HEAD, without its body. Who has left meanwhile needs none."""
    with suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if head else body})


async def break_off(send: Send) -> None:
    """Said before the exception that ends half an answer, so that nobody in between ends it well.

    Starlette's `BaseHTTPMiddleware` takes whatever ends what is below it for the answer's own end. Only after a file it adds none, and a file
    goes through any number of them; no server sends one when a body has begun, and each breaks the connection instead.
    """
    with suppress(Exception):
        async with timeout(BREAKING):
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await send({"type": "http.response.pathsend", "path": "", "body": b""})
