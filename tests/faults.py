"""The faults that every engine must name alike: what the peer does, and what a caller is told.

`docs/engines.md` prints this table; a test compares the two. Faults of a body are met twice: by a stream, which has its head before
the fault (so the phase is certain), and by a buffered call.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import cast

from fairlead.core import Call, Timeout
from fairlead.engines import Limits
from fairlead.errors import (
    AttemptTimedOut,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    FairleadError,
    Knowledge,
    Phase,
    ProtocolError,
)
from fairlead.message import Request
from peers import PATIENCE, Authority, Line, Peer, answer, authority, closed_port

SECRET = "/place?token=hunter2"
HEAD = b"HTTP/1.1 200 OK\r\n"
NOT_SENT, UNKNOWN = Knowledge.NOT_SENT, Knowledge.UNKNOWN


class Stage:
    """Where a fault is set up: its peers, and the moment a stream has its head."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.begun = asyncio.Event()
        """Set when the caller has its head."""
        self.over = asyncio.Event()
        """Set when the caller has its error."""
        self.peers: list[Peer] = []

    async def peer(self, talk: Callable[[Line], Awaitable[None]], tls: ssl.SSLContext | None = None) -> str:
        """A URL at which somebody talks like that."""
        peer = await self._stack.enter_async_context(Peer(talk, tls=tls))
        self.peers.append(peer)
        return peer.url


Scene = Callable[[Stage], Awaitable[Request]]


@dataclass(frozen=True)
class Fault:
    name: str
    error: type[FairleadError]
    knowledge: Knowledge
    phase: Phase
    scene: Scene
    timeout: Timeout = Timeout(total=5.0)  # noqa: RUF009 -- frozen
    within: float | None = None
    """What the caller's deadline leaves, in seconds; None for all of `timeout`."""
    limits: Limits = Limits()  # noqa: RUF009 -- frozen
    met_by: tuple[str, ...] = ("buffered", "stream")
    discarded: bool = True
    """Whether the connection is given up: one whose framing is whole may be kept, whatever it carried."""

    def call(self, request: Request, *, stream: bool) -> Call:
        now = asyncio.get_running_loop().time()
        total = self.timeout.total if self.within is None else self.within
        assert total is not None
        return Call(request, self.timeout, now + total, stream=stream)


def get(url: str) -> Request:
    return Request("GET", url + SECRET)


# Scenes


def nobody() -> Scene:
    async def scene(_: Stage) -> Request:
        return get(f"http://127.0.0.1:{closed_port()}")

    return scene


def at(url: str) -> Scene:
    async def scene(_: Stage) -> Request:
        return get(url)

    return scene


def secured(*names: str, by: Authority | None = None) -> Scene:
    """A peer that has a certificate."""

    async def scene(stage: Stage) -> Request:
        return get(await stage.peer(nothing, (by or authority()).server(*names)))

    return scene


def handshake(talk: Callable[[Line], Awaitable[None]]) -> Scene:
    """Where TLS is expected, something else."""

    async def scene(stage: Stage) -> Request:
        return get((await stage.peer(talk)).replace("http:", "https:"))

    return scene


def then(end: Callable[[Line], object], *said: bytes) -> Scene:
    """After the request: some bytes, and an end."""

    async def scene(stage: Stage) -> Request:
        async def talk(line: Line) -> None:
            await line.request()
            await line.say(*said)
            end(line)

        return get(await stage.peer(talk))

    return scene


def body(head: bytes, end: Callable[[Line], object], *said: bytes, tls: bool = False) -> Scene:
    """A head, and when it has been read, some bytes of a body, and an end."""

    async def scene(stage: Stage) -> Request:
        async def talk(line: Line) -> None:
            await line.request()
            await line.say(HEAD + head + b"\r\n")
            await stage.begun.wait()
            await line.say(*said)
            end(line)

        return get(await stage.peer(talk, authority().server("127.0.0.1") if tls else None))

    return scene


