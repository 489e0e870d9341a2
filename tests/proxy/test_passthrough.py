"""Passthrough: what goes on to the caller, what stays behind, and that the upstream is closed whatever happens."""

import asyncio
import gzip
from contextlib import AsyncExitStack

import httpx2
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from fairlead.client import HTTPClient
from fairlead.core import Timeout
from fairlead.engines.coding import accepted
from fairlead.errors import ConfigError, ConnectFailed, Disconnected
from fairlead.proxy import Passthrough, passthrough, whole
from fairlead.proxy.fields import outward
from fairlead.testing import Pieces, at_every_step, script
from peers import PATIENCE, Peer, answer, says
from served import served

BASE = "http://upstream.test"


def scope(method="GET", *headers):
    return {"type": "http", "method": method, "path": "/", "headers": list(headers)}


class Caller:
    """The caller's side of an ASGI call: what was sent to it; `leave` disconnects it."""

    def __init__(self, body=b"", *, refuse_after=None):
        self.body = [{"type": "http.request", "body": body, "more_body": False}]
        self.sent = []
        self.left = asyncio.Event()
        self.refuse_after = refuse_after

    async def receive(self):
        if self.body:
            return self.body.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self.refuse_after is not None and len(self.sent) >= self.refuse_after:
            raise OSError("the transport is closed")
        self.sent.append(message)
        await asyncio.sleep(0)

    def leave(self):
        self.left.set()

    @property
    def head(self):
        assert self.sent[0]["type"] == "http.response.start"
        return self.sent[0]

    @property
    def content(self):
        return b"".join([message["body"] for message in self.sent[1:]])

    @property
    def finished(self):
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def scripted(*answers, **options):
    engine = script(*answers)
    return engine, HTTPClient(BASE, engine=engine, max_retries=0, **options)


@pytest.fixture
async def upstream():
    """Makes clients of a scripted upstream, closed in the end."""
    async with AsyncExitStack() as clients:

        def make(*answers, **options):
            engine, client = scripted(*answers, **options)
            clients.push_async_callback(client.close)
            return engine, client

        yield make


async def relay(client, caller=None, method="GET", *headers, **options):
    caller = caller or Caller()
    async with asyncio.timeout(PATIENCE):
        await passthrough(client.stream(method, "/x", **options))(scope(method, *headers), caller.receive, caller.send)
    return caller


# what goes on


async def test_status_body_and_headers_go_on(upstream):
    engine, client = upstream((418, b"short and stout", {"X-Pot": "tea", "Content-Type": "text/plain"}))
    caller = await relay(client)
    assert caller.head["status"] == 418
    assert dict(caller.head["headers"])[b"x-pot"] == b"tea"
    assert caller.content == b"short and stout"
    assert caller.finished
    assert engine.open == 0


def test_hop_by_hop_fields_stay_behind():
    pairs = [
        (b"Connection", b"keep-alive, X-Named"),
        (b"connection", b" Second ,"),
        (b"X-Named", b"1"),
        (b"SECOND", b"2"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"Proxy-Authentication-Info", b"x"),
        (b"TE", b"trailers"),
        (b"Trailer", b"X-Sum"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Alt-Svc", b'h3=":443"'),
        (b"Content-Length", b"3 "),
        (b"Content-Encoding", b"gzip"),
        (b"Set-Cookie", b"a=1"),
        (b"X-Between", b"x"),
        (b"Set-Cookie", b"b=2"),
        (b"WWW-Authenticate", b"Bearer"),
    ]
    assert outward(pairs)[0] == [
        (b"content-length", b"3"),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"a=1"),
        (b"x-between", b"x"),
        (b"set-cookie", b"b=2"),
        (b"www-authenticate", b"Bearer"),
    ]


async def test_what_is_set_on_the_response_is_sent_beside(upstream):
    _, client = upstream((200, b"hi", [("Set-Cookie", "a=1")]))
    response = passthrough(client.stream("GET", "/"))
    response.headers["x-gateway"] = "us"
    response.set_cookie("b", "2")
    caller = Caller()
    await response(scope(), caller.receive, caller.send)
    assert (b"x-gateway", b"us") in caller.head["headers"]
    cookies = [value for name, value in caller.head["headers"] if name == b"set-cookie"]
    assert cookies[0] == b"a=1"
    assert cookies[1].startswith(b"b=2")


