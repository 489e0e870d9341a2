"""Servers on loopback that say exactly the bytes a test wants them to say, and count what they see.

A peer is driven by a `talk`: an async function that is given one connection (a `Line`) and says what it likes on it. Nothing here
sleeps: whoever waits, waits for an event, and no longer than `PATIENCE`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import trustme

PATIENCE = 10.0
"""Seconds after which a wait of a test is a failure."""

Talk = Callable[["Line"], Awaitable[None]]


@dataclass
class Seen:
    """A request as the peer read it."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    def get(self, name: bytes) -> bytes | None:
        values = [value for key, value in self.headers if key.lower() == name]
        return b", ".join(values) if values else None


class Line:
    """One connection, from the peer's side."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer

    async def head(self) -> Seen | None:
        """The head of the next request; None when the caller closed."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = raw[:-4].split(b"\r\n")
        method, target, version = first.decode().split(" ")
        assert version == "HTTP/1.1"
        seen = Seen(method, target, [(key, value) for key, _, value in (line.partition(b": ") for line in lines)])
        self.peer.requests.append(seen)
        self.peer.note()
        return seen

    async def request(self) -> Seen | None:
        """The next request with its body."""
        seen = await self.head()
        if seen is not None:
            seen.body = await self.body(seen)
        return seen

    async def body(self, seen: Seen) -> bytes:
        if seen.get(b"transfer-encoding") == b"chunked":
            chunks = []
            while size := int(await self._line(), 16):
                chunks.append(await self.reader.readexactly(size))
                assert await self._line() == b"\r\n"
            assert await self._line() == b"\r\n"
            return b"".join(chunks)
        return await self.reader.readexactly(int(seen.get(b"content-length") or 0))

    async def _line(self) -> bytes:
        return await self.reader.readuntil(b"\r\n")

    async def say(self, *data: bytes) -> None:
        for piece in data:
            if self.writer.transport.is_closing():
                raise ConnectionResetError
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def hang_up(self) -> None:
        """End the connection with a FIN."""
        self.writer.close()

    async def gone(self) -> None:
        """Wait until the caller has closed, whatever it still says."""
        while await self.reader.read(65536):
            pass


class Peer:
    """A server. `requests` holds what was asked, `accepted` counts connections, `open` those that are."""

    def __init__(
        self,
        talk: Talk,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        sock: socket.socket | None = None,
    ) -> None:
        self.talk = talk
        self._sock = sock
        self._tls = tls
        self._host = host
        self.tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.requests: list[Seen] = []
        self.words: list[bytes] = []
        """Whatever else a talk noted down."""
        self.accepted = 0
        self.open = 0

    async def __aenter__(self) -> Self:
        where: dict[str, Any] = {"host": self._host, "port": 0} if self._sock is None else {"sock": self._sock}
        self._server = await asyncio.start_server(self._accept, **where, ssl=self._tls, limit=1 << 20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Accept nobody any more."""
        self._server.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=PATIENCE)

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self._host}:{self.port}"

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until something about this peer is so."""
        async with asyncio.timeout(PATIENCE):
            while not happened():
                self._changed.clear()
                await self._changed.wait()

    async def empty(self) -> None:
        """Wait until no connection is open."""
        await self.until(lambda: self.open == 0)

    def note(self) -> None:
        """Something changed: let whoever waits look again."""
        self._changed.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        self.note()
        task = asyncio.create_task(self._serve(Line(self, reader, writer)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, line: Line) -> None:
        try:
            await self.talk(line)
            await line.gone()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            line.writer.transport.abort()
            with suppress(ConnectionError, ssl.SSLError):
                await line.writer.wait_closed()
            self.open -= 1
            self.note()


async def moment() -> None:
    """Let the world go on a little: only between looks at what gives no sign of its own."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.01)


def loops() -> list[Any]:
    """What makes each loop that the engines are tested on."""
    found: list[Any] = [asyncio.SelectorEventLoop]
    try:
        import uvloop
    except ImportError:
        return found
    return [*found, uvloop.new_event_loop]


class Crowd:
    """A listener whose line is full: who comes now, waits at the door, connecting."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._port: int = self._listener.getsockname()[1]
        self._crowd = [socket.socket() for _ in range(3)]
        for sock in self._crowd:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self._port))
        self._before = self._connecting()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._crowd):
            sock.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def until(self, callers: int) -> None:
        """Wait until so many callers are connecting."""
        async with asyncio.timeout(PATIENCE):
            while self._connecting() - self._before != callers:
                await moment()

    def _connecting(self) -> int:
        """Sockets that sent a SYN here and have no answer, as the system tells."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return sum(row[2].endswith(f":{self._port:04X}") and row[3] == "02" for row in rows)


def answer(body: bytes = b"ok", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer framed by its length."""
    lines = b"".join([field + b"\r\n" for field in fields])
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), lines, body)


def says(*answers: bytes) -> Talk:
    """A talk that gives each request of a connection the next answer, and the last one over and over."""

    async def talk(line: Line) -> None:
        number = 0
        while await line.request() is not None:
            await line.say(answers[min(number, len(answers) - 1)])
            number += 1

    return talk


async def echo(line: Line) -> None:
    """Answer with the body that was read."""
    while (seen := await line.request()) is not None:
        await line.say(answer(seen.body))


async def mute(line: Line) -> None:
    """Read, and say nothing."""
    await line.gone()


@dataclass
class Authority:
    """A certificate authority for one test run."""

    ca: trustme.CA = field(default_factory=trustme.CA)

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        return context


@lru_cache
def authority() -> Authority:
    return Authority()


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
