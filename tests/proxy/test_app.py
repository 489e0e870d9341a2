"""The proxy as an application: how it is built, how it lives, what it refuses; what it keeps of HTTP is in `test_rules.py`."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from fairlead.asgi import Caller
from fairlead.client import HTTPClient
from fairlead.core import Timeout
from fairlead.errors import ConfigError
from fairlead.fastapi import install
from fairlead.policies import Fallback
from fairlead.proxy import ReverseProxy
from fairlead.proxy.app import TIMEOUT
from fairlead.proxy.onward import KNOWN
from fairlead.testing import Pieces, script, virtual_time
from peers import Peer, answer
from proxy.proxied import Messages, proxied, scope, serving, told

BASE = "http://upstream.test"


@pytest.fixture
async def scripted():
    """Makes clients of an upstream that answers from a list; closed in the end."""
    async with AsyncExitStack() as clients:

        def make(*answers):
            engine = script(*answers)
            client = HTTPClient(BASE, engine=engine, max_retries=0)
            clients.push_async_callback(client.close)
            return engine, client

        yield make


# Built


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"trusted": "10.0.0.0/8"}, "one string"),
        ({"trusted": ("10.0.0.1/8",)}, "host bits"),
        ({"trusted": ("proxy",)}, "write a network as"),
        ({"forwarded": "x"}, "is not one of both, x-forwarded, forwarded, off"),
        ({"via": "a b"}, "is no name"),
        ({"via": ""}, "is no name"),
        ({"buffer": -1}, "number of bytes"),
        ({"buffer": True}, "number of bytes"),
        ({"timeout": -1.0}, "number of seconds"),
        ({"strip": "X-Internal-"}, "one string"),
    ],
)
def test_what_cannot_work_is_said_at_once(options, told):
    with pytest.raises(ConfigError, match=told):
        ReverseProxy(HTTPClient(BASE), **options)


def test_it_needs_a_client_with_a_base_url():
    with pytest.raises(ConfigError, match="has no base_url"):
        ReverseProxy(HTTPClient())
    with pytest.raises(ConfigError, match="str is no client"):
        ReverseProxy("http://x")


async def test_params_of_the_client_are_added_behind_the_callers_and_stand_for_those_of_their_name():
    async with proxied(client={"params": {"key": "a b", "v": 2}}) as world:
        await world.ask(line=b"GET /x?q=1&key=mine HTTP/1.1")
        assert world.lines[0] == b"GET /x?q=1&key=a%20b&v=2 HTTP/1.1"
        await world.ask()
        assert world.lines[0] == b"GET /x?key=a%20b&v=2 HTTP/1.1"


@pytest.mark.parametrize("preserved", [False, True])
async def test_a_host_of_the_clients_own_is_the_only_one(preserved):
    async with proxied(client={"headers": {"Host": "inner.example"}}, preserve_host=preserved) as world:
        await world.ask()
        assert world.values(b"host") == [b"inner.example"]


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ("x-forwarded", {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix"}),
        ("forwarded", {b"forwarded"}),
        ("off", set()),
    ],
)
async def test_which_of_the_forwarded_fields_are_sent_is_said(style, names):
    async with proxied(forwarded=style, mount="/api") as world:
        await world.ask(b"X-Forwarded-For: 6.6.6.6", b"Forwarded: for=6.6.6.6", line=b"GET /api/x HTTP/1.1")
        sent = {line.split(b":")[0] for line in world.lines[1:]}
        assert {name for name in sent if b"forwarded" in name} == names


async def test_a_caller_without_an_address_is_unknown_or_trusted_by_name():
    async with proxied(trusted=("unix",)) as world:
        await told(world.proxy, (b"x-forwarded-for", b"203.0.113.9"), client=None)
        assert world.values(b"x-forwarded-for") == [b"203.0.113.9, unknown"]
    async with proxied() as world:
        await told(world.proxy, (b"x-forwarded-for", b"203.0.113.9"), client=None)
        assert world.values(b"x-forwarded-for") == [b"unknown"]


# Alive


async def lived(app, *kinds):
    coming = [{"type": kind} for kind in kinds]
    sent = []

    async def receive():
        return coming.pop(0)

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return sent


async def test_as_the_whole_application_it_opens_and_closes_its_client(scripted):
    engine, client = scripted(200)
    app = ReverseProxy(client)
    assert await lived(app, "lifespan.startup", "lifespan.shutdown") == [
        "lifespan.startup.complete", "lifespan.shutdown.complete",
    ]  # fmt: skip
    assert engine.closed
    with pytest.raises(ConfigError):
        await lived(app, "lifespan.startup")


async def test_a_websocket_is_refused_where_none_are_wanted(scripted):
    _, client = scripted()
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    await ReverseProxy(client, websockets=None)({**scope(), "type": "websocket"}, receive, send)
    assert sent[0]["type"] == "websocket.close"


# Mounted


async def test_under_a_caller_that_listens_already_it_is_cancelled_once_and_bounded():
    def app(whole):
        install(whole)
        return whole

    async with proxied(answer(b"ok"), mount="/api", app=app) as world:
        assert (await world.ask(line=b"GET /api/x HTTP/1.1")).body == b"ok"


@virtual_time
async def test_the_deadline_of_a_caller_bounds_it():
    async with HTTPClient(BASE, engine=script(5.0)) as client:
        got = await told(Caller(ReverseProxy(client)), (b"x-request-timeout", b"2"))
    assert got.status == 504


async def test_a_root_path_that_is_not_in_the_path_is_not_cut_off():
    async with proxied() as world:
        await told(world.proxy, root_path="/outer/api", app_root_path="/outer", raw_path=b"/api/x")
        assert world.lines[0] == b"GET /x HTTP/1.1"
        await told(world.proxy, root_path="/outer", raw_path=b"/api/x")
        assert world.lines[0] == b"GET /api/x HTTP/1.1"
        await told(world.proxy, root_path="/api", raw_path=b"/api")
        assert world.lines[0] == b"GET / HTTP/1.1"
        await told(world.proxy, root_path="/api", raw_path=b"/apiary")
        assert world.lines[0] == b"GET /apiary HTTP/1.1"


async def test_options_of_the_whole_server():
    async with proxied() as world:
        await told(world.proxy, method="OPTIONS", raw_path=b"*")
        assert world.lines[0] == b"OPTIONS * HTTP/1.1"
    async with proxied(base="/inner") as world:
        assert (await told(world.proxy, method="OPTIONS", raw_path=b"*")).status == 400


# Answers


async def test_a_buffered_answer_of_a_policy_is_passed_on_with_its_length():
    engine = script((500, b"no"))
    async with HTTPClient(BASE, engine=engine, policies=(Fallback({"items": []}),)) as client:
        got = await told(ReverseProxy(client))
    assert json.loads(got.body) == {"items": []}
    assert got.values(b"content-length") == [b"%d" % len(got.body)]


async def test_of_a_head_a_problem_has_no_body(scripted):
    _, client = scripted()
    got = await told(ReverseProxy(client), method="TRACE")
    assert got.body
    got = await told(ReverseProxy(client), (b"content-length", b"x"), method="HEAD")
    assert (got.status, got.body) == (400, b"")


async def test_a_request_id_that_is_not_sane_is_not_repeated(scripted):
    _, client = scripted()
    got = await told(ReverseProxy(client), (b"x-request-id", b'"><script>'), method="TRACE")
    assert len(got.values(b"x-request-id")[0]) == 32


@pytest.mark.parametrize("engine", ["native", "httpx2", "aiohttp"])
async def test_every_engine_passes_uploads_and_answers_on(engine):
    body = bytes(range(256)) * 1024
    async with (
        Peer(echo_backwards) as peer,
        HTTPClient(peer.url, engine=engine) as client,
        serving(ReverseProxy(client)) as port,
        HTTPClient(f"http://127.0.0.1:{port}") as caller,
    ):
        response = await caller.post("/x", content=body)
        assert response.content == body[::-1]
        response = await caller.post("/x", content=iter([body, body]))
        assert response.content == (body + body)[::-1]


async def echo_backwards(line):
    while (seen := await line.request()) is not None:
        await line.say(answer(seen.body[::-1]))


async def test_a_body_that_ends_too_early_is_not_sent():
    async with proxied() as world:
        got = await told(world.proxy, (b"content-length", b"9"), method="POST", body=(b"half",))
        assert (got.status, world.heads) == (400, [])


async def test_a_caller_that_left_before_its_small_body_was_here_is_not_asked_for(scripted):
    engine, client = scripted(200)
    messages = Messages()
    messages.coming.clear()
    messages.left.set()
    await ReverseProxy(client)(scope((b"content-length", b"5"), method="POST"), messages.receive, messages.send)
    assert messages.status == 499
    assert engine.requests == []


async def test_no_body_is_asked_for_where_there_is_none(scripted):
    _, client = scripted(200)
    got = await told(ReverseProxy(client))
    assert got.asked == 0


async def test_a_server_that_says_by_an_error_that_its_caller_left_is_understood(scripted):
    engine, client = scripted((200, Pieces(b"one", b"two")))

    class Refusing(Messages):
        async def send(self, message):
            if message.get("body"):
                raise OSError("the transport is closed")
            await super().send(message)

    messages = Refusing()
    await ReverseProxy(client)(scope(), messages.receive, messages.send)
    assert engine.open == 0


@virtual_time
@pytest.mark.parametrize("length", [5, 500_000])
async def test_a_body_that_stops_coming_is_given_up(length):
    """Small, and read before it is sent; large, and read meanwhile."""

    class Stalling(Messages):
        async def receive(self):
            if not self.coming:
                await asyncio.get_running_loop().create_future()
            return await super().receive()

    class Taking:
        """An engine that sends what it is given."""

        async def send(self, call):
            async for _ in call.request.content:
                pass
            raise AssertionError("it never ends")

        async def close(self):
            """Nothing is open."""

    async with HTTPClient(BASE, engine=Taking(), max_retries=0) as client:
        messages = Stalling()
        messages.coming = [{"type": "http.request", "body": b"half", "more_body": True}]
        asked = scope((b"content-length", b"%d" % length), method="PUT")
        await ReverseProxy(client)(asked, messages.receive, messages.send)
    assert messages.status == 408
    assert messages.values(b"connection") == [b"close"]


def test_the_time_outs_are_a_proxys():
    assert Timeout(total=None, attempt=60.0, connect=10.0, read=60.0, write=60.0, wait=10.0) == TIMEOUT


async def test_what_is_kept_of_peers_is_bounded(scripted):
    _, client = scripted(200)
    onward = ReverseProxy(client)._onward
    for number in range(KNOWN + 10):
        request, *_ = onward.request(scope(headers=[(b"host", b"h%d" % number)]))
        assert request.headers["x-forwarded-host"] == f"h{number}"
    assert len(onward._known) <= KNOWN
