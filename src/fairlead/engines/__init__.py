"""How bytes move: three engines behind one `Send`, with the same outcomes and the same errors for the same faults.

`docs/engines.md` holds the table of faults that all three are tested against.
"""

from __future__ import annotations

from importlib.util import find_spec

from fairlead.core import Engine
from fairlead.engines.wire import EngineName, Limits, Wire
from fairlead.errors import ConfigError

__all__ = ["EngineName", "Limits", "Wire", "create"]


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
