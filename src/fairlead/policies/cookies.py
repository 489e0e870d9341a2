"""Cookies: kept from answers and sent with requests, by a jar that somebody made for it.

A client has no jar unless it is given one, as what one user's answers set would else go out with another user's calls. For each
attempt: what a first attempt was given, the second sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from fairlead.core import Call, Send, Upstream
from fairlead.errors import ConfigError
from fairlead.headers import Headers
from fairlead.message import Request, Response

if TYPE_CHECKING:
    from http.cookiejar import Cookie

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE: Final = re.compile(r"[!-:<-~]*").fullmatch


class CookieJar:
    """The cookies of one user, or of all who share it: whoever has the jar has them.

    `cookies` are the standard library's own, as any of its jars gives them; iterating gives them back, to be saved with one. Kept
    in memory, by the wall clock, under the rules of RFC 6265. May be used by any number of calls at once, of any client.
    """

    __slots__ = ("_jar",)

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        from fairlead.jar import Jar

        self._jar = Jar()
        for cookie in cookies:
            if not hasattr(cookie, "domain"):
                raise ConfigError(
                    f"CookieJar: {type(cookie).__name__} where a cookie of http.cookiejar stands: use"
                    " jar.set(name, value, url)"
                )
            self._jar.set_cookie(cookie)

    def set(self, name: str, value: str, url: str) -> None:
        """Keep a cookie as if the host of `url` had set it for itself alone: until it is cleared, over TLS where `url` is https."""
        if _NAME(name) is None:
            raise ConfigError(f"CookieJar.set: {name!r} is not the name of a cookie: use letters, digits and hyphens")
        if _VALUE(value) is None:
            raise ConfigError(
                f"CookieJar.set: {name!r}: the value has a blank, a semicolon or no ASCII: encode it first"
            )
        request = Request("GET", url)
        self._tell(request, [f"{name}={value}; Path=/{'; Secure' if request.origin.scheme == 'https' else ''}"])

    def get(self, name: str, url: str) -> str | None:
        """The value that a request to `url` would be sent with; None for a cookie that it would not."""
        pairs = [pair.partition("=") for pair in (self.header(Request("GET", url)) or "").split("; ")]
        return next((value for key, _, value in pairs if key == name), None)

    def clear(self) -> None:
        """Forget them all."""
        self._jar.clear()

    def header(self, request: Request) -> str | None:
        """The value of Cookie for a request, the longest path first; None where no cookie is meant for it."""
        if not self:
            return None
        from fairlead.jar import Asked

        asked = Asked(request)
        self._jar.add_cookie_header(asked)  # type: ignore[arg-type]  # of urllib's request it needs no more
        return asked.cookie

    def keep(self, request: Request, headers: Headers) -> None:
        """Keep what an answer to this request sets."""
        fields = [value.decode("latin-1") for name, value in headers.raw if name.lower() == b"set-cookie"]
        if fields:
            self._tell(request, fields)

    def _tell(self, request: Request, fields: list[str]) -> None:
        from fairlead.jar import Asked

        self._jar.tell(Asked(request), fields)

    def __iter__(self) -> Iterator[Cookie]:
        return iter(self._jar)

    def __len__(self) -> int:
        return len(self._jar)

    def __bool__(self) -> bool:
        return any(True for _ in self._jar)

    def __repr__(self) -> str:
        return f"<CookieJar of {len(self)}>"


@dataclass(frozen=True, slots=True)
class Cookies:
    """Sends the cookies of `jar` that are meant for the request, and keeps those that its answer sets.

    A request that brings a Cookie field of its own is sent as it stands; what its answer sets is kept all the same.
    """

    jar: CookieJar = field(repr=False)
    name: str = field(default="default", kw_only=True)
    place: ClassVar[str] = "Cookies"

    def __post_init__(self) -> None:
        if not isinstance(self.jar, CookieJar):
            raise ConfigError(f"Cookies: jar is {type(self.jar).__name__}: pass a CookieJar()")

    def explain(self) -> str:
        return "cookies: those of a jar, each to the domain and path that set it"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        jar = self.jar

        async def carry(call: Call) -> Response:
            request = call.request
            if (cookie := jar.header(request)) is not None and "cookie" not in request.headers:
                call.request = request.replace(headers=request.headers.joined(Headers({"Cookie": cookie})))
            response = await send(call)
            jar.keep(request, response.headers)
            return response

        return carry
