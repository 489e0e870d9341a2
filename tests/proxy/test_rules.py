"""The rules of a reverse proxy, one test for each by its number; `docs/proxy-rules.md` has them, and where each is from.

What a rule says of the caller's side is tried through uvicorn where the server has a say in it, and by ASGI messages where only
another server would let it through; the upstream notes down the bytes it is sent.
"""

import asyncio
import gzip

import pytest
from starlette.middleware.base import BaseHTTPMiddleware

from fairlead.auth import ApiKey, Bearer
from fairlead.client import HTTPClient
from fairlead.core import Timeout
from fairlead.errors import AttemptTimedOut, ConfigError, ConnectFailed, DeadlineExceeded, Disconnected, ProtocolError
from fairlead.policies import CookieJar
from fairlead.proxy import ReverseProxy
from fairlead.testing import Pieces, at_every_step, script, virtual_time
from peers import PATIENCE, Crowd, Peer, answer, authority, closed_port, moment, mute
from proxy.proxied import Answer, Messages, noted, proxied, scope, serving, told

BASE = "http://upstream.test"


def scripted(*answers, **options):
    engine = script(*answers)
    made = HTTPClient(BASE, engine=engine, **{"max_retries": 0, **options.pop("client", {})})
    return engine, ReverseProxy(made, **options)


# 5.1 header fields


async def test_rule_01_what_connection_names_goes_no_further():
    said = answer(b"ok", b"Connection: X-Named, close", b"X-Named: 1", b"X-Kept: 2")
    async with proxied(said) as world:
        got = await world.say(
            b"GET /x HTTP/1.1\r\nHost: app\r\nConnection: close, X-Secret\r\nConnection: x-other\r\n"
            b"X-Secret: 1\r\nX-Other: 2\r\nX-Kept: 3\r\n\r\n"
        )
        assert got.values(b"x-kept") == [b"2"]
        assert not {b"x-named"} & set(got.names)
        assert world.values(b"x-kept") == [b"3"]
        for name in (b"x-secret", b"x-other", b"connection"):
            assert world.values(name) == []


HOP = [b"Proxy-Connection: keep-alive", b"Keep-Alive: timeout=5", b"TE: trailers", b"Upgrade: h2c"]


async def test_rule_02_fields_of_one_connection_stay_there():
    async with proxied(answer(b"ok", *HOP)) as world:
        got = await world.ask(*HOP)
        for line in (*HOP, b"Transfer-Encoding: chunked"):
            name = line.partition(b":")[0].lower()
            assert world.values(name) == got.values(name) == []


async def test_rule_03_so_do_those_that_practice_adds():
    lines = [
        b"Proxy-Authenticate: Basic", b"Proxy-Authorization: x", b"Trailer: X-Sum", b"HTTP2-Settings: x",
        b"Proxy-Authentication-Info: x", b"ALPN: h2", b"Close: x", b'Alt-Svc: h3=":443"',
    ]  # fmt: skip
    async with proxied(answer(b"ok", *lines)) as world:
        got = await world.ask(*lines)
        for line in lines:
            name = line.partition(b":")[0].lower()
            assert world.values(name) == got.values(name) == []


async def test_rule_04_no_trailers_are_promised():
    async with proxied() as world:
        await world.ask(b"TE: trailers, deflate")
        assert world.values(b"te") == []


async def test_rule_05_connection_cannot_name_what_is_added():
    async with proxied() as world:
        await world.say(
            b"GET /x HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer t\r\n"
            b"Connection: close, X-Forwarded-For, Forwarded, Via, Host, Authorization\r\n\r\n"
        )
        assert world.values(b"x-forwarded-for") == [b"127.0.0.1"]
        assert world.values(b"via") == [b"1.1 fairlead"]
        assert len(world.values(b"host")) == len(world.values(b"forwarded")) == 1
        assert world.values(b"authorization") == []


async def test_rule_06_via_says_how_it_came():
    async with proxied(via="edge-7") as world:
        await world.ask(b"Via: 1.0 fred", b"Via: 1.1 george")
        assert world.values(b"via") == [b"1.0 fred", b"1.1 george", b"1.1 edge-7"]
        await world.say(b"GET /x HTTP/1.0\r\nHost: app\r\n\r\n")
        assert world.values(b"via") == [b"1.0 edge-7"]


async def test_rule_07_a_loop_ends_where_it_closes():
    async def late(scope, receive, send):
        await proxy(scope, receive, send)

    async with serving(late) as port, HTTPClient(f"http://127.0.0.1:{port}", max_retries=0) as client:
        proxy = ReverseProxy(client)
        async with HTTPClient(f"http://127.0.0.1:{port}") as caller:
            got = await caller.get("/x", raise_for_status=False)
    assert got.status_code == 508
    assert got.headers["proxy-status"] == "fairlead; error=proxy_loop_detected"


@pytest.mark.parametrize("via", [b"1.1 fairlead", b"1.0 fred, HTTP/1.1 Fairlead (x)", b"1.1 a,1.1 fairlead"])
async def test_rule_07_whatever_stands_beside_it(via):
    async with proxied() as world:
        assert (await world.ask(b"Via: " + via)).status == 508
        assert (await world.ask(b"Via: 1.1 fairlead-2, 1.1 notfairlead")).status == 200
        assert len(world.heads) == 1


