"""A response whose body is still to come: read once, decoded piece by piece, closed whatever happens.

`close` is synchronous and may be called again. State first, then the callbacks, innermost first, each once: whoever holds a slot,
a verdict or a span for this response gives it back there, also when its reader was cancelled half-way.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol

from fairlead.errors import FairleadError
from fairlead.headers import Pair
from fairlead.request import Request
from fairlead.response import Response


class Body(Protocol):
    """A response body that is still arriving, as an engine hands it over."""

    async def read(self) -> bytes:
        """The next bytes as they were sent, or b"" at the end; raises TransportError or TimedOut."""
        ...

    def close(self) -> None:
        """Give up whatever has not arrived. Synchronous, may be called again."""
        ...


class Coding(Protocol):
    """A content coding being undone (RFC 9110 section 8.4)."""

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        """The decoded pieces of a chunk, each of bounded size; raises ProtocolError."""
        ...

    def end(self) -> None:
        """Raises ProtocolError if the coded bytes stopped too early."""
        ...


class Upgraded(Protocol):
    """The raw connection after a 101 (RFC 9110 section 7.8): its bytes mean what the two sides have agreed on."""

    async def read(self) -> bytes:
        """The next bytes, or b"" at the end; raises TransportError or TimedOut."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; waits while the peer does not take what was sent before. Raises TransportError or TimedOut."""
        ...

    def outlive(self) -> None:
        """Go on without the call's deadline and its bound on silences: what is left is the bound on a stalled send (`Timeout.write`)."""
        ...

    def close(self) -> None:
        """Close the connection. Synchronous, may be called again."""
        ...


class Arriving(Response):
    """As an engine hands it out, `seconds` after the attempt began. Dropped open, it says where it was opened, and closes."""

    __slots__ = ("_body", "_callbacks", "_coding", "_taken", "_whole", "complete", "error", "is_closed", "opened_at", "upgraded")  # fmt: skip

    def __init__(
        self,
        status: int,
        pairs: Sequence[Pair],
        body: Body,
        coding: Coding | None,
        request: Request,
        seconds: float,
        whole: bytes | None = None,
    ) -> None:
        """`whole` is the body as it was sent, where all of it came with the head: then nothing is asked of `body`."""
        self._fill(status, pairs, None, request, seconds)
        self._body = body
        self._whole = whole
        self._coding = coding
        self._callbacks: list[Callable[[], object]] = []
        self._taken = False
        self.is_closed = False
        # Of a body that is coded it is only known when it was decoded.
        self.complete = whole is not None and coding is None
        self.error = None
        self.opened_at = ""
        self.upgraded = None

    def when_closed(self, callback: Callable[[], object]) -> None:
        if self.complete or self.is_closed:
            callback()
        else:
            self._callbacks.append(callback)

    def here(self) -> bytes | None:
        if self._whole is None or self._taken or self.is_closed:
            return self._content
        self._taken = self.complete = True
        whole, self._whole = self._whole, None
        self.close()
        return whole

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        callbacks, self._callbacks = self._callbacks, []
        self._body.close()
        first: BaseException | None = None
        for callback in callbacks:
            try:
                callback()
            except BaseException as error:
                first = first or error
        if first is not None:
            raise first

    def aiter_raw(self) -> AsyncIterator[bytes]:
        return self._read(None)

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        return self._read(self._coding)

    async def _read(self, coding: Coding | None) -> AsyncIterator[bytes]:
        if self._content is not None:
            if self._content:
                yield self._content
            return
        if self.is_closed:
            raise FairleadError(
                "the stream is closed: read it inside its `async with`", request=self.request, phase="body"
            )
        if self._taken:
            raise FairleadError(
                "the stream is being read already, or was left half-way: one loop reads it, once",
                request=self.request,
                phase="body",
            )
        self._taken = True
        try:
            began = False
            while chunk := await self._next():
                began = True
                if coding is None:
                    yield chunk
                else:
                    for piece in coding.feed(chunk):
                        yield piece
            if coding is not None and began:  # a HEAD or a 304 names a coding, and has no body
                coding.end()
            self.complete = True
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            if isinstance(error, FairleadError):  # a coding that fails knows no request
                error.request = error.request or self.request
            raise
        finally:
            self.close()

    async def _next(self) -> bytes:
        if self._whole is None:
            return await self._body.read()
        whole, self._whole = self._whole, b""
        return whole

    def __del__(self) -> None:
        if not self.is_closed:
            self.close()
            where = f" at {self.opened_at}" if self.opened_at else ""
            warnings.warn(
                f"a stream opened{where} was dropped open: read it inside its `async with`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
