"""One connection: here bytes are parsed, one exchange at a time, and here it is decided what an exchange came to.

llhttp reads; what it does not know is decided here: a HEAD has no body, an end of stream may or may not be an end of body, a
message has bounds, and nothing may follow it. Outcomes are decided after `feed_data` returns, never inside its callbacks, so that
they do not depend on how the bytes were cut into segments. A connection that saw anything odd is never used again.

Longer than most, because a protocol's callbacks share one state: taken apart, each part would hold the whole of it.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import BufferedProtocol, Future, Task, Transport
from collections.abc import Callable
from math import inf
from typing import Final, cast

import httptools

from fairlead.body import Upload
from fairlead.core import Call
from fairlead.engines import Limits
from fairlead.engines.native.head import declared
from fairlead.engines.timing import Bound, ends, expired
from fairlead.errors import ConfigError, Disconnected, FairleadError, Phase, ProtocolError
from fairlead.headers import Pair
from fairlead.url import Origin

OVERHEAD: Final = 64 * 1024
"""Bytes of chunk lines, extensions and trailers that any body may have, besides eight for each of its own."""
HIGH_WATER: Final = 256 * 1024
"""Bytes of a stream that wait for their reader before reading stops."""
INTERIM: Final = 32
"""1xx answers before the final one."""


class Connection(BufferedProtocol):
    """The parser's callbacks, the transport's callbacks and the timer of one connection."""

    __slots__ = (
        "_at", "_bound", "_buffer", "_chunked", "_due", "_fault", "_handle", "_headless", "_interim", "_known", "_limits", "_loop",
        "_on_lost", "_parser", "_read", "_size", "_started", "_unsure", "_upload", "_waiter", "_writable", "answer",
        "broken", "call", "chunks", "coding", "complete", "exchanges", "failure", "head_done", "headers", "idle", "lost", "origin", "status", "transport",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        buffer: memoryview,
        limits: Limits,
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.origin = origin
        self._loop = loop
        self._on_lost = on_lost
        self._buffer = buffer
        self._limits = limits
        self._parser = httptools.HttpResponseParser(self)
        self._due = 0.0
        self._at = inf
        self._handle: asyncio.TimerHandle | None = None
        self._writable: Future[None] | None = None
        self._waiter: Future[None] | None = None
        self.transport = cast("Transport", None)
        self.call = cast("Call", None)
        self.answer: Future[None] | None = None
        self._upload: Task[None] | None = None
        self.exchanges = 0
        self.idle = False
        self.lost = False

    # One exchange

    def begin(self, call: Call, head: bytes, started: float) -> Future[None]:
        """Send a request; the future is done when its answer is here (of a stream: when its head is)."""
        self.call = call
        self.exchanges += 1
        self.idle = False
        self._headless = call.request.method == "HEAD"
        self._interim = 0
        self._started = started
        self._bound: Bound | None = None
        self.status = self._read = self._size = 0
        self.headers: list[Pair] = []
        self.chunks: list[bytes] = []
        self.coding = b""
        self.head_done = self.complete = self._chunked = self._known = self._unsure = False
        self._fault = ""
        """What is wrong with the answer."""
        self.broken = ""
        """Why this connection must not be used again, though its answer may be right."""
        self.failure: BaseException | None = None
        self.answer = self._loop.create_future()
        content = call.request.content
        if type(content) is bytes:
            self.transport.write(head + content if content else head)
        else:
            self.transport.write(head)
            self._upload = self._loop.create_task(self._send(cast("Upload", content), declared(call.request)))
            self._upload.add_done_callback(self._sent)
        self._wait(started)
        return self.answer

    def end(self) -> bool:
        """Finish an exchange whose answer is complete; True if the connection may serve another."""
        self.answer = None
        self._due = 0.0
        if self._upload is not None and not self._upload.done():
            self.broken = self.broken or "the answer came before the request was sent"
            self._upload.cancel()
        if self._headless:
            # llhttp waits for the body that a HEAD never has.
            self._parser.__init__(self)  # type: ignore[misc]
        self.call = cast("Call", None)
        self.headers, self.chunks = [], []
        return not (self.broken or self.lost or self.transport.is_closing() or self.transport.get_write_buffer_size())

    def rest(self, until: float) -> None:
        """Be idle, no longer than `until` (loop time)."""
        self.idle = True
        self.arm(until)

    def abort(self) -> None:
        """Give the connection up, whatever it was doing. May be called again."""
        self.broken = "aborted"
        self._due = 0.0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._upload is not None:
            self._upload.cancel()
        self.transport.abort()

    def fail(self, error: BaseException) -> None:
        """End the exchange under way with an error, and the connection with it."""
        if self.complete or self.failure is not None:
            return
        self.failure = error
        self._wake()
        self.abort()

    @property
    def silent(self) -> bool:
        """Whether a kept connection died before a byte of the answer came back: it had died before the request was sent."""
        return self.exchanges > 1 and self._read == 0

    @property
    def phase(self) -> Phase:
        if self.head_done:
            return "body"
        return "sending" if self._upload is not None or self.transport.get_write_buffer_size() else "head"

    # The body of a stream

    async def next(self) -> bytes:
        """The next bytes of the body, b"" when it is complete."""
        while not self.chunks:
            if self.failure is not None:
                raise self.failure
            if self.complete:
                return b""
            self._waiter = self._loop.create_future()
            self._wait(self._loop.time())
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        self._rest()
        if not self.complete and self.failure is None:
            self.transport.resume_reading()
        return data

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.answer is None or self.complete:
            # Nobody asked: a server that closes an idle connection may say 408 first.
            self.abort()
            return
        data = self._buffer[:nbytes]
        if self._read == 0:
            if data[:7] != b"HTTP/1."[:nbytes]:
                self.fail(self._not_http("it does not begin with HTTP/1"))
                return
            self._unsure = nbytes < 7
        self._read += nbytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # After the answer's end it is the connection's fault, not the answer's.
            if self.complete:
                self.broken = "bytes after the end of the answer"
            else:
                self._fault = self._fault or _said(error)
        self._decide()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self.answer is not None and not self.complete and self.failure is None:
            if self.head_done and not self._known and exc is None and self._ended_cleanly():
                self.complete = True
                self.broken = "the end of the connection was the end of the body"
                self._wake()
            else:
                self.fail(Disconnected(request=self.call.request, phase=self.phase))
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()
        if self.answer is not None:
            self._wait(self._started)

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        if self.answer is not None and not self.complete:
            self._wait(self._started)

    # The parser

    def on_message_begin(self) -> None:
        if self.complete:
            self.broken = self.broken or "a second answer came"
        else:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        self.status = status = self._parser.get_status_code()
        if status < 200:
            return
        for name, value in self.headers:
            # The three names that say how the body is framed and coded differ in length.
            length = len(name)
            if length == 14 and name.lower() == b"content-length":
                self._known = True
                if not self.call.stream and not self._headless and int(value) > self._limits.body:
                    self._fault = (
                        f"a body of {int(value)} bytes; at most {self._limits.body} are held: read it as a stream"
                    )
            elif length == 17 and name.lower() == b"transfer-encoding":
                if self._chunked or value.strip().lower() != b"chunked" or self._parser.get_http_version() != "1.1":
                    self._fault = "a transfer coding other than one chunked"
                self._chunked = self._known = True
            elif length == 16 and name.lower() == b"content-encoding":
                self.coding = self.coding + b"," + value if self.coding else value
        if self._unsure and self._parser.get_http_version() not in {"1.0", "1.1"}:
            self._fault = "it does not begin with HTTP/1"
        self.head_done = True
        if self._headless:
            self._complete()

    def on_body(self, chunk: bytes) -> None:
        if self.complete:
            self.broken = self.broken or "bytes after the end of the answer"
            return
        self.chunks.append(chunk)
        self._size += len(chunk)

    def on_message_complete(self) -> None:
        if self.head_done:
            self._complete()
        else:
            self._interim += 1

    def _complete(self) -> None:
        self.complete = True
        if not self._parser.should_keep_alive():  # the parser forgets it with the message
            self.broken = self.broken or "the peer closes"

    # Decisions

    def _decide(self) -> None:
        """What the bytes so far came to: a fault, a head, an end, or nothing yet."""
        if fault := self._fault or self._beyond_limits():
            self.complete = False
            self.fail(self._not_http(fault))
        elif self.complete:
            self._rest()
            self._wake()
        elif self.head_done and self.call.stream:
            if sum(map(len, self.chunks)) > HIGH_WATER:
                self.transport.pause_reading()
            self._rest()
            self._wake()
        elif self.call.timeout.read is not None:
            self._wait(self._started)

    def _beyond_limits(self) -> str:
        limits = self._limits
        if self._read > limits.head:
            if not self.head_done or sum([len(name) + len(value) + 4 for name, value in self.headers]) > limits.head:
                return f"a head of more than {limits.head} bytes"
            if self._read - self._size > limits.head + OVERHEAD + 8 * self._size:
                return "more framing than body"
            if self._size > limits.body and not self.call.stream:
                return f"a body of more than {limits.body} bytes: read it as a stream"
        if len(self.headers) > limits.headers:
            return f"more than {limits.headers} header fields"
        if self.status < 200:
            if self.status == 101:
                return "another protocol, which nobody asked for"
            if self._interim > INTERIM:
                return f"more than {INTERIM} interim answers"
            if 0 < self.status < 100:
                return f"status {self.status:03}"
        return ""

    def _not_http(self, fault: str) -> ProtocolError:
        return ProtocolError(f"what came back is not valid HTTP: {fault}", request=self.call.request, phase=self.phase)

    def _ended_cleanly(self) -> bool:
        """Whether TLS ended by its own word (RFC 9112 section 9.8); without TLS a FIN is all there is."""
        tls = self.transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def _wake(self) -> None:
        """Tell whoever waits: for the answer, or for the next bytes of a stream."""
        answer = self.answer
        if answer is not None and not answer.done():
            if self.failure is not None:
                answer.set_exception(self.failure)
            else:
                answer.set_result(None)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Sending

    async def _send(self, upload: Upload, length: int | None) -> None:
        sent = 0
        async for chunk in upload:
            if not chunk:
                continue
            sent += len(chunk)
            if length is not None and sent > length:
                break
            if self.lost or self.transport.is_closing():
                return
            self.transport.write(chunk if length is not None else b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if self._writable is not None:
                await self._writable
        if length is None:
            self.transport.write(b"0\r\n\r\n")
        elif sent != length:
            raise ConfigError(f"the body gave {'more' if sent > length else sent} of the {length} bytes it announced")

    def _sent(self, upload: Task[None]) -> None:
        self._upload = None
        if not upload.cancelled() and (error := upload.exception()) is not None:
            if isinstance(error, FairleadError):
                error.request = self.call.request
            self.fail(error)

    # The timer: one handle, moved only when the end comes nearer (a moved timer costs five times a kept one)

    def _wait(self, since: float) -> None:
        """Bound a wait that began at `since`: by the attempt's end, or by a bound of the call's own that comes first."""
        self._started = since
        due, self._bound = ends(self.call, since), None
        timeout = self.call.timeout
        if timeout.write is not None and self._writable is not None:
            due, self._bound = min((due, None), (self._loop.time() + timeout.write, "write"), key=lambda one: one[0])
        elif timeout.read is not None and self._writable is None:
            due, self._bound = min((due, None), (self._loop.time() + timeout.read, "read"), key=lambda one: one[0])
        self.arm(due)

    def _rest(self) -> None:
        """Nobody waits: only the call's deadline runs on."""
        if self.complete:
            self._due = 0.0
        else:
            self._started, self._bound = self.call.deadline, None
            self.arm(self.call.deadline)

    def arm(self, due: float) -> None:
        """Call `_check` at `due` (loop time), or never for inf."""
        if due == inf:
            self._due = 0.0
            return
        self._due = due
        if due < self._at or self._handle is None:
            if self._handle is not None:
                self._handle.cancel()
            self._at = due
            self._handle = self._loop.call_at(due, self._check)

    def _check(self) -> None:
        self._handle, self._at = None, inf
        if not self._due:
            return
        if self._loop.time() + 0.001 < self._due:  # the loops' timers have a grain of 1 ms and may be early
            self.arm(self._due)
        elif self.idle:
            self.abort()
        else:
            self.fail(expired(self.call, started=self._started, phase=self.phase, bound=self._bound))


def _said(error: BaseException) -> str:
    """The parser's own words, which repeat nothing of what it read."""
    return "another protocol, which nobody asked for" if isinstance(error, httptools.HttpParserUpgrade) else str(error)
