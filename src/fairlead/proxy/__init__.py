"""Somebody else's answer, passed on: streamed, closed after it whatever happens, and no rule of HTTP broken on the way.

`ReverseProxy` needs no framework; what is imported when it is asked for needs Starlette.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.proxy.app import ReverseProxy

if TYPE_CHECKING:
    from fairlead.proxy.passthrough import Passthrough, passthrough, whole

__all__ = ["Passthrough", "ReverseProxy", "passthrough", "whole"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.passthrough")
    # The import made the module an attribute of this package, by the name of its function.
    globals().update({one: getattr(module, one) for one in ("Passthrough", "passthrough", "whole")})
    return globals()[name]
