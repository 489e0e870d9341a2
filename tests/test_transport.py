"""The door for other people's SDKs, beside the transports of httpx2 and httpx themselves: the same answers, the same errors.

Longer than a screen, because a transport is what passes all of this.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from fairlead import HTTPClient, Timeout
from fairlead.auth import Bearer
from fairlead.dialect import named
from fairlead.engines import Limits, Wire, create
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    Disconnected,
    FairleadError,
    Knowledge,
    LimitReached,
    ProtocolError,
    Refused,
)
from fairlead.message import Response
from fairlead.policies import CircuitBreaker, ConcurrencyLimit, Fallback, Retry
from fairlead.testing import Pieces, Script, script
from fairlead.transport import AsyncTransport
from faults import FAULTS, SECRET, Fault, Stage
from peers import PATIENCE, Crowd, Line, Peer, Seen, answer, authority, echo, says

SIDES = ("theirs", "ours")


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def lib(request: pytest.FixtureRequest) -> Any:
    return request.param


def door(*, limits: Limits | None = None, **options: Any) -> AsyncTransport:
    """Ours without any policy, over a client of its own."""
    engine = create("native", Wire(verify=authority().client(), limits=limits or Limits()))
    return AsyncTransport(HTTPClient(**{"policies": (), "timeout": None, "engine": engine, **options}), close=True)


def transport(side: str, lib: Any, **options: Any) -> Any:
    return door(**options) if side == "ours" else lib.AsyncHTTPTransport(verify=authority().client())


def scripted(*answers: Any, **options: Any) -> tuple[AsyncTransport, Script]:
    engine = script(*answers)
    client = HTTPClient(**{"policies": (), "timeout": None, "engine": engine, **options})
    return AsyncTransport(client, close=True), engine


# Side by side: what goes out, and what comes back


@dataclass
class Exchange:
    """A request, the answer to it, and whether the connection ends with that."""

    name: str
    method: str = "GET"
    path: str = "/"
    said: bytes = field(default_factory=answer)
    ends: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    body: Callable[[], dict[str, Any]] = dict
    """Options that are used up."""


async def slowly(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def chunked(*pieces: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    lines = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces])
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + lines + last


BARE = b"HTTP/1.1 %b\r\n\r\n"
GZIP = b"Content-Encoding: gzip"

# A table, to be read as one.
# fmt: off
EXCHANGES = (
    # What goes out
    Exchange("a path and a query as they stand", path="/a%2Fb/c;d?x=%20&&y=1,2?"),
    Exchange("a path that must be escaped", path="/caf\u00e9 au lait?q=\u00fc"),
    Exchange("a path that httpx does not escape", path="/a%zz\\^|;[]?q={x}|`^%"),
    Exchange("a query of its own", options={"params": {"a": [1, 2], "b": "x y"}}),
    Exchange("fields, repeated, of odd case", options={"headers": [("x-lower", "1"), ("X-Twice", "a"), ("X-Twice", "b"), ("X-Empty", "")]}),
    Exchange("a value that is not ASCII", options={"headers": [(b"X-Name", b"Zo\xeb")]}),
    Exchange("a host of its own", options={"headers": {"Host": "shop.example"}}),
    Exchange("a connection that shall end", options={"headers": {"Connection": "close"}}),
    Exchange("a name and a password", options={"auth": ("ada", "hunter2")}),
    Exchange("a target of its own", "OPTIONS", options={"extensions": {"target": b"*"}}),
    Exchange("a method of somebody's own", "PURGE"),
    Exchange("bytes", "POST", options={"content": bytes(range(256)) * 1000}),
    Exchange("no bytes", "POST"),
    Exchange("no bytes, put", "PUT", options={"content": b""}),
    Exchange("no bytes, and a length that says so", "DELETE", options={"headers": {"Content-Length": "0"}}),
    Exchange("JSON", "PATCH", options={"json": {"a": [1, None]}}),
    Exchange("a form", "POST", options={"data": {"a": "x y", "b": ["1", "2"]}}),
    Exchange("a body that comes with a GET", options={"content": b"why not"}),
    Exchange("pieces", "POST", body=lambda: {"content": slowly(b"one", b"", b"two")}),
    Exchange("pieces of a known length", "POST", options={"headers": {"Content-Length": "6"}}, body=lambda: {"content": slowly(b"one", b"two")}),
    Exchange("bytes that shall be chunked", "POST", options={"headers": {"Transfer-Encoding": "chunked"}, "content": b"one"}),
    Exchange("a multipart of bytes", "POST", options={"files": {"a": b"xyz"}, "data": {"k": "v"}, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}),
    Exchange("a multipart of a file", "POST", options={"headers": {"Content-Type": "multipart/form-data; boundary=b"}}, body=lambda: {"files": {"a": io.BytesIO(b"x" * 200_000)}}),
    # What comes back
    Exchange("no head of a body", "HEAD", said=BARE % b"200 OK\r\nContent-Length: 5"),
    Exchange("no content", said=BARE % b"204 No Content"),
    Exchange("not modified, with the length of what is not sent", said=BARE % b'304 Not Modified\r\nContent-Length: 5\r\nETag: "1"'),
    Exchange("after interim answers", said=BARE % b"100 Continue" + BARE % b"103 Early Hints\r\nLink: </a>" + answer()),
    Exchange("not found", said=answer(b'{"detail": "no"}', status=b"404 Not Found")),
    Exchange("a status that nobody knows", said=answer(status=b"599 ")),
    Exchange("repeated fields, with blanks around", said=answer(b"ok", b"Set-Cookie: a=1", b"Set-Cookie: b=2; Path=/", b"X-Blank:  x \t", b"X-Empty:")),
    Exchange("a value that is UTF-8", said=answer(b"ok", b"X-Name: Zo\xc3\xab")),
    Exchange("chunks", said=chunked(b"one", b"two" * 50_000)),
    Exchange("chunks and trailers", said=chunked(b"one", last=b"0\r\nX-Sum: 1\r\n\r\n")),
    Exchange("chunks with extensions", said=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\none\r\n0\r\n\r\n"),
    Exchange("a megabyte", said=answer(bytes(1 << 20))),
    Exchange("a body that ends with its connection", said=b"HTTP/1.1 200 OK\r\n\r\nall of it", ends=True),
    Exchange("gzip", said=answer(gzip.compress(b"hello" * 1000), GZIP)),
    Exchange("deflate, then gzip", said=answer(gzip.compress(zlib.compress(b"hello")), b"Content-Encoding: deflate, gzip")),
    Exchange("a coding that nobody knows", said=answer(b"hello", b"Content-Encoding: rot13")),
    Exchange("no head of a coded body", "HEAD", said=BARE % b"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25"),
    Exchange("a redirect that is not followed", said=BARE % b"302 Found\r\nLocation: /b\r\nContent-Length: 0"),
    Exchange("a charset", said=answer(b"caf\xe9", b"Content-Type: text/plain; charset=latin-1")),
)
# fmt: on


@pytest.mark.parametrize("case", EXCHANGES, ids=lambda case: case.name)
async def test_an_exchange_is_the_same_on_both(lib: Any, case: Exchange) -> None:
    met: list[Any] = []
    for side in SIDES:

        async def talk(line: Line) -> None:
            while await line.request() is not None:
                await line.say(case.said)
                if case.ends:
                    line.hang_up()
                    return

        async with Peer(talk) as peer, lib.AsyncClient(transport=transport(side, lib)) as client:
            response = await client.request(case.method, peer.url + case.path, **case.options, **case.body())
            (seen,) = peer.requests
            out = as_sent(seen, peer.port)
            back = response.status_code, response.headers.raw, response.content, response.text, response.reason_phrase
            met.append((out, back, response.http_version, dict(response.cookies), response.is_closed))
    assert met[0] == met[1]


def as_sent(seen: Seen, port: int) -> Any:
    """What went out. Where a field stands among the others says nothing, and that a connection is kept goes without saying."""
    fields = [(name, value.replace(b":%d" % port, b"")) for name, value in seen.headers]
    if seen.get(b"transfer-encoding"):  # httpx sends a length beside it
        fields = [pair for pair in fields if pair[0] != b"Content-Length"]
    return (
        seen.method,
        seen.target,
        sorted({*fields} - {(b"Connection", b"keep-alive")}),
        len(fields) - len({*fields}),
        seen.body,
    )


async def test_a_wire_phrase_is_never_shown(lib: Any) -> None:
    async with Peer(says(answer(status=b"404 <script>"))) as peer, lib.AsyncClient(transport=door()) as client:
        response = await client.get(peer.url)
        assert (response.reason_phrase, response.extensions["reason_phrase"]) == ("Not Found", b"Not Found")


async def test_a_connection_is_kept_and_used_again(lib: Any) -> None:
    async with Peer(echo) as peer, lib.AsyncClient(transport=door()) as client:
        for _ in range(3):
            assert (await client.post(peer.url, content=b"x")).content == b"x"
            assert (await client.head(peer.url)).content == b""
        assert peer.accepted == 1


async def test_redirects_and_cookies_stay_theirs(lib: Any) -> None:
    async def talk(line: Line) -> None:
        while (seen := await line.request()) is not None:
            moved = seen.target == "/old"
            head = b"307 Moved\r\nLocation: /new\r\nSet-Cookie: a=1" if moved else b"200 OK"
            await line.say(BARE % (head + b"\r\nContent-Length: 0"))

    async with Peer(talk) as peer, lib.AsyncClient(transport=door(), follow_redirects=True) as client:
        response = await client.post(f"{peer.url}/old", content=b"twice")
        assert [one.status_code for one in (*response.history, response)] == [307, 200]
        first, second = peer.requests
    assert (first.body, second.body, second.get(b"cookie")) == (b"twice", b"twice", b"a=1")


# Side by side: faults


WITHOUT_END = {fault.name for fault in FAULTS if fault.name.startswith("one byte after another")}

DIFFERENCES = {
    "both a length and chunks": ("`200`", "`RemoteProtocolError`", "RFC 9112 section 6.3: it may be an attempt at smuggling"),
    "more header fields than allowed": ("`ReadTimeout`", "`RemoteProtocolError`", "httpx2 bounds the bytes of a head, and not its fields"),
    "a body that ends with its connection, and TLS is cut": ("`200`", "`RemoteProtocolError`", "RFC 9112 section 9.8: nobody knows that this was all"),
}  # fmt: skip


async def met(side: str, lib: Any, fault: Fault) -> str:
    """The name of what a caller is told."""
    bounds = fault.timeout
    timeout = lib.Timeout(
        connect=bounds.connect or bounds.attempt or 1.0,
        read=bounds.read or bounds.attempt or 1.0,
        write=bounds.write or bounds.attempt or 1.0,
        pool=1.0,
    )
    async with AsyncExitStack() as stack:
        stage = Stage(stack)
        request = await fault.scene(stage)
        options = {"content": request.content} if request.content else {}
        client = lib.AsyncClient(transport=transport(side, lib, limits=fault.limits), timeout=timeout)
        await stack.enter_async_context(client)
        told = None
        try:
            async with client.stream(request.method, request.url, **options) as response:
                stage.begun.set()
                await response.aread()
        except lib.RequestError as error:
            told = error
        stage.over.set()
    if told is None:
        return f"`{response.status_code}`"
    assert told.request.url == request.url
    if side == "ours" and not isinstance(told, lib.DecodingError):
        assert isinstance(told.__cause__, FairleadError)
        assert SECRET.partition("?")[2] not in f"{told} {told!r} {told.__cause__!r}"
    return f"`{type(told).__name__}`"


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=fault.name) for fault in FAULTS if fault.within is None and fault.name not in WITHOUT_END],
)
async def test_a_fault_has_the_name_that_they_give_it(lib: Any, fault: Fault) -> None:
    theirs, ours = await met("theirs", lib, fault), await met("ours", lib, fault)
    if fault.name in DIFFERENCES:
        assert (theirs, ours) == DIFFERENCES[fault.name][:2]
    else:
        assert theirs == ours


def test_the_documented_differences_are_these() -> None:
    page = (Path(__file__).parent.parent / "docs" / "transport.md").read_text()
    rows = [f"| {name} | {theirs} | {ours} | {why} |" for name, (theirs, ours, why) in DIFFERENCES.items()]
    assert "\n".join(["| fault | httpx2 | here | why |", "|---|---|---|---|", *rows]) in page


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.name in WITHOUT_END], ids=lambda fault: fault.name
)
async def test_what_never_ends_for_them_ends_at_the_clients_deadline(lib: Any, fault: Fault) -> None:
    async with AsyncExitStack() as stack:
        request = await fault.scene(Stage(stack))
        client = lib.AsyncClient(transport=door(timeout=0.2), timeout=5.0)
        await stack.enter_async_context(client)
        with pytest.raises(lib.ReadTimeout) as caught:
            await client.get(request.url)
    assert isinstance(caught.value.__cause__, AttemptTimedOut | DeadlineExceeded)


@pytest.mark.parametrize("url", ["ftp://host/", "/relative", "http:///path"])
async def test_a_url_that_leads_nowhere_is_unsupported(lib: Any, url: str) -> None:
    for side in SIDES:
        async with lib.AsyncClient(transport=transport(side, lib)) as client:
            with pytest.raises((lib.UnsupportedProtocol, lib.ConnectError)) as caught:
                await client.get(url)
            if side == "ours":
                assert type(caught.value) is lib.UnsupportedProtocol


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X-Line": "a\r\nb"}},
        {"extensions": {"target": b"/a HTTP/1.1\r\nX-Line: b"}},
        {"headers": {"Transfer-Encoding": "gzip"}, "content": b"x"},
        {"headers": [("Content-Length", "1"), ("Content-Length", "2")], "content": b"x"},
        {"headers": {"Content-Length": "many"}, "content": b"x"},
    ],
    ids=[
        "a line break",
        "a target that breaks the line",
        "a transfer coding",
        "two lengths",
        "a length that is no number",
    ],
)
async def test_a_request_that_cannot_be_sent_is_the_callers_fault(lib: Any, options: dict[str, Any]) -> None:
    for side in SIDES:
        async with Peer(echo) as peer, lib.AsyncClient(transport=transport(side, lib)) as client:
            with pytest.raises(lib.LocalProtocolError):
                await client.post(peer.url, **options)


@pytest.mark.parametrize("body", [lambda: b"four", lambda: slowly(b"four")], ids=["bytes", "pieces"])
@pytest.mark.parametrize("length", ["3", "9"])
async def test_a_body_of_another_length_than_announced_is_the_callers_fault(
    lib: Any, body: Callable[[], Any], length: str
) -> None:
    # Theirs raises an error of the parser below it, which is none of httpx's.
    async with Peer(echo) as peer, lib.AsyncClient(transport=door()) as client:
        with pytest.raises(lib.LocalProtocolError):
            await client.post(peer.url, headers={"Content-Length": length}, content=body())
        await peer.empty()


async def test_what_a_body_raises_is_raised_as_it_is(lib: Any) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("the source is gone")

    for side in SIDES:
        async with Peer(echo) as peer, lib.AsyncClient(transport=transport(side, lib)) as client:
            with pytest.raises(LookupError):
                await client.post(peer.url, content=failing())
            await peer.empty()


async def test_an_answer_before_the_upload_ended_is_delivered(lib: Any) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
        finally:
            closed.set()

    async def talk(line: Line) -> None:
        await line.head()
        await line.say(answer(b"too much", status=b"413 Content Too Large"))

    async with Peer(talk) as peer, lib.AsyncClient(transport=door()) as client:
        async with asyncio.timeout(PATIENCE):
            response = await client.post(peer.url, content=endless())
            assert (response.status_code, response.content) == (413, b"too much")
            if lib is httpx2:  # httpx leaves a generator to be closed when memory is tidied
                await closed.wait()
        await peer.empty()


# What an error is called, in numbers


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectFailed(), "ConnectError"),
        (AttemptTimedOut(phase="connecting"), "ConnectTimeout"),
        (DeadlineExceeded(phase="connecting"), "ConnectTimeout"),
        (DeadlineExceeded(phase="waiting"), "PoolTimeout"),
        (AttemptTimedOut(phase="sending"), "WriteTimeout"),
        (AttemptTimedOut(phase="head"), "ReadTimeout"),
        (AttemptTimedOut(phase="body"), "ReadTimeout"),
        (DeadlineExceeded(), "ReadTimeout"),
        (Disconnected(phase="sending"), "WriteError"),
        (Disconnected(phase="head"), "RemoteProtocolError"),
        (Disconnected(phase="sending", knowledge=Knowledge.NOT_SENT), "ConnectError"),
        (ProtocolError(phase="body"), "RemoteProtocolError"),
        (CircuitOpen(), "ConnectError"),
        (Refused(), "ConnectError"),
        (LimitReached(), "PoolTimeout"),
        (ConfigError("the client is closed"), "LocalProtocolError"),
        (DecodeError("at 1", response=Response(200)), "DecodingError"),
        (FairleadError("the body could not be read", phase="sending"), "LocalProtocolError"),
    ],
    ids=lambda value: repr(value) if isinstance(value, FairleadError) else value,
)
def test_an_error_is_named_by_what_happened(lib: Any, error: FairleadError, name: str) -> None:
    assert named(error) == name
    assert issubclass(getattr(lib, name), lib.RequestError)


def test_a_reset_is_told_from_an_end() -> None:
    error = Disconnected(phase="body")
    error.__cause__ = ConnectionResetError()
    assert named(error) == "ReadError"


# Policies


async def test_an_answer_of_503_is_asked_for_again(lib: Any) -> None:
    made, engine = scripted(503, Disconnected, (200, {"id": 1}), policies=(Retry(delay=0.001),))
    async with lib.AsyncClient(transport=made) as client:
        assert (await client.get("http://shop.test/")).json() == {"id": 1}
    assert len(engine.calls) == 3
    assert engine.open == 0
    assert all(call.stream for call in engine.calls)


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
async def test_a_post_is_sent_again_only_with_a_key(lib: Any, keyed: bool) -> None:
    made, engine = scripted(503, 200, policies=(Retry(delay=0.001),))
    headers = {"Idempotency-Key": "order-1"} if keyed else {}
    async with lib.AsyncClient(transport=made) as client:
        response = await client.post("http://shop.test/", content=b"pay", headers=headers)
    assert (response.status_code, engine.bodies) == ((200, [b"pay", b"pay"]) if keyed else (503, [b"pay"]))


async def test_a_key_is_given_where_asked_for(lib: Any) -> None:
    engine = script(503, 200, 200, 200, 200)
    client = HTTPClient(policies=(Retry(delay=0.001),), engine=engine)
    made = AsyncTransport(client, idempotent=True, close=True)
    async with lib.AsyncClient(transport=made) as client:
        await client.post("http://shop.test/", content=b"a")
        await client.post("http://shop.test/", content=b"b")
        await client.post("http://shop.test/", content=b"c", headers={"Idempotency-Key": "mine"})
        await client.get("http://shop.test/")
    keys = [request.headers.get("idempotency-key") for request in engine.requests]
    assert keys[0] == keys[1] != keys[2]
    assert keys[3:] == ["mine", None]
    assert None not in keys[:3]


BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "bytes": lambda: {"content": b"x"},
    "JSON": lambda: {"json": 1},
    "a multipart of bytes": lambda: {"files": {"a": b"x"}, "data": {"b": "c"}},
    "a multipart of a file": lambda: {"files": {"a": io.BytesIO(b"x")}},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_that_can_be_read_twice_is_sent_twice(lib: Any, body: Callable[[], dict[str, Any]]) -> None:
    made, engine = scripted(503, 200, policies=(Retry(delay=0.001),))
    async with lib.AsyncClient(transport=made) as client:
        assert (await client.put("http://shop.test/", **body())).status_code == 200
    first, second = engine.bodies
    assert first == second != b""


class Pipe(io.BytesIO):
    """A file that cannot go back."""

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize(
    "body",
    [lambda: {"content": slowly(b"x")}, lambda: {"files": {"a": Pipe(b"x")}}],
    ids=["pieces", "a multipart of a pipe"],
)
async def test_a_body_that_is_read_once_is_sent_once(lib: Any, body: Callable[[], dict[str, Any]]) -> None:
    made, engine = scripted(503, 200, policies=(Retry(delay=0.001),))
    async with lib.AsyncClient(transport=made) as client:
        assert (await client.put("http://shop.test/", **body())).status_code == 503
    assert len(engine.calls) == 1


async def test_a_request_that_was_redirected_keeps_its_body(lib: Any) -> None:
    made, engine = scripted((307, b"", {"Location": "/new"}), 503, 200, policies=(Retry(delay=0.001),))
    async with lib.AsyncClient(transport=made, follow_redirects=True) as client:
        assert (await client.put("http://shop.test/", content=b"x")).status_code == 200
    assert engine.bodies == [b"x"] * 3


async def test_an_open_circuit_refuses_as_a_connection_would(lib: Any) -> None:
    made, engine = scripted(500, policies=(CircuitBreaker(consecutive=1),))
    async with lib.AsyncClient(transport=made) as client:
        assert (await client.get("http://shop.test/")).status_code == 500
        with pytest.raises(lib.ConnectError, match="circuit open") as caught:
            await client.get("http://shop.test/")
    assert isinstance(caught.value.__cause__, CircuitOpen)
    assert len(engine.calls) == 1


async def test_an_answer_of_a_policys_own_is_read_as_it_is(lib: Any) -> None:
    plain = gzip.compress(b"not this")
    stale = Response(
        200, [("Content-Encoding", "gzip"), ("Content-Length", str(len(plain))), ("X-Kept", "1")], b"stale"
    )
    made, _ = scripted(ConnectFailed, policies=(Fallback(lambda *_: stale),))
    async with lib.AsyncClient(transport=made) as client:
        response = await client.get("http://shop.test/")
        assert (response.content, response.headers.multi_items()) == (b"stale", [("x-kept", "1")])


async def test_credentials_of_the_client_are_added_for_its_own_origin_only(lib: Any) -> None:
    engine = script(200)
    client = HTTPClient("https://shop.test", auth=Bearer("hunter2"), engine=engine, policies=())
    async with lib.AsyncClient(transport=AsyncTransport(client, close=True)) as sdk:
        await sdk.get("https://shop.test/x")
        assert engine.requests[0].headers["authorization"] == "Bearer hunter2"
        with pytest.raises(lib.LocalProtocolError, match="would be given its credentials"):
            await sdk.get("https://evil.test/x")
    assert len(engine.calls) == 1


# Time


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.fixture
async def half() -> AsyncIterator[Peer]:
    """Somebody who says half of a body."""
    async with Peer(says(HALF)) as peer:
        yield peer


@pytest.mark.parametrize(
    ("own", "given", "meant"),
    [
        (None, 5.0, (None, 5.0, 5.0, 5.0, 5.0)),
        (None, None, (None, None, None, None, None)),
        (None, {"timeout": 600.0, "connect": 5.0, "pool": 1.0}, (None, 5.0, 600.0, 600.0, 1.0)),
        (30.0, 5.0, (30.0, 5.0, 5.0, 5.0, 5.0)),
        (Timeout(total=9.0, connect=1.0, read=9.0), 5.0, (9.0, 1.0, 5.0, 5.0, 5.0)),
        (None, 0, (None, 0.001, 0.001, 0.001, 0.001)),
    ],
    ids=["seconds", "none", "each its own", "within a deadline", "the tighter of two", "none at all"],
)
async def test_their_time_outs_bound_what_they_bound_for_them(lib: Any, own: Any, given: Any, meant: Any) -> None:
    made, engine = scripted(200, timeout=own)
    timeout = lib.Timeout(**given) if isinstance(given, dict) else given
    async with lib.AsyncClient(transport=made, timeout=timeout) as client:
        await client.get("http://shop.test/")
    bounds = engine.calls[0].timeout
    assert (bounds.total, bounds.connect, bounds.read, bounds.write, bounds.wait) == meant


async def test_the_wait_in_line_is_bounded_by_pool(lib: Any, half: Peer) -> None:
    for side in SIDES:
        one = lib.AsyncHTTPTransport(limits=lib.Limits(max_connections=1))
        made = one if side == "theirs" else door(policies=(ConcurrencyLimit(limit=1),))
        async with (
            lib.AsyncClient(transport=made, timeout=lib.Timeout(PATIENCE, pool=0.05)) as client,
            client.stream("GET", half.url),
        ):
            with pytest.raises(lib.PoolTimeout):
                await client.get(half.url)
    assert len(half.requests) == 2


async def test_an_attempt_has_all_the_time_that_reading_has(lib: Any) -> None:
    # A model may think for a minute: what bounds an attempt by default would cut it short.
    made, engine = scripted(200, 200, policies=(Retry(),))
    async with lib.AsyncClient(transport=made, timeout=600.0) as client:
        await client.get("http://shop.test/")
    assert engine.calls[0].allowance > 600.0
    made, engine = scripted(200, policies=(Retry(),), timeout=Timeout(total=None, attempt=3.0))
    async with lib.AsyncClient(transport=made, timeout=600.0) as client:
        await client.get("http://shop.test/")
    assert engine.calls[0].allowance == 3.0


async def test_a_request_without_time_outs_has_the_clients(lib: Any) -> None:
    made, engine = scripted(200, timeout=Timeout(total=7.0, read=2.0))
    async with made:
        await (await made.handle_async_request(lib.Request("GET", "http://shop.test/"))).aclose()
    assert engine.calls[0].timeout == Timeout(total=7.0, read=2.0)


# Cancellation


async def cancelled(asking: asyncio.Task[Any]) -> None:
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(PATIENCE):
            await asking


async def test_cancelled_while_connecting_it_leaves_nothing(lib: Any) -> None:
    with Crowd() as crowd:
        async with lib.AsyncClient(transport=door()) as client:
            asking = asyncio.create_task(client.get(crowd.url))
            await crowd.until(1)
            await cancelled(asking)
            await crowd.until(0)


async def test_cancelled_while_sending_it_ends_the_upload(lib: Any) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def talk(line: Line) -> None:
        await line.head()
        await line.gone()

    async with Peer(talk) as peer, lib.AsyncClient(transport=door()) as client:
        asking = asyncio.create_task(client.post(peer.url, content=endless()))
        await peer.until(lambda: bool(peer.requests))
        await cancelled(asking)
        if lib is httpx2:  # httpx leaves a generator to be closed when memory is tidied
            async with asyncio.timeout(PATIENCE):
                await closed.wait()
        await peer.empty()


async def test_cancelled_before_the_head_it_gives_the_connection_up(lib: Any) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.gone()

    async with Peer(talk) as peer, lib.AsyncClient(transport=door()) as client:
        asking = asyncio.create_task(client.get(peer.url))
        await peer.until(lambda: bool(peer.requests))
        await cancelled(asking)
        await peer.empty()


async def test_cancelled_at_any_step_it_leaves_nothing(lib: Any) -> None:
    async def talk(line: Line) -> None:
        while (seen := await line.request()) is not None:
            again = seen.target in asked
            asked.add(seen.target)
            await line.say(chunked(b"one", b"two") if again else answer(status=b"503 Service Unavailable"))

    asked: set[str] = set()
    async with Peer(talk) as peer:
        for steps in range(1000):
            made = door(policies=(Retry(delay=0.0), ConcurrencyLimit(limit=1)))
            async with lib.AsyncClient(transport=made) as client:
                asking = asyncio.create_task(client.get(f"{peer.url}/{steps}"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if asking.done():
                    break
                asking.cancel()
                await asyncio.wait({asking}, timeout=PATIENCE)
                slots = made.client.upstream.states["ConcurrencyLimit", "default"]
                assert slots.taken == 0
            await peer.empty()
    assert asking.result().content == b"onetwo"
    assert steps > 5


async def test_cancelled_in_the_body_it_gives_the_connection_up(lib: Any, half: Peer) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async with client.stream("GET", half.url) as response:
            async for _ in response.aiter_bytes():
                begun.set()

    async with lib.AsyncClient(transport=door()) as client:
        asking = asyncio.create_task(read())
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
        await cancelled(asking)
        await half.empty()


async def test_a_half_read_stream_that_is_closed_gives_the_connection_up(lib: Any, half: Peer) -> None:
    made = door(policies=(ConcurrencyLimit(limit=1),))
    async with lib.AsyncClient(transport=made) as client:
        for _ in range(2):  # the second has the slot of the first
            async with asyncio.timeout(PATIENCE), client.stream("GET", half.url) as response:
                assert await anext(response.aiter_bytes()) == b"half"
        await half.empty()


async def test_a_stream_that_is_never_read_gives_its_slot_back(lib: Any) -> None:
    made, engine = scripted((200, b"x"), (204, b""), (200, b"x"), policies=(ConcurrencyLimit(limit=1),))
    async with lib.AsyncClient(transport=made) as client:
        for _ in range(3):
            async with asyncio.timeout(PATIENCE), client.stream("GET", "http://shop.test/"):
                pass
    assert engine.open == 0


async def test_a_response_that_is_never_closed_warns_and_is_closed(lib: Any, half: Peer) -> None:
    async with lib.AsyncClient(transport=door()) as client:
        response = await client.send(client.build_request("GET", half.url), stream=True)
        assert response.status_code == 200
        with pytest.warns(ResourceWarning, match="dropped open"):
            del response
            gc.collect()
        await half.empty()


async def test_an_error_in_a_stream_is_theirs_wherever_it_is_read(lib: Any) -> None:
    for read in ("aread", "aiter_raw", "aiter_bytes", "aiter_lines"):
        made, engine = scripted((200, Pieces(b"half", Disconnected)))
        async with lib.AsyncClient(transport=made) as client:
            with pytest.raises(lib.RemoteProtocolError) as caught:
                async with client.stream("GET", "http://shop.test/") as response:
                    if read == "aread":
                        await response.aread()
                    else:
                        async with aclosing(getattr(response, read)()) as pieces:
                            async for _ in pieces:
                                pass
            assert str(caught.value.request.url) == "http://shop.test/"
        assert engine.open == 0


# Its life


async def test_a_client_that_is_given_stays_open_unless_it_is_asked_to_close(lib: Any) -> None:
    engine = script(200, 200, 200)
    client = HTTPClient("http://shop.test", engine=engine)
    for _ in range(2):
        async with lib.AsyncClient(transport=AsyncTransport(client)) as sdk:
            await sdk.get("http://shop.test/")
    assert not engine.closed
    async with lib.AsyncClient(transport=AsyncTransport(client, close=True)) as sdk:
        await sdk.get("http://shop.test/")
    assert engine.closed


@pytest.mark.parametrize("given", [(), [], None], ids=["no policies", "a list", "nothing"])
async def test_a_client_of_its_own_is_closed_with_it(lib: Any, given: Any) -> None:
    made = AsyncTransport() if given is None else AsyncTransport(given)
    assert len(made.client.pipeline.policies) == (4 if given is None else 0)
    assert made.client.timeout.total is None
    async with Peer(echo) as peer:
        async with lib.AsyncClient(transport=made) as client:
            await client.get(peer.url)
        await peer.empty()
        with pytest.raises(lib.LocalProtocolError, match="closed"):
            await made.handle_async_request(lib.Request("GET", peer.url))
        await made.aclose()


@pytest.mark.parametrize("wrong", [HTTPClient, "http://shop.test", Retry(), 1])
def test_what_is_neither_a_client_nor_policies_is_told(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="pass a client, a tuple of policies, or nothing"):
        AsyncTransport(wrong)


async def test_a_request_of_no_library_it_knows_is_told() -> None:
    with pytest.raises(ConfigError, match="of httpx2 or httpx"):
        await AsyncTransport(()).handle_async_request(object())


async def test_a_request_of_a_class_of_ones_own_is_of_the_library_it_derives_from(lib: Any) -> None:
    class Signed(lib.Request):
        pass

    made, _ = scripted(200)
    async with made:
        response = await made.handle_async_request(Signed("GET", "http://shop.test/"))
        assert type(response) is lib.Response
        await response.aclose()


async def test_one_transport_serves_both_libraries_at_once() -> None:
    made, _ = scripted(200, 200)
    async with made:
        for lib in (httpx2, httpx):
            response = await made.handle_async_request(lib.Request("GET", "http://shop.test/"))
            assert type(response) is lib.Response
            assert isinstance(response.stream, lib.AsyncByteStream)
            await response.aclose()


def test_neither_library_is_imported_for_it() -> None:
    code = "import sys, fairlead.transport; print({'httpx', 'httpx2'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
