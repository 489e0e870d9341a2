"""The proxy under attack: what was found by trying to break it, each fault by the way in. Longer than most: they are many."""

import asyncio
import gzip
from contextlib import asynccontextmanager, suppress
from math import inf

import pytest

from fairlead.asgi import Caller
from fairlead.auth import ApiKey
from fairlead.client import HTTPClient
from fairlead.core import Timeout
from fairlead.errors import ConnectFailed, FairleadError, TimedOut
from fairlead.policies import Fallback
from fairlead.proxy import ReverseProxy
from fairlead.proxy.forwarded import HOPS, LONGEST_HOST, Trusted, _within, told, valid_host
from fairlead.proxy.framing import _named
from fairlead.testing import Pieces, VirtualLoop, at_every_await, at_every_step, script, virtual_time
from peers import PATIENCE, Peer, answer, closed_port
from proxy.proxied import Messages, noted, proxied, scope
from proxy.proxied import told as said_to
from served import served
from servers import SERVERS
from servers import serving as on

BASE = "http://upstream.test"
EVERYBODY = Trusted(("0.0.0.0/0", "::/0"))


# What a trusted peer relays, somebody else may have written


@pytest.mark.parametrize("odd", ['x="', "x=a" * 1000 + '"', '"' + '\\"' * 1000, "for=203.0.113.9, x=" + "a" * 4096])
def test_a_forwarded_that_nobody_can_read_names_nobody(odd):
    """Read from each of its bytes anew, 4096 of them held the loop for four seconds."""
    claims = {b"forwarded": [f'for="[2001:db8::1]", {odd}'.encode(), b"for=203.0.113.9"]}
    assert told("10.0.0.1", "http", "app", claims, EVERYBODY).hops == ("unknown", "10.0.0.1")


def test_a_quote_of_the_callers_swallows_no_hop_that_was_added_behind_it():
    claims = {b"forwarded": [b'for=6.6.6.6;proto=https;x="', b'for="[2001:db8::1]";host=b']}
    heard = told("10.0.0.1", "http", "app", claims, EVERYBODY)
    assert (heard.hops, heard.scheme, heard.host) == (("unknown", "10.0.0.1"), "http", "app")


def test_commas_and_semicolons_in_quotes_are_no_separators():
    claims = {b"forwarded": [b'for="_a,b;c\\"d";host="x,y";proto=https, for=10.0.0.2']}
    heard = told("10.0.0.1", "http", "app", claims, EVERYBODY)
    assert (heard.hops, heard.scheme, heard.host) == (("unknown", "10.0.0.2", "10.0.0.1"), "https", "x,y")


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded"])
def test_a_chain_is_walked_no_further_than_anybody_is_away(name):
    hop = b"::1" if name == b"x-forwarded-for" else b"for=::1"
    claims = {name: [b",".join([hop] * 400)]}
    assert len(told("10.0.0.1", "http", "app", claims, EVERYBODY).hops) <= HOPS + 1


def test_a_hop_is_no_longer_than_a_name():
    claims = {b"x-forwarded-for": [b"a" * 5000]}
    assert told("10.0.0.1", "http", "app", claims, EVERYBODY).hops == ("unknown", "10.0.0.1")


@pytest.mark.parametrize("client", [None, ("", 0)])
async def test_whoever_comes_by_a_unix_socket_has_no_address(client):
    """granian says so by an empty one."""
    for trusted, hops in ((("unix",), b"203.0.113.9, unknown"), ((), b"unknown")):
        async with proxied(trusted=trusted) as world:
            await said_to(world.proxy, (b"x-forwarded-for", b"203.0.113.9"), client=client)
            assert world.values(b"x-forwarded-for") == [hops]
            assert b"for=unknown" in world.values(b"forwarded")[0]


@pytest.mark.parametrize("peer", ["<script>", "a, 10.0.0.1", 'a";by=b', "a" * 5000, "\u2028"])
@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)])
async def test_a_peer_that_is_no_address_is_unknown(peer, trusted):
    """uvicorn believes `X-Forwarded-For` of local peers unless it is told not to, and gives what stands there."""
    async with proxied(trusted=trusted) as world:
        cached = _within.cache_info().currsize
        await said_to(world.proxy, client=(peer, 0))
        assert world.values(b"x-forwarded-for") == [b"unknown"]
        assert world.values(b"forwarded") == [b"for=unknown;host=app;proto=http"]
        assert len(peer) < 1000 or (_within.cache_info().currsize == cached and not world.proxy._onward._known)


