"""How bytes move: three engines behind one `Send`, with the same outcomes and the same errors for the same faults.

`docs/engines.md` holds the table of faults that all three are tested against.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from fairlead.core import Engine
from fairlead.errors import ConfigError

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


def create(engine: EngineName | Engine, wire: Wire) -> Engine:
    """The engine of that name; one that is an engine already is taken as it is."""
    if not isinstance(engine, str):
        return engine
    if engine == "native":
        if wire.http2 or wire.proxy is not None:
            # HTTP/2 and proxies are httpx2's to speak.
            return create("httpx2", wire)
        from fairlead.engines.native import Native

        return Native(wire)
    if engine not in {"httpx2", "aiohttp"}:
        raise ConfigError(f"engine={engine!r} is not known: use 'native', 'httpx2', 'aiohttp' or an engine of your own")
    if find_spec(engine) is None:
        raise ConfigError(f"engine={engine!r} needs its library: pip install 'fairlead[{engine}]'")
    if engine == "httpx2":
        from fairlead.engines.httpx2 import Httpx2

        return Httpx2(wire)
    if wire.http2:
        raise ConfigError("engine='aiohttp' speaks HTTP/1.1 only: use engine='httpx2' with http2=True")
    from fairlead.engines.aiohttp import Aiohttp

    return Aiohttp(wire)