def drip(*said: bytes) -> Callable[[Line], Awaitable[None]]:
    """Some bytes, and then one more every 20 ms, without end."""

    async def talk(line: Line) -> None:
        await line.request()
        await line.say(*said)
        caller = asyncio.ensure_future(line.gone())
        while not caller.done():
            await line.say(b"x")
            await asyncio.wait({caller}, timeout=0.02)
        await caller

    return talk


def talking(talk: Callable[[Line], Awaitable[None]]) -> Scene:
    async def scene(stage: Stage) -> Request:
        return get(await stage.peer(talk))

    return scene


def stalled_upload() -> Scene:
    """An upload without end, to a peer that stops reading."""

    async def scene(stage: Stage) -> Request:
        async def talk(line: Line) -> None:
            transport = cast("asyncio.Transport", line.writer.transport)
            transport.pause_reading()
            await asyncio.wait_for(stage.over.wait(), PATIENCE)
            transport.resume_reading()

        async def source() -> AsyncIterator[bytes]:
            while True:
                yield bytes(1 << 16)

        return Request("POST", await stage.peer(talk) + SECRET, content=source)

    return scene


async def nothing(_: Line) -> None:
    """Read, and say nothing."""


async def resetting(line: Line) -> None:
    await line.reader.read(1)
    line.reset()


async def plain(line: Line) -> None:
    await line.reader.read(1)
    await line.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    line.hang_up()


def cut(line: Line) -> None:
    """End TLS without its own word."""
    line.writer.transport.abort()


reset, hang_up = Line.reset, Line.hang_up


def go_on(_: Line) -> None:
    """Leave the connection open."""


SHORT = Timeout(total=5.0, attempt=0.2)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NINE = b"Content-Length: 9\r\n"
LONG = b"Content-Length: 100000\r\n\r\n"
BOMB = gzip.compress(bytes(100_000))