@pytest.mark.parametrize(("status", "length"), [(204, None), (304, None), (200, b"5")])
async def test_what_has_no_body_is_sent_without_one(upstream, status, length):
    engine, client = upstream((status, Pieces(), {"Content-Length": "5", "ETag": '"x"'}))
    caller = await relay(client, None, "HEAD" if status == 200 else "GET")
    assert dict(caller.head["headers"]).get(b"content-length") == length
    assert dict(caller.head["headers"])[b"etag"] == b'"x"'
    assert caller.content == b""
    assert caller.finished
    assert engine.open == 0


async def test_chunks_are_sent_one_by_one_as_they_come(upstream):
    _, client = upstream((200, Pieces(b"one", b"two", b"three")))
    caller = await relay(client)
    assert [message["body"] for message in caller.sent[1:]] == [b"one", b"two", b"three", b""]


async def test_a_slow_caller_slows_the_upstream(upstream):
    seen = []

    class Slow(Caller):
        async def send(self, message):
            seen.append(("sending", message.get("body")))
            await asyncio.sleep(0)
            seen.append(("sent", message.get("body")))
            await super().send(message)

    _, client = upstream((200, Pieces(*[b"x"] * 5)))
    await relay(client, Slow())
    assert [event for event, _ in seen] == ["sending", "sent"] * 7


# the caller's codings


@pytest.mark.parametrize(("asked", "passed"), [("br;q=0.5", "br;q=0.5"), (None, "identity")])
async def test_the_upstream_is_asked_for_the_codings_of_the_caller(upstream, asked, passed):
    engine, client = upstream(200)
    await relay(client, None, "GET", *([(b"accept-encoding", asked.encode())] if asked else []))
    assert engine.requests[0].headers["accept-encoding"] == passed


async def test_codings_that_were_asked_for_by_hand_stay(upstream):
    engine, client = upstream(200)
    await relay(client, None, "GET", (b"accept-encoding", b"br"), headers={"Accept-Encoding": "gzip;q=1"})
    assert engine.requests[0].headers["accept-encoding"] == "gzip;q=1"


async def test_a_plain_call_still_asks_for_what_we_can_undo(upstream):
    engine, client = upstream(200)
    await client.get("/")
    assert engine.requests[0].headers["accept-encoding"] == accepted()


# errors


async def test_an_error_before_the_head_is_raised_as_it_is(upstream):
    engine, client = upstream(ConnectFailed)
    with pytest.raises(ConnectFailed):
        await relay(client)
    assert engine.open == 0


async def test_a_body_cut_short_is_never_ended(upstream):
    engine, client = upstream((200, Pieces(b"half", Disconnected), {"Content-Length": "8"}))
    caller = Caller()
    with pytest.raises(Disconnected):
        await relay(client, caller)
    assert caller.content == b"half"
    assert not caller.finished
    assert engine.open == 0


async def test_a_send_that_fails_is_a_caller_that_left(upstream):
    engine, client = upstream((200, Pieces(b"one", b"two")))
    caller = await relay(client, Caller(refuse_after=2))
    assert len(caller.sent) == 2
    assert engine.open == 0


async def test_an_opened_response_is_refused(upstream):
    _, client = upstream(200)
    with pytest.raises(ConfigError, match=r"was given Response: pass client\.stream"):
        passthrough(await client.get("/"))


# the caller leaves


class Slot:
    """A stream of somebody else's: any context manager that gives a response."""

    def __init__(self):
        self.waiting = asyncio.Event()
        self.ended = False

    async def __aenter__(self):
        self.waiting.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended = True

    async def __aexit__(self, *_):
        raise AssertionError("it was never entered")


async def test_a_caller_that_leaves_before_the_head_ends_the_call():
    stream, caller = Slot(), Caller()
    task = asyncio.create_task(Passthrough(stream)(scope(), caller.receive, caller.send))
    await stream.waiting.wait()
    caller.leave()
    async with asyncio.timeout(PATIENCE):
        await task
    assert stream.ended
    assert caller.head["status"] == 499  # for whoever stands between; the caller is not there to read it


async def test_a_caller_that_leaves_in_the_body_ends_the_call(upstream):
    engine, client = upstream((200, Pieces(b"one", 1e6, b"two")), timeout=None)
    caller = Caller()
    task = asyncio.create_task(relay(client, caller))
    async with asyncio.timeout(PATIENCE):
        while len(caller.sent) < 2:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)
        caller.leave()
        await task
    assert not caller.finished
    assert engine.open == 0


