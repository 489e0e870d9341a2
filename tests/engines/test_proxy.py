"""Through a proxy: which one, what it is asked, and what its refusal is called."""

from __future__ import annotations

import asyncio
import gc
import ssl
from base64 import b64decode
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from fairlead import HTTPClient, Timeout, engines
from fairlead.core import Call
from fairlead.engines import Wire
from fairlead.engines.native.proxied import HEAD, NoTunnel, Tunnel
from fairlead.engines.proxy import Proxies, Proxy, parse
from fairlead.engines.transport import unread
from fairlead.errors import AttemptTimedOut, ConfigError, ConnectFailed, Knowledge, StatusError
from fairlead.message import Request
from fairlead.response import Response
from fairlead.testing import Cut, at_every_await, at_every_step
from fairlead.url import split
from peers import PATIENCE, Line, Peer, answer, authority, closed_port, echo, loops, moment

ENGINES = ("native", "httpx2", "aiohttp")
SECRET = "hunter2"


async def ask(wire: Wire, name: engines.EngineName, url: str, **options: Any) -> list[Response]:
    """The same question twice, on one engine."""
    engine = engines.create(name, wire)
    try:
        request = Request("GET", url, **options)
        return [await engine.send(Call(request, Timeout(total=PATIENCE))) for _ in range(2)]
    finally:
        await engine.close()


