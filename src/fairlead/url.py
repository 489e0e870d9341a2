"""Where a request goes: an origin that connections are kept for, and a target that is sent as it stands.

A URL is split once into these two, so that joining a path never re-reads the origin: nothing written in a path, however
odd, can choose another host (RFC 3986 section 3; RFC 9110 section 4.3.1 for the origin).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fairlead.errors import ConfigError

Params = Mapping[str, Any] | Iterable[tuple[str, Any]] | str
"""Query parameters, or a query as it stands. A list repeats its name, None leaves the name out, booleans are `true` and `false`."""

_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<userinfo>[^/?#@]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[^/?#:@\[\]\\]+)(?::(?P<port>\d{0,5}))?"
    r"(?P<target>[/?][^#]*)?(?:#.*)?",
    re.DOTALL,
)
_LEAD: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_HOST: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=-]+")
_READY: Final = re.compile(r"(?:[!$&-;=?-Z\[\]_a-z~]++|%[0-9A-Fa-f]{2})*+").fullmatch
_LISTS: Final = (list, tuple, set, frozenset)
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|//|\\").match
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_KEPT: Final = "/:?@!$&'()*+,;=~%[]-._"


class Origin(NamedTuple):
    """Scheme, host and port: what one pool of connections leads to. The host is lower-case ASCII, an IPv6 one without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The `Host` field: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if _PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@lru_cache(maxsize=1024)
def split(url: str) -> tuple[Origin, str]:
    """The origin and the target of an absolute http or https URL; raises ConfigError for any other."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigError(f"not an absolute URL: {shown(url)!r}; write it as https://host/path")
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise ConfigError(f"no engine speaks {scheme!r}: use http:// or https:// in {shown(url)!r}")
    if found["userinfo"] is not None:
        raise ConfigError(f"credentials do not belong in a URL ({shown(url)!r}): pass auth=(name, password)")
    port = int(found["port"]) if found["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise ConfigError(f"no such port: {port} in {shown(url)!r}")
    target = ready(found["target"] or "/")
    return Origin(scheme, _ascii_host(found["host"], url), port), target if target[0] == "/" else "/" + target


@lru_cache(maxsize=1024)
def join(base: str, path: str) -> str | None:
    """The target of a relative `path` under the base target, which ends without a slash ("" for the root); None for a URL of its own."""
    if _ABSOLUTE(path) is not None:
        return None
    if path[:1] == "/":
        return base + ready(path)
    if not path:
        return base or "/"
    if path[0] == "?":
        return (base or "/") + ready(path)
    return f"{base}/{ready(path)}"


def ready(target: str) -> str:
    """The target as it may stand in a request line: what is escaped stays so, what must be escaped is."""
    if _READY(target) is not None:
        return target
    if (control := _CONTROL.search(target)) is not None:
        raise ConfigError(
            f"control character {control[0]!r} in the path {shown(target)!r}: escape the value or refuse it"
        )
    target = target.partition("#")[0]
    return _escaped(octets(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", target)), _KEPT)


def segment(value: object) -> str:
    """One path segment: every reserved character of `value` is escaped, and dots alone are refused (RFC 3986 section 5.2.4)."""
    if value is None or not octets(value).strip(b"."):
        raise ConfigError(f"{value!r} cannot be a path segment: it would be another path")
    return _quoted(value)


def with_params(target: str, params: Params) -> str:
    """The target with the parameters added to the query it has."""
    if isinstance(params, str):
        query = ready(params.removeprefix("?"))
    else:
        query = "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in pairs(params)])
    if not query:
        return target
    return f"{target}{'&' if '?' in target else '?'}{query}"


def pairs(params: Params, place: str = "params=") -> Iterator[tuple[str, Any]]:
    """Name and value, one by one: lists spread out, None left out."""
    if isinstance(params, str):
        from urllib.parse import parse_qsl

        params = parse_qsl(params.removeprefix("?"), keep_blank_values=True)
    if not isinstance(params, Iterable):
        raise ConfigError(f"{place} is {type(params).__name__}: pass a mapping, or a list of pairs")
    for pair in params.items() if isinstance(params, Mapping) else params:
        try:
            name, value = pair
        except (TypeError, ValueError):
            raise ConfigError(
                f"{place} has {type(pair).__name__} where a name and its value stand: pass a mapping, or a list of pairs"
            ) from None
        if isinstance(value, _LISTS):
            yield from ((text(name), one) for one in value if one is not None)
        elif value is not None:
            yield text(name), value


def shown(url: str) -> str:
    """The URL as a log or an error may show it: no user, no password, no fragment, and of the query only the names."""
    if "@" in url and (url[:1] != "/" or url[:2] == "//") and _URL.fullmatch(url) is None:
        # A password that was not escaped may hold any character, and what follows a ? may be a query's.
        before, _, after = url.rpartition("@")
        lead = _LEAD.match(url)
        url = (lead[0] if lead is not None else "") + ("***" if "?" in before else after)
    place, mark, query = url.partition("#")[0].partition("?")
    place = re.sub(r"(?<=//)[^/@]*@", "", place)
    if not mark:
        return place
    names = [part.partition("=")[0] for part in query.split("&")]
    return place + "?" + "&".join([f"{name}=***" for name in names if name])


def relative(target: str, *, base: str, params: Collection[str]) -> str:
    """A target without the path it was joined to, and without the query's pairs of these names."""
    path, mark, query = target.removeprefix(base).partition("?")
    if mark and params:
        from urllib.parse import unquote_plus

        query = "&".join([pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) not in params])
        mark = "?" if query else ""
    return path + mark + query


def text(value: object) -> str:
    """A value as it stands in a path, a query or a form: an enumeration's own value, a time by RFC 3339; never a secret."""
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        return text(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "isoformat"):  # a date, a time, or both
        return str(value.isoformat())
    if hasattr(value, "get_secret_value"):
        raise ConfigError(f"{type(value).__name__}: a secret is not sent by accident; pass .get_secret_value()")
    return str(value)


def octets(value: object) -> bytes:
    """The same in UTF-8; bytes are taken as they are. Raises ConfigError for half a character."""
    if isinstance(value, bytes):
        return value
    try:
        return text(value).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the text has a lone surrogate at {error.start}, which is no character: correct it, or pass bytes"
        ) from None


def _quoted(value: object) -> str:
    return value if type(value) is str and _UNRESERVED(value) is not None else _escaped(octets(value), "~")


def _escaped(value: bytes, safe: str) -> str:
    from urllib.parse import quote  # it brings ipaddress along, and most programs escape nothing while they start

    return quote(value, safe=safe)


def _ascii_host(host: str, url: str) -> str:
    if host[0] == "[":
        return host[1:-1].lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ConfigError(f"no such host: {shown(url)!r}") from None
    if _HOST.fullmatch(host) is None:
        raise ConfigError(f"no such host: {shown(url)!r}")
    return host.lower()
