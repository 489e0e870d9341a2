"""A reverse proxy on a real server, before an upstream that notes down every byte it is sent; and the same by ASGI messages alone."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI

from fairlead.client import HTTPClient
from fairlead.proxy import ReverseProxy
from peers import PATIENCE, Line, Peer, Seen, Talk, answer
from served import _Server


@dataclass
class World:
    """What a test looks at: `heads` and `bodies` are what the upstream was sent."""

    peer: Peer
    client: HTTPClient
    proxy: ReverseProxy
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def lines(self) -> list[bytes]:
        """The lines of the last request's head."""
        return self.heads[-1][:-4].split(b"\r\n")

    def values(self, name: bytes) -> list[bytes]:
        """The values of one name in the last request, in order."""
        pairs = [line.split(b": ", 1) for line in self.lines[1:]]
        return [value for key, value in pairs if key.lower() == name]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(
        self, *fields: bytes, line: bytes = b"GET /x HTTP/1.1", host: bytes = b"app", body: bytes = b""
    ) -> Answer:
        """A request whose answer is read to the end of the connection."""
        lines = [line, b"Host: " + host, b"Connection: close", *fields]
        return await self.say(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    async def say(self, raw: bytes) -> Answer:
        reader, writer = await self.connect()
        writer.write(raw)
        async with asyncio.timeout(PATIENCE):
            said = await reader.read()
        writer.close()
        return Answer.of(said)


@dataclass
class Answer:
    """As the caller reads it."""

    raw: bytes
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> Answer:
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        pairs = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        return cls(raw, int(first.split(b" ")[1]), pairs, body)

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def names(self) -> list[bytes]:
        return [name for name, _ in self.headers]

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


@asynccontextmanager
async def proxied(
    *answers: bytes | Talk,
    base: str = "",
    mount: str = "",
    client: dict[str, Any] | None = None,
    app: Any = None,
    **options: Any,
) -> AsyncIterator[World]:
    """A proxy on uvicorn. The upstream gives its answers in turn, the last one over and over; or it is a talk of the test's."""
    world: World

    async def talk(line: Line) -> None:
        while (seen := await noted(line, world)) is not None:
            world.bodies.append(await line.body(seen))
            await line.say(answers[min(len(world.heads), len(answers)) - 1] if answers else answer())  # type: ignore[arg-type]

    own = answers[0] if answers and callable(answers[0]) else None
    settings = {"max_retries": 0, **(client or {})}
    async with Peer(own or talk) as peer, HTTPClient(peer.url + base, **settings) as made:
        proxy = ReverseProxy(made, **options)
        world = World(peer, made, proxy)
        peer.world = world  # type: ignore[attr-defined]
        whole: Any = proxy
        if mount:
            whole = FastAPI()
            whole.mount(mount, proxy)
        if app is not None:
            whole = app(whole)
        async with serving(whole) as world.port:
            yield world


async def noted(line: Line, world: World | None = None) -> Seen | None:
    """The head of the next request, noted in the world; None when there is none."""
    try:
        raw = await line.reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    noting: World = world or line.peer.world  # type: ignore[attr-defined]
    noting.heads.append(raw)
    line.peer.note()
    first, *lines = raw[:-4].split(b"\r\n")
    method, target, _ = first.decode().split(" ")
    return Seen(method, target, [(key, value) for key, _, value in (one.partition(b": ") for one in lines)])


@asynccontextmanager
async def serving(app: Any, **settings: Any) -> AsyncIterator[int]:
    """The port that uvicorn serves on, as a proxy wants it: it adds nothing of its own, and believes nobody."""
    quiet = {"proxy_headers": False, "server_header": False, "date_header": False, "log_level": "critical"}
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", timeout_graceful_shutdown=1, **{**quiet, **settings})
        server = _Server(config)
        running = asyncio.create_task(server.serve([sock]))
        async with asyncio.timeout(PATIENCE):
            await server.up.wait()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            async with asyncio.timeout(PATIENCE):
                await running


class Messages:
    """The caller's side of an ASGI call."""

    def __init__(self, *body: bytes) -> None:
        pieces = body or (b"",)
        self.coming = [
            {"type": "http.request", "body": piece, "more_body": place < len(pieces)}
            for place, piece in enumerate(pieces, 1)
        ]
        self.sent: list[Any] = []
        self.asked = 0
        self.left = asyncio.Event()

    async def receive(self) -> Any:
        self.asked += 1
        if self.coming:
            return self.coming.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        await asyncio.sleep(0)

    @property
    def status(self) -> int:
        found: int = self.sent[0]["status"]
        return found

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.sent[0]["headers"] if key == name]

    @property
    def body(self) -> bytes:
        return b"".join([message["body"] for message in self.sent[1:]])

    @property
    def finished(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def scope(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    path = more.get("raw_path", b"/x")
    plain: dict[str, Any] = {
        "type": "http", "method": "GET", "path": (path or b"/").decode(), "raw_path": path, "query_string": b"", "root_path": "",
        "scheme": "http", "http_version": "1.1", "client": ("192.0.2.7", 5000), "headers": [(b"host", b"app"), *headers],
    }  # fmt: skip
    return {**plain, **more}


async def told(app: Any, *headers: tuple[bytes, bytes], body: tuple[bytes, ...] = (), **more: Any) -> Messages:
    """What an application answers, by messages."""
    messages = Messages(*body)
    async with asyncio.timeout(PATIENCE):
        await app(scope(*headers, **more), messages.receive, messages.send)
    return messages
