"""A request as bytes, never a response: its head, and how its body is framed (RFC 9112 sections 3 and 6)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from fairlead.errors import ConfigError
from fairlead.headers import Headers
from fairlead.message import IDEMPOTENT, Request
from fairlead.request import METHOD
from fairlead.url import Origin

_NUMBER: Final = re.compile(r"[0-9]{1,18}").fullmatch
_LENGTH_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose missing body is said to be empty (RFC 9110 section 8.6)."""


def encode(request: Request) -> bytes:
    """The head. The body is framed by its length where that is known, else chunked; raises ConfigError for what cannot be framed."""
    headers, method, target = request.headers, request.method, request.target
    if " " in target or not (target.isascii() and target.isprintable() and (method in IDEMPOTENT or METHOD(method))):
        # Whatever was checked when it was built: nothing that breaks a line leaves.
        raise ConfigError("a blank, a line break or no ASCII in the method or the target", request=request)
    line = f"{method} {target} HTTP/1.1\r\n".encode()
    if headers.framing or method == "CONNECT":
        return line + _given(request)
    if not request.content and method not in _LENGTH_EXPECTED:
        return b"".join((line, _host(request.origin), headers.wire, b"\r\n"))
    return b"".join((line, _host(request.origin), headers.wire, _framing(_length(request)), b"\r\n"))


def asks(request: Request, name: str) -> bool:
    """Whether the request asks for something that an exchange must know of: `expect` or `upgrade`."""
    return request.headers.framing and name in request.headers


def declared(request: Request) -> int | None:
    """The length that the head of this request names, or None where its body is chunked."""
    if given := request.headers.get("content-length"):
        return int(given)
    return _length(request)


def _given(request: Request) -> bytes:
    """The fields of a request that brings some of those an engine sets: kept where they are true, refused where they are not."""
    headers = Headers(request.headers.raw)  # checked again: they may be a peer's
    for name in ("Transfer-Encoding", "TE", "Trailer"):
        if name in headers:
            raise ConfigError(f"{name} is the engine's to set: leave it out", request=request)
    if "expect" in headers and (headers["expect"].lower() != "100-continue" or not request.content):
        raise ConfigError('Expect goes with a body, and says "100-continue"', request=request)
    if "upgrade" in headers and "upgrade" not in headers.get("connection", "").lower():
        raise ConfigError('Upgrade goes with "Connection: Upgrade" (RFC 9110 section 7.8)', request=request)
    if request.method == "CONNECT":
        raise ConfigError("CONNECT is spoken to proxies only: pass proxy=", request=request)
    if len(headers.get_list("host")) > 1:
        raise ConfigError("Host is given twice: give it once, or leave it out", request=request)
    host = b"" if "host" in headers else _host(request.origin)
    length = _length(request)
    if "content-length" not in headers:
        unsaid = not length and length is not None and request.method not in _LENGTH_EXPECTED
        return b"%b%b%b\r\n" % (host, headers.wire, b"" if unsaid else _framing(length))
    given = headers.get_list("content-length")
    if len(given) > 1 or _NUMBER(given[0]) is None or length not in {None, int(given[0])}:
        raise ConfigError(f"Content-Length does not match a body of {length} bytes: leave it out", request=request)
    return b"%b%b\r\n" % (host, headers.wire)


@lru_cache(maxsize=1024)
def _host(origin: Origin) -> bytes:
    return b"Host: %b\r\n" % origin.authority.encode()


def _framing(length: int | None) -> bytes:
    return b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length


def _length(request: Request) -> int | None:
    content = request.content
    return len(content) if isinstance(content, bytes) else content.length
