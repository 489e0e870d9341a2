"""Where an answer says that something is, in its upstream's own addresses: on the way back they become its caller's.

An upstream that is mounted at "/api" and says `Location: http://10.0.0.5:8080/app/login`, or `/app/login`, names what its caller cannot
reach; that is "/api/login". A path is all that it becomes: whoever reads it adds the scheme and the host that it asked by itself (RFC 9110
section 10.2.2), whatever stands in between and however little that tells, and no host that somebody made up gets into an answer. An
address of anybody else, and one outside the base, is left as it is written.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from fairlead.headers import Headers
from fairlead.inbound import Scope
from fairlead.proxy.fields import Inward, Verdicts
from fairlead.proxy.forwarded import Tale, told
from fairlead.url import Origin

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"(\[[^\]/?#]*\]|[^/?#\\@:\[\]]+)(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rf"(?:([A-Za-z]+):)?//{_HOST.pattern}(?=[/?#]|$)")
_REFRESH: Final = re.compile(r"([0-9.\s]*[;,\s]\s*(?:url\s*=\s*)?['\"]?)(.*)", re.IGNORECASE | re.DOTALL)
_BOUND: Final = re.compile(rb";\s*(?:path\s*=\s*/[^;\s]|domain\s*=)", re.IGNORECASE).search
"""Of a cookie: that it is for one path or one domain. Most are for "/", and for whoever sent them."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]").search
"""What some readers leave out, who then read another address than the one that was looked at."""
_WHOLE: Final = ("", "/", "?", "#")
"""What a segment of a path ends before."""

_verdicts: Final = Verdicts()


class Back:
    """Translates for one proxy: called with a field of an answer, its name in lower case, it returns what the caller is told."""

    __slots__ = ("_base", "_names", "_preserve", "_tale")

    def __init__(self, origin: Origin, base: str, own: Headers, tale: Tale, preserve_host: bool) -> None:
        """`base` is the path of the upstream's base URL, without a slash at its end; `own` are the fields that every request has."""
        self._base = base
        self._tale = tale
        named = own.get("host")
        self._preserve = preserve_host and named is None
        # What it is called by is what it calls itself.
        self._names = [origin] if named is None else [origin, _origin(origin.scheme, named)]

    def __call__(self, name: bytes, value: bytes, scope: Scope) -> bytes:
        if name == b"set-cookie" and _BOUND(value) is None:
            return value
        prefix, host, seen = self._seen(scope)
        text = value.decode("latin-1")
        if name == b"set-cookie":
            text = self._cookie(text, prefix, seen)
        elif name == b"refresh":
            if (found := _REFRESH.fullmatch(text)) is not None:
                text = found[1] + self._address(found[2], prefix, host)
        else:
            text = self._address(text, prefix, host)
        return text.encode("latin-1")

    def _seen(self, scope: Scope) -> tuple[str, str, str]:
        """The path that the proxy stands at, as its caller sees it; the host that it is asked by, here and by that caller."""
        said = Inward(scope["headers"], _verdicts).said
        host = said[b"host"][0].strip(b" \t").decode("latin-1") if b"host" in said else ""
        seen, outer, root = host, "", scope.get("root_path", "")
        client = scope.get("client")
        peer = client[0] if client is not None else None
        if self._tale.trusted.believes(peer):
            known = told(peer, scope.get("scheme", "http"), host, said, self._tale.trusted)
            seen = known.host
            if known.prefix != scope.get("app_root_path", root).rstrip("/"):  # which may be known here already
                outer = known.prefix
        return outer + quote(root.rstrip("/"), safe="/!$&'()*+,;=:@"), host, seen

    def _address(self, text: str, prefix: str, host: str) -> str:
        if _CONTROL(text) is not None:
            return text
        path = text
        if (found := _ABSOLUTE.match(text)) is not None:
            if not self._own(found[1], found[2], found[3], host):
                return text
            path = text[found.end() :]
            path = path if path[:1] == "/" else "/" + path
        elif text[:1] != "/" or text[1:2] in {"/", "\\"}:
            return text  # relative to what was asked for, or another's
        moved = self._moved(path, prefix)
        if moved is None:
            return text
        # What begins with two slashes would be a host (RFC 3986 section 4.2), and "\" is one more to browsers.
        return f"/.{moved}" if moved[1:2] in {"/", "\\"} else moved

    def _own(self, scheme: str | None, name: str, port: str | None, host: str) -> bool:
        """Whether the upstream is called that: by its own origin, or by the host that it is told to be."""
        for own in self._names:
            if _origin((scheme or own.scheme).lower(), name, port) == own:
                return True
        given = (scheme or "http").lower()
        return self._preserve and given in _PORTS and _origin(given, name, port) == _origin(given, host)

    def _moved(self, path: str, prefix: str) -> str | None:
        """A path below the base, as it is below the prefix; None for any other.

        One that has the prefix already is of an upstream that was told of it, by `X-Forwarded-Prefix` or in its own settings.
        """
        for base in (prefix + self._base, self._base):
            if path.startswith(base) and path[len(base) : len(base) + 1] in _WHOLE:
                moved = prefix + path[len(base) :]
                return moved if moved[:1] == "/" else f"/{moved}"
        return None

    def _cookie(self, text: str, prefix: str, seen: str) -> str:
        """A cookie that comes back: of the path that its caller sees, and of no host that its caller does not ask."""
        first, *attributes = text.split(";")
        kept = [first]
        for attribute in attributes:
            name, _, given = attribute.partition("=")
            kind, said = name.strip().lower(), given.strip()
            if kind == "domain" and self._refused(said.lower().removeprefix("."), seen):
                continue
            # "/" is everywhere, here as there: moved, it would be hidden from others whom it may be meant for.
            moved = self._moved(said, prefix) if kind == "path" and said[:1] == "/" and said != "/" else None
            kept.append(attribute if moved is None else f"{name}={moved}")
        return ";".join(kept)

    def _refused(self, domain: str, seen: str) -> bool:
        """Whether a cookie's domain is the upstream's own host, and not one that the caller's is in: nobody would keep it."""
        host = _origin("http", seen).host
        within = host == domain or host.endswith(f".{domain}")
        return not within and any(own.host == domain for own in self._names)


def _origin(scheme: str, host: str, port: str | None = None) -> Origin:
    """The origin of a scheme and a host, with its port beside it or in it."""
    if port is None and (found := _HOST.fullmatch(host)) is not None:
        host, port = found[1], found[2]
    return Origin(scheme, host.lower().strip("[]"), int(port) if port else _PORTS.get(scheme, 0))