async def test_rule_08_max_forwards_counts_down():
    async with proxied() as world:
        await world.ask(b"Max-Forwards: 3", line=b"OPTIONS /x HTTP/1.1")
        assert world.values(b"max-forwards") == [b"2"]
        got = await world.ask(b"Max-Forwards: 0", line=b"OPTIONS /x HTTP/1.1")
        assert (got.status, len(world.heads)) == (204, 1)
        assert b"GET" in got.values(b"allow")[0]
        assert (await world.ask(b"Max-Forwards: x", line=b"OPTIONS /x HTTP/1.1")).status == 400
        await world.ask(b"Max-Forwards: 0")
        assert world.values(b"max-forwards") == [b"0"]


async def test_rule_09_what_is_unknown_goes_on():
    async with proxied(answer(b"ok", b"X-New: 1", status=b"299 Odd")) as world:
        got = await world.ask(b"X-Unheard-Of: 1", line=b"PROPFIND /x HTTP/1.1")
        assert (got.status, got.values(b"x-new")) == (299, [b"1"])
        assert world.lines[0] == b"PROPFIND /x HTTP/1.1"
        assert world.values(b"x-unheard-of") == [b"1"]
        await told(world.proxy, method="FROBNICATE")
        assert world.lines[0] == b"FROBNICATE /x HTTP/1.1"


async def test_rule_10_fields_keep_their_order_and_stay_apart():
    cookies = [b"Set-Cookie: c%d=%d; Path=/" % (number, number) for number in range(20)]
    async with proxied(answer(b"ok", *cookies, b"X-A: 1", b"X-B: 2", b"X-A: 3")) as world:
        got = await world.ask(b"X-A: 1", b"X-B: 2", b"X-A: 3", b"Cookie: a=1", b"Cookie: b=2")
        assert got.values(b"set-cookie") == [line.split(b": ")[1] for line in cookies]
        for pairs in (got.headers, [tuple(line.split(b": ", 1)) for line in world.lines[1:]]):
            assert [pair for pair in pairs if pair[0] in {b"x-a", b"x-b"}] == [
                (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"),
            ]  # fmt: skip
        assert world.values(b"cookie") == [b"a=1", b"b=2"]


@pytest.mark.parametrize("byte", [b"\r", b"\n", b"\0", b"\x7f"])
async def test_rule_11_nothing_that_breaks_a_line_goes_on(byte):
    async with proxied(answer(b"ok", b"X-Bad: a" + byte + b"b")) as world:
        assert (await told(world.proxy, (b"x-bad", b"a" + byte + b"b"))).status == 400
        assert (await told(world.proxy, (b"x" + byte + b"y", b"a"))).status == 400
        assert world.heads == []
        got = await world.ask()
        assert got.status == 502 or b"x-bad" not in got.names or got.values(b"x-bad") == [b"a"]
        assert byte not in got.raw.replace(b"\r\n", b"")


async def test_rule_12_credentials_and_challenges_are_not_touched():
    fields = [
        b'WWW-Authenticate: Digest realm="a,b", nonce="x"',
        b"Allow: GET,  HEAD",
        b"Authentication-Info: nextnonce=1",
    ]
    async with proxied(answer(b"no", *fields, status=b"401 Unauthorized")) as world:
        got = await world.ask(b'Authorization: Digest username="u", uri="/x"')
        assert world.values(b"authorization") == [b'Digest username="u", uri="/x"']
        for line in fields:
            name, value = line.split(b": ", 1)
            assert got.values(name.lower()) == [value]


@pytest.mark.parametrize("auth", [Bearer("ours"), ApiKey("ours")])
async def test_rule_12_unless_the_client_has_credentials_of_its_own(auth):
    async with proxied(client={"auth": auth, "headers": {"X-Tenant": "us"}}) as world:
        await world.ask(b"Authorization: Bearer theirs", b"X-API-Key: theirs", b"X-Tenant: theirs")
        name, value = (b"authorization", b"Bearer ours") if isinstance(auth, Bearer) else (b"x-api-key", b"ours")
        assert world.values(name) == [value]
        assert world.values(b"x-tenant") == [b"us"]
        if not isinstance(auth, Bearer):
            assert world.values(b"authorization") == []


HEAD = b"GET /x HTTP/1.1\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a b\r\n",
        b"Host: \r\n",
        b"Host: a/b\r\n",
        b"Host: u@a\r\n",
        b"Host: a:b\r\n",
    ],
)
async def test_rule_13_exactly_one_valid_host(hosts):
    async with proxied() as world:
        got = await world.say(HEAD + hosts + b"\r\n")
        assert got.status == 400
        assert world.heads == []


async def test_rule_13_the_upstreams_own_or_on_request_the_callers():
    async with proxied() as world:
        await world.ask(host=b"shop.example:8080")
        assert world.values(b"host") == [world.peer.url.removeprefix("http://").encode()]
    async with proxied(preserve_host=True) as world:
        await world.ask(host=b"shop.example:8080")
        assert world.values(b"host") == [b"shop.example:8080"]


CLAIMS = [
    (b"x-forwarded-for", b"203.0.113.9, 10.0.0.5"), (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"shop.example"), (b"x-forwarded-prefix", b"/shop"), (b"forwarded", b"for=1.1.1.1;proto=ftp"),
    (b"x-forwarded-port", b"443"), (b"x-real-ip", b"203.0.113.9"),
]  # fmt: skip