async def test_background_tasks_run_though_the_caller_left():
    ran = asyncio.Event()

    async def background():
        ran.set()

    stream, caller = Slot(), Caller()
    caller.leave()
    await Passthrough(stream, BackgroundTask(background))(scope(), caller.receive, caller.send)
    assert ran.is_set()


def test_cut_at_any_step_it_leaves_no_task_and_no_stream():
    async def story(cut):
        engine, client = scripted(0.1, (200, Pieces(b"one", 0.1, b"two", b"three")))
        caller = Caller()

        async def serve():
            await passthrough(client.stream("GET", "/"))(scope(), caller.receive, caller.send)

        await cut(serve())
        await client.close()
        assert engine.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 10


# uploads


async def test_a_body_that_is_passed_on_is_not_read_by_the_watch(upstream):
    engine, client = upstream(200)
    caller = Caller()
    caller.body = [{"type": "http.request", "body": b"%d" % n, "more_body": n < 9} for n in range(10)]
    request = Request(scope("POST"), caller.receive)
    response = passthrough(client.stream("POST", "/", content=request.stream()))
    await response(request.scope, caller.receive, caller.send)
    assert engine.bodies == [b"0123456789"]
    assert caller.finished


async def test_a_caller_that_leaves_in_its_upload_ends_the_call(upstream):
    engine, client = upstream(200)
    caller = Caller()
    caller.body = [{"type": "http.request", "body": b"half", "more_body": True}]
    caller.leave()
    request = Request(scope("POST"), caller.receive)
    response = passthrough(client.stream("POST", "/", content=request.stream()))
    await response(request.scope, caller.receive, caller.send)
    assert [message.get("status") for message in caller.sent] == [499, None]  # for whoever stands between
    assert engine.open == 0


async def test_a_body_that_nobody_reads_does_not_hide_that_the_caller_left():
    stream = Slot()
    caller = Caller(b"unread")
    caller.leave()
    async with asyncio.timeout(PATIENCE):
        await Passthrough(stream)(scope("POST"), caller.receive, caller.send)
    assert stream.ended


# on a real server


def relayed(client, **options):
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "HEAD", "POST"])
    async def everything(path: str, request: Request):
        return passthrough(client.stream(request.method, f"/{path}", **options))

    return app


async def test_fastapi_runs_background_tasks_after_it(upstream):
    _, client = upstream((200, b"hi"))
    app = FastAPI()
    ran: list[int] = []

    @app.get("/")
    async def route(background: BackgroundTasks):
        background.add_task(ran.append, 1)
        return passthrough(client.stream("GET", "/"))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://app") as caller:
        assert (await caller.get("/")).text == "hi"
    assert ran == [1]


async def test_coded_bytes_and_cookies_arrive_untouched():
    packed = gzip.compress(b"hello " * 100, mtime=0)
    talk = says(answer(packed, b"Content-Encoding: gzip", b"Set-Cookie: a=1", b"Set-Cookie: b=2; Path=/"))
    async with (
        Peer(talk) as peer,
        HTTPClient(peer.url) as client,
        served(relayed(client)) as port,
        httpx2.AsyncClient(headers={"Accept-Encoding": "gzip"}) as caller,
        caller.stream("GET", f"http://127.0.0.1:{port}/x") as response,
    ):
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert raw == packed
    assert response.headers["content-length"] == str(len(packed))
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2; Path=/"]


