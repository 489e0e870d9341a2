"""How to connect, and what a peer may send: what every engine is built from."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fairlead.body import Upload
from fairlead.errors import Disconnected, FairleadError, Phase, ProtocolError

if TYPE_CHECKING:
    from fairlead.engines.guard import Guard
    from fairlead.message import Request

EngineName = Literal["native", "httpx2", "aiohttp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may send, in bytes and counts; more is a ProtocolError.

    `body` bounds a buffered body after decoding; a stream has no such bound, as it is never held.
    """

    head: int = 64 * 1024
    headers: int = 256
    body: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How to connect: what every engine is built from.

    `verify`: True for the system's trust store, a path to an authority of one's own, an `ssl.SSLContext`, or False.
    `cert`: the path of a client certificate with its key, or `(certificate, key)` or `(certificate, key, password)`.
    `proxy`: the URL of a proxy; `trust_env`: whether the environment may name one, and say (`NO_PROXY`) where none is used.
    `uds`: the path of a Unix socket, which every origin is then reached at. `guard`: which addresses may be connected to.
    `max_keepalive_connections` bounds the idle connections of one origin (None keeps all), for `keepalive_expiry` seconds;
    none is used again that is older than `max_connection_age` seconds (None sets no bound).
    """

    verify: bool | str | ssl.SSLContext = True
    cert: str | tuple[str, ...] | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    trust_env: bool = False
    uds: str | None = None
    guard: Guard | None = None
    http2: bool = False
    max_keepalive_connections: int | None = None
    keepalive_expiry: float = 30.0
    max_connection_age: float | None = None
    limits: Limits = field(default_factory=Limits)


def too_large(limit: int) -> ProtocolError:
    """The error for a buffered body of more than `limit` bytes."""
    error = ProtocolError(f"a body of more than {limit} bytes: read it as a stream", phase="body")
    error.too_large = True
    return error


def ended(request: Request, phase: Phase) -> FairleadError:
    """The error for a connection that ended too early. No verdict on a peer that somebody else's body, a proxy's caller's, kept waiting.

    It waits for it no longer than it likes, and some end without a word: five who send slowly would open the circuit for all.
    """
    content = request.content
    if phase == "sending" and isinstance(content, Upload) and content.awaited and not content.replayable:
        return FairleadError("the connection ended while the body was waited for", request=request, phase=phase)
    return Disconnected(request=request, phase=phase)