async def pipe(line: Line, port: int) -> None:
    """Join the line to a port, both ways, until one side ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def there() -> None:
        try:
            while data := await line.reader.read(65536):
                writer.write(data)
        except OSError:
            pass  # it was reset
        finally:
            writer.close()

    task = asyncio.create_task(there())
    try:
        while data := await reader.read(65536):
            await line.say(data)
    finally:
        task.cancel()
        writer.transport.abort()


async def proxy(line: Line) -> None:
    """Answers what it is asked for another, and opens tunnels."""
    while (seen := await line.request()) is not None:
        if seen.method == "CONNECT":
            await line.say(b"HTTP/1.1 200 Connected\r\n\r\n")
            await pipe(line, int(seen.target.rpartition(":")[2]))
        else:
            await line.say(answer(seen.target.encode()))


def saying(*pieces: bytes, then: str = "wait") -> Callable[[Line], Any]:
    """A proxy that answers the first request with these pieces, one by one, and then waits, or ends the connection."""

    async def talk(line: Line) -> None:
        await line.request()
        for piece in pieces:
            await line.say(piece)
            await asyncio.sleep(0)
        if then == "hang up":
            line.hang_up()
        elif then == "reset":
            line.reset()

    return talk


# Plain requests


@pytest.mark.parametrize("name", ENGINES)
async def test_a_plain_request_names_its_whole_url(name):
    async with Peer(proxy) as peer:
        wire = Wire(proxy=f"http://me:p%40ss@127.0.0.1:{peer.port}")
        responses = await ask(wire, name, "http://shop.example/a?b=%20&")
        assert {response.content.replace(b":80/", b"/") for response in responses} == {b"http://shop.example/a?b=%20&"}
        assert peer.requests[0].get(b"host") == b"shop.example"
        kind, _, secret = (peer.requests[0].get(b"proxy-authorization") or b"").partition(b" ")
        assert (kind, b64decode(secret)) == (b"Basic", b"me:p@ss")
        assert peer.accepted == 1, "its connection is kept"


@pytest.mark.parametrize("name", ENGINES)
async def test_without_credentials_none_are_sent(name):
    async with Peer(proxy) as peer:
        await ask(Wire(proxy=peer.url), name, "http://shop.example:8080/", headers={"X-Kept": "1"})
        assert peer.requests[0].get(b"proxy-authorization") is None
        assert peer.requests[0].get(b"x-kept") == b"1"
        assert peer.requests[0].get(b"host") == b"shop.example:8080"


@pytest.mark.parametrize("name", ENGINES)
async def test_credentials_in_other_alphabets_are_utf8(name):
    async with Peer(proxy) as peer:
        await ask(Wire(proxy=f"http://j%C3%BCrgen:%E2%82%AC@127.0.0.1:{peer.port}"), name, "http://shop.example/")
        secret = (peer.requests[0].get(b"proxy-authorization") or b"").partition(b" ")[2]
        assert b64decode(secret).decode() == "jürgen:€"


async def test_credentials_of_the_requests_own_are_kept():
    async with Peer(proxy) as peer:
        wire = Wire(proxy=f"http://me:{SECRET}@127.0.0.1:{peer.port}")
        await ask(wire, "native", "http://shop.example/", headers={"Proxy-Authorization": "Bearer mine"})
        assert [value for name, value in peer.requests[0].headers if name.lower() == b"proxy-authorization"] == [
            b"Bearer mine"
        ]


@pytest.mark.parametrize("name", ENGINES)
async def test_a_plain_request_goes_through_a_proxy_that_speaks_tls(name):
    async with Peer(proxy, tls=authority().server("127.0.0.1")) as peer:
        responses = await ask(Wire(proxy=peer.url, verify=authority().client()), name, "http://shop.example/a")
        assert [response.content.replace(b":80/", b"/") for response in responses] == [b"http://shop.example/a"] * 2
        assert peer.accepted == 1


async def test_bodies_and_streams_go_through_it():
    async def echoing(line: Line) -> None:
        while (seen := await line.request()) is not None:
            await line.say(answer(seen.body))

    async with Peer(echoing) as peer, HTTPClient("http://shop.example/v1", proxy=peer.url) as client:

        async def pieces():
            yield b"a"
            yield b"b"

        assert (await client.put("/x", content=pieces())).content == b"ab"
        async with client.stream("POST", "/y", content=b"c") as response:
            assert await response.aread() == b"c"
        assert [seen.target for seen in peer.requests] == ["http://shop.example/v1/x", "http://shop.example/v1/y"]


async def test_the_server_as_a_whole_is_asked_without_a_path():
    async with Peer(proxy) as peer:
        engine = engines.create("native", Wire(proxy=peer.url))
        request = Request.build("OPTIONS", split("http://shop.example/")[0], "*", Request("GET", "http://a").headers)
        await engine.send(Call(request, Timeout(total=PATIENCE)))
        await engine.close()
        assert peer.requests[0].target == "http://shop.example"


async def test_a_proxy_that_closes_unannounced_is_seen_before_the_next_request():
    looked_away = asyncio.Event()

    async def once(line: Line) -> None:
        seen = await line.request()
        assert seen is not None
        await line.say(answer(seen.target.encode()))
        await looked_away.wait()
        line.hang_up()

    async with Peer(once) as peer, HTTPClient("http://shop.example", proxy=peer.url, max_retries=0) as client:
        await client.get("/")
        (connection,) = client.engine._open
        connection.transport.pause_reading()  # as a loop that is busy elsewhere does not look
        looked_away.set()
        async with asyncio.timeout(PATIENCE):
            while not unread(connection.transport):
                await moment()
        connection._since = asyncio.get_running_loop().time()
        assert (await client.post("/")).content == b"http://shop.example/"
        assert peer.accepted == 2


@pytest.mark.parametrize("name", ENGINES)
async def test_its_answer_to_a_plain_request_is_an_answer(name):
    async with (
        Peer(saying(answer(b"who?", status=b"407 Proxy Authentication Required"))) as peer,
        HTTPClient("http://shop.example", proxy=peer.url, engine=name) as client,
    ):
        with pytest.raises(StatusError) as caught:
            await client.get("/")
        assert caught.value.status_code == 407


@pytest.mark.parametrize("name", ENGINES)
async def test_a_proxy_that_nobody_runs_is_named_and_not_the_origin(name):
    port = closed_port()
    for url in ("http://shop.example/", "https://shop.example/"):
        with pytest.raises(ConnectFailed, match=f"the proxy http://127.0.0.1:{port} refused the connection") as caught:
            await ask(Wire(proxy=f"http://me:{SECRET}@127.0.0.1:{port}"), name, url)
        assert caught.value.knowledge is Knowledge.NOT_SENT
        assert SECRET not in f"{caught.value!r}"


# Tunnels


@pytest.mark.parametrize("name", ENGINES)
async def test_tls_goes_through_a_tunnel(name):
    async with Peer(echo, tls=authority().server("127.0.0.1")) as peer, Peer(proxy) as middle:
        wire = Wire(proxy=f"http://me:{SECRET}@127.0.0.1:{middle.port}", verify=authority().client())
        await ask(wire, name, f"{peer.url}/secret")
        assert [seen.method for seen in middle.requests] == ["CONNECT"]
        assert middle.requests[0].target == f"127.0.0.1:{peer.port}"
        assert middle.requests[0].get(b"host") == f"127.0.0.1:{peer.port}".encode()
        assert b64decode((middle.requests[0].get(b"proxy-authorization") or b"")[6:]) == f"me:{SECRET}".encode()
        assert [seen.target for seen in peer.requests] == ["/secret", "/secret"]
        assert all(seen.get(b"proxy-authorization") is None for seen in peer.requests), "the origin is not told"
        assert (peer.accepted, middle.accepted) == (1, 1)
        await middle.empty()


@pytest.mark.parametrize("name", ENGINES)
async def test_tls_goes_through_a_tunnel_in_tls(name):
    """Both loops can: asyncio since Python 3.11, uvloop since it has `start_tls`."""
    async with (
        Peer(echo, tls=authority().server("127.0.0.1")) as peer,
        Peer(proxy, tls=authority().server("127.0.0.1")) as middle,
    ):
        wire = Wire(proxy=middle.url, verify=authority().client())
        engine = engines.create(name, wire)
        body = b"x" * 1_000_000
        for _ in range(2):
            request = Request("POST", f"{peer.url}/", content=body)
            assert (await engine.send(Call(request, Timeout(total=PATIENCE)))).content == body
        await engine.close()
        assert (peer.accepted, middle.accepted) == (1, 1)
        await middle.empty()
        await peer.empty()


async def test_the_certificate_of_the_proxy_is_checked_and_so_is_the_origins():
    async with Peer(proxy, tls=authority().server("other.example")) as middle:
        with pytest.raises(ConnectFailed, match=r"certificate of 127\.0\.0\.1 is not trusted"):
            await ask(Wire(proxy=middle.url, verify=authority().client()), "native", "https://shop.example")
        assert not middle.requests, "nothing was asked of who is not the proxy"
    async with Peer(echo, tls=authority().server("other.example")) as peer, Peer(proxy) as middle:
        with pytest.raises(ConnectFailed, match=r"certificate of 127\.0\.0\.1 is not trusted"):
            await ask(Wire(proxy=middle.url, verify=authority().client()), "native", peer.url)
        await middle.empty()


async def test_a_certificate_of_ones_own_is_not_shown_to_the_proxy(tmp_path):
    issued = authority().ca.issue_cert("me.example")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    authority().ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    curious = [authority().server("127.0.0.1") for _ in range(2)]
    for one in curious:
        one.verify_mode = ssl.CERT_OPTIONAL
        authority().ca.configure_trust(one)
    shown: list[object] = []

    async def noting(line: Line) -> None:
        shown.append(line.writer.get_extra_info("peercert"))
        await (proxy if len(shown) == 1 else echo)(line)

    async with Peer(noting, tls=curious[0]) as peer, Peer(noting, tls=curious[1]) as middle:
        wire = Wire(proxy=middle.url, verify=str(tmp_path / "ca.pem"), cert=str(tmp_path / "me.pem"))
        await ask(wire, "native", peer.url)
    assert shown[0] in {None, ()} or shown[0] == {}
    assert shown[1]
    with pytest.raises(ConfigError, match="would show cert= to the proxy"):
        engines.create("aiohttp", wire)


async def test_an_ipv6_host_is_named_in_brackets():
    async with Peer(saying(answer(status=b"403 Forbidden"))) as peer:
        with pytest.raises(ConnectFailed, match=r"answered 403 to CONNECT \[2001:db8::1\]:8443"):
            await ask(Wire(proxy=peer.url), "native", "https://[2001:db8::1]:8443")
        assert peer.requests[0].target == "[2001:db8::1]:8443"


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("status", "credentials", "told"),
    [
        (b"407 Proxy Authentication Required", "", "asks for credentials (407)"),
        (b"407 Proxy Authentication Required", f"me:{SECRET}@", "does not accept the credentials (407)"),
        (b"403 Forbidden", f"me:{SECRET}@", "answered 403 to CONNECT shop.example:443"),
        (b"502 Bad Gateway", "", "answered 502 to CONNECT shop.example:443"),
    ],
)
async def test_a_proxy_that_refuses_a_tunnel_has_not_connected(name, status, credentials, told):
    async def talk(line: Line) -> None:
        await line.request()
        await line.say(answer(b"no", b"X-Reason: hunted", status=status))

    async with Peer(talk) as peer:
        with pytest.raises(ConnectFailed) as caught:
            await ask(Wire(proxy=f"http://{credentials}127.0.0.1:{peer.port}"), name, "https://shop.example")
        error = caught.value
        assert (error.knowledge, error.phase) == (Knowledge.NOT_SENT, "connecting")
        assert f"the proxy {peer.url} {told}" in str(error)
        assert not {SECRET, "hunted"} & set(f"{error} {error!r} {error.__cause__!r}".replace("'", " ").split())
        await peer.empty()


async def told_at_once(data: bytes) -> str:
    """What is said of a proxy whose whole answer to CONNECT comes in one piece."""
    tunnel = Tunnel()
    tunnel.data_received(data)
    with pytest.raises(NoTunnel) as caught:
        await tunnel.open(parse("http://proxy.example:3128"), split("https://shop.example/")[0])
    return str(caught.value)


async def test_only_the_head_of_a_refusal_is_counted_and_not_its_body():
    refusal = answer(b"x" * 500_000, status=b"407 Proxy Authentication Required")
    assert "asks for credentials (407)" in await told_at_once(refusal)
    assert "asks for credentials (407)" in await told_at_once(b"HTTP/1.1 103 Hints\r\n\r\n" + refusal)
    assert "sent more than its answer" in await told_at_once(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500_000)


async def test_a_head_is_too_long_also_where_its_end_came_along():
    def head(size: int) -> bytes:
        return b"HTTP/1.1 407 No\r\nX: %b\r\n\r\n" % (b"x" * (size - len(b"HTTP/1.1 407 No\r\nX: \r\n\r\n")))

    hint = b"HTTP/1.1 103 Hints\r\n\r\n"
    long = f"answered CONNECT with a head of more than {HEAD} bytes"
    assert long not in await told_at_once(head(HEAD))
    assert long in await told_at_once(head(HEAD + 1))
    assert long not in await told_at_once(hint + head(HEAD - len(hint)))
    assert long in await told_at_once(hint + head(HEAD - len(hint) + 1))


JUNK = {
    "says nothing and closes": (saying(then="hang up"), "closed the connection before it answered"),
    "resets": (saying(then="reset"), "closed the connection before it answered"),
    "closes in its head": (saying(b"HTTP/1.1 200 Con", then="hang up"), "closed the connection before it answered"),
    "speaks another protocol": (saying(b"SSH-2.0-OpenSSH_9\r\n"), "does not answer as a proxy does"),
    "speaks another version": (saying(b"HTTP/2.0 200 OK\r\n\r\n"), "does not answer as a proxy does"),
    "has no status": (saying(b"HTTP/1.1 OK\r\n\r\n"), "does not answer as a proxy does"),
    "has a broken field": (saying(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "does not answer as a proxy does"),
    "folds a field": (saying(b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), "does not answer as a proxy does"),
    "never ends its head": (
        saying(*[b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 8192] * 9]),
        f"answered CONNECT with a head of more than {HEAD} bytes",
    ),
    "never ends what comes before": (
        saying(*[b"HTTP/1.1 103 Early Hints\r\nX: %b\r\n\r\n" % (b"x" * 8192)] * 9),
        f"answered CONNECT with a head of more than {HEAD} bytes",
    ),
    "sends more than its head": (saying(b"HTTP/1.1 200 OK\r\n\r\nhello"), "sent more than its answer"),
    "switches protocols": (saying(b"HTTP/1.1 101 Sure\r\nUpgrade: x\r\n\r\n"), "does not answer as a proxy does"),
}


@pytest.mark.parametrize("case", JUNK)
async def test_a_proxy_that_is_none_is_told_so(case):
    talk, told = JUNK[case]
    async with Peer(talk) as peer:
        engine = engines.create("native", Wire(proxy=f"http://me:{SECRET}@127.0.0.1:{peer.port}"))
        with pytest.raises(ConnectFailed) as caught:
            await engine.send(Call(Request("POST", "https://shop.example"), Timeout(total=PATIENCE)))
        assert f"the proxy {peer.url} {told}" in str(caught.value)
        assert caught.value.knowledge is Knowledge.NOT_SENT
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
        await peer.empty()
        await engine.close()


ODD = {
    "in single bytes": [bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"],
    "after others": [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    "with a length": [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"],
    "with chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
    "of HTTP/1.0": [b"HTTP/1.0 200 Connection established\r\n\r\n"],
    "201": [b"HTTP/1.1 201 Created\r\n\r\n"],
    "204": [b"HTTP/1.1 204 No Content\r\n\r\n"],
}


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_answer_opens_a_tunnel_all_the_same(case):
    async def odd(line: Line) -> None:
        seen = await line.request()
        assert seen is not None
        for piece in ODD[case]:
            await line.say(piece)
            await asyncio.sleep(0)
        await pipe(line, int(seen.target.rpartition(":")[2]))

    async with Peer(echo, tls=authority().server("127.0.0.1")) as peer, Peer(odd) as middle:
        await ask(Wire(proxy=middle.url, verify=authority().client()), "native", peer.url)
        assert len(peer.requests) == 2


@pytest.mark.parametrize("tls", [False, True], ids=["", "over TLS"])
@pytest.mark.parametrize("timeout", [Timeout(PATIENCE, connect=0.05), Timeout(0.05)], ids=["connect", "total"])
async def test_a_proxy_that_hangs_is_bounded_as_connecting_is(tls, timeout):
    async with Peer(saying(), tls=authority().server("127.0.0.1") if tls else None) as peer:
        engine = engines.create("native", Wire(proxy=peer.url, verify=authority().client()))
        with pytest.raises(AttemptTimedOut) as caught:
            await engine.send(Call(Request("GET", "https://shop.example"), timeout, clock=None))
        assert (caught.value.phase, caught.value.knowledge) == ("connecting", Knowledge.NOT_SENT)
        await peer.empty()
        await engine.close()


async def test_closing_ends_a_tunnel_that_is_being_asked_for():
    async with Peer(saying()) as peer:
        client = HTTPClient("https://shop.example", proxy=peer.url)
        call = asyncio.create_task(client.get("/"))
        await peer.until(lambda: len(peer.requests) == 1)
        async with asyncio.timeout(PATIENCE):
            await client.close(drain=0)
            with pytest.raises(ConfigError, match="closed"):
                await call
            await peer.empty()


async def test_a_refused_tunnel_is_tried_again_and_counts_against_the_upstream():
    async def later(line: Line) -> None:
        seen = await line.request()
        assert seen is not None
        if line.peer.accepted == 1:
            await line.say(answer(status=b"503 Service Unavailable"))
            return
        await line.say(b"HTTP/1.1 200 OK\r\n\r\n")
        await pipe(line, int(seen.target.rpartition(":")[2]))

    async with Peer(echo, tls=authority().server("127.0.0.1")) as peer, Peer(later) as middle:
        options: dict[str, Any] = {"proxy": middle.url, "verify": authority().client(), "retry_delay": 0.001}
        async with HTTPClient(peer.url, **options) as client:
            assert (await client.post("/", content=b"once")).content == b"once", "nothing was sent: any method may"
        assert len(peer.requests) == 1


# SOCKS


async def socks(line: Line) -> None:
    """SOCKS 5 (RFC 1928), without a password."""
    assert await line.reader.readexactly(3) == b"\x05\x01\x00"
    await line.say(b"\x05\x00")
    *_, kind, size = await line.reader.readexactly(5)
    assert kind == 3
    line.peer.words.append(await line.reader.readexactly(size + 2))
    await line.say(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
    await echo(line)


@pytest.mark.parametrize("name", ["native", "httpx2"])
async def test_socks_is_spoken_by_httpx2(name):
    async with Peer(socks) as peer:
        wire = Wire(proxy=f"socks5://127.0.0.1:{peer.port}")
        responses = await ask(wire, name, "http://shop.example/a")
        assert [response.status_code for response in responses] == [200, 200]
        assert peer.words == [b"shop.example\x00\x50"]
        assert [seen.target for seen in peer.requests] == ["/a", "/a"]


def test_socks_is_not_spoken_by_aiohttp():
    with pytest.raises(ConfigError, match="use http://, or engine='httpx2'") as caught:
        engines.create("aiohttp", Wire(proxy=f"socks5://me:{SECRET}@127.0.0.1:1"))
    assert SECRET not in str(caught.value)


# Which one


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host:0",
        "http://host/path",
        "http://host?query",
        "http://[",
        "http://u:hunter2@",
        "http://a%3Ab:hunter2@host",
    ],
)
def test_what_is_no_proxy_is_said_to_be_so(url):
    with pytest.raises(ConfigError, match=r"is not a proxy's URL|the name has a colon") as caught:
        HTTPClient("http://shop.example", proxy=url)
    assert SECRET not in str(caught.value)


def test_a_proxys_url_in_parts():
    assert parse("http://proxy.example") == ("http", "proxy.example", 80, None)
    assert parse("socks5h://me:p%40ss@[::1]:9/") == ("socks5h", "::1", 9, ("me", "p@ss"))


def test_its_credentials_are_in_no_text():
    wire = Wire(proxy=f"http://me:{SECRET}@proxy.example", cert=("a", "b", SECRET))
    found = Proxies.of(wire)
    client = HTTPClient("http://shop.example", proxy=wire.proxy)
    texts = [wire, found, parse(wire.proxy or ""), client, client.explain(), client.engine, vars(client.engine)]
    assert all(SECRET not in f"{text!r} {text!s}" for text in texts)
    assert str(parse(wire.proxy or "")) == "http://proxy.example:80"


NAMES = [name for scheme in ("http", "https", "all", "no") for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*NAMES, "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def to(url: str, **options: Any) -> str | None:
    """The proxy that a client built now uses for that URL."""
    proxies = Proxies.of(Wire(trust_env=True, **options))
    found = proxies.to(split(url)[0]) if proxies is not None else None
    return None if found is None else str(found)


class TestEnvironment:
    async def test_it_is_not_read_unless_asked_for(self, environment):
        environment.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        async with Peer(echo) as peer, HTTPClient(peer.url) as client:
            await client.get("/")
            assert peer.requests[0].target == "/"

    @pytest.mark.parametrize("name", ENGINES)
    async def test_it_is_read_when_the_client_is_built(self, environment, name):
        async with Peer(proxy) as peer:
            environment.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{peer.port}")
            environment.setenv("NO_PROXY", "direct.example")
            client = HTTPClient(trust_env=True, engine=name)
            environment.delenv("HTTP_PROXY")
            response = await client.get("http://shop.example/a")
            await client.close()
            assert response.content.replace(b":80/", b"/") == b"http://shop.example/a"
            assert peer.requests[0].get(b"proxy-authorization") == b"Basic bWU6cEBzcw=="

    @pytest.mark.parametrize("name", ENGINES)
    async def test_what_it_exempts_is_reached_without(self, environment, name):
        environment.setenv("ALL_PROXY", f"http://127.0.0.1:{closed_port()}")
        environment.setenv("NO_PROXY", "127.0.0.0/8")
        async with Peer(echo) as peer, HTTPClient(peer.url, trust_env=True, engine=name) as client:
            await client.get("/")
            assert peer.requests[0].target == "/"

    @pytest.mark.parametrize(
        ("variables", "plain", "secure"),
        [
            ({}, None, None),
            ({"http_proxy": "http://a:1"}, "http://a:1", None),
            ({"HTTP_PROXY": "http://a:1"}, "http://a:1", None),
            ({"https_proxy": "http://a:1"}, None, "http://a:1"),
            ({"HTTPS_PROXY": "https://a:1"}, None, "https://a:1"),
            ({"ALL_PROXY": "http://a:1"}, "http://a:1", "http://a:1"),
            ({"all_proxy": "socks5://a"}, "socks5://a:1080", "socks5://a:1080"),
            ({"ALL_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1", "http://b:1"),
            ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}, "http://a:1", None),
            ({"http_proxy": "", "HTTP_PROXY": "http://b:1"}, None, None),
            ({"http_proxy": "", "ALL_PROXY": "http://b:1"}, "http://b:1", "http://b:1"),
            ({"HTTP_PROXY": "a:3128"}, "http://a:3128", None),
            ({"HTTP_PROXY": " me:pw@a "}, "http://a:80", None),
            ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None, None),
            ({"http_proxy": "http://a:1", "REQUEST_METHOD": "GET"}, "http://a:1", None),
            ({"HTTPS_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None, "http://a:1"),
            ({"HTTP_PROXY": "http://a:1", "ALL_PROXY": "http://b:1", "REQUEST_METHOD": ""}, "http://b:1", "http://b:1"),
        ],
    )
    def test_the_variable_that_counts(self, environment, variables, plain, secure):
        for name, value in variables.items():
            environment.setenv(name, value)
        assert (to("http://shop.example"), to("https://shop.example")) == (plain, secure)

    def test_a_proxy_that_was_named_wins(self, environment):
        environment.setenv("ALL_PROXY", "http://a:1")
        environment.setenv("NO_PROXY", "direct.example")
        assert to("http://shop.example", proxy="http://b:1") == "http://b:1"
        assert to("http://direct.example", proxy="http://b:1") is None

    def test_what_is_no_proxy_is_named_by_its_variable(self, environment):
        environment.setenv("HTTPS_PROXY", f"ftp://me:{SECRET}@host")
        with pytest.raises(ConfigError, match="HTTPS_PROXY='ftp://host' is not a proxy's URL") as caught:
            HTTPClient("http://shop.example", trust_env=True)
        assert SECRET not in str(caught.value)

    async def test_one_that_speaks_socks_takes_the_engine_that_does(self, environment):
        async with Peer(socks) as peer:
            environment.setenv("ALL_PROXY", f"socks5://127.0.0.1:{peer.port}")
            async with HTTPClient("http://shop.example", trust_env=True) as client:
                await client.get("/")
                assert "then the httpx2 engine" in client.explain()

    def test_a_unix_socket_needs_no_proxy(self, environment):
        environment.setenv("ALL_PROXY", "http://a:1")
        assert to("http://shop.example", uds="/run/app.sock") is None

    def test_a_guard_and_a_proxy_of_the_environment_are_told_apart(self, environment):
        assert HTTPClient("http://shop.example", trust_env=True, guard=engines.Guard())
        environment.setenv("ALL_PROXY", f"http://me:{SECRET}@a:1")
        with pytest.raises(ConfigError, match="nobody sees them") as caught:
            HTTPClient("http://shop.example", trust_env=True, guard=engines.Guard())
        assert SECRET not in str(caught.value)

    def test_the_class_and_the_environment_of_a_client_may_ask_for_it(self, environment):
        class Shop(HTTPClient, base_url="http://shop.example", trust_env=True):
            pass

        environment.setenv("ALL_PROXY", "http://a:1")
        assert Shop().engine._dialer.proxies is not None
        environment.setenv("SHOP__TRUST_ENV", "false")
        assert Shop().engine._dialer.proxies is None


EXEMPT = [
    # The first ones are those of curl's own tests, as far as curl and others agree.
    ("http://www.example.com", "localhost,.example.com,.example.de", True),
    ("http://www.example.com.", "localhost,.example.com,.example.de", True),
    ("http://example.com", "localhost,.example.com,.example.de", True),
    ("http://www.example.com", "localhost,www.example.com.,.example.de", True),
    ("http://example.com", "localhost,example.com,.example.de", True),
    ("http://www.example.com", "localhost,example.com", True),
    ("http://127.0.0.1", "127.0.0.1,localhost,", True),
    ("http://127.0.0.1", "127.0.0.1/8,localhost,", True),
    ("http://127.0.0.1", "localhost,127.0.0.1.127.0.0.1", False),
    ("http://localhost", "127.0.0.1,localhost", True),
    ("http://foobar", "barfoo", False),
    ("http://192.168.0.1", "foobar", False),
    ("http://192.168.0.1", "192.168.0.0/16", True),
    ("http://192.168.0.1", "192.168.0.0/32", False),
    ("http://192.168.0.1", "192.168.0.0", False),
    ("http://192.168.1.1", "foo, bar, 192.168.0.0/24", False),
    ("http://192.168.1.1", "foo bar 192.168.0.0/16", True),
    ("http://[::1]", "foo, bar, 192.168.0.0/16", False),
    ("http://[::1]", "foo, bar, ::1/64", True),
    ("http://BAr", "foo,,,,,              bar, ::1/64", True),
    ("http://www.example.com", "www2.example.com, .example.net", False),
    ("http://nonexample.com", ".example.com, .example.net", False),
    # And those of Go's.
    ("http://192.168.1.2", "192.168.1.2:81", False),
    ("http://192.168.1.2:81", "192.168.1.2:81", True),
    ("http://10.0.0.2", "10.0.0.0/30", True),
    ("http://10.0.0.5", "10.0.0.0/30", False),
    ("http://[2001:db8::52:0:1]", "2001:db8::52:0:1", True),
    ("http://[2001:db8::52:0:2]", "[2001:db8::52:0:2]:443", False),
    ("https://[2001:db8::52:0:2]", "[2001:db8::52:0:2]:443", True),
    ("http://[2002:db8:a::123]", "2002:db8:a::45/64", True),
    ("http://[2001:db8::1]", "[2001:db8::]/32", True),
    ("http://[::1]", "[::1]", True),
    ("http://[::1]:8080", "[::1]", True),
    ("http://wildcard.io", "*.wildcard.io", False),
    ("http://nested.wildcard.io", "*.wildcard.io", True),
    ("http://awildcard.io", "*.wildcard.io", False),
    ("http://foofoobar.com", "foobar.com", False),
    ("http://example.com", ":1", False),
    ("http://example.com", "*", True),
    ("http://example.com", "other.example,*", True),
    ("http://example.com:8080", "example.com:8080", True),
    ("http://www.example.com:8080", "example.com:8080", True),
    ("http://example.com", "example.com:8080", False),
    ("https://example.com", "example.com:443", True),
    ("http://www.\u793a\u4f8b.com", ".\u793a\u4f8b.com", True),
    ("http://\u793a\u4f8b.com", "xn--fsq092h.com", True),
    ("http://10.0.0.5", "10.0.0.0/99", False),
    ("http://example.com", "", False),
    ("http://example.com", "a..b", False),
    ("http://1.2.3.4", "3.4", False),
]


@pytest.mark.parametrize(("url", "exempt", "direct"), EXEMPT)
def test_who_is_exempt(environment, url, exempt, direct):
    environment.setenv("ALL_PROXY", "http://proxy.example:3128")
    environment.setenv("NO_PROXY", exempt)
    assert to(url) == (None if direct else "http://proxy.example:3128")


def test_the_lower_case_no_proxy_wins(environment):
    environment.setenv("ALL_PROXY", "http://proxy.example:3128")
    environment.setenv("NO_PROXY", "shop.example")
    environment.setenv("no_proxy", "other.example")
    assert to("http://shop.example") is not None
    assert to("http://other.example") is None


# Nothing is left behind


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # of the descriptor that reads the directory
            found += str(entry.readlink()).startswith("socket:")
    return found


def scened(scheme: str, proxy_tls: bool) -> Callable[[Cut], Any]:
    tls, trusted = authority().server("127.0.0.1"), authority().client()

    async def story(cut: Cut) -> None:
        before = sockets()
        async with AsyncExitStack() as stack:
            peer = await stack.enter_async_context(Peer(echo, tls=tls if scheme == "https" else None))
            middle = await stack.enter_async_context(Peer(proxy, tls=tls if proxy_tls else None))
            options: dict[str, Any] = {"proxy": middle.url, "verify": trusted, "max_retries": 0}
            client = HTTPClient(peer.url, **options)
            await cut(client.get("/"))
            assert (await client.post("/", content=b"next")).status_code == 200
            async with asyncio.timeout(PATIENCE):
                await client.close()
            await middle.empty()
            await peer.empty()
            assert not client.engine._waits._timers
            ours = {asyncio.current_task(), *peer.tasks, *middle.tasks}
            for _ in range(3):
                await asyncio.sleep(0)
            assert not asyncio.all_tasks() - ours
        gc.collect()
        assert sockets() == before

    return story


WAYS = [("http", False), ("https", False), ("http", True), ("https", True)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("loop", loops(), ids=lambda loop: loop.__module__.partition(".")[0])
@pytest.mark.parametrize(("scheme", "proxy_tls"), WAYS)
def test_an_await_that_fails_or_is_cancelled_leaves_nothing(scheme, proxy_tls, loop):
    assert at_every_await(scened(scheme, proxy_tls), loop_factory=loop) >= 3


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("scheme", "proxy_tls"), [("http", False), ("https", False)])
def test_a_cancellation_between_any_two_callbacks_leaves_nothing(scheme, proxy_tls):
    assert at_every_step(scened(scheme, proxy_tls), real=True) >= 3


def test_proxies_without_an_exemption_lead_everywhere():
    one = Proxy("http", "proxy.example", 3128, None)
    assert Proxies({"http": one}).to(split("http://shop.example")[0]) == one
    assert Proxies({"http": one}).to(split("https://shop.example")[0]) is None