# Memory


async def test_a_host_is_no_longer_than_a_name_and_nothing_is_remembered_of_one_that_is():
    """A thousand of 60,000 bytes each were held as keys of what is remembered: 240 MB."""
    async with proxied() as world:
        assert (await said_to(world.proxy, headers=[(b"host", b"a" * LONGEST_HOST)])).status == 200
        before = _named.cache_info().currsize
        for byte in (b"a", b"["):
            assert (await said_to(world.proxy, headers=[(b"host", byte * (LONGEST_HOST + 1))])).status == 400
        assert _named.cache_info().currsize == before
    assert not valid_host("a" * (LONGEST_HOST + 1))


async def test_nor_of_a_long_place_that_a_caller_chose():
    """Mounted at "/{tenant}", say."""
    async with proxied() as world:
        for size in (9, 50_000):
            place = "/" + "a" * size
            await said_to(world.proxy, raw_path=place.encode() + b"/x", root_path=place)
            assert world.values(b"x-forwarded-prefix") == [place.encode()]
        assert len(world.proxy._onward._known) == 1


async def test_a_target_has_a_bound():
    async with proxied() as world:
        assert (await said_to(world.proxy, raw_path=b"/" + b"a" * 8000, query_string=b"b" * 8000)).status == 200
        for more in ({"raw_path": b"/" + b"a" * 65536}, {"query_string": b"b" * 65536}):
            assert (await said_to(world.proxy, **more)).status == 414
        assert len(world.heads) == 1


# Targets


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a?admin=1", b"/a%3Fadmin=1"),
        ("/a b", b"/a%20b"),
        ("/a%2e", b"/a%252e"),
        ("/é", b"/%C3%A9"),
        ("/a#b", b"/a%23b"),
    ],
)
@pytest.mark.parametrize("missing", [{"raw_path": None}, {"raw_path": b""}])
async def test_of_a_server_that_knows_only_the_decoded_path_it_stays_a_path(path, sent, missing):
    async with proxied() as world:
        await said_to(world.proxy, **missing, path=path, query_string=b"q=1")
        assert world.lines[0] == b"GET " + sent + b"?q=1 HTTP/1.1"


@pytest.mark.parametrize(
    "path",
    [
        b"/..%00/x", b"/..%3f/x", b"/..%23", b"/%252e%252e/x", b"/a%252f..%255cx", b"/..%25252fx", b"/%c0%ae%c0%ae/x",
        b"/a%c0%af..%c0%afx", b"/.%e0%80%ae/x",
    ],
)  # fmt: skip
async def test_two_dots_are_two_dots_however_they_are_written(path):
    async with proxied(base="/inner") as world:
        assert (await said_to(world.proxy, raw_path=path)).status == 400
        assert world.heads == []


@pytest.mark.parametrize("path", [b"/...", b"/a..b", b"/..a", b"/a/..%20", b"/%2e", b"/a%25..%25", b"/.;/x"])
async def test_and_others_are_not(path):
    async with proxied() as world:
        assert (await said_to(world.proxy, raw_path=path)).status == 200


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (b"key=theirs", b""),
        (b"a=1&key=theirs&b=2", b"a=1&b=2&"),
        (b"%6bey=theirs&a=%26key=x", b"a=%26key=x&"),
        (b"KEY=theirs&key[]=theirs&key%5B0%5D=theirs&+key=theirs&key", b""),
        (b"a=1;key=theirs", b"a=1&"),
        (b"a=1&&b;;c=key&monkey=1&keys=2&", b"a=1&&b;;c=key&monkey=1&keys=2&&"),
    ],
)
@pytest.mark.parametrize("client", [{"params": {"Key": "ours"}}, {"auth": ApiKey("ours", query="Key")}])
async def test_what_a_client_says_in_its_query_no_caller_says_for_it(query, left, client):
    """Of two, many an upstream takes the first."""
    async with proxied(client=client) as world:
        await said_to(world.proxy, query_string=query)
        assert world.lines[0] == b"GET /x?" + left + b"Key=ours HTTP/1.1"


