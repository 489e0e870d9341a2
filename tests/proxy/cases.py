"""Fields, and answers that are none: what a proxy is given on either side, and what of it may come out on the other.

Each case says what must be gone, what must be there, or for an answer that breaks a rule, which body it may still be read as. The
rules: RFC 9110 sections 5.3, 5.5, 6.5, 7.6, 8.6 and 15.2, RFC 9112 sections 4 to 8, RFC 7239 section 8.
"""

from __future__ import annotations

from typing import NamedTuple


class Asked(NamedTuple):
    """Fields of a request: `gone` must not arrive, `there` must, with exactly these values."""

    name: str
    lines: tuple[bytes, ...]
    gone: tuple[bytes, ...] = ()
    there: dict[bytes, list[bytes]] = {}  # noqa: RUF012 - never changed
    first: bytes = b"GET /p HTTP/1.1"
    body: bytes = b""
    trusted: bool = False


PEER = b"127.8.0.1"
"""Whoever asks in these cases."""

ASKED = [
    Asked("Connection names a field", (b"Connection: X-Secret", b"X-Secret: 1", b"X-Other: 1"), (b"x-secret",), {b"x-other": [b"1"]}),
    Asked("Connection in two lines and odd cases", (b"connection: keep-alive ,x-a", b"X-A: 1", b"CONNECTION:\tX-B", b"x-b: 1"), (b"x-a", b"x-b")),
    Asked("Connection names X-Forwarded-For", (b"Connection: X-Forwarded-For",), (), {b"x-forwarded-for": [PEER]}),
    Asked("Connection names Authorization", (b"Connection: Authorization", b"Authorization: Bearer x"), (b"authorization",)),
    Asked("Connection names Cookie", (b"Connection: close, Cookie", b"Cookie: a=b"), (b"cookie",)),
    Asked("Connection names Via", (b"Connection: Via", b"Via: 1.0 before"), (), {b"via": [b"1.0 before", b"1.1 fairlead"]}),
    Asked("Connection names Content-Length", (b"Connection: Content-Length", b"Content-Length: 3"), (), {b"content-length": [b"3"]}, b"POST /p HTTP/1.1", b"abc"),
    Asked("Keep-Alive", (b"Connection: keep-alive", b"Keep-Alive: timeout=5"), (b"keep-alive",)),
    Asked("Keep-Alive, not named", (b"Keep-Alive: timeout=5",), (b"keep-alive",)),
    Asked("Proxy-Connection", (b"Proxy-Connection: keep-alive",), (b"proxy-connection",)),
    Asked("TE", (b"TE: trailers, gzip;q=0.5",), (b"te",)),
    Asked("Trailer", (b"Trailer: X-Sum",), (b"trailer",)),
    Asked("Upgrade", (b"Connection: Upgrade", b"Upgrade: h2c, foo/1", b"HTTP2-Settings: AAMAAABkAAQAAP__"), (b"upgrade", b"http2-settings")),
    Asked("Proxy-Authorization", (b"Proxy-Authorization: Basic eDp5",), (b"proxy-authorization",)),
    Asked("X-Forwarded-For, made up", (b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-For: 10.0.0.2"), (), {b"x-forwarded-for": [PEER]}),
    Asked("X-Forwarded-Proto and -Host, made up", (b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil.test"), (), {b"x-forwarded-proto": [b"http"], b"x-forwarded-host": [b"a.test"]}),
    Asked("X-Forwarded-Prefix and -Port, made up", (b"X-Forwarded-Prefix: /evil", b"X-Forwarded-Port: 1"), (b"x-forwarded-prefix", b"x-forwarded-port")),
    Asked("X-Real-IP, made up", (b"X-Real-IP: 10.0.0.1",), (b"x-real-ip",)),
    Asked("Forwarded, made up", (b"Forwarded: for=10.0.0.1;host=evil.test",), (), {b"forwarded": [b"for=127.8.0.1;host=a.test;proto=http"]}),
    Asked("underscores", (b"X_Forwarded_For: 10.0.0.1", b"X_Real_IP: 10.0.0.1"), (b"x_forwarded_for", b"x_real_ip")),
    Asked("what the proxy says to itself", (b"X-Fairlead-Shed: 1", b"Fairlead-Cache: off"), (b"x-fairlead-shed", b"fairlead-cache")),
    Asked("X-Forwarded-For, believed", (b"X-Forwarded-For: 203.0.113.9",), (), {b"x-forwarded-for": [b"203.0.113.9, " + PEER]}, trusted=True),
    Asked("X-Forwarded-For, believed as far as it goes", (b"X-Forwarded-For: 10.0.0.1, 203.0.113.9",), (), {b"x-forwarded-for": [b"203.0.113.9, " + PEER]}, trusted=True),
    Asked("repeated fields", (b"X-A: 1", b"X-B: 2", b"X-A: 3"), (), {b"x-a": [b"1", b"3"]}),
    Asked("an empty field", (b"X-A:",), (), {b"x-a": [b""]}),
    Asked("Authorization", (b'Authorization: Digest username="a",  realm="b"',), (), {b"authorization": [b'Digest username="a",  realm="b"']}),
    Asked("nothing of its own", (), (b"accept", b"accept-encoding", b"user-agent", b"content-length", b"transfer-encoding")),
    Asked("its own of each", (b"Accept: a/b", b"Accept-Encoding: br;q=1", b"User-Agent: x"), (), {b"accept": [b"a/b"], b"accept-encoding": [b"br;q=1"], b"user-agent": [b"x"]}),
    Asked("Via", (b"Via: 1.0 fred, 1.1 p.test",), (), {b"via": [b"1.0 fred, 1.1 p.test", b"1.1 fairlead"]}),
    Asked("Max-Forwards", (b"Max-Forwards: 3",), (), {b"max-forwards": [b"2"]}, b"OPTIONS /p HTTP/1.1"),
    Asked("Expect", (b"Expect: 100-continue", b"Content-Length: 3"), (b"expect",), {b"content-length": [b"3"]}, b"POST /p HTTP/1.1", b"abc"),
    Asked("a body in chunks", (b"Transfer-Encoding: chunked",), (b"content-length",), {b"transfer-encoding": [b"chunked"]}, b"POST /p HTTP/1.1", b"3\r\nabc\r\n0\r\n\r\n"),
    Asked("the Host", (), (), {b"x-forwarded-host": [b"a.test"]}),
]  # fmt: skip


class Answered(NamedTuple):
    """Fields of an answer: `gone` must not come out, `there` must, with exactly these values, and with `body`."""

    name: str
    answer: bytes
    gone: tuple[bytes, ...] = ()
    there: dict[bytes, list[bytes]] = {}  # noqa: RUF012 - never changed
    body: bytes = b"ok"
    status: int = 200
    method: bytes = b"GET"


def answer(*lines: bytes, body: bytes = b"ok", status: bytes = b"200 OK", length: bool = True) -> bytes:
    framing = [b"Content-Length: %d" % len(body)] if length else []
    return b"\r\n".join([b"HTTP/1.1 " + status, *framing, *lines, b"", b""]) + body


def chunked(body: bytes) -> bytes:
    return answer(b"Transfer-Encoding: chunked", body=body, length=False)


COOKIES = [b"c%d=%d; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT" % (number, number) for number in range(20)]

ANSWERED = [
    Answered("Connection names a field", answer(b"Connection: X-Secret", b"X-Secret: 1", b"X-Other: 1"), (b"x-secret",), {b"x-other": [b"1"]}),
    Answered("Keep-Alive and its like", answer(b"Keep-Alive: timeout=5", b"Proxy-Connection: x", b"TE: x", b"Trailer: x", b"Proxy-Authenticate: Basic"), (b"keep-alive", b"proxy-connection", b"te", b"trailer", b"proxy-authenticate")),
    Answered("Upgrade, of a 200", answer(b"Connection: Upgrade", b"Upgrade: h2c"), (b"upgrade",)),
    Answered("Alt-Svc", answer(b'Alt-Svc: h2=":443"'), (b"alt-svc",)),
    Answered("twenty cookies", answer(*[b"Set-Cookie: " + cookie for cookie in COOKIES]), (), {b"set-cookie": COOKIES}),
    Answered("repeated fields", answer(b"X-A: 1", b"X-B: 2", b"X-A: 3"), (), {b"x-a": [b"1", b"3"]}),
    Answered("a coded body", answer(b"Content-Encoding: gzip", b'ETag: "x"', body=b"\x1f\x8bnot even gzip"), (), {b"content-encoding": [b"gzip"], b"etag": [b'"x"']}, b"\x1f\x8bnot even gzip"),
    Answered("a length", answer(b"X-A: 1"), (b"transfer-encoding",), {b"content-length": [b"2"]}),
    Answered("chunks", chunked(b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n"), (b"content-length",)),
    Answered("trailers", chunked(b"2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n"), (b"x-sum", b"set-cookie")),
    Answered("until the end", answer(b"Connection: close", length=False), (b"content-length",)),
    Answered("a HEAD", answer(length=True, body=b"")[:-4].replace(b"Length: 0", b"Length: 5") + b"\r\n\r\n", (), {b"content-length": [b"5"]}, b"", method=b"HEAD"),
    Answered("a 204", answer(b"X-A: 1", status=b"204 No Content", body=b"", length=False), (b"content-length", b"transfer-encoding"), {b"x-a": [b"1"]}, b"", 204),
    Answered("a 304", answer(b'ETag: "x"', b"Content-Length: 5", status=b"304 Not Modified", body=b"", length=False), (b"transfer-encoding",), {b"etag": [b'"x"']}, b"", 304),
    Answered("a redirect", answer(b"Location: http://elsewhere.test/?a=b#c", status=b"302 Found"), (), {b"location": [b"http://elsewhere.test/?a=b#c"]}, status=302),
    Answered("an unknown status", answer(b"X-A: 1", status=b"299 Fine"), (), {b"x-a": [b"1"]}, status=299),
    Answered("a status of the upstream's own", answer(status=b"599 x"), status=599),
    Answered("no reason", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
    Answered("Early Hints before it", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(), (b"link",)),
    Answered("100 before it", b"HTTP/1.1 100 Continue\r\n\r\n" + answer()),
    Answered("bytes above ASCII", answer(b"X-A: J\xf6rg"), (), {b"x-a": [b"J\xf6rg"]}),
    Answered("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", (), {b"content-length": [b"2"]}),
]  # fmt: skip


class Bad(NamedTuple):
    """An answer that breaks a rule: it becomes a 502, or breaks off; or may be read as `body`, where that is said."""

    name: str
    answer: bytes
    body: bytes | None = None
    method: bytes = b"GET"
    ends: bool = False
    """Whether the connection ends behind it."""


INJECTED = answer(body=b"injected")
BAD = [
    Bad("two lengths", answer(b"Content-Length: 3", body=b"ok")),
    Bad("two equal lengths", answer(b"Content-Length: 2"), b"ok"),
    Bad("a list of lengths", answer(b"Content-Length: 2, 3", length=False)),
    Bad("a negative length", answer(b"Content-Length: -1", length=False)),
    Bad("a length with a sign", answer(b"Content-Length: +2", length=False)),
    Bad("a length in hexadecimal", answer(b"Content-Length: 0x2", length=False)),
    Bad("an empty length", answer(b"Content-Length:", length=False)),
    Bad("a length of a hundred digits", answer(b"Content-Length: " + b"9" * 100, length=False)),
    Bad("a length and chunks", answer(b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n", length=False)),
    Bad("chunks twice", answer(b"Transfer-Encoding: chunked, chunked", body=b"2\r\nok\r\n0\r\n\r\n", length=False)),
    Bad("another coding", answer(b"Transfer-Encoding: gzip, chunked", body=b"2\r\nok\r\n0\r\n\r\n", length=False)),
    Bad("xchunked", answer(b"Transfer-Encoding: xchunked", body=b"2\r\nok\r\n0\r\n\r\n", length=False)),
    Bad("a chunk size that is none", chunked(b"Z\r\nok\r\n0\r\n\r\n")),
    Bad("a chunk size with a sign", chunked(b"+2\r\nok\r\n0\r\n\r\n")),
    Bad("a chunk size with 0x", chunked(b"0x2\r\nok\r\n0\r\n\r\n")),
    Bad("a chunk size of 17 digits", chunked(b"10000000000000002\r\nok\r\n0\r\n\r\n")),
    Bad("a longer chunk than said", chunked(b"2\r\nokay\r\n0\r\n\r\n")),
    Bad("a LF after a chunk size", chunked(b"2\nok\r\n0\r\n\r\n")),
    Bad("a bad second chunk", chunked(b"2\r\nok\r\nZ\r\nok\r\n0\r\n\r\n")),
    Bad("a CR in a value", answer(b"X-A: a\rSet-Cookie: evil=1")),
    Bad("a NUL in a value", answer(b"X-A: a\x00b")),
    Bad("an escape in a value", answer(b"X-A: a\x1bb")),
    Bad("a fold", answer(b"X-A: a\r\n b"), b"ok"),
    Bad("a fold that begins with a tab", answer(b"X-A: a\r\n\tb"), b"ok"),
    Bad("a space before the colon", answer(b"X-A : a"), b"ok"),
    Bad("a length with a space before the colon", answer(b"Content-Length : 2", length=False)),
    Bad("no colon", answer(b"X-A a")),
    Bad("an empty name", answer(b": a")),
    Bad("a name with a bracket", answer(b"X(A): a")),
    Bad("a status of two digits", answer(status=b"99 x")),
    Bad("a status of four digits", answer(status=b"2000 x")),
    Bad("a status of letters", answer(status=b"abc x")),
    Bad("a status of 000", answer(status=b"000 x")),
    Bad("a CR in the reason", answer(status=b"200 O\rK"), b"ok"),
    Bad("HTTP/0.9", b"<html>ok</html>", ends=True),
    Bad("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    Bad("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n", ends=True),
    Bad("a 101 that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\nok"),
    Bad("a flood of 103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 5000 + answer(), b"ok"),
    Bad("a head of 200,000 bytes", answer(b"X-A: " + b"a" * 200_000)),
    Bad("2,000 fields", answer(*[b"X-%d: a" % number for number in range(2000)])),
    Bad("a 204 with a body", answer(status=b"204 No Content", body=INJECTED), b""),
    Bad("a 204 with chunks", answer(b"Transfer-Encoding: chunked", status=b"204 No Content", body=b"2\r\nok\r\n0\r\n\r\n", length=False), b""),
    Bad("a 304 with a body", answer(status=b"304 Not Modified", body=INJECTED), b""),
    Bad("a HEAD with a body", answer(body=INJECTED), b"", b"HEAD"),
    Bad("a second answer", answer() + INJECTED, b"ok"),
    Bad("a second answer after chunks", chunked(b"2\r\nok\r\n0\r\n\r\n") + INJECTED, b"ok"),
    Bad("bytes after the answer", answer() + b"more", b"ok"),
    Bad("half a body", answer(b"Content-Length: 5", b"Connection: close", length=False), ends=True),
    Bad("half of the chunks", chunked(b"2\r\nok\r\n"), ends=True),
    Bad("no last chunk", chunked(b"2\r\nok\r\n0\r\n"), ends=True),
    Bad("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", ends=True),
    Bad("nothing", b"", ends=True),
]  # fmt: skip
