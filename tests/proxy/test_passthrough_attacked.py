"""One answer passed on, attacked: half an answer below other people's middleware, callers that send anything and take nothing."""

import asyncio
import gzip
import sys
from contextlib import suppress

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from fairlead import HTTPClient, TimedOut
from fairlead.errors import Disconnected, ProtocolError
from fairlead.proxy import ReverseProxy, passthrough, status, whole
from fairlead.testing import Pieces, at_every_step, script
from peers import PATIENCE, Peer, answer, says
from proxy.proxied import Messages, scope
from servers import SERVERS, serving

HALF = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n"


async def half(line):
    await line.request()
    await line.say(HALF)
    line.hang_up()


async def asked(port, *fields, line=b"GET / HTTP/1.1"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\r\n".join([line, b"Host: app", b"Connection: close", *fields, b"", b""]))
    said = await reader.read()
    writer.close()
    return said


def through(client, *middleware):
    app = FastAPI()

    @app.get("/")
    async def route():
        return passthrough(client.stream("GET", "/"))

    for one, options in middleware:
        app.add_middleware(one, **options)
    return app


async def onward(request, call_next):
    return await call_next(request)


BASE = BaseHTTPMiddleware, {"dispatch": onward}
GZIP = GZipMiddleware, {"minimum_size": 1}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "middleware",
    [(), (BASE,), (BASE, BASE), (GZIP, BASE), (BASE, GZIP)],
    ids=["none", "base", "bases", "gzip-base", "base-gzip"],
)
async def test_half_an_answer_is_ended_by_nobody_in_between(server, middleware):
    """Starlette's BaseHTTPMiddleware ends what an exception below it has ended, as if it were whole."""
    async with asyncio.timeout(PATIENCE), Peer(half) as peer, HTTPClient(peer.url, max_retries=0) as client:
        async with serving(server, through(client, *middleware)) as port:
            for coding in ((), (b"Accept-Encoding: gzip",)):
                said = await asked(port, *coding)
                assert said.startswith(b"HTTP/1.1 200 ")
                assert not said.endswith(b"0\r\n\r\n")
        await peer.empty()


@pytest.mark.parametrize("server", SERVERS)
async def test_nor_one_of_a_whole_proxy(server):
    async with asyncio.timeout(PATIENCE), Peer(half) as peer, HTTPClient(peer.url, max_retries=0) as client:
        app = FastAPI()
        app.mount("/", ReverseProxy(client))
        for _ in range(2):
            app.add_middleware(BaseHTTPMiddleware, dispatch=onward)
        async with serving(server, app) as port:
            said = await asked(port)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert not said.endswith(b"0\r\n\r\n")
        await peer.empty()


async def test_what_follows_the_answer_is_done_though_it_is_half():
    done = []
    async with asyncio.timeout(PATIENCE), Peer(half) as peer, HTTPClient(peer.url, max_retries=0) as client:
        app = FastAPI()

        async def held():
            try:
                yield
            finally:
                done.append("dependency")

        @app.get("/", dependencies=[Depends(held)])
        async def route(background: BackgroundTasks):
            background.add_task(done.append, "background")
            return passthrough(client.stream("GET", "/"))

        app.add_middleware(BaseHTTPMiddleware, dispatch=onward)
        async with serving("uvicorn", app) as port:
            await asked(port)
    assert done == ["background", "dependency"]


@pytest.mark.parametrize("how", ["passthrough", "proxy"])
def test_cut_at_any_step_half_an_answer_leaves_nothing(how):
    async def story(cut):
        engine = script((200, Pieces(b"one", 0.1, Disconnected)))
        client = HTTPClient("http://upstream.test", engine=engine, max_retries=0)
        caller = Messages()

        async def serve():
            app = passthrough(client.stream("GET", "/")) if how == "passthrough" else ReverseProxy(client)
            with suppress(Disconnected):
                await app(scope(), caller.receive, caller.send)

        await cut(serve())
        await client.close()
        assert engine.open == 0
        assert not caller.finished
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 8