async def test_and_what_it_does_not_say_stays_as_it_was():
    async with proxied() as world:
        await said_to(world.proxy, query_string=b"key=1&;;&key=2&")
        assert world.lines[0] == b"GET /x?key=1&;;&key=2& HTTP/1.1"


# Servers


async def test_a_server_may_say_no_more_than_asgi_asks_of_it():
    """Fields in lists, no decoded path beside it, and no scheme: mangum, say."""
    async with proxied() as world:
        got = Messages(b"hello")
        asked = {
            "type": "http", "method": "POST", "path": "/a b", "raw_path": None, "query_string": b"", "http_version": "1.1",
            "client": [None, 0], "headers": [[b"host", b"app"], [b"content-length", b"5"], [b"x-a", b"1"], [b"via", b"1.1 a"]],
        }  # fmt: skip
        await world.proxy(asked, got.receive, got.send)
        assert (got.status, world.lines[0], world.bodies) == (200, b"POST /a%20b HTTP/1.1", [b"hello"])
        assert (world.values(b"x-a"), world.values(b"x-forwarded-proto")) == ([b"1"], [b"http"])
        assert world.values(b"x-forwarded-for") == [b"unknown"]


# Bodies


@pytest.mark.parametrize("pieces", [(b"short",), (b"x" * 70, b"x" * 200_000)])
@pytest.mark.parametrize("length", [10, 100_000])
async def test_a_body_of_another_length_than_was_said_is_the_callers_mistake(length, pieces):
    """Read before it is sent, or while it is: 400, and no half of it looks whole."""
    if length == 10 and len(pieces) == 2:
        pieces = (b"longer than ten",)
    async with proxied() as world:
        got = await said_to(world.proxy, (b"content-length", b"%d" % length), method="PUT", body=pieces)
        assert (got.status, got.values(b"connection")) == (400, [b"close"])
        assert world.bodies == []


async def test_a_body_that_is_longer_than_said_is_not_read_to_its_end():
    async with HTTPClient(BASE, engine=script()) as client:
        got = await said_to(ReverseProxy(client), (b"content-length", b"1"), method="PUT", body=(b"12", b"3", b"4"))
        assert (got.status, got.asked) == (400, 1)


# Methods


@pytest.mark.parametrize("method", ["trace", "Trace", "connect"])
async def test_no_tunnel_and_no_echo_in_small_letters_either(method):
    """h11 and granian tell a method as it was written; a request of ours has it in capitals."""
    async with proxied() as world:
        assert (await said_to(world.proxy, method=method)).status == 501
        assert world.heads == []


@pytest.mark.parametrize("method", ["get", "Post", "head"])
async def test_a_method_is_passed_on_as_it_is_or_not_at_all(method):
    async with proxied() as world:
        assert (await said_to(world.proxy, method=method)).status == 501
        assert (await said_to(world.proxy, method="G T")).status == 400
        assert world.heads == []
        assert (await said_to(world.proxy, method="BASELINE-CONTROL")).status == 200
        assert world.lines[0] == b"BASELINE-CONTROL /x HTTP/1.1"


async def test_trace_is_refused_on_h11():
    async with HTTPClient(BASE, engine=script()) as client, served(ReverseProxy(client), http="h11") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"trace /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read()).startswith(b"HTTP/1.1 501")
        writer.close()


# The way here


@pytest.mark.parametrize("more", [[], [(b"connection", b"keep-alive")]])
async def test_without_a_host_the_way_here_counts_too(more):
    async with proxied() as world:
        asked = {"http_version": "1.0", "headers": [(b"via", b"1.1 fairlead"), *more]}
        assert (await said_to(world.proxy, **asked)).status == 508
        assert (await said_to(world.proxy, **{**asked, "headers": [(b"via", b"1.1 fred"), *more]})).status == 200
        assert world.values(b"via") == [b"1.1 fred", b"1.0 fairlead"]
        asked["headers"] = [(b"max-forwards", b"0")]
        assert (await said_to(world.proxy, **asked, method="OPTIONS")).status == 204


