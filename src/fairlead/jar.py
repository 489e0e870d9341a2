"""The standard library's cookie jar, in its strict reading, and with what browsers have learnt since it was written.

`http.cookiejar` knows the rules (RFC 6265: domain, path, expiry, `Secure`) and keeps the cookies. Here is only what it would let
pass and RFC 6265bis does not, and what bounds it. Imported by the first jar that is made: it brings urllib's whole client along.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy, http2time  # type: ignore[attr-defined]
from typing import Any, Final

from fairlead.message import Request

FIELD: Final = 8192
"""Characters of a Set-Cookie field; a longer one is not read. Browsers keep 4096 of a cookie, and 1024 of each attribute."""
HERE: Final = 50
"""Cookies of one domain, and those read of one answer (RFC 6265 section 6.1)."""
TOTAL: Final = 3000
"""Cookies of a jar. A full one keeps what it has: nobody pushes another's out by sending many."""

_IGNORED: Final = re.compile(
    r";\s*(?:"
    r"max-age\s*(?:=(?!\s*-?[0-9]{1,18}\s*(?:;|$))[^;]*)?|"
    r"path\s*(?:=\s*(?:[^/;\s][^;]*)?)?|"
    r"domain\s*(?:=\s*)?"
    r")(?=;|$)",
    re.IGNORECASE,
)
"""An age that is no number, a path without its slash, an empty domain: RFC 6265 section 5.2 ignores the attribute, the library
the cookie, or warns of a fault of its own."""
_EXPIRES: Final = re.compile(r";\s*expires\s*=([^;]*)", re.IGNORECASE)


class Asked:
    """A request, as the library wants to see one; without its query, which says nothing about cookies."""

    unverifiable = False

    def __init__(self, request: Request) -> None:
        self.type = request.origin.scheme
        self.host = request.origin.authority
        self.origin_req_host = f"[{request.origin.host}]" if ":" in request.origin.host else request.origin.host
        self.cookie: str | None = None
        self._url = request.place
        # The library calls a host without a dot `host.local`.
        self._names = f".{self.origin_req_host}", f".{self.origin_req_host}.local"

    def within(self, domain: str) -> bool:
        """Whether the host is this domain, or below it."""
        domain = domain if domain[:1] == "." else f".{domain}"
        return self._names[0].endswith(domain) or self._names[1].endswith(domain)

    def get_full_url(self) -> str:
        return self._url

    def has_header(self, _: str) -> bool:
        return self.cookie is not None

    def add_unredirected_header(self, _: str, value: str) -> None:
        self.cookie = value


class Told:
    """A Set-Cookie field, as the library wants to see an answer."""

    def __init__(self, field: str, host: str) -> None:
        self._field = _EXPIRES.sub(_dated, _IGNORED.sub("", field))
        if _lone(host):
            # Its own name as a domain says no more than none (RFC 6265 section 5.3).
            name, *attributes = self._field.split(";")
            own = [f"domain={dot}{host}" for dot in ("", ".")]
            kept = [one for one in attributes if one.replace(" ", "").lower() not in own]
            self._field = ";".join([name, *kept])

    def info(self) -> Told:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return [self._field] if name == "Set-Cookie" else default


class Jar(CookieJar):
    """Cookies, and what an answer may do to them."""

    def __init__(self) -> None:
        self._rules = Rules(self)
        self._telling: Any = None
        self._cookies: dict[str, dict[str, dict[str, Cookie]]]
        self._cookies_lock: AbstractContextManager[bool]
        super().__init__(self._rules)

    def tell(self, asked: Any, fields: list[str]) -> None:
        """Keep what an answer sets, field by field: the last one of a name counts, and what one says harms no other."""
        with self._cookies_lock:
            self._telling = asked
            try:
                for field in fields[:HERE]:
                    if len(field) <= FIELD:
                        told: Any = Told(field, asked.origin_req_host)
                        self.extract_cookies(told, asked)
            finally:
                self._telling = None

    def __len__(self) -> int:
        return sum(len(names) for paths in self._cookies.values() for names in paths.values())

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        # The library forgets an expired cookie before it asks whether whoever says so may set it.
        if domain is None or path is None or name is None:
            super().clear(domain, path, name)
            return
        paths = self._cookies[domain]
        if self._telling is not None and not self._rules.forget_ok(paths[path][name], self._telling):
            raise KeyError(name)
        super().clear(domain, path, name)
        if not paths[path]:  # which would be kept, and asked about, for ever
            del paths[path]
            if not paths:
                del self._cookies[domain]


class Rules(DefaultCookiePolicy):
    """What may be set, forgotten and sent; a cookie without a domain goes to its own host alone."""

    def __init__(self, jar: Jar) -> None:
        super().__init__(strict_domain=True, strict_ns_domain=self.DomainStrictNonDomain)
        self._jar = jar

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        if not (super().set_ok(cookie, request) and _sound(cookie, request.type == "https")):
            return False
        here = self._jar._cookies.get(cookie.domain, {})
        known = cookie.name in here.get(cookie.path, ())
        if not known and (sum(map(len, here.values())) >= HERE or len(self._jar) >= TOTAL):
            return False
        # Without TLS anybody on the way may have said it: no reason to give up what came with it.
        return request.type == "https" or not any(
            other.secure and other.name == cookie.name and _overlap(other, cookie) for other in self._jar
        )

    def forget_ok(self, cookie: Cookie, request: Any) -> bool:
        """Whether an answer may take this cookie away."""
        return self.domain_return_ok(cookie.domain, request) and not (cookie.secure and request.type != "https")

    def domain_return_ok(self, domain: str, request: Any) -> bool:
        # Asked of every domain for every request, so the plain answer comes first.
        return request.within(domain) and super().domain_return_ok(domain, request)


def _sound(cookie: Cookie, secure: bool) -> bool:
    """What RFC 6265bis asks beyond RFC 6265: sections 4.1.3 and 5.7."""
    if cookie.secure and not secure:
        return False
    if cookie.name.startswith("__Secure-") and not cookie.secure:
        return False
    if cookie.name.startswith("__Host-") and (not cookie.secure or cookie.domain_specified or cookie.path != "/"):
        return False
    return not (cookie.domain_specified and _lone(cookie.domain.removeprefix(".")))


def _dated(expires: re.Match[str]) -> str:
    """The attribute, if the library can read its date or see that it is none: of a month of another name it warns."""
    try:
        http2time(expires[1].strip().strip('"'))
    except ValueError:
        return ""
    return expires[0]


def _lone(host: str) -> bool:
    """Whether a host makes no domain: one word, an address, or a name that ends with a dot."""
    last = host.rpartition(".")[2]
    return last == host or not last or last.isdigit() or last.endswith("]")


def _overlap(one: Cookie, other: Cookie) -> bool:
    """Whether some host is sent both, as far as domains go."""
    a, b = "." + one.domain.lstrip("."), "." + other.domain.lstrip(".")
    return a.endswith(b) or b.endswith(a)
