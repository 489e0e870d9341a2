"""What a client can be told, in one table: by its constructor, by its environment, or by the keywords of its class.

In that order; what nobody says is as `DEFAULTS` has it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from enum import Enum
from ssl import SSLContext
from typing import Any, Final, TypedDict, cast

from fairlead.body import Content, Data, Files
from fairlead.core import Engine, Policy, Timeout
from fairlead.engines.coding import accepted
from fairlead.engines.wire import EngineName
from fairlead.errors import ConfigError
from fairlead.events import Sink
from fairlead.headers import Headers, HeaderTypes
from fairlead.settings import options as from_environment
from fairlead.url import Params
from fairlead.version import __version__


class Default(Enum):
    """Stands for what the client was told, where None means something else."""

    DEFAULT = "the client's own"


DEFAULT: Final = Default.DEFAULT
Auth = Policy | tuple[str, str]
"""A policy that adds credentials, or a name and a password."""


class Options(TypedDict, total=False):
    """The keywords of a client's constructor and of its class, beside `base_url`. `docs/client.md` explains each."""

    name: str | None
    timeout: float | Timeout | None
    max_retries: int
    retry_delay: float
    retry_backoff: float
    headers: HeaderTypes | None
    params: Params | None
    auth: Auth | None
    max_connections: int | None
    max_keepalive_connections: int | None
    http2: bool
    verify: bool | str | SSLContext
    cert: str | tuple[str, ...] | None
    proxy: str | None
    trace_enabled: bool | None
    raise_for_status: bool
    engine: EngineName | Engine
    policies: tuple[Policy, ...] | None
    allow_origins: tuple[str, ...]
    sinks: tuple[Sink, ...]
    health_path: str


class Chosen(Options):
    """The same, with every question answered."""

    base_url: str


DEFAULTS: Final[Chosen] = {
    "base_url": "",
    "name": None,
    "timeout": 30.0,
    "max_retries": 2,
    "retry_delay": 0.05,
    "retry_backoff": 2.0,
    "headers": None,
    "params": None,
    "auth": None,
    "max_connections": 100,
    "max_keepalive_connections": None,
    "http2": False,
    "verify": True,
    "cert": None,
    "proxy": None,
    "trace_enabled": None,
    "raise_for_status": True,
    "engine": "native",
    "policies": None,
    "allow_origins": (),
    "sinks": (),
    "health_path": "",
}

SETTINGS: Final[Mapping[str, Any]] = {
    "base_url": str,
    "timeout": float,
    "max_retries": int,
    "retry_delay": float,
    "retry_backoff": float,
    "max_connections": int,
    "max_keepalive_connections": int,
    "http2": bool,
    "verify": bool | str,
    "proxy": str,
    "trace_enabled": bool,
    "raise_for_status": bool,
    "engine": str,
    "health_path": str,
}
"""What the environment may say, and as which type."""


class CallOptions(TypedDict, total=False):
    """The keywords that every verb takes."""

    params: Params | None
    headers: HeaderTypes | None
    timeout: float | Timeout | Default | None
    auth: Auth | Default | None
    retry: Policy | Default | None
    raise_for_status: bool | None


class BodyOptions(CallOptions, total=False):
    """And those of a verb that may carry a body: at most one of `json`, `data` and `content`; `files` goes with `data`."""

    json: Any
    data: Data | None
    files: Files | None
    content: Content | None
    idempotent: bool
    idempotency_key: str | None


def checked(owner: str, keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keywords, if a client knows them all; else a TypeError that names the one that was meant."""
    for name in keywords:
        if name not in DEFAULTS:
            close = difflib.get_close_matches(name, DEFAULTS, n=1)
            raise TypeError(f"{owner}: unknown keyword {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    return keywords


def choose(owner: type, keywords: Mapping[str, Any], given: Mapping[str, Any], *, settings: bool) -> Chosen:
    """Every question answered for a client of class `owner`, by what its constructor was given, its environment, its class."""
    told = from_environment(owner.__name__, SETTINGS) if settings else {}
    chosen = cast("Chosen", {**DEFAULTS, **keywords, **told, **checked(owner.__name__, given)})
    for name in ("max_connections", "max_keepalive_connections"):
        number = chosen[name]
        if number is not None and number < 1:
            raise ConfigError(f"{owner.__name__}: {name}={number!r} is not a number above 0; None sets no bound")
    return chosen


def default_headers(own: HeaderTypes | None) -> Headers:
    """The header fields of every request of a client: its own, over those of the library."""
    headers = Headers({"Accept": "*/*", "Accept-Encoding": accepted(), "User-Agent": f"fairlead/{__version__}"})
    for name, value in Headers(own).multi_items():
        headers[name] = value
    return headers
