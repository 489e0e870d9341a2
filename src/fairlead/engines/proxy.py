"""A proxy's URL: where it is, how it is spoken to, and as whom."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from fairlead.errors import ConfigError
from fairlead.url import shown

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Proxy(NamedTuple):
    """`auth` is a name and a password."""

    scheme: str
    host: str
    port: int
    auth: tuple[str, str] | None

    @property
    def socks(self) -> bool:
        return self.scheme.startswith("socks")


def parse(url: str) -> Proxy:
    """Raises ConfigError for what is no proxy's URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigError(f"proxy={shown(url)!r} is not a proxy's URL: write http://host:port or socks5://host:port")
    auth = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(parts.scheme, parts.hostname, port or PORTS[parts.scheme], auth)
