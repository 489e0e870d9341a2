"""A request as bytes: its head, and how its body is framed (RFC 9112 sections 3 and 6)."""

from __future__ import annotations

import re

from fairlead.errors import ConfigError
from fairlead.message import Request

_LENGTH = re.compile(rb"\ncontent-length: *(\d+)\r").search


def encode(request: Request) -> bytes:
    """The head. The body is framed by its length where that is known, else chunked; raises ConfigError for what cannot be framed."""
    wire = request.headers.wire
    named = b"\n" + wire.lower()
    host = b"" if b"\nhost:" in named else b"Host: %b\r\n" % request.origin.authority.encode()
    if b"\ntransfer-encoding:" in named:
        raise ConfigError("Transfer-Encoding is the engine's to set: leave it out", request=request)
    if b"\nexpect:" in named or b"\nupgrade:" in named or request.method == "CONNECT":
        raise ConfigError("Expect, Upgrade and CONNECT are not spoken here: leave them out", request=request)
    framing = b""
    length = _length(request)
    if b"\ncontent-length:" in named:
        given = _LENGTH(named)
        if given is None or named.count(b"\ncontent-length:") > 1 or length not in {None, int(given[1])}:
            raise ConfigError(f"Content-Length does not match a body of {length} bytes: leave it out", request=request)
    elif length is None:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif length or request.method in {"POST", "PUT", "PATCH"}:
        framing = b"Content-Length: %d\r\n" % length
    return b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (
        request.method.encode(),
        request.target.encode(),
        host,
        wire,
        framing,
    )


def declared(request: Request) -> int | None:
    """The length that the head of this request names, or None where its body is chunked."""
    given = _LENGTH(b"\n" + request.headers.wire.lower())
    return int(given[1]) if given is not None else _length(request)


def _length(request: Request) -> int | None:
    content = request.content
    return len(content) if isinstance(content, bytes) else content.length
