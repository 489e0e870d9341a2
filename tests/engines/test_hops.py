"""Redirects, cookies and the end of a client, on real sockets and on every engine."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from fairlead import ConfigError, HTTPClient, engines
from fairlead.auth import Bearer
from fairlead.errors import ProtocolError
from fairlead.policies import CookieJar
from peers import PATIENCE, Line, Peer, answer, authority, says

NAMES = ("native", "httpx2", "aiohttp")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> engines.EngineName:
    return request.param


def to(location: bytes, status: bytes = b"302 Found", body: bytes = b"") -> bytes:
    return answer(body, b"Location: " + location, status=status)


def client(name: engines.EngineName, url: str, **options) -> HTTPClient:
    return HTTPClient(url, engine=name, verify=authority().client(), timeout=PATIENCE, **options)


class TestRedirects:
    async def test_within_an_origin_on_one_connection(self, name):
        talk = says(to(b"/one"), to(b"two?x=1", b"307 Temporary Redirect", b"moved"), answer(b"here"))
        async with Peer(talk) as peer, client(name, peer.url, follow_redirects=True) as shop:
            response = await shop.get("/start/", auth=Bearer("t"))
            assert (response.content, response.url) == (b"here", f"{peer.url}/two?x=1")
            assert [seen.target for seen in peer.requests] == ["/start/", "/one", "/two?x=1"]
            assert [seen.get(b"authorization") for seen in peer.requests] == [b"Bearer t"] * 3
            assert peer.accepted == 1

    async def test_to_another_origin_and_back_without_credentials(self, name):
        async with AsyncExitStack() as stack:
            here = await stack.enter_async_context(Peer(says()))
            other = await stack.enter_async_context(Peer(says(to(here.url.encode() + b"/back"))))
            here.talk = says(to(other.url.encode() + b"/x"), answer(b"here"))
            shop = await stack.enter_async_context(
                client(name, here.url, follow_redirects=True, auth=Bearer("t"), headers={"X-Api-Key": "k"})
            )
            assert (await shop.post("/", content=b"body")).content == b"here"
            assert [seen.get(b"authorization") for seen in here.requests] == [b"Bearer t", None]
            assert [seen.get(b"x-api-key") for seen in (*here.requests, *other.requests)] == [b"k", None, None]
            (seen,) = other.requests
            assert (seen.method, seen.body, seen.get(b"authorization")) == ("GET", b"", None)
            assert seen.get(b"host") == f"127.0.0.1:{other.port}".encode()
            assert seen.get(b"content-length") is None

    async def test_from_tls_to_none_credentials_do_not_go(self, name):
        tls = authority().server("127.0.0.1")
        async with AsyncExitStack() as stack:
            plain = await stack.enter_async_context(Peer(says(answer(b"plain"))))
            secure = await stack.enter_async_context(Peer(says(to(plain.url.encode() + b"/")), tls=tls))
            shop = await stack.enter_async_context(
                client(name, secure.url, follow_redirects=True, auth=Bearer("t"), cookies=CookieJar())
            )
            assert (await shop.get("/")).content == b"plain"
            assert secure.requests[0].get(b"authorization") == b"Bearer t"
            assert plain.requests[0].get(b"authorization") is None

    async def test_a_body_is_sent_again(self, name):
        async with (
            Peer(says(to(b"/again", b"308 Permanent Redirect"), answer(b"here"))) as peer,
            client(name, peer.url, follow_redirects=True) as shop,
        ):

            def body():
                yield b"one"
                yield b"two"

            assert (await shop.post("/", content=body)).content == b"here"
            assert [(seen.method, seen.body) for seen in peer.requests] == [("POST", b"onetwo")] * 2

    async def test_octets_of_a_location_arrive_as_they_are(self, name):
        async with (
            Peer(says(to(b"/caf\xc3\xa9 \xe9"), answer(b"here"))) as peer,
            client(name, peer.url, follow_redirects=True) as shop,
        ):
            await shop.get("/")
            assert peer.requests[1].target == "/caf%C3%A9%20%E9"

    async def test_two_locations_are_refused(self, name):
        talk = says(answer(b"", b"Location: /1", b"Location: /2", status=b"302 Found"))
        async with Peer(talk) as peer, client(name, peer.url, follow_redirects=True) as shop:
            with pytest.raises(ProtocolError, match="more than one Location"):
                await shop.get("/")
            assert len(peer.requests) == 1

    async def test_a_stream_follows_and_gives_up_what_it_leaves(self, name):
        async def talk(line: Line) -> None:
            while (seen := await line.request()) is not None:
                if seen.target == "/":
                    await line.say(b"HTTP/1.1 302 Found\r\nLocation: /on\r\nContent-Length: 100000\r\n\r\nbegun")
                    await line.gone()
                    return
                await line.say(answer(b"here"))

        async with Peer(talk) as peer, client(name, peer.url, follow_redirects=True, max_connections=1) as shop:
            async with shop.stream("GET", "/") as response:
                assert await response.aread() == b"here"
                assert [hop.status_code for hop in response.history] == [302]
            assert [seen.target for seen in peer.requests] == ["/", "/on"]


async def test_cookies_of_a_session(name):
    talk = says(
        answer(b"", b"Set-Cookie: a=1; Path=/; HttpOnly", b"Set-Cookie: b=2; Max-Age=60", status=b"200 OK"),
        to(b"/in/here", b"303 See Other", b""),
        answer(b"", b"set-cookie: a=; Max-Age=0; Path=/"),
        answer(b"here"),
    )
    jar = CookieJar()
    async with Peer(talk) as peer, client(name, peer.url, follow_redirects=True) as shop:
        await shop.get("/login", cookies=jar)
        await shop.post("/in", data={"user": "ada"}, cookies=jar)
        await shop.get("/", cookies=jar)
        await shop.get("/")
        assert [seen.get(b"cookie") for seen in peer.requests] == [None, b"a=1; b=2", b"a=1; b=2", b"b=2", None]


class TestClosing:
    async def hanging(self, line: Line) -> None:
        while (seen := await line.request()) is not None:
            if seen.target == "/slow":
                await self.gate.wait()
            await line.say(answer(b"here"))

    async def test_a_call_under_way_is_answered(self, name):
        self.gate = asyncio.Event()
        async with Peer(self.hanging) as peer:
            shop = client(name, peer.url)
            call = asyncio.create_task(shop.get("/slow"))
            await peer.until(lambda: len(peer.requests) == 1)
            closing = asyncio.create_task(shop.close(drain=PATIENCE))
            await asyncio.sleep(0)
            assert not closing.done()
            with pytest.raises(ConfigError, match="closed"):
                await shop.get("/")
            self.gate.set()
            async with asyncio.timeout(PATIENCE):
                await closing
                assert (await call).content == b"here"
                await peer.empty()

    async def test_one_that_is_not_in_time_is_ended(self, name):
        self.gate = asyncio.Event()
        async with Peer(self.hanging) as peer:
            shop = client(name, peer.url)
            call = asyncio.create_task(shop.get("/slow"))
            await peer.until(lambda: len(peer.requests) == 1)
            async with asyncio.timeout(PATIENCE):
                await shop.close(drain=0.05)
                with pytest.raises(ConfigError, match="closed"):
                    await call
                self.gate.set()
                await peer.empty()

    async def test_a_stream_is_read_to_its_end(self, name):
        gate = asyncio.Event()

        async def talk(line: Line) -> None:
            await line.request()
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")
            await gate.wait()
            await line.say(b"ended")

        async with Peer(talk) as peer:
            shop = client(name, peer.url)
            async with shop.stream("GET", "/") as response:
                chunks = response.aiter_bytes()
                assert await anext(chunks) == b"begun"
                closing = asyncio.create_task(shop.close(drain=PATIENCE))
                await asyncio.sleep(0)
                gate.set()
                assert b"".join([chunk async for chunk in chunks]) == b"ended"
            async with asyncio.timeout(PATIENCE):
                await closing
                await peer.empty()
