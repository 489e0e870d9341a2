"""Both sides of a WebSocket that goes through the proxy, frame by frame and message by message, and what must be left of it: nothing."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha1

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SERVER, Protocol

from fairlead import HTTPClient
from fairlead.proxy import ReverseProxy
from fairlead.proxy.websocket import WebSockets
from peers import PATIENCE, Line, Peer

KEPT = (b"cookie", b"session=1"), (b"origin", b"https://shop.test"), (b"authorization", b"Bearer x")
ASKED = (
    (b"host", b"proxy.test"),
    (b"connection", b"Upgrade, X-Mine"),
    (b"upgrade", b"websocket"),
    (b"x-mine", b"1"),
    (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-extensions", b"permessage-deflate"),
    (b"sec-websocket-protocol", b"chat, superchat"),
)


def key_of(key: bytes) -> bytes:
    return b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


class Upstream:
    """The upstream's side of one connection, frame by frame."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.protocol = Protocol(SERVER, max_size=None)
        self.frames: list[Frame] = []

    async def agree(self, *fields: bytes) -> None:
        if (seen := await self.line.head()) is None:
            raise ConnectionResetError
        lines = b"".join(field + b"\r\n" for field in fields)
        await self.line.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (key_of(seen.get(b"sec-websocket-key")), lines)
        )

    async def frame(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        while not self.frames:
            data = await self.line.reader.read(65536)
            if not data:
                return None
            self.protocol.receive_data(data)
            self.frames += self.protocol.events_received()
        return self.frames.pop(0)

    async def say(self, opcode: Opcode, data: bytes = b"", fin: bool = True) -> None:
        await self.line.say(Frame(opcode, data, fin).serialize(mask=False))

    async def close(self, code: int, reason: str = "") -> None:
        await self.say(Opcode.CLOSE, Close(code, reason).serialize() if code != 1005 else b"")


def upstream(*steps):
    """A talk that agrees, and does each of these in turn; whoever asks is told what closed it."""

    async def talk(line):
        socket = Upstream(line)
        await socket.agree()
        for step in steps:
            await step(socket)
        while (frame := await socket.frame()) is not None:
            if frame.opcode is Opcode.CLOSE:
                line.peer.words.append(bytes(frame.data))
                break
        line.peer.note()
        line.hang_up()

    return talk


async def echoing(socket):
    while (frame := await socket.frame()) is not None:
        if frame.opcode is Opcode.CLOSE:
            socket.line.peer.words.append(bytes(frame.data))
            await socket.say(Opcode.CLOSE, bytes(frame.data))
            socket.line.hang_up()
            return
        await socket.say(frame.opcode, bytes(frame.data), frame.fin)


async def ponging(socket):
    while (frame := await socket.frame()).opcode is Opcode.PING:
        await socket.say(Opcode.PONG, bytes(frame.data))
    socket.line.peer.words.append(bytes(frame.data))


@dataclass
class Client:
    """The client's side, as a server shows it to an application."""

    said: list = field(default_factory=list)
    denies: bool = True
    target: bytes = b"/chat?room=1"
    slow: asyncio.Event | None = None
    """Until it is set, nothing that is sent is taken."""
    left: bool = False

    def __post_init__(self) -> None:
        self.inbox = asyncio.Queue()
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.sent = []
        self.changed = asyncio.Event()

    @property
    def scope(self):
        path, _, query = self.target.partition(b"?")
        return {
            "type": "websocket",
            "http_version": "1.1",
            "scheme": "ws",
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "client": ("192.0.2.7", 1234),
            "headers": [*ASKED, *KEPT],
            "subprotocols": ["chat", "superchat"],
            "extensions": {"websocket.http.response": {}} if self.denies else {},
        }

    async def receive(self):
        return await self.inbox.get()

    async def send(self, message):
        await asyncio.sleep(0)
        if self.left:
            raise OSError("the client has left")
        if message["type"] == "websocket.send" and self.slow is not None:
            await self.slow.wait()
        self.sent.append(message)
        self.changed.set()

    def say(self, data):
        kind = "text" if isinstance(data, str) else "bytes"
        self.inbox.put_nowait({"type": "websocket.receive", kind: data})

    def leave(self, code=1000, reason=""):
        self.left = True
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def until(self, kind, number=1):
        """Wait for so many messages of a kind."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [one for one in self.sent if one["type"] == kind]) < number:
                self.changed.clear()
                await self.changed.wait()
        return found[-1]

    @property
    def heard(self):
        return [
            one["text"] if one.get("text") is not None else one["bytes"]
            for one in self.sent
            if one["type"] == "websocket.send"
        ]

    @property
    def closed(self):
        (one,) = [one for one in self.sent if one["type"] == "websocket.close"]
        return one["code"], one["reason"]


@asynccontextmanager
async def proxied(talk, *, client=None, websockets=None, options=None, kept=0, **more):
    """A client whose WebSocket is under way, the upstream that it leads to, and afterwards: nothing that is left."""
    caller = client or Client()
    async with asyncio.timeout(PATIENCE), Peer(talk) as peer, HTTPClient(peer.url, **(options or {})) as api:
        app = ReverseProxy(api, websockets=websockets or WebSockets(ping_interval=None), **more)
        task = asyncio.create_task(app(caller.scope, caller.receive, caller.send))
        try:
            yield caller, peer, task
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})
        await peer.until(lambda: peer.open == kept)
        slots = api.upstream.states.get(("ConcurrencyLimit", "default"))
        assert slots is None or slots.taken == 0
        assert api._under_way == 0


class Wire:
    """A raw connection that gives these bytes, and keeps what is written."""

    def __init__(self, chunks):
        self.chunks = list(chunks)
        self.written = b""

    async def read(self):
        return self.chunks.pop(0) if self.chunks else b""

    async def write(self, data):
        self.written += data

    def close(self):
        """Nothing is open."""

    def outlive(self):
        """It has no bounds."""