async def test_rule_14_who_asked_is_said_anew_for_whom_nobody_trusts():
    async with proxied() as world:
        await told(world.proxy, *CLAIMS)
        assert world.values(b"x-forwarded-for") == [b"192.0.2.7"]
        assert world.values(b"x-forwarded-proto") == [b"http"]
        assert world.values(b"x-forwarded-host") == [b"app"]
        assert world.values(b"forwarded") == [b"for=192.0.2.7;host=app;proto=http"]
        for name in (b"x-forwarded-prefix", b"x-forwarded-port", b"x-real-ip"):
            assert world.values(name) == []


async def test_rule_14_and_believed_from_whom_is_listed():
    async with proxied(trusted=("192.0.2.0/24", "10.0.0.0/8")) as world:
        await told(world.proxy, (b"x-forwarded-for", b"6.6.6.6"), *CLAIMS)
        # From the right, to the first that is not trusted; what stands left of it is anybody's word.
        assert world.values(b"x-forwarded-for") == [b"203.0.113.9, 10.0.0.5, 192.0.2.7"]
        assert world.values(b"x-forwarded-proto") == [b"https"]
        assert world.values(b"x-forwarded-host") == [b"shop.example"]
        assert world.values(b"x-forwarded-prefix") == [b"/shop"]
        assert world.values(b"x-forwarded-port") == [b"443"]
        assert world.values(b"forwarded") == [
            b"for=203.0.113.9;host=shop.example;proto=https, for=10.0.0.5, for=192.0.2.7"
        ]


async def test_rule_14_what_is_ours_to_say_nobody_says_for_us():
    async with proxied(strip=("X-Internal-",)) as world:
        await world.ask(b"Fairlead-Complete: true", b"X-Fairlead-Trace: 1", b"X-Internal-User: root", b"X-Other: 1")
        assert world.values(b"x-other") == [b"1"]
        for name in (b"fairlead-complete", b"x-fairlead-trace", b"x-internal-user"):
            assert world.values(name) == []


async def test_rule_15_nothing_of_the_librarys_own_is_added():
    async with proxied() as world:
        await world.ask()
        assert {line.split(b":")[0].lower() for line in world.lines[1:]} == {
            b"host", b"via", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
        }  # fmt: skip
        await world.ask(b"User-Agent: curl/8", b"Accept-Encoding: br;q=0.5")
        assert (world.values(b"user-agent"), world.values(b"accept-encoding")) == ([b"curl/8"], [b"br;q=0.5"])


async def test_rule_16_one_server_and_one_date():
    said = answer(b"ok", b"Server: shop/1", b"Date: Sun, 06 Nov 1994 08:49:37 GMT")
    async with proxied(said) as world:
        got = await world.ask()
        assert got.values(b"server") == [b"shop/1"]
        assert got.values(b"date") == [b"Sun, 06 Nov 1994 08:49:37 GMT"]


async def test_rule_17_no_jar_is_shared():
    with pytest.raises(ConfigError, match="cookies="):
        ReverseProxy(HTTPClient(BASE, cookies=CookieJar()))
    async with proxied(answer(b"ok", b"Set-Cookie: session=1")) as world:
        await world.ask()
        await world.ask()
        assert world.values(b"cookie") == []


async def test_rule_18_more_than_is_held_is_refused():
    large = answer(b"ok", b"X-Large: " + b"x" * 70_000)
    async with proxied(large) as world:
        got = await world.ask(*[b"X-N%d: 1" % number for number in range(300)])
        assert got.status == 431
        assert (await told(world.proxy, (b"x-large", b"x" * 70_000))).status == 431
        assert world.heads == []
        got = await world.ask()
        assert got.status == 502
        assert b"error=http_response_header_section_size" in got.values(b"proxy-status")[0]


async def test_rule_19_an_underscore_is_no_hyphen():
    async with proxied() as world:
        await world.ask(b"X_Forwarded_For: 6.6.6.6", b"User_Id: 1", b"X-User-Id: 2")
        assert world.values(b"x_forwarded_for") == world.values(b"user_id") == []
        assert world.values(b"x-user-id") == [b"2"]


# 5.2 target


TARGETS = [
    b"/a%2Fb/c", b"/a;p=1;q/c", b"/caf%C3%A9", b"/%e2%82%ac%20x", b"/a//b//", b"//evil.example/x", b"/x?", b"/?q",
    b"/x?a=1&&a=2&b=&=c&d=%2F+%20;e", b"/x?q=http://h/%2e%2e/..", b"/a/./b", b"/~u/@x:y!$&'()*+,", b"/a.b..c/...",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("mount", "base"), [("", ""), ("/api", ""), ("/api/v1", "/inner")])
async def test_rule_20_path_and_query_are_not_modified(target, mount, base):
    async with proxied(mount=mount, base=base) as world:
        got = await world.ask(line=b"GET " + mount.encode() + target + b" HTTP/1.1")
        assert got.status == 200
        sent = world.lines[0].split(b" ")[1]
        # An empty query is none to uvicorn.
        assert sent == base.encode() + (target.removesuffix(b"?") if target == b"/x?" else target)


