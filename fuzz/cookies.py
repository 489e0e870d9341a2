"""Cookies: what an answer sets goes back to its own hosts alone, in one line that a header can hold, and is never an exception."""

from __future__ import annotations

from fuzz.source import Source

from fairlead.headers import Headers
from fairlead.message import Request
from fairlead.policies.cookies import CookieJar

OWN = (
    "https://shop.example/a/b",
    "http://shop.example/",
    "https://www.shop.example:8443/a",
    "http://127.0.0.1/x",
    "http://localhost/",
    "https://[::1]/",
)
OTHER = (
    "https://evil.example/a/b",
    "https://other.test/",
    "http://127.0.0.2/x",
    "https://op.example/",
    "https://[::2]/a",
    "http://otherhost/",
)
FIELDS = (
    b"a=b", b"a=b; Path=/; Secure; HttpOnly", b"a=b; Domain=shop.example", b"a=b; Domain=.example", b"a=b; Domain=evil.example",
    b"a=b; Max-Age=0", b"a=b; Max-Age=99999999999999999999", b"a=b; Expires=Wed, 09 Jun 2100 10:18:14 GMT", b"a=b; Expires=never",
    b"__Host-a=b; Secure; Path=/", b"__Secure-a=b", b"=b", b"a", b'a="b;c"; Version=1', b"\xff=\xfe", b"a=b, c=d", b"a=b; Path=x; Domain=",
    b"a=b; max-age", b'a=b; Port="80"; Domain', b"a=b; Domain=127.0.0.1", b"a=b; Domain=localhost", b"a=b; Domain=[::1]",
)  # fmt: skip
SEEDS = [
    bytes([own, other, len(field)]) + field + b"\x05a=b;x" for own in range(6) for other in (0, 3) for field in FIELDS
]


def check(data: bytes) -> None:
    source = Source(data)
    own, other = Request("GET", source.pick(OWN)), Request("GET", source.pick(OTHER))
    jar = CookieJar()
    fields = []
    while (field := source.take()) and len(fields) < 60:
        fields.append(
            (b"Set-Cookie", bytes(byte for byte in field if byte > 31 and byte != 127))
        )  # no engine lets others in
    jar.keep(own, Headers.received(fields))
    assert len(jar) <= 50
    assert jar.header(other) is None, (own, other, jar.header(other))
    value = jar.header(own)
    if value is not None:
        sent = Headers({"Cookie": value}).wire
        assert sent.count(b"\r\n") == 1
    for cookie in jar:
        assert not (cookie.secure and own.origin.scheme == "http"), cookie
