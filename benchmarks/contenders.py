"""The clients that are measured, each as its own documentation shows it, one interface over all.

    python benchmarks/contenders.py fairlead-full http://127.0.0.1:9000/small --requests 20000 --concurrency 50

prints what one client costs under that load, in a process of its own. `Setting` is what they are all told; what they are not told
is as they have it by default. (httpx keeps 20 connections, so that 50 callers reconnect; told to keep them all, it costs
three times as much.)
"""

import argparse
import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PIECE = b"x" * (64 * 1024)


@dataclass(frozen=True)
class Setting:
    origin: str
    concurrency: int = 50
    connections: int | None = None
    """At most; None leaves everyone's own default."""
    authority: str | None = None
    """The file of the certificate authority to trust."""
    stub: bool = False
    """Whether Fairlead's own clients have an engine that answers at once: what is left is everything above it."""

    @property
    def tls(self):
        return ssl.create_default_context(cafile=self.authority) if self.authority else None

    def pem(self):
        return Path(self.authority).read_bytes()


async def pieces(size):
    for _ in range(size // len(PIECE)):
        yield PIECE


async def count(chunks):
    total = 0
    async for chunk in chunks:
        total += len(chunk)
    return total


class Exchange(asyncio.BufferedProtocol):
    """The floor: a bare parser on a bare transport, with nothing protected."""

    buffer = memoryview(bytearray(64 * 1024))  # one for all: a read is one synchronous step

    def connection_made(self, transport):
        import httptools

        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.parser.feed_data(self.buffer[:nbytes])

    def on_message_begin(self):
        self.body = []

    def on_body(self, chunk):
        self.body.append(chunk)

    def on_message_complete(self):
        self.answer.set_result(b"".join(self.body))


class Floor:
    def __init__(self, setting):
        import msgspec

        self.decode = msgspec.json.decode
        self.to = urlsplit(setting.origin)
        self.tls = setting.tls
        self.idle = []
        self.loop = asyncio.get_running_loop()

    def at(self, path):
        return f"GET {path} HTTP/1.1\r\nhost: {self.to.netloc}\r\naccept: */*\r\n\r\n".encode()

    async def read(self, head):
        if self.idle:
            exchange = self.idle.pop()
        else:
            _, exchange = await self.loop.create_connection(Exchange, self.to.hostname, self.to.port, ssl=self.tls)
        exchange.answer = self.loop.create_future()
        exchange.transport.write(head)
        body = await exchange.answer
        self.idle.append(exchange)
        return body

    async def get(self, head):
        return self.decode(await self.read(head))


@asynccontextmanager
async def floor(setting):
    made = Floor(setting)
    yield made
    for exchange in made.idle:
        exchange.transport.abort()


class Client:
    """One of the clients below: where to, as it takes it, and the four things that are asked of it."""

    def __init__(self, client, origin=""):
        self.client = client
        self.origin = origin

    def at(self, path):
        return self.origin + path


class Fairlead(Client):
    async def get(self, path):
        return (await self.client.get(path)).json()

    async def read(self, path):
        return (await self.client.get(path)).content

    async def download(self, path):
        async with self.client.stream("GET", path) as response:
            return await count(response.aiter_bytes())

    async def upload(self, path, size):
        return (await self.client.post(path, content=pieces(size), headers={"content-length": str(size)})).json()


@asynccontextmanager
async def fairlead(setting, **options):
    from fairlead import HTTPClient

    engine = {"engine": Stub()} if setting.stub else {"verify": setting.tls or True}
    async with HTTPClient(setting.origin, timeout=300.0, **engine, **options) as client:
        yield Fairlead(client)


class Stub:
    """An engine that moves no bytes."""

    def __init__(self):
        self.pairs = [(b"content-type", b"application/json"), (b"content-length", b"11")]

    async def send(self, call):
        from fairlead import Response

        return Response.received(200, self.pairs, b'{"id": 123}', call.request, 0.0)

    async def close(self):
        pass


def policy(name, setting):
    """A policy by its name, as a client has it that asks for it."""
    from fairlead import auth, policies
    from fairlead.message import Response

    if name == "Fallback":
        return policies.Fallback(Response(200, json={}))
    if name == "ConcurrencyLimit":
        return policies.ConcurrencyLimit(limit=setting.connections or 100)
    if name == "Cookies":
        return policies.Cookies(policies.CookieJar())
    if name == "Bearer":
        return auth.Bearer("a-token-of-some-length")
    if name == "Slow calls":
        return policies.CircuitBreaker(slow_after=1.0)
    if name == "Aimd":
        return policies.ConcurrencyLimit(limit=policies.Aimd())
    if name == "RateLimit":
        return policies.RateLimit(1e9)
    return getattr(policies, name)()


def fairlead_with(*names):
    def contender(setting):
        return fairlead(setting, policies=tuple(policy(name, setting) for name in names))

    return contender


PROTECTED = ("Observe", "Fallback", "Retry", "CircuitBreaker", "ConcurrencyLimit", "Bearer")
"""What there is to protect a call and to see it, and its credentials."""
EVERY = ("Observe", "Fallback", "Redirect", "Retry", "CircuitBreaker", "ConcurrencyLimit", "Cookies", "Bearer")
"""The conveniences too, which nobody has who does not ask for them."""
ASKED_FOR = ("Slow calls", "Aimd", "RateLimit", "DeadlineHeader", "Hedge")
"""And what else can be had."""


class Aiohttp(Client):
    async def get(self, url):
        async with self.client.get(url) as response:
            return await response.json()

    async def read(self, url):
        async with self.client.get(url) as response:
            return await response.read()

    async def download(self, url):
        async with self.client.get(url) as response:
            return await count(response.content.iter_any())

    async def upload(self, url, size):
        headers = {"content-length": str(size)}
        async with self.client.post(url, data=pieces(size), headers=headers) as response:
            return await response.json()


@asynccontextmanager
async def aiohttp(setting):
    from aiohttp import ClientSession, TCPConnector

    limit = {"limit": setting.connections} if setting.connections else {}
    connector = TCPConnector(ssl=setting.tls or True, **limit)
    async with ClientSession(connector=connector) as session:
        yield Aiohttp(session, setting.origin)


class Httpx(Client):
    """httpx, httpx2, and what is written over them."""

    async def get(self, url):
        return (await self.client.get(url)).json()

    async def read(self, url):
        return (await self.client.get(url)).content

    async def download(self, url):
        async with self.client.stream("GET", url) as response:
            return await count(response.aiter_bytes())

    async def upload(self, url, size):
        headers = {"content-length": str(size)}
        return (await self.client.post(url, content=pieces(size), headers=headers)).json()


@asynccontextmanager
async def httpx(setting):
    from httpx import AsyncClient

    async with AsyncClient(verify=setting.tls or True) as client:
        yield Httpx(client, setting.origin)


@asynccontextmanager
async def httpx2(setting):
    from httpx2 import AsyncClient

    async with AsyncClient(verify=setting.tls or True) as client:
        yield Httpx(client, setting.origin)


@asynccontextmanager
async def httpware(setting):
    """Its four resilience layers, stacked as ours are: retry, circuit, limit, time."""
    from httpware import AsyncBulkhead, AsyncCircuitBreaker, AsyncClient, AsyncRetry, AsyncTimeout

    limit, time = AsyncBulkhead(max_concurrent=100), AsyncTimeout(timeout=300.0)
    layers = [AsyncRetry(), AsyncCircuitBreaker(), limit, time]
    async with AsyncClient(middleware=layers, verify=setting.tls or True) as client:
        yield Httpx(client, setting.origin)


class Pyreqwest(Client):
    async def get(self, url):
        return await (await self.client.get(url).build().send()).json()

    async def read(self, url):
        return await (await self.client.get(url).build().send()).bytes()

    async def download(self, url):
        total = 0
        async with self.client.get(url).build_streamed() as response:
            while chunk := await response.body_reader.read_chunk():
                total += len(chunk)
        return total

    async def upload(self, url, size):
        request = self.client.post(url).header("content-length", str(size)).body_stream(pieces(size))
        return await (await request.build().send()).json()


@asynccontextmanager
async def pyreqwest(setting):
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder()
    if setting.authority:
        builder = builder.add_root_certificate_pem(setting.pem())
    async with builder.build() as client:
        yield Pyreqwest(client, setting.origin)


CONTENDERS = {
    "floor": floor,
    "fairlead-bare": fairlead_with(),
    "fairlead-full": fairlead_with(*PROTECTED),
    "fairlead-every": fairlead_with(*EVERY),
    "pyreqwest": pyreqwest,
    "aiohttp": aiohttp,
    "httpx2": httpx2,
    "httpware": httpware,
    "httpx": httpx,
    "fairlead-standard": fairlead,
    **{f"bare + {name}": fairlead_with(name) for name in (*EVERY, *ASKED_FOR)},
}

if __name__ == "__main__":
    from measures import measure

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("contender", choices=CONTENDERS)
    options.add_argument("url")
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--concurrency", type=int, default=50)
    chosen = options.parse_args()
    to = urlsplit(chosen.url)
    load = {"path": to.path, "requests": chosen.requests, "concurrency": chosen.concurrency}
    print(json.dumps(measure("load", contender=chosen.contender, origin=f"{to.scheme}://{to.netloc}", **load)))