@pytest.mark.parametrize("version", ["2", "3"])
async def test_a_cookie_in_crumbs_is_one_cookie(version):
    """granian tells the fields of HTTP/2 as they come: most servers of version 1.1 read one of them, and not the rest."""
    async with proxied() as world:
        crumbs = ((b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3"))
        await said_to(world.proxy, *crumbs, http_version=version)
        assert (world.values(b"cookie"), world.values(b"x-a")) == ([b"a=1; b=2; c=3"], [b"1"])
        await said_to(world.proxy, *crumbs[:2], http_version=version)
        assert world.values(b"cookie") == [b"a=1"]
        await said_to(world.proxy, (b"connection", b"cookie"), *crumbs, http_version=version)
        assert world.values(b"cookie") == []


# Answers


@pytest.mark.parametrize("status", [b"600 x", b"999 x"])
async def test_a_status_that_is_none_is_a_bad_gateway(status):
    """uvicorn ends the connection without a word."""
    async with proxied(answer(b"ok", status=status)) as world:
        got = await world.ask()
        assert (got.status, got.values(b"proxy-status")) == (
            502,
            [b'fairlead; error=http_protocol_error; next-hop="127.0.0.1"'],
        )
        assert world.client._under_way == 0


# Time


@pytest.mark.parametrize(
    "bounds", [Timeout(total=None, attempt=0.05), Timeout(total=None, attempt=60.0, read=0.05), 0.05]
)
async def test_an_upstream_is_waited_for_no_longer_because_something_was_uploaded(bounds):
    """With an attempt's bound alone, who had uploaded waited for ever."""

    async def talk(line):
        await line.body(await noted(line))
        await line.gone()

    async with proxied(talk, timeout=bounds) as world:
        got = await said_to(world.proxy, (b"content-length", b"100000"), method="PUT", body=(b"x" * 100_000,))
        assert got.status == 504


@virtual_time
@pytest.mark.parametrize("bounds", [Timeout(total=None, attempt=3.0), 3.0])
@pytest.mark.parametrize("length", [b"5", b"500000"])
async def test_a_caller_that_stops_half_way_is_waited_for_no_longer_than_an_upstream(bounds, length):
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with HTTPClient(BASE, engine=script(200), max_retries=0) as client:
        got = Messages()
        got.coming = [{"type": "http.request", "body": b"half", "more_body": True}]
        await ReverseProxy(client, timeout=bounds)(
            scope((b"content-length", length), method="PUT"), got.receive, got.send
        )
    assert got.status in {408, 504}
    assert loop.time() - before == pytest.approx(3.0, abs=0.1)


class Reading:
    """A policy that reads every answer."""

    def bind(self, send, upstream):
        async def read(call):
            response = await send(call)
            await response.aread()
            return response

        return read


@pytest.mark.parametrize(("method", "length"), [(b"GET", b"0"), (b"HEAD", b"20")])
async def test_what_is_nothing_once_its_coding_is_undone_has_no_length(method, length):
    """A policy has read it: 20 bytes were promised, and none came."""
    empty = gzip.compress(b"") if method == b"GET" else b""
    said = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + empty
    async with proxied(said, client={"policies": (Reading(),)}) as world:
        got = await world.ask(line=method + b" /x HTTP/1.1")
        assert (got.status, got.values(b"content-length"), got.body) == (200, [length], b"")
        assert got.values(b"content-encoding") == ([] if method == b"GET" else [b"gzip"])


@pytest.mark.parametrize("bounds", [Timeout(total=None, attempt=0.05), Timeout(total=None, attempt=60.0, write=0.05)])
async def test_an_upstream_that_takes_nothing_is_waited_for_no_longer_than_one_that_says_nothing(bounds):
    async def talk(line):
        await noted(line)
        line.writer.transport.pause_reading()
        await asyncio.get_running_loop().create_future()

    class Pouring(Messages):
        async def receive(self):
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    async with proxied(talk, timeout=bounds) as world:
        got = Pouring()
        async with asyncio.timeout(PATIENCE):
            await world.proxy(scope((b"content-length", b"1000000000"), method="PUT"), got.receive, got.send)
        assert got.status == 504
        assert world.client._under_way == 0


@virtual_time
async def test_an_upstream_is_told_no_more_time_than_is_left():
    """A caller's own word went on as it was, however long it had waited in line, and whatever bound there was here."""
    engine = script(200, 200, 200, 200)
    async with HTTPClient(BASE, engine=engine, max_retries=0, deadline_header="X-Request-Timeout") as client:
        proxy = ReverseProxy(client)
        said = (b"x-request-timeout", b"50")
        await said_to(Caller(proxy, max_deadline=2.0), said)
        await said_to(Caller(proxy), said, (b"x-request-timeout", b"3"))
        # Nobody has read it, or nothing follows from it: it is the caller's to say.
        await said_to(proxy, said)
        await said_to(Caller(proxy, deadline_header=None), said)
    told = [request.headers.get_list("x-request-timeout") for request in engine.requests]
    assert told == [["2"], ["3"], ["50"], ["50"]]


# A body that waits to be asked for

EXPECTING = b"POST /x HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 70000\r\n\r\n"


@pytest.mark.parametrize("server", SERVERS)
async def test_who_was_never_asked_for_the_body_gets_no_more_answers_on_that_connection(server):
    """What comes next may be the body or another request: read as the body, it swallowed 70,000 bytes of the others."""
    dead = HTTPClient(f"http://127.0.0.1:{closed_port()}", max_retries=0)
    async with dead as client, on(server, ReverseProxy(client)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(EXPECTING)
        async with asyncio.timeout(PATIENCE):
            said = (await reader.read()).lower()
        assert b" 502 " in said
        assert b"\r\nconnection: close\r\n" in said
        writer.close()


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"method": "TRACE"}, 405),
        ({"headers": [(b"host", b"a"), (b"via", b"1.1 fairlead")]}, 508),
        ({"raw_path": b"/" + b"a" * 70_000}, 414),
        ({"headers": [(b"host", b"a"), (b"expect", b"x")]}, 417),
    ],
)
async def test_nor_who_was_refused(more, status):
    async with proxied() as world:
        got = await said_to(world.proxy, **more)
        assert (got.status, got.values(b"connection")) == (status, [b"close"])
        got = await said_to(world.proxy, **more, http_version="2")
        assert (got.status, got.values(b"connection")) == (status, [])