@pytest.mark.parametrize(
    "target",
    [
        b"/../x",
        b"/a/%2e%2E/../x",
        b"/.%2e/x",
        b"/a/..",
        b"/..;/x",
        b"/..%2fx",
        b"/a%2f..%2fx",
        b"/..%5cx",
        b"/a\\..\\x",
    ],
)
async def test_rule_21_nothing_leads_out_of_the_prefix(target):
    async with proxied(mount="/api", base="/inner") as world:
        assert (await told(world.proxy, root_path="/api", raw_path=b"/api" + target)).status == 400
        got = await world.ask(line=b"GET /api" + target + b" HTTP/1.1")
        assert got.status in {400, 404}
        assert world.heads == []


async def test_rule_21_nor_to_another_host():
    async with proxied(mount="/api", base="/inner") as world:
        for target in (b"/api//evil.example/x", b"/api/http://evil.example/"):
            assert (await world.ask(line=b"GET " + target + b" HTTP/1.1")).status == 200
            assert world.lines[0].split(b" ")[1] == b"/inner" + target.removeprefix(b"/api")
        assert (await world.ask(line=b"GET /%61pi/y HTTP/1.1")).status == 200
        assert world.lines[0] == b"GET /inner/y HTTP/1.1"


async def test_rule_22_no_tunnel_and_no_echo():
    async with proxied() as world:
        assert (await told(world.proxy, method="CONNECT", raw_path=b"a:443")).status == 405
        got = await world.ask(line=b"TRACE /x HTTP/1.1")
        assert (got.status, world.heads) == (405, [])
        assert b"GET" in got.values(b"allow")[0]


@pytest.mark.parametrize("follows", [False, True])
async def test_rule_23_a_redirect_is_the_callers_to_follow(follows):
    said = answer(b"", b"Location: /elsewhere", b"Set-Cookie: a=1; Path=/x; Domain=shop.example", status=b"302 Found")
    async with proxied(said, client={"follow_redirects": follows}) as world:
        got = await world.ask()
        assert (got.status, got.values(b"location"), len(world.heads)) == (302, [b"/elsewhere"], 1)
        assert got.values(b"set-cookie") == [b"a=1; Path=/x; Domain=shop.example"]


async def says_where(line):
    """Every answer says where something is, by the address that the upstream has itself."""
    while await noted(line):
        own = line.peer.url.encode()
        fields = [
            b"Location: " + own + b"/app/login?to=%2Fapp#a",
            b"Content-Location: /app/x.en",
            b"Refresh: 5; url=" + own + b"/app/",
            b"Set-Cookie: a=1; Domain=127.0.0.1; Path=/app",
            b"Set-Cookie: b=/app; Path=/",
        ]
        await line.say(answer(b"", *fields, status=b"302 Found"))


async def test_rule_23_what_an_upstream_says_of_its_own_address_is_the_callers():
    async with proxied(says_where, base="/app", mount="/api") as world:
        got = await world.ask(line=b"GET /api/x HTTP/1.1")
        assert got.values(b"location") == [b"/api/login?to=%2Fapp#a"]
        assert got.values(b"content-location") == [b"/api/x.en"]
        assert got.values(b"refresh") == [b"5; url=/api/"]
        assert got.values(b"set-cookie") == [b"a=1; Path=/api", b"b=/app; Path=/"]
        again = await world.ask(line=b"GET " + got.values(b"location")[0].partition(b"#")[0] + b" HTTP/1.1")
        assert (again.status, world.lines[0]) == (302, b"GET /app/login?to=%2Fapp HTTP/1.1")


async def test_rule_23_and_of_any_other_stays():
    said = [
        b"Location: https://elsewhere.test/app/x?a=b#c",
        b"Content-Location: /other",
        b"Set-Cookie: a=1; Domain=shop.example; Path=/other",
    ]
    async with proxied(answer(b"", *said, status=b"302 Found"), base="/app", mount="/api") as world:
        got = await world.ask(b"X-Forwarded-Host: evil.example", line=b"GET /api/x HTTP/1.1", host=b"evil.example")
        for line in said:
            name, _, value = line.partition(b": ")
            assert got.values(name.lower()) == [value]
        assert b"evil" not in got.raw


async def test_rule_23_and_all_of_it_on_request():
    async with proxied(says_where, base="/app", mount="/api", rewrite=False) as world:
        got = await world.ask(line=b"GET /api/x HTTP/1.1")
        assert got.values(b"location") == [world.peer.url.encode() + b"/app/login?to=%2Fapp#a"]
        assert got.values(b"set-cookie") == [b"a=1; Domain=127.0.0.1; Path=/app", b"b=/app; Path=/"]


# 5.3 framing and bodies

CL, TE = b"content-length", b"transfer-encoding"


async def refused(world, *headers, status=400, **more):
    got = await told(world.proxy, *headers, method="POST", body=(b"hello",), **more)
    assert got.status == status
    assert got.values(b"connection") == [b"close"]
    assert world.heads == []


async def test_rule_24_two_ways_to_end_are_refused():
    async with proxied() as world:
        await refused(world, (CL, b"5"), (TE, b"chunked"))
        got = await world.ask(
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            line=b"POST /x HTTP/1.1",
            body=b"5\r\nhello\r\n0\r\n\r\n",
        )
        assert (got.status, world.heads) == (400, [])


