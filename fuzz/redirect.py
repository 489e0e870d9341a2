"""Redirects: wherever a peer sends us, it is a place that a request line can name, and no secret goes along to another origin."""

from __future__ import annotations

from fuzz.source import Source
from fuzz.url import sound

from fairlead.engines.native.head import encode
from fairlead.errors import ConfigError, ProtocolError
from fairlead.message import Request
from fairlead.policies.redirect import locations, redirected

ASKED = ("http://api.example/a/b?c=d", "https://api.example:8443/", "http://[::1]/x;y/../z", "https://api.example/?q")
STATUSES = (301, 302, 303, 307, 308)
METHODS = ("GET", "POST", "HEAD", "PUT")
LOCATIONS = (
    b"/there", b"there", b"?only", b"../../up", b"//other.example/x", b"https://other.example:99/x?y#z", b"http://api.example/a",
    b"https://user:pass@other.example/", b"javascript:alert(1)", b"ftp://other.example/", b"///x", b"https:///x", b"http:there",
    b"\\\\other.example\\x", b"/\\other.example", b"https://b\xc3\xbccher.example/\xe4", b"/a b", b"/%zz", b"#top", b"", b"http://[::1",
    b"http://1.2.3.4.:080/", b"http://api.example.:80/", b"HTTPS://API.EXAMPLE/", b"https://other.example%2f@x/", b"//@x", b"/\xff",
)  # fmt: skip
SEEDS = [
    bytes([asked, status, method]) + one
    for asked in range(4)
    for status in (0, 2, 3)
    for method in (0, 1)
    for one in LOCATIONS
]

_SECRETS = {"Authorization": "Bearer hunter2", "Cookie": "a=hunter2", "X-Api-Key": "hunter2", "Accept": "*/*"}


def check(data: bytes) -> None:
    source = Source(data)
    asked, status, method = source.pick(ASKED), source.pick(STATUSES), source.pick(METHODS)
    request = Request(method, asked, headers=_SECRETS, content=b"body" if method in {"POST", "PUT"} else None)
    response = _Headers(source.rest())
    if not (found := locations(response)):
        return
    try:
        onward = redirected(request, status, found)
    except ProtocolError:
        return
    sound(onward.origin, onward.target)
    assert onward.method in {method, "GET"}
    assert (onward.method, onward.content) == (method, request.content) or status in {301, 302, 303}
    try:
        wire = encode(onward)
    except ConfigError:
        raise AssertionError(onward) from None
    assert wire.count(b"\r\n\r\n") == 1
    assert (b"hunter2" in wire) == (onward.origin == request.origin), wire


class _Headers:
    """An answer's fields, of which only one is asked."""

    def __init__(self, location: bytes) -> None:
        self.raw = [(b"Location", location)]
