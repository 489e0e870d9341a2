"""Sockets for httpx2's core that read while they write, and that know whether an answer has begun.

httpcore2 sends a whole request before it reads. Its own sockets do not read meanwhile, so that an answer which comes before the
upload ended is lost with the reset that follows it. These read ahead: once an answer is here, writing fails as if the peer had
stopped reading, and httpcore2 goes on to read. They also tell a kept connection that died unseen from one that died at work, and
what is given up is discarded at once, without a wait for bytes that nobody takes.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import Future, TimerHandle, Transport
from math import inf
from typing import Any, Final, cast

import httpcore2

from fairlead.engines.native.dial import Reach
from fairlead.engines.transport import ended_cleanly, unread

HIGH_WATER: Final = 256 * 1024
"""Bytes that wait for their reader before reading stops."""
BEGINNING: Final = b"HTTP/1."
"""Of every answer: httpcore2 would wait for the end of a head that is none."""


class Unanswered(Exception):
    """The connection ended before a byte of the answer came. `kept`: it had served before. `sent`: a byte of the request left."""

    def __init__(self, *, kept: bool, sent: bool = True) -> None:
        super().__init__()
        self.kept = kept
        self.sent = sent


class Stream(httpcore2.AsyncNetworkStream, asyncio.Protocol):
    """One connection."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._transport = cast("Transport", None)
        self._held = bytearray()
        self._data: Future[None] | None = None
        self._room: Future[None] | None = None
        self._expiry: TimerHandle | None = None
        self._full = self._paused = self._ended = self._cut = False
        self._answered = self._kept = self._idle = False
        self._http1 = not backend.socks
        """Whether it speaks HTTP/1, where nothing comes that was not asked for."""
        self._born, self._until = self._loop.time(), inf
        self.lost = False
        self.distrusted = False
        """Whether it must not serve again."""

    # What httpcore2 asks for

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                while not self._held and not self._ended:
                    self._data = self._loop.create_future()
                    await self._data
        except TimeoutError:
            raise httpcore2.ReadTimeout from None
        if self._held:
            data = bytes(self._held[:max_bytes])
            if self._http1 and not self._answered and data[:7] != BEGINNING[: len(data)]:
                raise httpcore2.RemoteProtocolError
            del self._held[:max_bytes]
            self._answered = True
            if self._paused and not self._held:
                self._paused = False
                self._transport.resume_reading()
            return data
        if self._http1 and not self._answered:
            raise Unanswered(kept=self._kept)
        if self._cut:
            raise httpcore2.ReadError
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self._idle:
            self._again()
        if not self._stopped():
            self._transport.write(buffer)
        while self._full and not self._stopped():
            self._room = self._loop.create_future()
            await self._room
        if self._stopped():
            raise httpcore2.WriteError

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Stream:
        secured = Stream(self._backend)
        secured._transport = self._transport  # it may be told of an end before a beginning
        try:
            transport = await self._loop.start_tls(
                self._transport, secured, ssl_context, server_hostname=server_hostname
            )
            if transport is None:
                raise ConnectionResetError("closed during the TLS handshake")
        except BaseException as error:
            self.abort()
            self._loop.call_soon(self._backend.lost, self)  # TLS does not tell, and the socket is closed by then
            if isinstance(error, OSError | ssl.CertificateError):
                raise httpcore2.ConnectError from error
            raise
        self._backend.lost(self)
        secured.connection_made(transport)
        self._backend.made(secured)
        secured._http1 = transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2"
        return secured

    async def aclose(self) -> None:
        self.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: whether it is fit to serve again
            unfit = self.distrusted or self._ended or self._held or self._loop.time() >= self._until
            return bool(unfit) or self._transport.is_closing() or unread(self._transport)
        return self._transport.get_extra_info(info)

    # What the engine asks for

    def abort(self) -> None:
        """Discard the connection. May be called again."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._transport.abort()

    def rest(self, seconds: float, age: float) -> None:
        """Be idle, no longer than that, and until it is so old."""
        self._idle = True
        self._until = min(self._loop.time() + seconds, self._born + age)
        self._expiry = self._loop.call_at(self._until, self.abort)

    def _stopped(self) -> bool:
        """Whether writing on is of no use: the peer is gone, or has answered already."""
        return self._ended or self._transport.is_closing() or (self._http1 and _begun(self._held))

    def _again(self) -> None:
        """Another request on a kept connection: what came since the last answer is not the answer to this one."""
        self._kept, self._answered, self._idle = True, False, False
        if self._expiry is not None:
            self._expiry.cancel()
        if self._held or self._transport.is_closing():
            raise Unanswered(kept=True, sent=False)

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._idle:
            self.abort()  # nobody asked
            return
        self._held += data
        if len(self._held) > HIGH_WATER:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self.lost = True
        self._backend.lost(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def _end(self, exc: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._cut = exc is not None or not ended_cleanly(self._transport)
            self._wake()

    def _wake(self) -> None:
        """Let whoever reads or writes look again."""
        for waiting in (self._data, self._room):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)


class Backend(httpcore2.AsyncNetworkBackend):
    """The connections of one pool: made here, and known until they are gone."""

    def __init__(self, reach: Reach, *, socks: bool = False) -> None:
        self._reach = reach
        self.socks = socks
        """Whether connections begin with words that are no HTTP."""
        self._streams: set[Stream] = set()
        self._closed = False
        self._emptied: Future[None] | None = None

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> Stream:
        try:
            stream = (await self._reach(lambda: Stream(self), host, port))[1]
        except OSError as error:
            raise httpcore2.ConnectError from error
        self.made(stream)
        return stream

    def distrust(self) -> None:
        """What was idle until now shall not serve again: one of them had died unseen."""
        for stream in self._streams:
            stream.distrusted = True

    async def close(self) -> None:
        """Discard every connection, one that is still being made included."""
        self._closed = True
        for stream in list(self._streams):
            stream.abort()
        if self._streams:
            self._emptied = self._emptied or asyncio.get_running_loop().create_future()
            await asyncio.wait({self._emptied})

    def made(self, stream: Stream) -> None:
        if not stream.lost:
            self._streams.add(stream)
            if self._closed:
                stream.abort()

    def lost(self, stream: Stream) -> None:
        self._streams.discard(stream)
        if self._emptied is not None and not self._streams and not self._emptied.done():
            self._emptied.set_result(None)


def _begun(held: bytearray) -> bool:
    """Whether these bytes are the beginning of a final answer: more than interim ones (1xx)."""
    start = 0
    while held[start + 9 : start + 10] == b"1":
        end = held.find(b"\r\n\r\n", start)
        if end < 0:
            return False
        start = end + 4
    return len(held) > start + 9
