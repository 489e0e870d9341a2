"""What arrives behind a reverse proxy of what was said to it, byte by byte, judged by readers that are none of the proxy's.

    python tests/proxy/judge.py [--write docs/proxy-judged.md] [--only uvicorn-h11]

Each payload has a loopback address of its own on both sides (127.8.x.y asks, 127.9.x.y is asked), so that what arrives is known to be
its own, while all are sent at once. When all has been said, each proxy is asked once more, on a new connection: an answer that was
meant for somebody else, left in a connection to the upstream, would be found there.

Longer than most: what is judged, beside what, and the page that says so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]

from fairlead.client import HTTPClient
from fairlead.proxy import ReverseProxy
from peers import PATIENCE, closed_port, moment
from proxy import leaving
from proxy.cases import ANSWERED, ASKED, BAD
from proxy.payloads import PAYLOADS, Payload
from proxy.reading import Read, meant, strict
from served import served
from servers import SERVERS as LEFT
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
    "uvicorn, our Protocol": lambda app: served(app, http="fairlead.proxy.uvicorn:Protocol"),
    "uvicorn-h11": lambda app: served(app, http="h11"),
    "granian": lambda app: serving("granian", app),
    "hypercorn": lambda app: serving("hypercorn", app),
}

NGINX: Final = """
daemon off; master_process off; pid {scratch}/pid; error_log {scratch}/error;
events {{ worker_connections 4000; }}
http {{
  access_log off;
  map $remote_addr $asked {{ default 127.9.0.1; "~^127\\.8\\.(?<rest>.+)$" 127.9.$rest; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://$asked:{upstream}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
HEAD: Final = """# The reverse proxy, judged

What arrives behind a proxy of {payloads} things said to it: smuggling and framing payloads by the published techniques (the sources stand in
`tests/proxy/payloads.py`), and among them plain requests that must go on. Each goes as raw bytes to a server with the proxy; behind it a
recording upstream keeps every byte. Two readers of the tests' own decide (`tests/proxy/reading.py`): what RFC 9112 lets a server take the
payload for, at its most tolerant, and whether what arrived can be read in one way only. So a verdict is one of five, and with each
payload the next caller must get its own answer. Written by `python tests/proxy/judge.py --write docs/proxy-judged.md`.

"Plain" is the proxy of a dozen lines found everywhere: Starlette's request, its headers and its stream, sent on by httpx; the caller's
Host is among them. nginx is as it comes; what it made anew is mostly a request without the lines that were none (`ignore_invalid_headers`), or chunks that ended in a LF.
"""
WHERE: Final = {
    "left: head": "left in their head",
    "left: upload": "left in their upload",
    "left: answer": "left before the answer",
    "left: body": "left in its body",
    "left: while": "left after 0 to 0.3 s, wherever that was",
}
FIELDS: Final = """
What a server says before any application runs, none behind it can know:

* On uvicorn with httptools, the trailers of a request in chunks that come with its head are appended to its headers. That breaks RFC 9110
  section 6.5.1, and matters where a proxy in front of uvicorn sets fields that a caller must not, and passes trailers on. With
  `uvicorn --http fairlead.proxy.uvicorn:Protocol`, or `--http h11`, they are dropped.
* `ICE/1.0` it takes for HTTP/1.0. What arrives is a plain request.
* granian takes a missing Host from the target.
* An absolute target with another host than Host: uvicorn with httptools and granian tell only its path, so `X-Forwarded-Host` is what Host said.

## Fields, and answers that are none

{asked} requests with fields that must stay, be replaced or go on; {answered} answers with such; {bad} answers that break a rule: all of them hold, in
`tests/proxy/test_judged.py`. A bad answer becomes a 502 or an aborted connection, or is read as the one thing it can be, and the next caller
on that connection gets its own.

## Callers who leave

With a FIN or a RST, in each phase, one by one; and what is left of them when the last has gone (`tests/proxy/leaving.py`).
"""


def asker(number: int) -> str:
    return f"127.8.{number // 250}.{number % 250 + 1}"


def asked(number: int) -> str:
    return f"127.9.{number // 250}.{number % 250 + 1}"


BROKEN: Final = "other", "malformed"
"""What went on is well-formed, but was not said; or it can be read in two ways, or none."""


@dataclass
class Verdict:
    """`kind`: "refused", nothing of it went on; "clean", what did is what it means; "lost", less than must; and `BROKEN`."""

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
            return Verdict(payload, "malformed", fault)
        for one in requests:
            if one.target == b"/probe":
                continue
            same = next((other for other in may if _same(one, other)), None)
            if same is None:
                return Verdict(payload, "other", f"{one.text}, with {len(one.body)} bytes")
            may.remove(same)
            if made_up := {name.lower() for name, _ in one.fields} - known:
                return Verdict(payload, "other", f"with fields that it has not: {sorted(made_up)}")
            went_on += one.whole
    if not (probed.startswith(b"HTTP/1.1 200") and probed.endswith(b"\r\n\r\nGET /probe")):
        return Verdict(payload, "malformed", f"whoever asked next got {probed[:60]!r}")
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
            client = httpx.AsyncClient(base_url=f"http://{address}:{port}", timeout=PATIENCE, verify=False)
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


@asynccontextmanager
async def nginx(port: int) -> AsyncIterator[int]:
    """The other way to have a reverse proxy: nginx, as it comes."""
    served_on = closed_port()
    with TemporaryDirectory() as scratch:
        config = Path(scratch) / "nginx.conf"
        config.write_text(NGINX.format(scratch=scratch, port=served_on, upstream=port), encoding="utf-8")
        running = await asyncio.create_subprocess_exec(
            "nginx", "-p", scratch, "-e", f"{scratch}/error", "-c", str(config)
        )
        try:
            async with asyncio.timeout(PATIENCE):
                while not await said(served_on, "127.0.0.1", PROBE, 1):
                    await moment()
            yield served_on
        finally:
            running.terminate()
            await running.wait()


def page(results: dict[str, list[Verdict]], leavers: Sequence[dict[str, Any]]) -> str:
    """The page of the documentation."""
    families = list(dict.fromkeys(payload.family for payload in PAYLOADS))
    lines = [HEAD.format(payloads=len(PAYLOADS))]

    def row(name: object, cells: Iterable[object]) -> None:
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")

    row("", results)
    row("---", ["---:"] * len(results))
    for kind, words in (
        ("refused", "nothing went on"),
        ("clean", "went on as what it means"),
        ("lost", "went on too little"),
        ("other", "went on well-formed, but is not what was said"),
        ("malformed", "**went on malformed, or so that it can be read in two ways**"),
    ):
        row(words, [sum(verdict.kind == kind for verdict in verdicts) for verdicts in results.values()])
    lines.append("\nThe last two of these by the technique, as `not what was said + malformed`:\n")
    row("", ["payloads", *results])
    row("---", ["---:"] * (len(results) + 1))
    for family in families:
        broken = [
            Counter(one.kind for one in verdicts if one.payload.family == family) for verdicts in results.values()
        ]
        cells = [
            " + ".join(str(kinds[kind]) for kind in BROKEN) if kinds.keys() & {*BROKEN} else "" for kinds in broken
        ]
        row(family, [sum(one.family == family for one in PAYLOADS), *cells])
    lines.append("\nWhat it was behind the servers with `ReverseProxy`:\n")
    for name, verdicts in results.items():
        if name in SERVERS:
            lines.extend(
                f"* {name}: {one.payload.family}, {one.payload.name}: {one.why}"
                for one in verdicts
                if one.kind in BROKEN
            )
    lines.append(FIELDS.format(asked=len(ASKED), answered=len(ANSWERED), bad=len(BAD)))
    row("", [one["server"] for one in leavers])
    row("---", ["---:"] * len(leavers))
    for key in leavers[0] if leavers else ():
        if key != "server":
            row(WHERE.get(key, key), [one[key] for one in leavers])
    return "\n".join(lines) + "\n"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", action="append", help="a front, by its name")
    arguments.add_argument("--write", type=Path, help="the page to write")
    arguments.add_argument("--clients", type=int, default=5000, help="how many leave, for the page")
    given = arguments.parse_args()
    fronts = {server: ours(server) for server in SERVERS}
    fronts["plain, uvicorn-h11"] = plain("uvicorn-h11")
    if which("nginx"):
        fronts["nginx"] = nginx
    results = {}
    for name, front in fronts.items():
        if given.only and name not in given.only:
            continue
        results[name] = asyncio.run(judge(front))
        counts = Counter(verdict.kind for verdict in results[name])
        sys.stdout.write(f"{name}: {dict(counts)}\n")
        for one in results[name]:
            if one.kind in {"lost", *BROKEN}:
                sys.stdout.write(f"    {one.payload.family} / {one.payload.name}: {one.kind}: {one.why[:150]}\n")
    if given.write:
        leavers = [asyncio.run(leaving.run(server, given.clients)) for server in LEFT]
        given.write.write_text(page(results, leavers), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
