"""Where a request ends, told by its fields once more (RFC 9112 section 6): a server before us may have let through what it should not.

Two readers who disagree on where a message ends are how requests are smuggled, so whatever can be read in two ways goes no further.
"""

from __future__ import annotations

import re
from asyncio import timeout
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from fairlead.body import Upload
from fairlead.inbound import Message, Receive
from fairlead.proxy.forwarded import LONGEST_HOST, valid_host
from fairlead.proxy.relay import CallerGone
from fairlead.proxy.status import Refusal

UNKNOWN: Final = -1
Said = Mapping[bytes, Sequence[bytes]]

_NUMBER: Final = re.compile(rb"[0-9]{1,18}").fullmatch
_OLD: Final = frozenset({"1.0", "0.9"})


def framed(said: Said, version: str) -> int:
    """The length of the body in bytes, 0 for none, or UNKNOWN; raises Refusal for what cannot be told, or in two ways."""
    lengths, codings = said.get(b"content-length"), said.get(b"transfer-encoding")
    if b"expect" in said and any(value.lower() != b"100-continue" for value in said[b"expect"]):
        raise Refusal(417, "http_request_error", "an expectation other than 100-continue")
    if lengths is None and codings is None:
        # HTTP/2 and 3 say so only as the body ends.
        return 0 if version[0] == "1" or version in _OLD else UNKNOWN
    if codings is not None:
        if lengths is not None:
            raise Refusal(400, "http_request_error", "both a Content-Length and a Transfer-Encoding")
        if version != "1.1":
            raise Refusal(400, "http_request_error", "a Transfer-Encoding that this version of HTTP has not")
        if len(codings) > 1 or codings[0].strip(b" \t").lower() != b"chunked":
            raise Refusal(400, "http_request_error", "a transfer coding other than one chunked")
        return UNKNOWN
    first, *others = [one.strip(b" \t") for value in lengths or () for one in value.split(b",")]
    if _NUMBER(first) is None or any(one != first for one in others):
        raise Refusal(400, "http_request_error", "a Content-Length that is not one number")
    return int(first)


def host(said: Said, version: str) -> str:
    """The one valid Host (RFC 9112 section 3.2), "" where HTTP/1.0 has none; raises Refusal."""
    hosts = said.get(b"host")
    if version in _OLD and (hosts is None or hosts == [b""]):
        return ""
    # Of a longer one nothing is remembered either.
    if hosts is None or len(hosts) != 1 or len(hosts[0]) > LONGEST_HOST or (name := _named(hosts[0])) is None:
        raise Refusal(400, "http_request_error", "not exactly one valid Host")
    return name


@lru_cache(maxsize=1024)
def _named(value: bytes) -> str | None:
    name = value.strip(b" \t").decode("latin-1")
    return name if valid_host(name) else None


async def content(
    receive: Receive, said: Said, version: str, length: int, buffer: int, idle: float | None = None
) -> bytes | Upload:
    """A body of at most `buffer` bytes, read; a longer one, and one that waits to be wanted, to be read as it is sent.

    Of the latter nothing is asked for here: with the first `receive()` the server says 100, and until then we may still refuse.
    Raises CallerGone, and Refusal for a body that is not as long as it says, or stops coming for `idle` seconds.
    """
    first: bytes | None = None
    if b"expect" not in said and 0 < length <= buffer:
        pieces = [piece async for piece in _pieces(receive, length, idle)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if length == UNKNOWN and version != "1.1":
        message = await _message(receive, idle)
        first = message.get("body", b"")
        if not message.get("more_body"):
            return first or b""
    said_length = None if length == UNKNOWN else length
    return Upload(lambda: _pieces(receive, length, idle, first), length=said_length, replayable=False)


async def _pieces(
    receive: Receive, length: int, idle: float | None, first: bytes | None = None
) -> AsyncIterator[bytes]:
    """One at a time, as whoever sends them on asks for them. Raises Refusal for more or fewer bytes than were said."""
    if first:
        yield first
    left, more = length, True
    while more:
        message = await _message(receive, idle)
        more = message.get("more_body", False)
        piece = message.get("body", b"")
        if length != UNKNOWN and ((left := left - len(piece)) < 0 or (left and not more)):
            raise Refusal(400, "http_request_error", "a body that is not as long as its Content-Length")
        if piece:
            yield piece


async def _message(receive: Receive, idle: float | None) -> Message:
    """The next of the caller's. One that stops half-way would else hold a slot and a connection for as long as it likes."""
    try:
        async with timeout(idle):
            message = await receive()
    except TimeoutError:
        raise Refusal(408, "http_request_error", f"nothing more of the body came for {idle:g} s") from None
    if message["type"] == "http.disconnect":
        raise CallerGone
    return message
