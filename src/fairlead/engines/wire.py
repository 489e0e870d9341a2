"""How to connect, and what a peer may send: what every engine is built from."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

from fairlead.errors import ProtocolError

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
    `max_keepalive_connections` bounds the idle connections of one origin (None keeps all), for `keepalive_expiry` seconds.
    """

    verify: bool | str | ssl.SSLContext = True
    cert: str | tuple[str, ...] | None = None
    proxy: str | None = None
    http2: bool = False
    max_keepalive_connections: int | None = None
    keepalive_expiry: float = 30.0
    limits: Limits = field(default_factory=Limits)


def too_large(limit: int) -> ProtocolError:
    """The error for a buffered body of more than `limit` bytes."""
    error = ProtocolError(f"a body of more than {limit} bytes: read it as a stream", phase="body")
    error.too_large = True
    return error
