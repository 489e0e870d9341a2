"""What arrives behind a reverse proxy of what was said to it, byte by byte, judged by readers that are none of the proxy's.

    python tests/proxy/judge.py [--write docs/proxy-judged.md] [--only uvicorn-h11] [--nginx]

Each payload has a loopback address of its own on both sides (127.8.x.y asks, 127.9.x.y is asked), so that what arrives is known to be
its own, while all are sent at once. When all has been said, each proxy is asked once more, on a new connection: an answer that was
meant for somebody else, left in a connection to the upstream, would be found there.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]

from fairlead.client import HTTPClient
from fairlead.proxy import ReverseProxy
from peers import PATIENCE
from proxy.payloads import PAYLOADS, Payload
from proxy.reading import Read, meant, strict
from served import served
from servers import serving

QUIET = 0.4
"""Seconds without a byte after which a server has said all that it will."""
PROBE = b"GET /probe HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
ADDED = frozenset(
    b"host via forwarded connection content-length transfer-encoding accept accept-encoding user-agent"
    b" x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-prefix".split()
)
"""Fields that a proxy says itself."""

App = Callable[[Any, Any, Any], Awaitable[None]]
SERVERS: dict[str, Callable[[App], AbstractAsyncContextManager[int]]] = {
    "uvicorn": lambda app: served(app, http="httptools"),
    "uvicorn-h11": lambda app: served(app, http="h11"),
    "granian": lambda app: serving("granian", app),
    "hypercorn": lambda app: serving("hypercorn", app),
}


def asker(number: int) -> str:
    return f"127.8.{number // 250}.{number % 250 + 1}"


def asked(number: int) -> str:
    return f"127.9.{number // 250}.{number % 250 + 1}"


@dataclass
class Verdict:
    """`kind`: "refused", nothing of it went on; "clean", what did is what it means; "lost", less than must; "broken"."""

    payload: Payload
    kind: str
    why: str = ""


class Upstream:
    """What arrived, by the address that it arrived at: the bytes of each connection."""

    def __init__(self) -> None:
        self.arrived: dict[str, list[bytearray]] = {}
        self.open: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "0.0.0.0", 0, backlog=1000)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in set(self.open):
            connection.transport.abort()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """Answers each request that can be read in one way with its own first line; and says 400 to anything else."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.answered = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data = bytearray()
        self.upstream.open.add(self)
        self.upstream.arrived.setdefault(transport.get_extra_info("sockname")[0], []).append(self.data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.upstream.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        requests, _, fault = strict(bytes(self.data))
        whole = [one for one in requests if one.whole]
        for one in whole[self.answered :]:
            body = one.text.encode("latin-1")
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.transport.write(head if one.method == b"HEAD" else head + body)
        self.answered = len(whole)
        if fault:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()


def judged(payload: Payload, arrived: Sequence[bytes], probed: bytes) -> Verdict:
    """What became of a payload, by what arrived behind the proxy and by the answer to whoever asked next."""
    may = meant(payload.data)
    known = {name.lower() for one in may for name, _ in one.fields} | ADDED
    went_on = 0
    for data in arrived:
        requests, _, fault = strict(bytes(data))
        if fault:
            return Verdict(payload, "broken", f"malformed: {fault}")
        for one in requests:
            if one.target == b"/probe":
                continue
            same = next((other for other in may if _same(one, other)), None)
            if same is None:
                return Verdict(payload, "broken", f"never said: {one.text}, with {len(one.body)} bytes")
            may.remove(same)
            if made_up := {name.lower() for name, _ in one.fields} - known:
                return Verdict(payload, "broken", f"never said: {sorted(made_up)}")
            went_on += one.whole
    if not (probed.startswith(b"HTTP/1.1 200") and probed.endswith(b"\r\n\r\nGET /probe")):
        return Verdict(payload, "broken", f"whoever asked next got {probed[:60]!r}")
    if went_on < payload.sound:
        return Verdict(payload, "lost", f"{went_on} of {payload.sound} went on")
    return Verdict(payload, "clean" if went_on else "refused")


def _same(one: Read, other: Read) -> bool:
    """Whether what arrived is what was said: half of it, where it ends with the connection.

    A method in lower case is another one; but ASGI has only such in upper case.
    """
    if (one.method, one.target) != (other.method.upper(), other.target):
        return False
    return one.body == other.body and other.whole if one.whole else other.body.startswith(one.body)


async def said(port: int, source: str, data: bytes, answers: int = 0) -> bytes:
    """What a server answers: until it closes, says no more, or has given so many answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    except OSError:
        return b""
    got = b""
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            while not answers or got.count(b"HTTP/1.1 ") - got.count(b"HTTP/1.1 100") < answers:
                waits = asyncio.wait_for(reader.read(65536), PATIENCE if answers else QUIET)
                if not (piece := await waits):
                    break
                got += piece
    except (OSError, TimeoutError):
        pass
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
    return got


async def judge(
    front: Callable[[int], AbstractAsyncContextManager[int]], payloads: Sequence[Payload] = PAYLOADS
) -> list[Verdict]:
    """The verdict on each payload of what `front` serves, given the port of the upstream."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream())
        port = await stack.enter_async_context(front(upstream.port))
        crowd = asyncio.Semaphore(128)

        async def say(number: int) -> bytes:
            async with crowd:
                return await said(port, asker(number), payloads[number].data, payloads[number].sound)

        async def probe(number: int) -> bytes:
            async with crowd:
                return await said(port, asker(number), PROBE, 1)

        numbers = range(len(payloads))
        await asyncio.gather(*map(say, numbers))
        probed = await asyncio.gather(*map(probe, numbers))
        return [
            judged(payload, upstream.arrived.get(asked(number), []), probed[number])
            for number, payload in enumerate(payloads)
        ]


@dataclass
class ByAddress:
    """An application that is another for each asker."""

    make: Callable[[str], App]
    apps: dict[str, App] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        source = scope["client"][0]
        if (app := self.apps.get(source)) is None:
            app = self.apps[source] = self.make(source.replace("127.8.", "127.9."))
        await app(scope, receive, send)


def ours(server: str, **options: Any) -> Callable[[int], AbstractAsyncContextManager[int]]:
    """ReverseProxy on this server."""

    @asynccontextmanager
    async def front(port: int) -> AsyncIterator[int]:
        clients: list[HTTPClient] = []

        def make(address: str) -> App:
            clients.append(HTTPClient(base_url=f"http://{address}:{port}"))
            return ReverseProxy(clients[-1], **options)

        try:
            async with SERVERS[server](ByAddress(make)) as served_on:
                yield served_on
        finally:
            for client in clients:
                await client.close()

    return front


def plain(server: str) -> Callable[[int], AbstractAsyncContextManager[int]]:
    """The proxy of a dozen lines that is found everywhere: Starlette's request, streamed on by httpx."""

    @asynccontextmanager
    async def front(port: int) -> AsyncIterator[int]:
        import httpx
        from starlette.background import BackgroundTask
        from starlette.requests import Request
        from starlette.responses import StreamingResponse

        clients: list[httpx.AsyncClient] = []

        def make(address: str) -> App:
            client = httpx.AsyncClient(base_url=f"http://{address}:{port}", timeout=5)
            clients.append(client)

            async def app(scope: Any, receive: Any, send: Any) -> None:
                request = Request(scope, receive)
                query = scope["query_string"].decode("latin-1")
                url = scope["raw_path"].decode("latin-1") + ("?" + query if query else "")
                onward = client.build_request(
                    request.method, url, headers=request.headers.raw, content=request.stream()
                )
                answer = await client.send(onward, stream=True)
                response = StreamingResponse(
                    answer.aiter_raw(), answer.status_code, answer.headers, background=BackgroundTask(answer.aclose)
                )
                await response(scope, receive, send)

            return app

        try:
            async with SERVERS[server](ByAddress(make)) as served_on:
                yield served_on
        finally:
            for client in clients:
                await client.aclose()

    return front


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", action="append")
    arguments.add_argument("--write", type=Path)
    given = arguments.parse_args()
    fronts = {f"ReverseProxy, {server}": ours(server) for server in SERVERS}
    fronts["Starlette and httpx, uvicorn-h11"] = plain("uvicorn-h11")
    fronts["Starlette and httpx, uvicorn"] = plain("uvicorn")
    results = {}
    for name, front in fronts.items():
        if given.only and not any(one in name for one in given.only):
            continue
        results[name] = asyncio.run(judge(front))
        print(name, dict(Counter(verdict.kind for verdict in results[name])))
        for verdict in results[name]:
            if verdict.kind in {"broken", "lost"}:
                print("   ", verdict.payload.family, "/", verdict.payload.name, ":", verdict.kind, verdict.why[:150])
    return 0


if __name__ == "__main__":
    sys.exit(main())
