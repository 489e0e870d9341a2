"""The proxy on each of the servers that people run: what their callers see of an answer that is cut short, and of one that is not."""

import asyncio

import pytest

from fairlead.client import HTTPClient
from fairlead.proxy import ReverseProxy
from peers import PATIENCE, Peer, answer, says
from servers import SERVERS, serving

CUT = [
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
]


async def read(port, head=b"GET /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n", body=b""):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + body)
    said = b""
    async with asyncio.timeout(PATIENCE):
        try:
            while chunk := await reader.read(65536):
                said += chunk
        except ConnectionResetError:
            pass
    writer.close()
    return said


@pytest.mark.parametrize("cut", CUT)
@pytest.mark.parametrize("server", SERVERS)
async def test_a_truncated_answer_is_never_whole(server, cut):
    async def talk(line):
        await line.request()
        await line.say(cut)
        line.hang_up()

    async with (
        Peer(talk) as peer,
        HTTPClient(peer.url, max_retries=0) as client,
        serving(server, ReverseProxy(client)) as port,
    ):
        said = await read(port)
        assert not said.endswith(b"0\r\n\r\n")
        assert b"content-length: 4" not in said.lower()


@pytest.mark.parametrize("server", SERVERS)
async def test_what_is_whole_arrives_whole(server):
    async def talk(line):
        while (seen := await line.request()) is not None:
            await line.say(answer(seen.body[::-1], b"Set-Cookie: a=1", b"Set-Cookie: b=2"))

    async with Peer(talk) as peer, HTTPClient(peer.url) as client, serving(server, ReverseProxy(client)) as port:
        body = bytes(range(256)) * 1024
        head = b"POST /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        said = await read(port, head, body)
        assert said.endswith(b"\r\n\r\n" + body[::-1])
        assert said.lower().count(b"set-cookie: ") == 2


@pytest.mark.parametrize("server", SERVERS)
async def test_a_caller_that_leaves_ends_the_call(server):
    async def talk(line):
        await line.request()

    async with Peer(talk) as peer, HTTPClient(peer.url) as client, serving(server, ReverseProxy(client)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
        await peer.until(lambda: len(peer.requests) == 1)
        writer.close()
        await peer.empty()


@pytest.mark.parametrize("server", SERVERS)
async def test_an_answer_without_a_body_leaves_the_connection_usable(server):
    async with (
        Peer(says(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n")) as peer,
        HTTPClient(peer.url) as client,
        serving(server, ReverseProxy(client)) as port,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):
                writer.write(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
                assert b" 304 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