@pytest.mark.parametrize(
    "headers",
    [
        [(TE, b"gzip")], [(TE, b"chunked, gzip")], [(TE, b"gzip, chunked")], [(TE, b"chunked"), (TE, b"chunked")], [(TE, b"xchunked")],
        [(CL, b"5"), (CL, b"6")], [(CL, b"5, 6")], [(CL, b"+5")], [(CL, b"-5")], [(CL, b"5x")], [(CL, b"")], [(CL, b"9" * 30)],
    ],
)  # fmt: skip
async def test_rule_25_a_body_that_cannot_be_told_is_refused(headers):
    async with proxied() as world:
        await refused(world, *headers)


@pytest.mark.parametrize("headers", [[(CL, b"5"), (CL, b"5")], [(CL, b"5, 5")]])
async def test_rule_25_equal_lengths_are_one(headers):
    async with proxied() as world:
        await told(world.proxy, *headers, method="POST", body=(b"hello",))
        assert (world.values(CL), world.bodies) == ([b"5"], [b"hello"])


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5x\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    ],
)
async def test_rule_25_of_an_answer_it_is_a_502_and_the_end_of_the_connection(lines):
    async with proxied(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nok") as world:
        got = await world.ask()
        assert got.status == 502
        assert b"error=http_protocol_error" in got.values(b"proxy-status")[0]
        await world.peer.empty()


async def test_rule_26_http_1_0_has_no_transfer_codings():
    async with proxied() as world:
        await refused(world, (TE, b"chunked"), http_version="1.0")


@pytest.mark.parametrize("line", [b"X-Fold: a\r\n b", b"X-Space : a", b"X-Bare: a\rb: c"])
async def test_rule_27_odd_lines_are_refused(line):
    async with proxied(answer(b"ok", line)) as world:
        got = await world.ask(line)
        # A folded value may also be unfolded, by either parser.
        assert got.status == 400 or (world.heads and line not in world.heads[0])
        got = await world.ask()
        assert got.status == 502 or line not in got.raw


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"200 OK"])
async def test_rule_28_what_has_no_body_is_sent_without_one(method, status):
    async def talk(line):
        while await noted(line) is not None:
            length = b"" if status[:3] == b"204" else b"Content-Length: 5\r\n"
            body = b"hello" if status[:3] == b"200" and method == b"GET" else b""
            await line.say(b"HTTP/1.1 %b\r\n%bETag: x\r\n\r\n%b" % (status, length, body))

    async with proxied(talk) as world:
        reader, writer = await world.connect()
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):  # the connection goes on, and so no byte was too much or too few
                writer.write(b"%b /x HTTP/1.1\r\nHost: app\r\n\r\n" % method)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                assert head.startswith(b"http/1.1 " + status[:3])
                assert b"transfer-encoding" not in head
                if status[:3] == b"200":
                    assert b"content-length: 5" in head
                    if method == b"GET":
                        assert await reader.readexactly(5) == b"hello"
        writer.close()
        assert world.peer.accepted == 1


async def test_rule_29_a_known_length_is_kept_and_an_unknown_is_chunked():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with proxied(answer(b"hello"), chunked) as world:
        got = await world.ask(b"Content-Length: 5", line=b"POST /x HTTP/1.1", body=b"hello")
        assert (got.values(CL), got.values(TE), got.body) == ([b"5"], [], b"hello")
        assert (world.values(CL), world.values(TE), world.bodies) == ([b"5"], [], [b"hello"])
        got = await world.ask(b"Transfer-Encoding: chunked", line=b"POST /x HTTP/1.1", body=b"5\r\nhello\r\n0\r\n\r\n")
        assert (got.values(CL), got.values(TE)) == ([], [b"chunked"])
        assert got.body.endswith(b"0\r\n\r\n")
        assert (world.values(CL), world.values(TE), world.bodies[-1]) == ([], [b"chunked"], b"hello")
        large = b"x" * 200_000
        await world.ask(b"Content-Length: 200000", line=b"PUT /x HTTP/1.1", body=large)
        assert (world.values(CL), world.values(TE), world.bodies[-1]) == ([b"200000"], [], large)


TRUNCATED = [b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", b"Content-Length: 9\r\n\r\nhalf"]


@pytest.mark.parametrize("said", TRUNCATED)
async def test_rule_30_what_is_cut_short_never_looks_whole(said):
    async def talk(line):
        await noted(line)
        await line.say(b"HTTP/1.1 200 OK\r\n" + said)
        line.hang_up()

    async with proxied(talk) as world:
        got = await world.ask()
        assert b"half" in got.raw
        assert not got.raw.endswith(b"0\r\n\r\n")
        assert got.values(CL) in ([], [b"9"])
        assert len(got.body) < 9 or got.values(TE)


async def test_rule_31_codings_are_not_undone():
    packed = gzip.compress(b"hello " * 100, mtime=0)
    async with proxied(answer(packed, b"Content-Encoding: gzip", b'ETag: "1"', b"Content-MD5: x")) as world:
        got = await world.ask(b"Accept-Encoding: gzip")
        assert got.body == packed
        assert (got.values(b"etag"), got.values(b"content-md5")) == ([b'"1"'], [b"x"])


async def test_rule_32_ranges_go_through():
    said = answer(b"ell", b"Content-Range: bytes 1-3/5", b"Accept-Ranges: bytes", status=b"206 Partial Content")
    async with proxied(said) as world:
        got = await world.ask(b"Range: bytes=1-3", b'If-Range: "1"')
        assert (world.values(b"range"), world.values(b"if-range")) == ([b"bytes=1-3"], [b'"1"'])
        assert (got.status, got.body, got.values(b"content-range")) == (206, b"ell", [b"bytes 1-3/5"])


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"OPTIONS"])
async def test_rule_33_any_method_may_have_a_body(method):
    async with proxied() as world:
        await world.ask(b"Content-Length: 5", line=method + b" /x HTTP/1.1", body=b"hello")
        assert (world.values(CL), world.bodies) == ([b"5"], [b"hello"])
        await world.ask(b"Transfer-Encoding: chunked", line=method + b" /x HTTP/1.1", body=b"5\r\nhello\r\n0\r\n\r\n")
        assert world.bodies == [b"hello", b"hello"]
        await world.ask(b"Content-Length: 0", line=method + b" /x HTTP/1.1")
        assert world.values(CL) == [b"0"]
        await world.ask(line=method + b" /x HTTP/1.1")
        assert world.values(CL) == world.values(TE) == []