@virtual_time
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_nobody_is_asked_for_a_body_while_it_is_not_known_whether_it_is_wanted(version):
    """To listen for who leaves was to ask."""
    async with HTTPClient(BASE, engine=script(inf, then=200), max_retries=0, max_connections=1) as client:
        proxy = ReverseProxy(client, timeout=Timeout(total=None, wait=5.0))
        first = asyncio.create_task(proxy(scope(), Messages().receive, Messages().send))
        await asyncio.sleep(0)
        got = Messages(b"x" * 70_000)
        asked = scope((b"expect", b"100-continue"), (b"content-length", b"70000"), method="PUT", http_version=version)
        await proxy(asked, got.receive, got.send)
        assert (got.status, got.asked) == (504, 0)
        assert got.values(b"connection") == ([b"close"] if version == "1.1" else [])
        first.cancel()
        await asyncio.wait({first})
        got = Messages(b"x" * 70_000)
        await proxy(asked, got.receive, got.send)
        assert (got.status, got.values(b"connection"), got.asked > 0) == (200, [], True)


@virtual_time
async def test_once_it_is_asked_for_its_caller_is_listened_for():
    async def take(request):
        async for _ in request.content:
            pass
        await asyncio.sleep(inf)

    engine = script(take)
    async with HTTPClient(BASE, engine=engine, max_retries=0) as client:
        got = Messages(b"x" * 70_000)
        asked = scope((b"expect", b"100-continue"), (b"content-length", b"70000"), method="PUT")
        serving = asyncio.create_task(ReverseProxy(client)(asked, got.receive, got.send))
        await asyncio.sleep(1.0)
        got.left.set()
        async with asyncio.timeout(1.0):
            await serving
        assert engine.open == 0


# A caller that takes nothing


