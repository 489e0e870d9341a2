"""One client under load, in a process of its own: prints its CPU per request.

python benchmarks/contenders.py fairlead-full http://127.0.0.1:9000/small --requests 20000 --concurrency 50
"""

import argparse
import asyncio
import json
import resource
import time
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import uvloop

BUFFER = memoryview(bytearray(64 * 1024))


class Exchange(asyncio.BufferedProtocol):
    """The floor: a bare parser on a bare transport, with nothing protected."""

    def connection_made(self, transport):
        import httptools

        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)

    def get_buffer(self, sizehint):
        return BUFFER

    def buffer_updated(self, nbytes):
        self.parser.feed_data(BUFFER[:nbytes])

    def on_message_begin(self):
        self.body = []

    def on_body(self, chunk):
        self.body.append(chunk)

    def on_message_complete(self):
        self.answer.set_result(b"".join(self.body))


@asynccontextmanager
async def floor(url, concurrency):
    import msgspec

    parts, loop, idle = urlsplit(url), asyncio.get_running_loop(), []
    head = f"GET {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\naccept: */*\r\n\r\n".encode()

    async def get():
        if idle:
            exchange = idle.pop()
        else:
            _, exchange = await loop.create_connection(Exchange, parts.hostname, parts.port)
        exchange.answer = loop.create_future()
        exchange.transport.write(head)
        body = await exchange.answer
        idle.append(exchange)
        return msgspec.json.decode(body)

    yield get


@asynccontextmanager
async def fairlead_client(url, **options):
    from fairlead import HTTPClient

    parts = urlsplit(url)
    async with HTTPClient(f"{parts.scheme}://{parts.netloc}", **options) as client:

        async def get():
            return (await client.get(parts.path)).json()

        yield get


def fairlead_bare(url, concurrency):
    return fairlead_client(url, policies=())


def fairlead_full(url, concurrency):
    """Every policy there is, credentials, and the log's and a counting sink."""
    from fairlead import Bearer
    from fairlead.message import Response
    from fairlead.policies import CircuitBreaker, ConcurrencyLimit, Fallback, Observe, Retry

    policies = (Observe(), Fallback(Response(200, json={})), Retry(), CircuitBreaker(), ConcurrencyLimit())
    return fairlead_client(url, policies=policies, auth=Bearer("a-token-of-some-length"))


@asynccontextmanager
async def bare_aiohttp(url, concurrency):
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=max(100, concurrency))) as session:

        async def get():
            async with session.get(url) as response:
                return await response.json()

        yield get


@asynccontextmanager
async def bare_httpx2(url, concurrency):
    import httpx2

    limits = httpx2.Limits(max_connections=max(100, concurrency), max_keepalive_connections=max(100, concurrency))
    async with httpx2.AsyncClient(limits=limits) as client:

        async def get():
            return (await client.get(url)).json()

        yield get


CONTENDERS = {
    "floor": floor,
    "fairlead-bare": fairlead_bare,
    "fairlead-full": fairlead_full,
    "aiohttp": bare_aiohttp,
    "httpx2": bare_httpx2,
}


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(name, url, requests, concurrency):
    async with CONTENDERS[name](url, concurrency) as get:

        async def worker(turns):
            for _ in turns:
                answer = await get()
                assert answer["id"] == 123

        async def run(count):
            turns = iter(range(count))
            await asyncio.gather(*(worker(turns) for _ in range(concurrency)))

        await run(concurrency * 4)
        before, began = cpu(), time.perf_counter()
        await run(requests)
        return {
            "cpu_us": (cpu() - before) / requests * 1e6,
            "per_second": requests / (time.perf_counter() - began),
        }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name", choices=CONTENDERS)
    options.add_argument("url")
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--concurrency", type=int, default=50)
    chosen = options.parse_args()
    print(json.dumps(uvloop.run(measure(chosen.name, chosen.url, chosen.requests, chosen.concurrency))))