async def test_rule_34_trailers_are_dropped_and_never_merged():
    said = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    async with proxied(said) as world:
        got = await world.ask()
        assert b"x-sum" not in got.raw.lower()
        assert got.body == b"2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize("interim", [b"103 Early Hints", b"102 Processing", b"100 Continue"])
async def test_rule_35_interim_answers_are_dropped(interim):
    async with proxied(b"HTTP/1.1 %b\r\nLink: </a.css>\r\n\r\n" % interim + answer(b"ok")) as world:
        got = await world.ask()
        assert (got.status, got.body, got.values(b"link")) == (200, b"ok", [])


EXPECTING = b"POST /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


async def test_rule_36_a_refusal_comes_before_the_100():
    nobody = f"http://127.0.0.1:{closed_port()}"
    async with HTTPClient(nobody, max_retries=0) as client, serving(ReverseProxy(client)) as port:
        for status in (b"502", b"502", b"502", b"502", b"502", b"503"):  # in the end by an open circuit
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(EXPECTING)
            async with asyncio.timeout(PATIENCE):
                said = await reader.read()
            assert said.startswith(b"HTTP/1.1 " + status)
            writer.close()


async def test_rule_36_else_the_body_is_asked_for_and_the_expectation_stays_here():
    async with proxied(answer(b"thanks")) as world:
        reader, writer = await world.connect()
        writer.write(EXPECTING)
        async with asyncio.timeout(PATIENCE):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert world.heads
            writer.write(b"hello")
            assert (await reader.read()).endswith(b"thanks")
        writer.close()
        assert (world.values(b"expect"), world.values(CL), world.bodies) == ([], [b"5"], [b"hello"])
        assert (await world.ask(b"Expect: a-miracle")).status == 417


async def test_rule_37_an_answer_may_come_before_the_upload_ends():
    async def talk(line):
        await noted(line)
        await line.say(answer(b"enough", status=b"413 Content Too Large"))

    async with proxied(talk) as world:
        reader, writer = await world.connect()
        writer.write(b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1000)
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413")
            assert await reader.readexactly(6) == b"enough"
        writer.close()
        await world.peer.empty()


# 5.4 time, cancellation, pressure


async def test_rule_38_a_caller_that_leaves_while_waiting_in_line_leaves_the_line():
    async def talk(line):
        await noted(line)

    async with proxied(talk, client={"max_connections": 1}) as world:
        _, first = await world.connect()
        first.write(b"GET /1 HTTP/1.1\r\nHost: app\r\n\r\n")
        await world.peer.until(lambda: len(world.heads) == 1)
        _, second = await world.connect()
        second.write(b"GET /2 HTTP/1.1\r\nHost: app\r\n\r\n")
        (slots,) = [state for (kind, _), state in world.client.upstream.states.items() if kind == "ConcurrencyLimit"]
        await until(lambda: slots.waiting == 1)
        second.close()
        await until(lambda: not slots.waiting)
        assert len(world.heads) == 1
        first.close()
        await world.peer.empty()
        assert slots.taken == 0


async def until(happened):
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await moment()


async def test_rule_38_while_connecting():
    with Crowd() as crowd:
        async with HTTPClient(crowd.url, max_retries=0) as client, serving(ReverseProxy(client)) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
            await crowd.until(1)
            writer.close()
            await crowd.until(0)


