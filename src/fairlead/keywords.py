"""What a client can be told, in one table: by its constructor, by its environment, or by the keywords of its class.

In that order; what nobody says is as `DEFAULTS` has it. Longer than most: a table is best kept in one place.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from math import inf
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from fairlead.body import Content, Data, Files
from fairlead.core import Engine, Policy, Store, Timeout
from fairlead.errors import ConfigError
from fairlead.events import Sink
from fairlead.headers import Headers, HeaderTypes
from fairlead.settings import options as from_environment
from fairlead.url import Origin, Params, ready, shown, split
from fairlead.version import __version__

if TYPE_CHECKING:
    from fairlead.engines import EngineName, Guard
    from fairlead.policies import CookieJar


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
    keepalive_expiry: float
    max_connection_age: float | None
    follow_redirects: bool
    max_redirects: int
    cookies: CookieJar | None
    http2: bool
    verify: bool | str | SSLContext
    cert: str | tuple[str, ...] | None
    proxy: str | None
    trust_env: bool
    uds: str | None
    guard: Guard | None
    trace_enabled: bool | None
    raise_for_status: bool
    engine: EngineName | Engine
    policies: tuple[Policy, ...] | None
    allow_origins: tuple[str, ...]
    sinks: tuple[Sink, ...]
    health_path: str
    deadline_header: str | None
    shared: Store | str | None


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
    "keepalive_expiry": 30.0,
    "max_connection_age": None,
    "follow_redirects": False,
    "max_redirects": 20,
    "cookies": None,
    "http2": False,
    "verify": True,
    "cert": None,
    "proxy": None,
    "trust_env": False,
    "uds": None,
    "guard": None,
    "trace_enabled": None,
    "raise_for_status": True,
    "engine": "native",
    "policies": None,
    "allow_origins": (),
    "sinks": (),
    "health_path": "",
    "deadline_header": None,
    "shared": None,
}

SETTINGS: Final[Mapping[str, Any]] = {
    "base_url": str,
    "timeout": float,
    "max_retries": int,
    "retry_delay": float,
    "retry_backoff": float,
    "max_connections": int,
    "max_keepalive_connections": int,
    "keepalive_expiry": float,
    "max_connection_age": float,
    "follow_redirects": bool,
    "max_redirects": int,
    "http2": bool,
    "verify": bool | str,
    "proxy": str,
    "trust_env": bool,
    "uds": str,
    "trace_enabled": bool,
    "raise_for_status": bool,
    "engine": str,
    "health_path": str,
    "deadline_header": str,
    "shared": str,
}
"""What the environment may say, and as which type."""

_MANY: Final = (tuple, list, set, frozenset)
Kind = type | str | None
"""A class, or where most programs never import it, its module and name: of what was never imported nothing can be one."""
KINDS: Final[Mapping[str, tuple[tuple[Kind, ...], str]]] = {
    "base_url": ((str,), "a string, such as https://host"),
    "name": ((str, None), "a string"),
    "timeout": ((int, float, Timeout, None), "a number of seconds, a Timeout, or None"),
    "max_retries": ((int,), "a whole number"),
    "retry_delay": ((int, float), "a number of seconds"),
    "retry_backoff": ((int, float), "a number"),
    "max_connections": ((int, None), "a whole number, or None for no bound"),
    "max_keepalive_connections": ((int, None), "a whole number, or None for no bound"),
    "keepalive_expiry": ((int, float), "a number of seconds"),
    "max_connection_age": ((int, float, None), "a number of seconds, or None for no bound"),
    "follow_redirects": ((bool,), "True or False"),
    "max_redirects": ((int,), "a whole number above 0"),
    "cookies": (("fairlead.policies.cookies:CookieJar", None), "a CookieJar()"),
    "http2": ((bool,), "True or False"),
    "verify": ((bool, str, SSLContext), "True, False, a path, or an SSLContext"),
    "cert": ((str, tuple, None), "a path, or (certificate, key)"),
    "proxy": ((str, None), "a URL as a string"),
    "trust_env": ((bool,), "True or False"),
    "uds": ((str, None), "the path of a Unix socket as a string"),
    "guard": (("fairlead.engines.guard:Guard", None), "a Guard()"),
    "trace_enabled": ((bool, None), "True, False or None"),
    "raise_for_status": ((bool,), "True or False"),
    "policies": ((*_MANY, None), "a tuple of policies"),
    "allow_origins": (_MANY, "a tuple of origins"),
    "sinks": (_MANY, "a tuple of sinks"),
    "health_path": ((str,), "a string"),
    "deadline_header": ((str, None), "the name of a header field, such as X-Request-Timeout"),
    "shared": ((Store, str, None), "a URL such as redis://localhost:6379, or a Store"),
}
"""What a keyword may be, as types and in words. Headers and params are checked as they are read; an engine, as it is made."""


class Otherwise(TypedDict, total=False):
    """What a call can have otherwise than its client's pipeline says."""

    auth: Auth | Default | None
    retry: Policy | Default | None
    hedge: Policy | Default | None
    fallback: Any
    follow_redirects: bool | None
    cookies: CookieJar | Default | None


