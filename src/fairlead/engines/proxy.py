"""Which proxy leads to an origin, if any: the one that was named, or with `trust_env=True` what the environment says.

There is no standard for these variables; this is what curl and Python's own library agree on: the lower-case name wins over the
upper-case one, and `HTTP_PROXY` is not believed where a web server runs us as CGI, as a request's header sets it there (httpoxy).
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from fairlead.engines.wire import Wire
from fairlead.errors import ConfigError
from fairlead.url import Origin, shown

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Proxy(NamedTuple):
    """`auth` is a name and a password, which are never shown."""

    scheme: str
    host: str
    port: int
    auth: tuple[str, str] | None

    @property
    def socks(self) -> bool:
        return self.scheme.startswith("socks")

    def refusal(self, origin: Origin, status: int) -> str:
        """What it means that a proxy answers this status, and opens no tunnel to the origin."""
        if status != 407:
            return f"the proxy {self} answered {status} to CONNECT {authority(origin)}"
        said = "asks for credentials" if self.auth is None else "does not accept the credentials"
        return f"the proxy {self} {said} (407): pass them as proxy='http://name:password@host:port'"

    @property
    def credentials(self) -> bytes:
        """The value of `Proxy-Authorization` (RFC 7617), b"" for none."""
        return b"" if self.auth is None else b"Basic " + b64encode(":".join(self.auth).encode())

    def __str__(self) -> str:
        return f"{self.scheme}://{authority(self)}"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


def authority(place: Origin | Proxy) -> str:
    """Host and port, the port always."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"{host}:{place.port}"


class Proxies:
    """One proxy for each scheme of an origin, and those origins that are reached without."""

    def __init__(self, by_scheme: Mapping[str, Proxy], exempt: str = "") -> None:
        self._by_scheme = by_scheme
        self._exempt = tuple(_entries(exempt))
        self.to = lru_cache(maxsize=1024)(self._to)
        """The proxy that leads to an origin, or None."""

    @classmethod
    def of(cls, wire: Wire) -> Self | None:
        """What an engine is to use; None where nothing leads through a proxy. Raises ConfigError for what is no proxy's URL."""
        if wire.uds is not None:
            if wire.proxy is not None:
                raise ConfigError("uds= and proxy= cannot both say where to connect: leave one out")
            return None
        by_scheme = {}
        if wire.proxy is not None:
            by_scheme = dict.fromkeys(("http", "https"), parse(wire.proxy))
        elif wire.trust_env:
            by_scheme = {scheme: one for scheme in ("http", "https") if (one := _from_environment(scheme)) is not None}
        exempt = _variable("no_proxy")[1] if wire.trust_env else ""
        if not by_scheme or "*" in _words(exempt):
            return None
        return cls(by_scheme, exempt)

    @property
    def socks(self) -> bool:
        """Whether any of them speaks SOCKS."""
        return any(proxy.socks for proxy in self._by_scheme.values())

    @property
    def tls(self) -> bool:
        """Whether any of them is spoken to over TLS."""
        return any(proxy.scheme == "https" for proxy in self._by_scheme.values())

    def _to(self, origin: Origin) -> Proxy | None:
        proxy = self._by_scheme.get(origin.scheme)
        return None if proxy is None or any(entry.names(origin) for entry in self._exempt) else proxy

    def __repr__(self) -> str:
        return f"<Proxies {', '.join(str(proxy) for proxy in self._by_scheme.values())}>"


class Exempt(NamedTuple):
    """One entry of `NO_PROXY`: a network, or a name with what is below it."""

    name: str
    network: IPv4Network | IPv6Network | None
    port: int | None
    below: bool
    """Whether only what is below the name is meant."""

    def names(self, origin: Origin) -> bool:
        """Whether this origin is to be reached without a proxy."""
        if self.port is not None and self.port != origin.port:
            return False
        host = origin.host.rstrip(".")
        try:
            address = ip_address(host)
        except ValueError:
            if self.network is not None:
                return False
            return (host == self.name and not self.below) or host.endswith(f".{self.name}")
        return self.network is not None and address in self.network


def parse(url: str, place: str = "proxy=") -> Proxy:
    """Raises ConfigError for what is no proxy's URL; `place` says where it was written."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    wrong = parts.scheme not in PORTS or not parts.hostname or port == 0
    if wrong or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigError(f"{place}{shown(url)!r} is not a proxy's URL: write http://host:port or socks5://host:port")
    auth = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    if not url.isprintable():  # an environment may hold any bytes
        raise ConfigError(f"{place}{shown(url)!r} is not text: escape what is not a letter, a digit or a sign")
    if auth is not None and ":" in auth[0]:
        raise ConfigError(f"{place}{shown(url)!r}: the name has a colon, which ends it (RFC 7617 section 2)")
    return Proxy(parts.scheme, parts.hostname or "", port or PORTS[parts.scheme], auth)


def _from_environment(scheme: str) -> Proxy | None:
    for wanted in (f"{scheme}_proxy", "all_proxy"):
        name, url = _variable(wanted)
        if url and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            return parse(url if "://" in url else f"http://{url}", f"{name}=")
    return None


def _variable(name: str) -> tuple[str, str]:
    """The name it was found under, and its value; one that is set to nothing hides the upper-case one."""
    found = name if name in os.environ else name.upper()
    return found, os.environ.get(found, "").strip()


def _words(exempt: str) -> list[str]:
    return exempt.replace(",", " ").split()


def _entries(exempt: str) -> Iterator[Exempt]:
    """The entries of a `NO_PROXY`; what is none of its forms names nobody, as everywhere."""
    for word in _words(exempt.lower()):
        host, _, number = word.rpartition(":")
        port = None
        if number.isdecimal() and (host.endswith("]") or ":" not in host):
            port = int(number)
        else:  # an IPv6 address needs no brackets where no port follows
            host = word
        try:
            yield Exempt("", ip_network(host.replace("[", "").replace("]", ""), strict=False), port, below=False)
            continue
        except ValueError:
            below = host.startswith("*.")
        try:
            name = host.removeprefix("*").strip(".").encode("idna").decode()
        except UnicodeError:
            continue
        if name:
            yield Exempt(name, None, port, below)