@pytest.mark.parametrize("server", SERVERS)
async def test_who_stops_reading_holds_no_connection_for_ever(server):
    """A hundred of them, and nobody else was served."""

    async def talk(line):
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            await line.say(b"x" * 65536)

    bounds = Timeout(total=None, attempt=60.0, write=0.05)
    async with (
        Peer(talk) as peer,
        HTTPClient(peer.url, max_retries=0) as client,
        on(server, ReverseProxy(client, timeout=bounds)) as port,
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
        await peer.until(lambda: peer.accepted)
        await peer.empty()
        writer.transport.abort()


class Taking(Messages):
    """A caller that takes each chunk after so many seconds."""

    def __init__(self, *seconds):
        super().__init__()
        self.seconds = list(seconds)

    async def send(self, message):
        await super().send(message)
        if message.get("body"):
            await asyncio.sleep(self.seconds.pop(0))


@virtual_time
async def test_a_caller_may_be_slow_but_not_stop():
    engine = script((200, Pieces(b"a", 59.0, b"b", 59.0, b"c", b"d")), (200, Pieces(b"a", b"b", b"c")))
    async with HTTPClient(BASE, engine=engine, max_retries=0) as client:
        got = Taking(59.0, 59.0, 59.0, 59.0)
        await ReverseProxy(client)(scope(), got.receive, got.send)
        assert (got.body, got.finished) == (b"abcd", True)
        got = Taking(59.0, inf)
        with pytest.raises(TimedOut, match="the caller took nothing for 60 s"):
            await ReverseProxy(client)(scope(), got.receive, got.send)
        assert (got.body, got.finished, engine.open) == (b"ab", False, 0)
        assert not asyncio.current_task().cancelling()


@virtual_time
async def test_who_is_cancelled_while_nothing_is_taken_is_cancelled():
    async with HTTPClient(BASE, engine=script((200, Pieces(b"a", b"b"))), max_retries=0) as client:
        got = Taking(inf)
        serving = asyncio.create_task(ReverseProxy(client)(scope(), got.receive, got.send))
        await asyncio.sleep(30.0)
        serving.cancel()
        await asyncio.wait({serving})
        assert serving.cancelled()


# Ended anywhere

UPLOADS = {
    "small": (scope((b"content-length", b"6"), method="PUT"), (b"abc", b"def")),
    "in chunks": (scope((b"transfer-encoding", b"chunked"), method="POST"), (b"abc", b"def")),
    "large": (scope((b"content-length", b"200000"), method="POST"), (b"x" * 100_000, b"x" * 100_000)),
    "expected": (
        scope((b"content-length", b"6"), (b"expect", b"100-continue"), method="POST"),
        (b"abc", b"def"),
    ),
    "HTTP/2": (scope(method="POST", http_version="2"), (b"abc", b"def")),
}


class Slow(Messages):
    """A caller and a server that take their time."""

    async def receive(self):
        await asyncio.sleep(0.06)
        return await super().receive()

    async def send(self, message):
        await asyncio.sleep(0.02)
        await super().send(message)


@asynccontextmanager
async def nothing_is_left(around):
    """A proxy whose upstream is busy once: of whatever becomes of a call, nothing is left."""
    engine = script(0.1, 503, 0.1, (200, Pieces(b"one", 0.1, b"two", b"three")), then=200)
    client = HTTPClient(BASE, engine=engine, retry_delay=0.01, max_connections=2)
    proxy = ReverseProxy(client)
    yield around(proxy)
    for _ in range(8):
        await asyncio.sleep(0)  # who listened is told
    (slots,) = [state for (kind, _), state in client.upstream.states.items() if kind == "ConcurrencyLimit"]
    assert (engine.open, client._under_way, slots.taken, slots.waiting) == (0, 0, 0, 0)
    assert not proxy._looks.under_way
    await client.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("around", [lambda app: app, Caller], ids=["alone", "in Caller"])
@pytest.mark.parametrize("kind", UPLOADS)
def test_an_upload_that_is_ended_anywhere_leaves_nothing(kind, around):
    asked, body = UPLOADS[kind]

    async def story(cut):
        async with nothing_is_left(around) as app:
            got = Slow(*body)
            await cut(app(dict(asked), got.receive, got.send))
            assert [message["type"] for message in got.sent].count("http.response.start") <= 1

    assert at_every_step(story) > 15
    assert at_every_await(story, loop_factory=VirtualLoop) > 20


@pytest.mark.parametrize("around", [lambda app: app, Caller], ids=["alone", "in Caller"])
@pytest.mark.parametrize("kind", UPLOADS)
def test_an_upload_whose_caller_leaves_anywhere_leaves_nothing(kind, around):
    asked, body = UPLOADS[kind]

    async def story(cut):
        async with nothing_is_left(around) as app:
            got, answered = Slow(*body), asyncio.Event()

            async def leave():
                try:
                    await answered.wait()
                finally:
                    got.coming.clear()
                    got.left.set()

            leaving = asyncio.create_task(cut(leave()))
            with suppress(FairleadError):  # half an answer is broken off
                await app(dict(asked), got.receive, got.send)
            answered.set()
            await leaving

    assert at_every_step(story) > 15


@pytest.mark.parametrize("kind", UPLOADS)
def test_of_real_connections_none_is_left_either(kind):
    asked, body = UPLOADS[kind]

    async def talk(line):
        while await line.request() is not None:
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"defghi")

    async def story(cut):
        async with Peer(talk) as peer, HTTPClient(peer.url, max_retries=0) as client:
            got = Messages(*body)
            proxy = ReverseProxy(client)
            await cut(proxy(dict(asked), got.receive, got.send))
            for _ in range(20):
                await asyncio.sleep(0)
            idle = sum(map(len, client.engine._idle.values()))
            assert (len(client.engine._open), client._under_way) == (idle, 0)

    assert at_every_step(story, real=True) > 15