class CallOptions(Otherwise, total=False):
    """The keywords that every verb takes."""

    params: Params | None
    headers: HeaderTypes | None
    timeout: float | Timeout | Default | None
    raise_for_status: bool | None
    priority: int
    route: str | None


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
            import difflib

            close = difflib.get_close_matches(name, DEFAULTS, n=1)
            raise TypeError(f"{owner}: unknown keyword {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    return keywords


def choose(owner: type, keywords: Mapping[str, Any], given: Mapping[str, Any], *, settings: bool) -> Chosen:
    """Every question answered for a client of class `owner`, by what its constructor was given, its environment, its class."""
    told = from_environment(owner.__name__, SETTINGS) if settings else {}
    chosen = cast("Chosen", {**DEFAULTS, **keywords, **told, **checked(owner.__name__, given)})
    for keyword, value in chosen.items():
        if keyword in KINDS and not _is(value, KINDS[keyword][0]):
            raise _wrong(owner, keyword, value, KINDS[keyword][1])
    for auth in (chosen["auth"], getattr(owner, "auth", None)):
        pair = isinstance(auth, tuple) and len(auth) == 2
        if auth is not None and not (pair or isinstance(auth, property) or hasattr(auth, "bind")):
            raise _wrong(owner, "auth", auth, 'Bearer("..."), or (name, password)')
    for name in ("max_connections", "max_keepalive_connections"):
        number = chosen[name]
        if number is not None and number < 1:
            raise ConfigError(f"{owner.__name__}: {name}={number!r} is not a number above 0; None sets no bound")
    for keyword, seconds in (
        ("keepalive_expiry", chosen["keepalive_expiry"]),
        ("max_connection_age", chosen["max_connection_age"]),
    ):
        if seconds is not None and not 0 < seconds < inf:
            raise ConfigError(f"{owner.__name__}: {keyword}={seconds!r} is not a number of seconds above 0")
    if chosen["max_redirects"] < 1:
        mend = "a whole number above 0; follow_redirects=False follows none"
        raise _wrong(owner, "max_redirects", chosen["max_redirects"], mend)
    return chosen


def for_one_call(owner: type, name: str, value: Any) -> Any:
    """What a keyword of one call may be; raises ConfigError for what it may not, before anything is done with it."""
    if name in KINDS:
        kinds, mend = KINDS[name]
        if _is(value, kinds):
            return value
    else:
        mend = {
            "auth": 'Bearer("..."), (name, password), or None',
            "retry": "Retry(...), or None",
            "hedge": "Hedge(...), or None",
        }[name]
        if name == "auth" and isinstance(value, tuple) and len(value) == 2:
            from fairlead.auth import Basic

            return Basic(*value)
        if value is None or (hasattr(value, "bind") and not isinstance(value, type)):
            return value
    raise _wrong(owner, name, value, mend)


def _is(value: object, kinds: tuple[Kind, ...]) -> bool:
    if value is None or isinstance(value, bool):  # a bool is an int to Python, and to nobody else
        return (None if value is None else bool) in kinds
    return isinstance(value, tuple(_class(kind) for kind in kinds if kind is not None))


def _class(kind: type | str) -> Any:
    if isinstance(kind, type):
        return kind
    module, _, name = kind.partition(":")
    return getattr(sys.modules.get(module), name, ())


def _wrong(owner: type, name: str, value: object, mend: str) -> ConfigError:
    plain = name not in {"auth", "cookies"} and (value is None or isinstance(value, int | float | str))
    told = repr(value) if plain else type(value).__name__  # what holds more than that may hold a secret
    return ConfigError(f"{owner.__name__}: {name}={told} cannot work: pass {mend}")


def patience(owner: str, drain: Any, usual: float) -> float:
    """Seconds that a `close(drain=)` has: `usual`, if nothing is said."""
    if drain is None:
        return usual
    if isinstance(drain, bool) or not isinstance(drain, int | float) or not 0 <= drain < inf:
        raise ConfigError(f"{owner}: close(drain={drain!r}) is not a number of seconds from 0 on")
    return drain


def default_headers(own: HeaderTypes | None) -> Headers:
    """The header fields of every request of a client: its own, over those of the library."""
    from fairlead.engines.coding import accepted

    headers = Headers({"Accept": "*/*", "Accept-Encoding": accepted(), "User-Agent": f"fairlead/{__version__}"})
    return headers.under(Headers(own))


def split_base(owner: str, base_url: str) -> tuple[Origin | None, str]:
    """The origin and the target that the paths of a client join; no origin for one without a base URL."""
    if not base_url:
        return None, ""
    try:
        origin, target = split(base_url)
    except ConfigError as error:
        raise ConfigError(f"{owner}: base_url: {error.message}") from None
    if "?" in target:
        raise ConfigError(f"{owner}: base_url {shown(base_url)!r} has a query: pass it as params=")
    return origin, ready(target).rstrip("/")