PHASES = {
    "the head": (b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n", b""),
    "the first byte": (b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    "the body": (b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
    "an upload": (b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 999999\r\n\r\nhalf", b""),
    "an upload of unknown length": (b"POST /x HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", b""),
    "an upload that was answered": (
        b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 999999\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
async def test_rule_38_at_any_phase(phase):
    asked, said = PHASES[phase]

    async def talk(line):
        await noted(line)
        await line.say(said)

    async with proxied(talk) as world:
        reader, writer = await world.connect()
        writer.write(asked)
        await world.peer.until(lambda: len(world.heads) == 1)
        if said:
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await world.peer.empty()


def test_rule_39_ended_at_any_step_nothing_stays_open():
    async def story(cut):
        engine, proxy = scripted(0.1, (200, Pieces(b"one", 0.1, b"two", b"three")))
        messages = Messages()

        async def serve():
            await proxy(scope(), messages.receive, messages.send)

        await cut(serve())
        await proxy.client.close()
        await asyncio.sleep(0)  # who listened is told
        assert engine.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 10


def test_rule_39_left_at_any_step_nothing_stays_open():
    async def story(cut):
        engine, proxy = scripted(0.1, (200, Pieces(b"one", 0.1, b"two", b"three")))
        messages, answered = Messages(), asyncio.Event()

        async def leave():
            try:
                await answered.wait()
            finally:
                messages.left.set()

        leaving = asyncio.create_task(cut(leave()))
        await proxy(scope(), messages.receive, messages.send)
        answered.set()
        await leaving
        await proxy.client.close()
        assert [message["type"] for message in messages.sent].count("http.response.start") <= 1
        await asyncio.sleep(0)  # who listened is told
        assert engine.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 10


async def test_rule_40_within_another_middleware_too():
    async def talk(line):
        await noted(line)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")

    def around(app):
        app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
        return app

    async with proxied(talk, mount="/api", app=around) as world:
        reader, writer = await world.connect()
        writer.write(b"GET /api/x HTTP/1.1\r\nHost: app\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"data: 1\n\n")
        writer.close()
        await world.peer.empty()


MUCH = 64 * 1024 * 1024


async def test_rule_41_a_slow_caller_slows_the_upstream():
    said = 0

    async def talk(line):
        nonlocal said
        await noted(line)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MUCH)
        while said < MUCH:
            await line.say(b"x" * 65536)
            said += 65536

    async with proxied(talk) as world:
        _, writer = await world.connect()
        writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
        await settled(lambda: said)
        assert 0 < said < MUCH / 2
        writer.close()
        await world.peer.empty()


async def settled(count):
    """Wait until a count has stopped moving."""
    before, same = -1, 0
    async with asyncio.timeout(PATIENCE):
        while same < 20:
            same = same + 1 if count() == before and before else 0
            before = count()
            await moment()


async def test_rule_41_a_slow_upstream_slows_its_caller():
    async def talk(line):
        await noted(line)
        line.writer.transport.pause_reading()
        await asyncio.get_running_loop().create_future()

    sent = 0
    async with proxied(talk) as world:
        _, writer = await world.connect()

        async def upload():
            nonlocal sent
            writer.write(b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % MUCH)
            while sent < MUCH:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536

        uploading = asyncio.create_task(upload())
        await settled(lambda: sent)
        assert 0 < sent < MUCH / 2
        uploading.cancel()
        await asyncio.wait({uploading})
        writer.transport.abort()


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/x-ndjson; charset=utf-8"])
async def test_rule_42_events_are_sent_as_they_happen(kind):
    more = asyncio.Event()

    async def talk(line):
        await noted(line)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind)
        await more.wait()
        for number in range(3):
            await line.say(b"2\r\n%d\n\r\n" % number)
            more.clear()
            await more.wait()

    async with proxied(talk) as world:
        reader, writer = await world.connect()
        writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert b"x-accel-buffering: no\r\n" in await reader.readuntil(b"\r\n\r\n")
            for number in range(3):
                more.set()
                await reader.readuntil(b"2\r\n%d\n\r\n" % number)
        writer.close()


@virtual_time
async def test_rule_43_a_stream_may_take_for_ever_but_not_be_silent():
    engine, proxy = scripted((200, Pieces(b"a", 59.0, b"b", 59.0, b"c")), (200, Pieces(b"a", 61.0, b"b")), 61.0)
    got = Messages()
    await proxy(scope(), got.receive, got.send)
    assert (got.body, got.finished) == (b"abc", True)
    got = Messages()
    with pytest.raises(AttemptTimedOut):
        await proxy(scope(), got.receive, got.send)
    assert (got.body, got.finished) == (b"a", False)
    got = Messages()
    await proxy(scope(), got.receive, got.send)
    assert got.status == 504
    assert engine.open == 0
    await proxy.client.close()


@virtual_time
async def test_rule_43_the_head_and_each_silence_have_a_bound_of_their_own():
    timeout = Timeout(total=None, attempt=10.0, read=300.0)
    engine, proxy = scripted(
        9.0, (200, Pieces(b"a", 299.0, b"b")), (200, Pieces(b"a", 301.0, b"b")), 11.0, timeout=timeout
    )
    got = Messages()
    await proxy(scope(), got.receive, got.send)
    assert (got.body, got.finished) == (b"ab", True)
    got = Messages()
    with pytest.raises(AttemptTimedOut):
        await proxy(scope(), got.receive, got.send)
    assert (got.body, got.finished) == (b"a", False)
    got = Messages()
    await proxy(scope(), got.receive, got.send)
    assert got.status == 504
    assert engine.open == 0
    await proxy.client.close()


async def test_rule_43_the_time_to_the_head_begins_with_the_end_of_an_upload():
    async def talk(line):
        await line.body(await noted(line))
        await line.gone()

    async with proxied(talk, timeout=Timeout(total=None, attempt=0.5, read=60.0)) as world:
        reader, writer = await world.connect()
        writer.write(b"PUT /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 100000\r\n\r\nhalf")
        await world.peer.until(lambda: world.heads)
        reading = asyncio.create_task(reader.read())
        done, _ = await asyncio.wait({reading}, timeout=1.0)
        assert not done  # the caller takes its time, and more than an attempt has
        writer.write(b"x" * (100_000 - 4))
        async with asyncio.timeout(PATIENCE):
            got = Answer.of(await reading)
        assert (got.status, got.values(b"proxy-status")[0].split(b"; ")[1]) == (
            504,
            b"error=http_response_timeout",
        )
        writer.close()


async def test_rule_44_only_what_is_safe_is_tried_again():
    async with proxied(
        answer(b"", status=b"503 Busy"), answer(b"ok"), client={"max_retries": 1, "retry_delay": 0.001}
    ) as world:
        assert (await world.ask()).body == b"ok"
        assert len(world.heads) == 2
    for method, length in ((b"POST", 5), (b"PUT", 200_000)):  # not idempotent; read already, and not held
        async with proxied(answer(b"", status=b"503 Busy"), answer(b"ok"), client={"max_retries": 1}) as world:
            got = await world.ask(b"Content-Length: %d" % length, line=method + b" /x HTTP/1.1", body=b"x" * length)
            assert (got.status, len(world.heads)) == (503, 1)
    async with proxied(
        answer(b"", status=b"503 Busy"), answer(b"ok"), client={"max_retries": 1, "retry_delay": 0.001}
    ) as world:
        await world.ask(b"Content-Length: 5", line=b"PUT /x HTTP/1.1", body=b"hello")
        assert world.bodies == [b"hello", b"hello"]  # small, and held


FAULTS = [
    (ConnectFailed, 502, "destination_unavailable"),
    (Disconnected, 502, "connection_terminated"),
    (ProtocolError, 502, "http_protocol_error"),
    (AttemptTimedOut, 504, "http_response_timeout"),
    (DeadlineExceeded, 504, "http_response_timeout"),
]


@pytest.mark.parametrize(("fault", "status", "_"), FAULTS)
async def test_rule_45_a_fault_has_its_status(fault, status, _):
    _engine, proxy = scripted(fault)
    got = await told(proxy, (b"x-request-id", b"r-1"))
    assert got.status == status
    assert got.values(b"content-type") == [b"application/problem+json"]
    assert got.values(b"x-request-id") == [b"r-1"]
    assert b"upstream.test" in got.body  # its name, which is its host where nobody gave it another
    assert b"/x" not in got.body
    await proxy.client.close()


async def test_rule_45_a_refusal_says_when_to_come_again():
    engine, proxy = scripted(ConnectFailed, ConnectFailed, ConnectFailed, ConnectFailed, ConnectFailed, 200)
    for _ in range(5):
        await told(proxy)
    got = await told(proxy)
    assert got.status == 503
    assert 1 <= int(got.values(b"retry-after")[0]) <= 5
    assert got.values(b"proxy-status") == [b"fairlead; error=destination_unavailable; next-hop=upstream.test"]
    assert len(engine.requests) == 5
    await proxy.client.close()


@pytest.mark.parametrize(("fault", "_", "word"), FAULTS)
async def test_rule_46_proxy_status_says_what_happened(fault, _, word):
    _engine, proxy = scripted(fault, client={"name": 'the "shop"'}, via="edge")
    got = await told(proxy)
    assert got.values(b"proxy-status") == [f'edge; error={word}; next-hop="the \\"shop\\""'.encode()]
    await proxy.client.close()


async def test_rule_46_down_to_the_cause():
    async with HTTPClient(f"http://127.0.0.1:{closed_port()}", max_retries=0) as client:
        got = await told(ReverseProxy(client))
        assert b"error=connection_refused" in got.values(b"proxy-status")[0]

    async def no_tls(line):
        await line.say(answer())

    for talk, tls, word in (
        (no_tls, None, b"tls_protocol_error"),
        (mute, authority().server("127.0.0.1"), b"tls_certificate_error"),
    ):
        async with Peer(talk, tls=tls) as peer, HTTPClient(f"https://127.0.0.1:{peer.port}", max_retries=0) as client:
            got = await told(ReverseProxy(client))
            assert b"error=" + word in got.values(b"proxy-status")[0]
    async with HTTPClient("http://nobody.invalid", max_retries=0) as client:
        got = await told(ReverseProxy(client))
        assert b"error=dns_" in got.values(b"proxy-status")[0]


async def test_rule_47_streams_are_cut_when_their_time_is_over():
    async def talk(line):
        await noted(line)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")

    async with proxied(talk) as world:
        reader, writer = await world.connect()
        writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"data: 1\n\n")
            await world.client.close(drain=0.01)
            assert not (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()
        await world.peer.empty()
        assert (await world.ask()).status == 500  # a client that is closed answers nobody


async def test_rule_50_http_2_has_no_fields_of_a_connection():
    async with proxied(answer(b"ok", b"Connection: keep-alive, X-A", b"Keep-Alive: timeout=5", b"X-A: 1")) as world:
        got = await told(world.proxy, http_version="2")
        assert [name for name, _ in got.sent[0]["headers"]] == [b"content-length"]
        assert world.values(b"via") == [b"2 fairlead"]
        assert world.values(TE) == world.values(CL) == []
        await told(world.proxy, http_version="2", method="POST", body=(b"he", b"llo"))
        assert (world.values(TE), world.bodies[-1]) == ([b"chunked"], b"hello")
        await told(world.proxy, (CL, b"5"), http_version="2", method="POST", body=(b"he", b"llo"))
        assert (world.values(CL), world.bodies[-1]) == ([b"5"], b"hello")
        got = await told(world.proxy, (CL, b"x"), http_version="2", method="POST")
        assert (got.status, got.values(b"connection")) == (400, [])
