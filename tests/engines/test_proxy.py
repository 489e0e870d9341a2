"""Through a proxy: what it is asked, and what its refusal is called."""

from __future__ import annotations

import asyncio
from base64 import b64decode

import pytest

from fairlead import engines
from fairlead.core import Call, Timeout
from fairlead.engines import Wire
from fairlead.engines.proxy import parse
from fairlead.errors import ConfigError, ConnectFailed, Knowledge
from fairlead.message import Request
from fairlead.response import Response
from peers import PATIENCE, Line, Peer, answer, authority, echo


async def ask(wire: Wire, name: engines.EngineName, url: str) -> list[Response]:
    """The same question twice, on one engine."""
    engine = engines.create(name, wire)
    try:
        return [await engine.send(Call(Request("GET", url), Timeout(total=PATIENCE))) for _ in range(2)]
    finally:
        await engine.close()


async def pipe(line: Line, port: int) -> None:
    """Join the line to a port, both ways, until one side ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def there() -> None:
        while data := await line.reader.read(65536):
            writer.write(data)
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


@pytest.mark.parametrize("name", ["httpx2", "aiohttp", "native"])
async def test_a_plain_request_names_its_whole_url(name):
    async with Peer(proxy) as peer:
        wire = Wire(proxy=f"http://me:p%40ss@127.0.0.1:{peer.port}")
        responses = await ask(wire, name, "http://shop.example/a?b=%20&")
        assert {response.content.replace(b":80/", b"/") for response in responses} == {b"http://shop.example/a?b=%20&"}
        assert peer.requests[0].get(b"host") == b"shop.example"
        kind, _, secret = (peer.requests[0].get(b"proxy-authorization") or b"").partition(b" ")
        assert (kind, b64decode(secret)) == (b"Basic", b"me:p@ss")


@pytest.mark.parametrize("name", ["httpx2", "aiohttp", "native"])
async def test_tls_goes_through_a_tunnel(name):
    async with Peer(echo, tls=authority().server("127.0.0.1")) as peer, Peer(proxy) as middle:
        wire = Wire(proxy=middle.url, verify=authority().client())
        await ask(wire, name, f"{peer.url}/secret")
        assert [seen.method for seen in middle.requests] == ["CONNECT"]
        assert [seen.target for seen in peer.requests] == ["/secret", "/secret"]
        assert (peer.accepted, middle.accepted) == (1, 1)
        await middle.empty()


@pytest.mark.parametrize("name", ["httpx2", "aiohttp"])
async def test_a_proxy_that_refuses_a_tunnel_has_not_connected(name):
    async def talk(line: Line) -> None:
        await line.request()
        await line.say(answer(b"no", status=b"407 Proxy Authentication Required"))

    async with Peer(talk) as peer:
        with pytest.raises(ConnectFailed) as caught:
            await ask(Wire(proxy=peer.url), name, "https://shop.example")
        assert caught.value.knowledge is Knowledge.NOT_SENT
        await peer.empty()


async def socks(line: Line) -> None:
    """SOCKS 5 (RFC 1928), without a password."""
    assert await line.reader.readexactly(3) == b"\x05\x01\x00"
    await line.say(b"\x05\x00")
    *_, kind, size = await line.reader.readexactly(5)
    assert kind == 3
    line.peer.words.append(await line.reader.readexactly(size + 2))
    await line.say(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
    await echo(line)


async def test_socks_is_spoken_by_httpx2():
    async with Peer(socks) as peer:
        wire = Wire(proxy=f"socks5://127.0.0.1:{peer.port}")
        responses = await ask(wire, "httpx2", "http://shop.example/a")
        assert [response.status_code for response in responses] == [200, 200]
        assert peer.words == [b"shop.example\x00\x50"]
        assert [seen.target for seen in peer.requests] == ["/a", "/a"]


def test_socks_is_not_spoken_by_aiohttp():
    with pytest.raises(ConfigError, match="use http://, or engine='httpx2'"):
        engines.create("aiohttp", Wire(proxy="socks5://127.0.0.1:1"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host/path",
        "http://[",
        "http://u:hunter2@",
    ],
)
def test_what_is_no_proxy_is_said_to_be_so(url):
    with pytest.raises(ConfigError, match="is not a proxy's URL") as caught:
        parse(url)
    assert "hunter2" not in str(caught.value)


def test_a_proxys_url_in_parts():
    assert parse("http://proxy.example") == ("http", "proxy.example", 80, None)
    assert parse("socks5h://me:p%40ss@[::1]:9/") == ("socks5h", "::1", 9, ("me", "p@ss"))
