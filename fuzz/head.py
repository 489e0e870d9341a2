"""Requests as bytes: what was asked for is what two other parsers read, one request and no more, or it is a ConfigError."""

from __future__ import annotations

import re

import h11
import httptools
from fuzz.source import Source, text

from fairlead.body import Upload
from fairlead.engines.native.head import declared, encode
from fairlead.errors import ConfigError
from fairlead.headers import Headers
from fairlead.message import Request
from fairlead.url import Origin

METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"CONNECT", b"get", b"X Y", b"GET\r\n", b"")
SEEDS = [
    bytes([kind, method, 5])
    + b"/path"
    + bytes([body, 3])
    + b"abc"
    + bytes([name])
    + b"Accept"
    + bytes([len(value)])
    + value
    for kind in (0, 1)
    for method in range(len(METHODS))
    for body in (0, 1, 2)
    for name, value in ((6, b"*/*"), (6, b"a\r\nX: 1"), (6, b""))
]
SEEDS += [
    bytes([0, 1, 2]) + b"/?" + bytes([1, 2]) + b"ok" + bytes([len(name)]) + name + bytes([len(value)]) + value
    for name, value in (
        (b"Host", b"other.example"), (b"Content-Length", b"2"), (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close"), (b"Expect", b"100-continue"), (b"Upgrade", b"x"), (b"TE", b"trailers"), (b"x", b"\t y "),
    )
]  # fmt: skip

_PRINTABLE = re.compile(r"/[!-~]*").fullmatch
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def check(data: bytes) -> None:
    source = Source(data)
    built, method, path = source.flag(), text(source.pick(METHODS)), text(source.take(80))
    kind, content = source.number(3), source.take(60)
    pairs = []
    while (name := source.take(40)) and len(pairs) < 20:
        pairs.append((name, source.take(80)))
    try:
        if built:  # from parts that nobody checked, as a door for other people's requests passes them on
            path = (
                path.encode("utf-8", "surrogateescape")
                .decode("latin-1")
                .replace("\x7f", "")
                .encode("ascii", "ignore")
                .decode()
            )
            request = Request.build(method, Origin("http", "api.example", 80), path, Headers.received(pairs), content)
        else:
            body = (content, content, Upload(lambda: iter([content]), length=None))[kind] if kind else b""
            request = Request(method, f"http://api.example/{path}", headers=pairs, content=body)
        wire = encode(request)
    except ConfigError:
        return
    assert wire.endswith(b"\r\n\r\n")
    lines = wire[:-4].split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines), lines
    assert b"" not in lines
    if not _PRINTABLE(request.target) or not _TOKEN(request.method):
        return  # another client's own, which is passed on as it stands, if only it is one line
    length = declared(request)
    sent = b"0\r\n\r\n" if length is None else b"x" * min(length, 1000)
    if length is None or length <= 1000:
        _as_httptools(request, wire + sent)
        _as_h11(request, wire + sent)


def _as_httptools(request: Request, wire: bytes) -> None:
    read = _Read()
    parser = httptools.HttpRequestParser(read)
    try:
        parser.feed_data(wire)
    except httptools.HttpParserError as error:
        if request.method in {"GET", "POST", "HEAD", "PUT", "DELETE"}:  # it knows the registered methods alone
            raise AssertionError((error, wire)) from None
        return
    except httptools.HttpParserUpgrade:
        raise AssertionError(wire) from None
    assert parser.get_method() == request.method.encode()
    assert read.target == request.target.encode()
    assert read.messages == 1, wire
    _fields(request, read.headers)


class _Read:
    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.messages = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        self.messages += 1


def _as_h11(request: Request, wire: bytes) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(wire)
    try:
        head = server.next_event()
    except h11.RemoteProtocolError as error:
        raise AssertionError((error, wire)) from None
    assert isinstance(head, h11.Request), wire
    assert head.method == request.method.encode()
    assert head.target == request.target.encode()
    _fields(request, [(bytes(name), bytes(value)) for name, value in head.headers.raw_items()])
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), (event, wire)
    assert server.trailing_data == (b"", False), wire


def _fields(request: Request, read: list[tuple[bytes, bytes]]) -> None:
    """All that was given is there, in its order; the engine adds what frames the request and where it goes, once."""
    given = [(name, value.strip(b" \t")) for name, value in request.headers.raw]
    names = {name.lower() for name, _ in given}
    added = {b"host", b"content-length", b"transfer-encoding"} - names
    assert [pair for pair in read if pair[0].lower() not in added] == given, (read, given)
    for name in (b"host", b"content-length", b"transfer-encoding"):
        assert [key.lower() for key, _ in read].count(name) <= 1, read
    assert any(key.lower() == b"host" for key, _ in read)
