"""One attempt as an engine that is another's library sees it: where it is, when it must end, and what its end means.

Libraries keep time and name faults each in its own way. What all engines must agree on is therefore kept out of them: one timer,
moved as the attempt moves on; the upload, read in pieces so that a stalled one is seen; the rules for an answer's head and size.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from time import perf_counter
from typing import Final

from fairlead.core import Call
from fairlead.engines import coding
from fairlead.engines.native.head import asks, declared, encode
from fairlead.engines.timing import Bound, ends, expired, streams
from fairlead.engines.waits import Waits
from fairlead.engines.wire import Limits, ended, too_large
from fairlead.errors import ConfigError, Disconnected, FairleadError, Knowledge, Phase, ProtocolError, TimedOut
from fairlead.headers import Pair
from fairlead.message import Coding, Request

PIECE: Final = 64 * 1024
_BROKEN: Final = re.compile(rb"[\x00\r\n]").search


class Attempt:
    """Raises TimedOut when the deadline passed before anything was done, ConfigError when the engine is closed."""

    __slots__ = (
        "_began", "_ends", "_limits", "_timer", "_waits", "bound", "call", "fault", "phase", "repeated", "started",
    )  # fmt: skip

    def __init__(self, call: Call, limits: Limits, waits: Waits) -> None:
        self._began = perf_counter()
        self._limits = limits
        self._waits = waits
        self._timer: asyncio.Timeout | None = None
        self.call = call
        self.phase: Phase = "connecting"
        self.bound: Bound | None = None
        self.repeated = False
        """Whether it was sent once already, on a connection that had died."""
        self.fault: Exception | None = None
        """What the caller's own body raised while it was read."""
        self.started = call.clock()
        if waits.closed:
            raise ConfigError("the client is closed", request=call.request)
        if self.started >= call.deadline:
            raise self.expired()
        self._ends = ends(call, self.started)

    @property
    def seconds(self) -> float:
        """Since the attempt began."""
        return perf_counter() - self._began

    # Time

    @asynccontextmanager
    async def waiting(self) -> AsyncGenerator[None]:
        """The one timer of a wait: for the answer, or for the next bytes of a stream. `enter` moves it."""
        self._timer = timer = asyncio.timeout(None)
        self._waits.add(timer)
        try:
            async with timer:
                yield
        finally:
            self._waits.discard(timer)

    def enter(self, phase: Phase, bound: Bound | None = None) -> None:
        """Go on to a phase, bounded by the attempt's end, or by a bound of the call's own that comes first."""
        self.phase, self.bound = phase, None
        due = 0.0 if self._waits.closed else self._ends
        seconds: float | None = getattr(self.call.timeout, bound) if bound is not None else None
        if seconds is not None and (soon := self.call.clock() + seconds) < due:
            due, self.bound = soon, bound
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(due)

    def silence(self) -> None:
        """A wait for the next bytes of a stream begins."""
        streams(self.call)
        self._anew()

    def _anew(self) -> None:
        """A wait for the peer begins that has all of an attempt's time."""
        self.started = self.call.clock()
        self._ends = ends(self.call, self.started)

    def expired(self, bound: Bound | None = None) -> TimedOut:
        """The error for an attempt whose timer ran out, or a timer of the library's that was set to `bound`."""
        return expired(self.call, started=self.started, phase=self.phase, bound=bound or self.bound)

    def told(self, error: BaseException, theirs: Callable[[BaseException], BaseException]) -> BaseException:
        """An error in our own words; `theirs` says what one of the library's own is."""
        if error is self.fault or isinstance(error, asyncio.CancelledError | FairleadError):
            return error
        if self._waits.closed:
            return ConfigError("the client was closed", request=self.call.request, knowledge=Knowledge.UNKNOWN)
        if self._timer is not None and self._timer.expired():
            told: BaseException = self.expired()
        else:
            told = self.fault or theirs(error)
            if isinstance(told, Disconnected) and not isinstance(
                fault := ended(self.call.request, self.phase), Disconnected
            ):
                told = fault
        if self.repeated and isinstance(told, FairleadError):
            told.knowledge = Knowledge.UNKNOWN
        return told

    # The request

    def fields(self) -> list[Pair]:
        """The header fields to send, as every engine sends them; raises ConfigError for what cannot be framed."""
        request = self.call.request
        for name in ("Expect", "Upgrade"):
            if asks(request, name):
                raise ConfigError(f"{name} is spoken by engine='native': leave it out, or use that", request=request)
        lines = encode(request)[:-4].split(b"\r\n")[1:]
        return [(name, value) for name, _, value in [line.partition(b": ") for line in lines]]

    async def upload(self) -> AsyncGenerator[bytes]:
        """The body in pieces. Each must be taken within the bound for a stalled write."""
        request = self.call.request
        length, sent = declared(request), 0
        self._sending(None)
        async with aclosing(_pieces(request)) as pieces:
            while True:
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    self.fault = error
                    raise
                sent += len(piece)
                if length is not None and sent > length:
                    break
                self._sending("write")
                yield piece
                self._sending(None)
                await asyncio.sleep(0)  # let an answer be read that comes before the upload ends
        if length is not None and sent != length:
            given = "more" if sent > length else sent
            self.fault = ConfigError(f"the body gave {given} of the {length} bytes it announced", request=request)
            raise self.fault
        if self.phase == "sending":
            if self.call.stream:
                self._anew()
            self.enter("head")

    def _sending(self, bound: Bound | None) -> None:
        """A piece is being sent, or (without a bound) the next is read: no wait of a stream, which has all of an attempt's time for each."""
        if self.phase != "sending":  # an answer may come before the upload ended: then its phase stands
            return
        if self.call.stream:
            self._anew()
            if bound is None:
                self._ends = self.call.deadline
        self.enter("sending", bound)

    # The answer

    def head(self, status: int, pairs: list[Pair]) -> Coding | None:
        """The content coding to undo; raises ProtocolError for a head that no engine accepts."""
        if fault := _fault(status, pairs, self._limits):
            raise self.not_http(fault)
        request = self.call.request
        fields = [value for name, value in pairs if name.lower() == b"content-encoding"]
        try:
            return coding.coding(b",".join(fields)) if fields else None
        except ProtocolError as error:
            error.request = request
            raise

    async def whole(self, chunks: AsyncIterator[bytes], decode: Coding | None) -> bytes:
        """A buffered body, decoded; raises ProtocolError for more than may be held."""
        limit = self._limits.body
        held, size = [], 0
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                error = too_large(limit)
                error.request = self.call.request
                raise error
            held.append(chunk)
        content = held[0] if len(held) == 1 else b"".join(held)
        if decode is None:
            return content
        try:
            return coding.whole(decode, content, limit)
        except ProtocolError as error:
            error.request = self.call.request
            raise

    def not_http(self, fault: str) -> ProtocolError:
        return ProtocolError(f"what came back is not valid HTTP: {fault}", request=self.call.request, phase=self.phase)


