"""Where processes meet: a Redis, said in one URL."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from importlib.util import find_spec
from math import inf
from urllib.parse import urlsplit

from fairlead.core import Upstream
from fairlead.errors import ConfigError
from fairlead.sharing.member import Member


@dataclass(frozen=True, slots=True, repr=False)
class RedisStore:
    """A Redis (5 or later, or what speaks like it) at a `redis://`, `rediss://` or `unix://` URL, for one client or several.

    No call waits longer than `timeout` seconds for it. Clients share what has the same `prefix` and the same client's name. There is an
    exchange `every` so many seconds. `members` is how many share until they have been counted.
    """

    url: str
    _: KW_ONLY
    prefix: str = "fairlead"
    timeout: float = 0.1
    every: float = 1.0
    members: int = 1

    def __post_init__(self) -> None:
        _ = self.shown
        if not self.prefix:
            raise ConfigError("RedisStore: prefix='' would mix its keys with others: pass a name")
        for name in ("timeout", "every"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < inf:
                raise ConfigError(f"RedisStore: {name}={seconds!r} is not a number of seconds above 0")
        if type(self.members) is not int or self.members < 1:
            raise ConfigError(f"RedisStore: members={self.members!r} is not a whole number above 0")

    @property
    def shown(self) -> str:
        """Where it is, without credentials and options. Raises ConfigError for what is no such URL, and repeats none of it."""
        mend = "pass redis://host:6379/0, rediss://host:6379/0 or unix:///path"
        try:
            parts = urlsplit(self.url)
            port = parts.port or 6379
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(f"RedisStore: that is not the URL of a Redis: {mend}") from None
        if parts.scheme == "unix" and parts.path:
            return f"unix://{parts.path}"
        database = parts.path.strip("/") or "0"
        if parts.scheme not in {"redis", "rediss"} or not parts.hostname or not database.isdecimal():
            raise ConfigError(f"RedisStore: that is not the URL of a Redis: {mend}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{parts.scheme}://{host}:{port}/{database}"

    def share(self, upstream: Upstream, /) -> Member:
        if find_spec("redis") is None:
            raise ConfigError(
                f"{upstream.name}: shared={self.shown!r} needs its library: pip install 'fairlead[redis]'"
            )
        from fairlead.sharing.line import Line, connector

        try:
            connect = connector(self.url)
        except Exception as error:
            told = type(error).__name__  # its words may repeat the URL
            raise ConfigError(
                f"{upstream.name}: shared={self.shown!r} has options that redis-py cannot read ({told})"
            ) from None
        return Member(self, upstream, lambda broken: Line(connect(), self.timeout, broken))

    def __repr__(self) -> str:
        return f"RedisStore({self.shown!r}, prefix={self.prefix!r})"