async def ask(port, head=b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    return reader, writer


async def test_a_truncated_body_breaks_the_connection_of_the_caller():
    async def talk(line):
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        line.hang_up()

    async with Peer(talk) as peer, HTTPClient(peer.url, max_retries=0) as client, served(relayed(client)) as port:
        reader, writer = await ask(port)
        async with asyncio.timeout(PATIENCE):
            received = await reader.read()
        assert b"4\r\nhalf\r\n" in received
        assert not received.endswith(b"0\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_a_body_leaves_the_connection_usable(status):
    async def talk(line):
        while await line.request() is not None:
            await line.say(b"HTTP/1.1 %b\r\nETag: x\r\n\r\n" % status)

    async with Peer(talk) as peer, HTTPClient(peer.url) as client, served(relayed(client)) as port:
        reader, writer = await ask(port)
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 " + status[:3])
                writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
        writer.close()


async def test_a_caller_that_disconnects_before_the_head_closes_the_upstream():
    async def talk(line):
        await line.request()
        line.peer.note()

    async with Peer(talk) as peer, HTTPClient(peer.url) as client, served(relayed(client)) as port:
        _, writer = await ask(port)
        await peer.until(lambda: len(peer.requests) == 1)
        writer.close()
        await peer.empty()


@pytest.mark.parametrize("behind_middleware", [False, True])
async def test_a_caller_that_disconnects_in_the_body_closes_the_upstream(behind_middleware):
    async def talk(line):
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")

    async with Peer(talk) as peer, HTTPClient(peer.url, timeout=Timeout(total=None)) as client:
        app = relayed(client)
        if behind_middleware:
            app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
        async with served(app) as port:
            reader, writer = await ask(port)
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"data: 1\n\n")
            writer.close()
            await peer.empty()


async def test_an_upload_is_streamed_through():
    async def talk(line):
        while (seen := await line.request()) is not None:
            await line.say(answer(seen.body[::-1]))

    app = FastAPI()

    async with Peer(talk) as peer, HTTPClient(peer.url) as client:

        @app.post("/")
        async def upload(request: Request):
            return passthrough(client.stream("POST", "/", content=request.stream()))

        async with served(app) as port, httpx2.AsyncClient() as caller:
            body = bytes(range(256)) * 4096
            response = await caller.post(f"http://127.0.0.1:{port}/", content=body)
    assert response.content == body[::-1]


async def test_a_million_bytes_for_a_caller_that_reads_slowly():
    talk = says(answer(b"x" * 1_000_000))
    async with Peer(talk) as peer, HTTPClient(peer.url) as client, served(relayed(client)) as port:
        reader, writer = await ask(port, b"GET /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        received = 0
        async with asyncio.timeout(PATIENCE):
            while chunk := await reader.read(1000):
                received += len(chunk)
        assert received > 1_000_000
        writer.close()


# text is text


@pytest.mark.parametrize(
    ("kind", "told"), [("text/plain", True), ("Text/HTML; charset=utf-8", True), ("application/json", False)]
)
async def test_text_is_not_taken_for_anything_else(upstream, kind, told):
    _, client = upstream((200, b"<b>", {"Content-Type": kind}))
    caller = await relay(client)
    assert ((b"x-content-type-options", b"nosniff") in caller.head["headers"]) is told


async def test_what_the_upstream_says_of_it_stands(upstream):
    _, client = upstream((200, b"<b>", {"Content-Type": "text/plain", "X-Content-Type-Options": "other"}))
    caller = await relay(client)
    assert [value for name, value in caller.head["headers"] if name == b"x-content-type-options"] == [b"other"]


# whole


async def passed_whole(response):
    caller = Caller()
    await whole(response)(scope(), caller.receive, caller.send)
    return caller


async def test_a_whole_answer_keeps_its_status_its_fields_and_its_content(upstream):
    _, client = upstream(
        (
            404,
            b'{"a": 1}',
            [("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("TE", "x")],
        )
    )
    caller = await passed_whole(await client.get("/", raise_for_status=False))
    assert caller.head["status"] == 404
    assert caller.head["headers"] == [
        (b"content-type", b"application/json"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"8"),
    ]  # fmt: skip
    assert caller.content == b'{"a": 1}'


async def test_one_that_was_decoded_says_so():
    packed = gzip.compress(b"hello " * 100, mtime=0)
    talk = says(answer(packed, b"Content-Encoding: gzip", b'ETag: "1"', b"Content-Type: text/plain"))
    async with Peer(talk) as peer, HTTPClient(peer.url) as client:
        caller = await passed_whole(await client.get("/"))
    assert caller.content == b"hello " * 100
    assert dict(caller.head["headers"]) == {
        b"etag": b'W/"1"', b"content-type": b"text/plain", b"content-length": b"600", b"x-content-type-options": b"nosniff",
    }  # fmt: skip


async def test_one_of_no_type_is_bytes(upstream):
    _, client = upstream((200, b"\x00"), 204)
    caller = await passed_whole(await client.get("/"))
    assert dict(caller.head["headers"])[b"content-type"] == b"application/octet-stream"
    caller = await passed_whole(await client.get("/"))
    assert caller.head["headers"] == []


async def test_the_answer_to_a_head_keeps_its_length():
    async with Peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")) as peer, HTTPClient(peer.url) as client:
        caller = await passed_whole(await client.head("/"))
    assert caller.head["headers"] == [(b"content-length", b"500")]
    assert caller.content == b""
