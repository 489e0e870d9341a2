"""Go where an answer says the resource is now, with the method that RFC 9110 section 15.4 gives, and no credentials elsewhere.

Off unless asked for: whoever answers chooses where the next request goes. Outside retry, so that every hop has its own attempts,
circuit and slot; the deadline covers all of them. What another origin gets is decided once: what was withheld from one hop is
gone, so a way back to the first origin brings no credentials back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import quote_from_bytes, urljoin, urlsplit

from fairlead.core import Call, Send, Timeout, Upstream
from fairlead.errors import ConfigError, Knowledge, ProtocolError
from fairlead.headers import Headers, is_sensitive
from fairlead.message import Request, Response
from fairlead.policies.worst import Worst
from fairlead.url import Origin, split

STATUSES: Final = frozenset({301, 302, 303, 307, 308})
"""Those that name one other place. 300 offers several, and 304 is an answer."""

ORIGIN: Final = frozenset({b"host", b"origin", b"referer"})
"""Fields that name the origin that was asked, and mean nothing, or too much, to another."""
CONTENT: Final = frozenset(b"transfer-encoding expect trailer digest repr-digest last-modified".split())
"""Fields that describe a body, beside those that begin with `content-`."""

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]").search
_HOSTLESS: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[/?#]|$)").match
"""`///x` and `https:///x`, of which some make a path here and others a host x."""
_ASCII: Final = bytes(range(0x21, 0x7F))


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Follows up to `limit` redirects of one call; one more is a ProtocolError.

    Also raises ProtocolError for a Location that leads nowhere, and ConfigError where the body is asked for again and cannot be read
    twice. An answer without a Location is handed out.
    """

    limit: int = 20
    name: str = "default"
    place: ClassVar[str] = "Redirect"

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 1:
            raise ConfigError(f"Redirect: limit={self.limit!r} is not a whole number above 0")

    def explain(self) -> str:
        return f"redirect: up to {self.limit}, without credentials from the first other origin on"

    def worst(self, hop: Worst, timeout: Timeout) -> Worst:
        return hop.times(self.limit + 1)

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        limit = self.limit

        async def follow(call: Call) -> Response:
            hop = call.fork(1)
            attempts = 0
            before: list[Response] = []
            while True:
                request = hop.request  # as it was before any policy added its own
                try:
                    response = await send(hop)
                finally:
                    attempts += hop.attempt
                    call.attempt = attempts
                status = response.status_code
                if status not in STATUSES or not (found := locations(response.headers)):
                    if before:
                        response.history = tuple(before)
                    return response
                response.close()
                if len(before) == limit:
                    raise ProtocolError(f"more than {limit} redirects", request=request, phase="head")
                onward = redirected(request, status, found)
                sent = response.request or request
                before.append(Response.received(status, response.headers.raw, b"", sent, response.elapsed))
                anonymous = hop.anonymous or onward.origin != request.origin
                hop = call.fork(1)
                hop.request, hop.anonymous = onward, anonymous

        return follow


def locations(headers: Headers) -> list[bytes]:
    """The values of Location; none where it is empty, which browsers and curl take for no redirect."""
    found = [value.strip(b" \t") for name, value in headers.raw if name.lower() == b"location"]
    return found if any(found) else []


def redirected(request: Request, status: int, found: list[bytes]) -> Request:
    """The request that follows a redirect; raises ProtocolError or ConfigError where none can."""
    if len(found) > 1:
        raise _unusable(request, status, "more than one Location")
    origin, target = resolved(request, status, found[0])
    method, content = request.method, request.content
    # Of a 301 and a 302 every client makes a GET out of a POST, and of a POST alone.
    rewritten = method not in {"GET", "HEAD"} if status == 303 else method == "POST" and status in {301, 302}
    if rewritten:
        method, content = "GET", b""
    elif not request.replayable:
        raise ConfigError(
            f"answered {status}, which asks for the body elsewhere, and it cannot be read twice:"
            " pass bytes, a file or a function, or follow_redirects=False",
            request=request,
            knowledge=Knowledge.REJECTED,
        )
    headers = carried(request.headers, elsewhere=origin != request.origin, bodiless=rewritten)
    onward = Request.build(method, origin, target, headers, content)
    onward.idempotent = rewritten or request.idempotent
    return onward


def resolved(request: Request, status: int, location: bytes) -> tuple[Origin, str]:
    """Where a Location leads, read against the request's own URL (RFC 3986 section 5); raises ProtocolError.

    Nothing of it is repeated in an error: it is the peer's text, and may hold secrets.
    """
    if _CONTROL(location):
        raise _unusable(request, status, "a control character in its Location")
    try:
        text = location.decode()
    except UnicodeDecodeError:  # octets of some other charset, which stay what they are
        text = quote_from_bytes(location, _ASCII)
    try:
        url = urljoin(request.url, text)
        parts = urlsplit(url)
        if _HOSTLESS(text):
            raise _unusable(request, status, "a Location that names no host")
        if parts.scheme not in {"http", "https"}:
            raise _unusable(request, status, "a Location that is neither http nor https")
        if "@" in parts.netloc:
            raise _unusable(request, status, "a user or a password in its Location")
        return split.__wrapped__(url)  # a peer's URLs are many, and long: they are not remembered
    except ValueError:  # a ConfigError is one too
        raise _unusable(request, status, "a Location that is no URL") from None


def carried(headers: Headers, *, elsewhere: bool, bodiless: bool) -> Headers:
    """The fields that a hop takes along: to another origin none that may hold a secret, without a body none that describes it."""
    kept = []
    for pair in headers.raw:
        name = pair[0].lower()
        if elsewhere and (name in ORIGIN or is_sensitive(name)):
            continue
        if bodiless and (name in CONTENT or name.startswith(b"content-")):
            continue
        kept.append(pair)
    return headers if len(kept) == len(headers.raw) else Headers.received(kept)


def _unusable(request: Request, status: int, fault: str) -> ProtocolError:
    return ProtocolError(f"answered {status} with {fault}", request=request, phase="head")
