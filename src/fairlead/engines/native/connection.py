"""One connection, one exchange at a time: bytes go to `answer.py`, time to `alarm.py`, and a fault or lateness ends both here.

However it ends, it ends in `abort`. A connection that saw anything odd is never used again.

Longer than most: the callbacks of a transport share one state, and two halves would each need the whole of it.
"""

from __future__ import annotations

import asyncio
from asyncio import BufferedProtocol, Future, Task, Transport
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from functools import partial
from math import inf
from typing import Final, cast

from fairlead.body import Upload
from fairlead.core import Call, Timeout
from fairlead.engines.native.alarm import Alarm
from fairlead.engines.native.answer import Answer
from fairlead.engines.native.head import asks, declared
from fairlead.engines.timing import Bound, ends, expired
from fairlead.engines.transport import FRESH, GONE, ended_cleanly, unread
from fairlead.engines.wire import Limits, ended, too_large
from fairlead.errors import ConfigError, Disconnected, FairleadError, Knowledge, Phase, ProtocolError
from fairlead.url import Origin

HIGH_WATER: Final = 256 * 1024
"""Bytes of a stream that wait for their reader before reading stops; a larger request body is sent in pieces."""
PIECE: Final = 64 * 1024
PATIENCE: Final = 1.0
"""Seconds that a body waits for the 100 it asked for: a peer that knows none never sends one (RFC 9110 section 10.1.1)."""


