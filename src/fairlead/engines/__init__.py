"""How bytes move: three engines behind one `Send`, with the same outcomes and the same errors for the same faults.

`docs/engines.md` holds the table of faults that all three are tested against.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fairlead.core import Engine
from fairlead.engines.wire import EngineName, Limits, Wire
from fairlead.errors import ConfigError

if TYPE_CHECKING:
    from fairlead.engines.guard import Guard
    from fairlead.engines.proxy import Proxies

__all__ = ["EngineName", "Guard", "Limits", "Wire", "create"]


def __getattr__(name: str) -> Any:
    if name != "Guard":  # the one that most clients have not
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fairlead.engines.guard import Guard

    return Guard


def create(engine: EngineName | Engine, wire: Wire) -> Engine:
    """The engine of that name; one that is an engine already is taken as it is. Raises ConfigError for what does not go together."""
    proxies = _connected(engine, wire)
    if not isinstance(engine, str):
        return engine
    if engine == "native" and (wire.http2 or (proxies is not None and proxies.socks)):
        engine = "httpx2"  # which speaks HTTP/2 and SOCKS
    if engine == "native":
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


def _connected(engine: EngineName | Engine, wire: Wire) -> Proxies | None:
    """The proxies that lead to the origins; raises ConfigError where what was asked for cannot hold together."""
    proxies = None
    if wire.proxy is not None or wire.trust_env:
        from fairlead.engines.proxy import Proxies

        proxies = Proxies.of(wire)
    if wire.guard is not None:
        if engine != "native" or wire.http2:
            raise ConfigError("guard= is kept by the native engine alone: use engine='native', without http2=True")
        if proxies is not None:
            raise ConfigError(f"guard= judges addresses, and behind {proxies} nobody sees them: use one or the other")
        if wire.uds is not None:
            raise ConfigError("guard= judges addresses, and a Unix socket has none: leave guard= or uds= out")
    if wire.uds is not None and (not 0 < len(os.fsencode(wire.uds)) < 108 or "\0" in wire.uds[1:]):
        raise ConfigError(f"uds={wire.uds!r} is not the path of a Unix socket, which has 1 to 107 bytes")
    if wire.http2 and wire.max_connection_age is not None:
        raise ConfigError("max_connection_age= is not kept with HTTP/2: leave it out, or http2=True")
    return proxies