# what the caller sends, and what it does not take


async def relayed(client, *fields, setting=None, messages=None):
    response = passthrough(client.stream("GET", "/"))
    if setting is not None:
        setting(response)
    caller = messages or Messages()
    async with asyncio.timeout(PATIENCE):
        await response(scope(*fields), caller.receive, caller.send)
    return caller


@pytest.mark.parametrize("codings", [b"gzip\x01", b"\x7f", b"\x00"])
async def test_codings_that_no_field_may_hold_are_none(codings):
    """h11, and so hypercorn, lets control characters through."""
    async with Peer(says(answer())) as peer, HTTPClient(peer.url) as client:
        caller = await relayed(client, (b"accept-encoding", codings))
    assert caller.status == 200
    assert peer.requests[0].get(b"accept-encoding") == b"identity"


async def test_a_status_that_no_server_would_send_is_an_error_while_it_can_be_told():
    async with Peer(says(answer(status=b"600 Odd"))) as peer, HTTPClient(peer.url) as client:
        with pytest.raises(ProtocolError, match="above 599"):
            await relayed(client)
        assert client._under_way == 0


async def test_a_caller_that_takes_nothing_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(sys.modules["fairlead.proxy.passthrough"], "TAKEN", 0.02)
    monkeypatch.setattr(status, "BREAKING", 0.02)

    class Stalled(Messages):
        async def send(self, message):
            await super().send(message)
            if message["type"] == "http.response.body":
                await self.left.wait()

    async def talk(line):
        await line.request()
        await line.say(HALF)
        await line.gone()

    async with Peer(talk) as peer, HTTPClient(peer.url, timeout=None) as client:
        with pytest.raises(TimedOut, match="took nothing"):
            await relayed(client, messages=Stalled())
        assert client._under_way == 0
        await peer.empty()


# what is said beside it


async def test_what_is_set_replaces_what_can_be_said_once_and_adds_to_the_rest():
    said = b"Content-Type: text/html", b"Cache-Control: public", b"Vary: Cookie", b"Set-Cookie: a=1", b'ETag: "1"'

    def setting(response):
        response.headers["Content-Type"] = "text/csv"
        response.headers["cache-control"] = "no-store"
        response.headers.append("vary", "Origin")
        response.headers.append("set-cookie", "b=2")

    async with Peer(says(answer(b"ok", *said))) as peer, HTTPClient(peer.url) as client:
        caller = await relayed(client, setting=setting)
    assert caller.values(b"content-type") == [b"text/csv"]
    assert caller.values(b"cache-control") == [b"no-store"]
    assert caller.values(b"vary") == [b"Cookie", b"Origin"]
    assert caller.values(b"set-cookie") == [b"a=1", b"b=2"]
    assert caller.values(b"etag") == [b'"1"']
    assert caller.values(b"x-content-type-options") == [b"nosniff"]


async def test_the_whole_answer_to_a_head_says_what_that_to_a_get_would():
    """Of content that would come decoded, nobody knows the length before it was decoded."""
    packed = gzip.compress(b"hello " * 100, mtime=0)
    fields = b"Content-Encoding: gzip", b'ETag: "1"', b"Content-Type: text/plain", b"Content-Digest: x"

    async def talk(line):
        while (seen := await line.request()) is not None:
            said = answer(packed, *fields)
            await line.say(said if seen.method == "GET" else said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    heads = []
    async with Peer(talk) as peer, HTTPClient(peer.url) as client:
        for method in ("GET", "HEAD"):
            caller = Messages()
            await whole(await client.request(method, "/"))(scope(method=method), caller.receive, caller.send)
            heads.append([pair for pair in caller.sent[0]["headers"] if pair[0] != b"content-length"])
    assert heads[0] == heads[1]
    assert caller.values(b"content-length") == []
    assert caller.body == b""