async def _pieces(request: Request) -> AsyncGenerator[bytes]:
    content = request.content
    if isinstance(content, bytes):
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]
        return
    async with aclosing(aiter(content)) as chunks:
        async for chunk in chunks:
            if chunk:
                yield chunk


def _fault(status: int, pairs: list[Pair], limits: Limits) -> str:
    """What is wrong with a head (RFC 9112 section 6.3), in words that repeat nothing of it."""
    if status == 101:
        return "another protocol, which nobody asked for"
    if status < 200:
        return f"status {status:03}"
    if len(pairs) > limits.headers:
        return f"more than {limits.headers} header fields"
    if sum([len(name) + len(value) + 4 for name, value in pairs]) > limits.head:
        return f"a head of more than {limits.head} bytes"
    if any(_BROKEN(name) or _BROKEN(value) for name, value in pairs):
        return "a control character in a header field"
    lengths = [value.strip(b" \t") for name, value in pairs if name.lower() == b"content-length"]
    codings = [value.strip(b" \t").lower() for name, value in pairs if name.lower() == b"transfer-encoding"]
    if lengths and codings:
        return "both a Content-Length and a Transfer-Encoding"
    if len(lengths) > 1 or not all(value.isdigit() for value in lengths):
        return "a Content-Length that is not one number"
    if codings and (len(codings) > 1 or codings[0] != b"chunked"):
        return "a transfer coding other than one chunked"
    return ""