# A table, to be read as one.
# fmt: off
FAULTS = (
    # Connecting
    Fault("refused", ConnectFailed, NOT_SENT, "connecting", nobody()),
    Fault("unknown host", ConnectFailed, NOT_SENT, "connecting", at("http://no-such-host.invalid")),
    Fault("TLS: a certificate with another name", ConnectFailed, NOT_SENT, "connecting", secured("other.example")),
    Fault("TLS: a certificate of an authority nobody trusts", ConnectFailed, NOT_SENT, "connecting", secured("127.0.0.1", by=Authority())),
    Fault("TLS: the handshake is reset", ConnectFailed, NOT_SENT, "connecting", handshake(resetting)),
    Fault("TLS: the peer does not speak it", ConnectFailed, NOT_SENT, "connecting", handshake(plain)),
    Fault("TLS: the handshake stalls", AttemptTimedOut, NOT_SENT, "connecting", handshake(nothing), SHORT),
    Fault("the handshake is longer than `connect`", AttemptTimedOut, NOT_SENT, "connecting", handshake(nothing), Timeout(total=5.0, connect=0.1)),
    Fault("the deadline had passed before", DeadlineExceeded, NOT_SENT, "connecting", talking(nothing), within=0.0),
    Fault("the deadline passes while connecting", DeadlineExceeded, NOT_SENT, "connecting", handshake(nothing), within=0.1),
    # Before the head
    Fault("an upload that the peer stops reading, for longer than `write`", AttemptTimedOut, UNKNOWN, "sending", stalled_upload(), Timeout(total=5.0, write=0.1)),
    Fault("reset before the head", Disconnected, UNKNOWN, "head", then(reset)),
    Fault("closed before the head", Disconnected, UNKNOWN, "head", then(hang_up)),
    Fault("closed in the head", Disconnected, UNKNOWN, "head", then(hang_up, HEAD + b"Content-Le")),
    Fault("garbage status line", ProtocolError, UNKNOWN, "head", then(go_on, b"220 mail.example ESMTP\r\n\r\n")),
    Fault("an answer without a head (HTTP/0.9)", ProtocolError, UNKNOWN, "head", then(hang_up, b"<html>it works</html>\r\n")),
    Fault("another protocol, unasked (101)", ProtocolError, UNKNOWN, "head", then(go_on, b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")),
    Fault("both a length and chunks", ProtocolError, UNKNOWN, "head", then(go_on, HEAD + NINE + CHUNKED + b"\r\n0\r\n\r\n")),
    Fault("two lengths", ProtocolError, UNKNOWN, "head", then(go_on, HEAD + NINE + b"Content-Length: 2\r\n\r\nok")),
    Fault("a length that is no number", ProtocolError, UNKNOWN, "head", then(go_on, HEAD + b"Content-Length: two\r\n\r\nok")),
    Fault("a transfer coding other than chunked", ProtocolError, UNKNOWN, "head", then(hang_up, HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + BOMB)),
    Fault("a head beyond its limit", ProtocolError, UNKNOWN, "head", then(go_on, HEAD + b"X-Long: " + b"x" * 200_000), limits=Limits(head=2_000)),
    Fault("more header fields than allowed", ProtocolError, UNKNOWN, "head", then(go_on, HEAD + b"X-Many: 1\r\n" * 50 + b"\r\n"), limits=Limits(headers=20)),
    Fault("silence", AttemptTimedOut, UNKNOWN, "head", talking(nothing), SHORT),
    Fault("silence for longer than `read`", AttemptTimedOut, UNKNOWN, "head", talking(nothing), Timeout(total=5.0, read=0.1)),
    Fault("one byte after another, a head without end", AttemptTimedOut, UNKNOWN, "head", talking(drip(HEAD + b"X-Slow: ")), SHORT),
    Fault("silence until a deadline that left the attempt too little", DeadlineExceeded, UNKNOWN, "head", talking(nothing), within=0.1),
    # In the body
    Fault("reset in the body", Disconnected, UNKNOWN, "body", body(NINE, reset, b"half")),
    Fault("truncated Content-Length", Disconnected, UNKNOWN, "body", body(NINE, hang_up, b"half")),
    Fault("chunks that end before the last one", Disconnected, UNKNOWN, "body", body(CHUNKED, hang_up, b"4\r\nhalf\r\n")),
    Fault("a body that ends with its connection, and is reset", Disconnected, UNKNOWN, "body", body(b"", reset, b"half")),
    Fault("a body that ends with its connection, and TLS is cut", Disconnected, UNKNOWN, "body", body(b"", cut, b"half", tls=True)),
    Fault("bad chunk", ProtocolError, UNKNOWN, "body", body(CHUNKED, go_on, b"4\r\nhalf\r\n", b"zz\r\nno\r\n")),
    Fault("not what its Content-Encoding says", ProtocolError, UNKNOWN, "body", body(b"Content-Length: 4\r\nContent-Encoding: gzip\r\n", go_on, b"half"), discarded=False),
    Fault("a coded body that stops too early", ProtocolError, UNKNOWN, "body", body(b"Content-Length: 20\r\nContent-Encoding: gzip\r\n", go_on, BOMB[:20]), discarded=False),
    Fault("one byte after another, a body without end", AttemptTimedOut, UNKNOWN, "body", talking(drip(HEAD + LONG)), SHORT, met_by=("buffered",)),
    Fault("a body beyond its limit", ProtocolError, UNKNOWN, "body", then(go_on, HEAD + CHUNKED + b"\r\n2710\r\n" + bytes(10_000) + b"\r\n"), limits=Limits(body=1_000), met_by=("buffered",)),
    Fault("a small body that decodes beyond the limit", ProtocolError, UNKNOWN, "body", then(go_on, answer(BOMB, b"Content-Encoding: gzip")), limits=Limits(body=1_000), met_by=("buffered",)),
    Fault("silence in a stream", AttemptTimedOut, UNKNOWN, "body", body(NINE, go_on, b"half"), SHORT),
    Fault("silence in a stream, for longer than `read`", AttemptTimedOut, UNKNOWN, "body", body(NINE, go_on, b"half"), Timeout(total=5.0, read=0.1)),
    Fault("one byte after another, a stream beyond the deadline", DeadlineExceeded, UNKNOWN, "body", talking(drip(HEAD + LONG)), within=0.2),
)
# fmt: on