class Connection(BufferedProtocol):
    """The transport's callbacks, and the exchange they serve. `arrived` is done when the answer (of a stream: its head) is here."""

    __slots__ = (
        "_alarm", "_asked", "_bound", "_buffer", "_kept", "_limits", "_loop", "_lost", "_on_lost", "_paused", "_since", "_taken", "_upload", "_waiter", "_writable",
        "answer", "arrived", "call", "clock", "failure", "origin", "transport",
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
        self.clock = loop.time
        self.answer = Answer(limits)
        self._limits = limits
        self._loop = loop
        self._buffer = buffer
        self._on_lost = on_lost
        self._alarm = Alarm(loop, self._late)
        self._upload: Task[None] | None = None
        self._since = 0.0
        self._bound: Bound | None = None
        self._waiter: Future[None] | None = None
        self._writable: Future[None] | None = None
        self._asked: Future[None] | None = None
        """Done when the peer has said whether it wants the body."""
        self._lost = False
        self.transport = cast("Transport", None)
        self.call = cast("Call", None)
        self.arrived: Future[None] | None = None
        self.failure: BaseException | None = None
        self._kept = self._paused = False

    # The exchange

    def begin(self, call: Call, head: bytes, started: float) -> Future[None]:
        """Send a request."""
        request = call.request
        self.call = call
        self._taken = 0
        self.answer.expect(request.method, call.stream)
        self.arrived = arrived = self._loop.create_future()
        content = request.content
        if not content:
            self._wait(started)
            self.transport.write(head)
        elif type(content) is bytes and len(content) <= HIGH_WATER and not asks(request, "expect"):
            self._wait(started)
            self.transport.write(head + content)
        else:
            upload = content if isinstance(content, Upload) else Upload(partial(_slices, content), length=len(content))
            if asks(request, "expect"):
                self._asked = self._loop.create_future()
            self._upload = self._loop.create_task(self._send(upload, declared(request)))
            self._upload.add_done_callback(self._sent)
            self._since = started
            self._anew()
            self.transport.write(head)
        return arrived

    async def next(self) -> bytes:
        """The next bytes of a stream's body, b"" when it is complete."""
        answer = self.answer
        while not answer.chunks:
            if self.failure is not None:
                raise self.failure
            if answer.complete:
                return b""
            if self.read_from:
                raise FairleadError("one reader at a time", request=self.call.request, phase="body")
            waiter = self._waiter = self._loop.create_future()
            self._wait(self.clock())
            try:
                await waiter
            except BaseException:
                if self._waiter is waiter:  # nobody waits now, and no time runs but the call's
                    self._rest()
                raise
            finally:
                if self._waiter is waiter:
                    self._waiter = None
        data = b"".join(answer.chunks)
        answer.chunks.clear()
        self._taken = answer.size
        self._rest()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes of another protocol, as fast as the peer takes them; no longer than the call's deadline."""
        if self.transport.is_closing():
            raise self.failure or Disconnected(request=self.call.request, phase="body")
        self.transport.write(data)
        if self._writable is not None:
            await asyncio.wait({self._writable})
            if self.failure is not None:
                raise self.failure

    def outlive(self) -> None:
        """The call is over, and another protocol goes on: only a stalled send is bounded from now on."""
        call = self.call
        call.deadline, call.timeout = inf, Timeout(total=None, write=call.timeout.write)
        self._rest()

    def rest(self, now: float, until: float) -> bool:
        """Be idle from now on, no longer than `until` (loop time); False where the exchange left it in no state to serve another."""
        self.arrived = None
        self.call = cast("Call", None)
        transport = self.transport
        if self.answer.odd or self._upload is not None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        self._kept = True
        self._since = now
        self._alarm.set(until)
        return True

    def serves(self, now: float, idempotent: bool) -> bool:
        """Whether it can still serve. One that rested for a while is asked: what came meanwhile may wait unread in its socket.

        It is always asked before what cannot be sent again: some peers close after each answer, and do not say so.
        """
        if self.transport.is_closing() or now >= self._alarm.due:
            return False
        return (idempotent and now - self._since <= FRESH) or not unread(self.transport)

    def abort(self) -> None:
        """Give the connection up, whatever it was doing. May be called again."""
        self._alarm.stop()
        upload, self._upload = self._upload, None
        with suppress(RuntimeError):  # the loop may be closed, and its sockets with it
            if upload is not None:
                upload.cancel()
            if not self._lost:  # asyncio would take leave of it twice, where unsent bytes had kept it open
                self.transport.abort()

    def give_up(self) -> None:
        """Abort, and let go of the error: its traceback leads back here, and a circle would keep the connection's buffers."""
        self.abort()
        self.arrived = self.failure = None

    def fail(self, error: BaseException) -> None:
        """End the exchange under way with an error, and the connection with it."""
        if self.failure is None:
            self.failure = error
            self._wake()
        self.abort()

    @property
    def read_from(self) -> bool:
        """Whether somebody waits for the next bytes of a stream."""
        return self._waiter is not None and not self._waiter.cancelled()

    @property
    def idle(self) -> bool:
        return self.arrived is None

    @property
    def silent(self) -> bool:
        """Whether no byte of an answer came back on a kept connection: it had died before the request was sent."""
        return self._kept and self.answer.read == 0

    @property
    def phase(self) -> Phase:
        if self.answer.head_done:
            return "body"
        return "sending" if self._upload is not None or self.transport.get_write_buffer_size() else "head"

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        answer = self.answer
        if self.arrived is None or answer.complete:
            # Nobody asked: a server that closes an idle connection may say 408 first.
            self.abort()
            return
        answer.feed(self._buffer[:nbytes])
        if answer.fault and not self._switched():
            self.fail(self._not_http())
        elif answer.complete:
            self._alarm.clear()
            self._wake()
        else:
            self._more()

    def _more(self) -> None:
        """Some of the answer is here, and more is to come."""
        answer = self.answer
        if self._asked is not None and (answer.continued or answer.head_done) and not self._asked.done():
            self._asked.set_result(None)
        if answer.head_done and self.call.stream:
            if answer.size - self._taken > HIGH_WATER and not self._paused:
                self._paused = True
                self.transport.pause_reading()
            self._rest()
            self._wake()
        elif self.call.timeout.read is not None:
            self._wait(self._since)

    def _switched(self) -> bool:
        """Whether the fault is none: another protocol was asked for, and agreed to (RFC 9110 section 7.8)."""
        call = self.call
        if not (call.stream and asks(call.request, "upgrade") and self.answer.switch()):
            return False
        call.allowance = inf  # its silences are no fault
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._ended(exc)
        self._alarm.stop()
        self._on_lost(self)
        self.transport = GONE

    def eof_received(self) -> None:
        """A FIN. While bytes are unsent the transport waits for them before it says more: too late for an answer that is here."""
        if self.transport.get_extra_info("ssl_object") is None and self.transport.get_write_buffer_size():
            self._ended(None)

    def _ended(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        if self.arrived is None or self.answer.complete or self.failure is not None:
            return
        if exc is None and ended_cleanly(self.transport) and self.answer.end():
            self._wake()
        else:
            fault = ended(self.call.request, self.phase)
            fault.__cause__ = exc  # tells a reset from an end
            self.fail(fault)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()
        if self.arrived is not None and not self.answer.complete:
            self._anew()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        if self.arrived is not None and not self.answer.complete:
            self._anew()

    def _not_http(self) -> ProtocolError:
        if self.answer.too_large:
            error = too_large(self._limits.body)
            error.request = self.call.request
            return error
        message = f"what came back is not valid HTTP: {self.answer.fault}"
        return ProtocolError(message, request=self.call.request, phase=self.phase)

    def _wake(self) -> None:
        """Tell whoever waits: for the answer, or for the next bytes of a stream."""
        arrived = self.arrived
        if arrived is not None and not arrived.done():
            if self.failure is not None:
                arrived.set_exception(self.failure)
            else:
                arrived.set_result(None)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Sending a body that is read meanwhile

    async def _send(self, upload: Upload, length: int | None) -> None:
        if self._asked is not None:
            await asyncio.wait({self._asked}, timeout=PATIENCE)
            self._asked = None
            if self.answer.head_done:  # the body is not wanted, and half a request is no basis for another
                self.answer.odd = "it was answered before its body was sent"
                return
        sent = 0
        async with aclosing(aiter(upload)) as chunks:
            async for chunk in chunks:
                if not chunk:
                    continue
                sent += len(chunk)
                if length is not None and sent > length:
                    break
                if self.transport.is_closing():
                    return
                self.transport.write(chunk if length is not None else b"%x\r\n%b\r\n" % (len(chunk), chunk))
                if self._writable is not None:
                    await self._writable
        if length is None:
            if not self.transport.is_closing():
                self.transport.write(b"0\r\n\r\n")
        elif sent != length:
            raise ConfigError(f"the body gave {'more' if sent > length else sent} of the {length} bytes it announced")

    def _sent(self, upload: Task[None]) -> None:
        error = asyncio.CancelledError() if upload.cancelled() else upload.exception()
        if upload is not self._upload:
            return  # the exchange went on without it
        self._upload = None
        if isinstance(error, FairleadError):
            error.knowledge = Knowledge.UNKNOWN  # its head has left
        if self.answer.complete:
            if error is not None:
                self.answer.odd = "half a request was sent"
        elif error is None:
            self._anew()
        elif isinstance(error, ConfigError) or not isinstance(error, FairleadError | asyncio.CancelledError):
            self.fail(error)
        else:
            # It is no verdict on this upstream, whatever it was on another.
            fault = FairleadError("the body could not be read", request=self.call.request, phase="sending")
            fault.__cause__ = error
            self.fail(fault)

    # Time

    def _wait(self, since: float) -> None:
        """Bound a wait that began at `since`: by the attempt's end, or by a bound of the call's own that comes first."""
        self._since, self._bound = since, None
        call = self.call
        due = ends(call, since)
        timeout = call.timeout
        if timeout.read is not None or timeout.write is not None:
            # While a body is read for sending, silence is ours.
            bound: Bound = "write" if self._writable is not None else "read"
            seconds = timeout.write if self._writable is not None else timeout.read if self._upload is None else None
            if seconds is not None and (own := self.clock() + seconds) < due:
                due, self._bound = own, bound
        self._alarm.set(due)

    def _anew(self) -> None:
        """Another bound counts now. Until its head is here, a stream waits for its peer anew each time, and for its own body as for nobody."""
        if not self.call.stream or self.answer.head_done:
            self._wait(self._since)
        elif self._upload is not None and self._writable is None:
            self._rest()
        else:
            self._wait(self.clock())

    def _rest(self) -> None:
        """Nobody waits: only the call's deadline runs on."""
        if self.answer.complete:
            self._alarm.clear()
        else:
            self._since, self._bound = self.call.deadline, None
            self._alarm.set(self.call.deadline)

    def _late(self) -> None:
        if self.arrived is None:
            self.abort()
        else:
            self.fail(expired(self.call, started=self._since, phase=self.phase, bound=self._bound))


def _slices(content: bytes) -> Iterator[bytes]:
    return (content[start : start + PIECE] for start in range(0, len(content), PIECE))