async def test_who_stands_in_is_asked_for_no_coding_that_the_caller_did_not_name():
    """The bytes go on as they come: whoever knows no gzip got gzip, where the first upstream was down."""
    backup, engine = script(200, 200), script(500, 500)
    async with (
        HTTPClient("http://backup.test", engine=backup, headers={"X-Own": "1"}) as client,
        HTTPClient(BASE, engine=engine, policies=(Fallback(client),)) as first,
    ):
        proxy = ReverseProxy(first)
        await said_to(proxy)
        await said_to(proxy, (b"accept-encoding", b"br"), (b"user-agent", b"x"))
    names = [{name.lower() for name, _ in request.headers.raw} for request in backup.requests]
    assert not {b"accept", b"accept-encoding", b"user-agent"} & names[0]
    assert b"x-own" in names[0] & names[1]
    assert backup.requests[1].headers.get_list("accept-encoding") == ["br"]


# The circuit


@pytest.mark.parametrize("engine", ["native", "aiohttp"])  # httpx2 sees no end before it has sent
async def test_callers_that_send_slowly_open_no_circuit_for_the_others(engine):
    """An upstream that waits for no body for long, and ends the connection without a word: five sockets were enough, again and again."""

    async def talk(line):
        seen = await line.head()
        if seen is not None and seen.method == "GET":
            await line.say(answer(b"well"))
        elif seen is not None:
            await line.reader.readexactly(4)
            line.hang_up()

    settings = {"engine": engine, "max_retries": 0}
    async with Peer(talk) as peer, HTTPClient(peer.url, **settings) as client:
        proxy = ReverseProxy(client)
        for _ in range(6):
            got = Messages()
            got.coming = [{"type": "http.request", "body": b"half", "more_body": True}]
            async with asyncio.timeout(PATIENCE):
                await proxy(scope((b"content-length", b"100000"), method="POST"), got.receive, got.send)
            assert (got.status, b"connection_terminated" in got.values(b"proxy-status")[0]) == (502, True)
        assert (await said_to(proxy)).status == 200


@pytest.mark.parametrize("engine", ["native", "httpx2", "aiohttp"])
async def test_but_an_upstream_that_ends_an_upload_it_is_given_does(engine):
    async def talk(line):
        if await line.head() is not None:
            line.writer.transport.pause_reading()
            line.reset()

    class Pouring(Messages):
        async def receive(self):
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    async with Peer(talk) as peer, HTTPClient(peer.url, engine=engine, max_retries=0) as client:
        proxy = ReverseProxy(client)
        statuses = []
        for _ in range(6):
            got = Pouring()
            async with asyncio.timeout(PATIENCE):
                await proxy(scope((b"content-length", b"1000000000"), method="POST"), got.receive, got.send)
            statuses.append(got.status)
        assert statuses == [502] * 5 + [503]


@pytest.mark.parametrize("method", ["TRACE", "GET"])
async def test_who_has_left_before_it_was_told_of_a_fault_is_no_fault(method):
    async def send(message):
        raise OSError("the caller is gone")

    async with HTTPClient(BASE, engine=script(ConnectFailed), max_retries=0) as client:
        got = Messages()
        await ReverseProxy(client)(scope(method=method), got.receive, send)
        assert client._under_way == 0
