"""One upstream answer streamed through to the caller, and closed after it, whatever happens.

The response owns the stream: it opens it when the server asks for the answer, so nothing is open that nobody closes, and an
error before the head is still an error with a status. Bytes pass as they are, one chunk in flight (RFC 9110 section 7.6). A
caller that leaves ends the call at any phase; an upstream that stops early ends the caller's connection and never its body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import cache

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response as Answer
from starlette.types import Message, Receive, Scope, Send

from fairlead.body import Upload
from fairlead.engines.coding import accepted
from fairlead.errors import ConfigError
from fairlead.message import Response
from fairlead.proxy.fields import end_to_end
from fairlead.stream import Stream
from fairlead.tasks import stop


class _CallerGone(Exception):
    """Nobody is left to send to."""


def passthrough(
    stream: AbstractAsyncContextManager[Response], *, background: BackgroundTask | None = None
) -> Passthrough:
    """The answer of a stream that was not opened yet: `return passthrough(client.stream("GET", path))`.

    The client's `timeout` bounds the body too: for long ones pass the stream `timeout=Timeout(total=None, read=60.0)`.
    """
    return Passthrough(stream, background)


class Passthrough(Answer):
    """A Starlette response. Headers and cookies set on it are sent beside the upstream's."""

    def __init__(self, stream: AbstractAsyncContextManager[Response], background: BackgroundTask | None = None) -> None:
        if not hasattr(stream, "__aenter__"):
            raise ConfigError(
                f"passthrough() was given {type(stream).__name__}: pass client.stream(...), without opening it"
            )
        super().__init__(background=background)
        self.raw_headers = []
        self._stream = stream
        self._uploaded = asyncio.Event()
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._fit(scope)
        relay = asyncio.ensure_future(self._relay(scope, send))
        gone = asyncio.ensure_future(self._gone(receive))
        try:
            await asyncio.wait({relay, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop((relay, gone))
        error = None if relay.cancelled() else relay.exception()
        if isinstance(error, _CallerGone | ClientDisconnect):
            error = None
        if error is not None and not self._started:
            raise error
        if self.background is not None:
            await self.background()
        if error is not None:
            # Part of the answer is out: only a broken connection tells the caller that the rest is missing.
            raise error

    def _fit(self, scope: Scope) -> None:
        """Make the request the caller's: its codings, as nothing is decoded on the way, and its body, watched to its end."""
        if not isinstance(self._stream, Stream):
            self._uploaded.set()
            return
        request = self._stream.request
        if request.headers.get("accept-encoding") == _ours():
            codings = [value for name, value in scope["headers"] if name == b"accept-encoding"]
            request = request.with_header("Accept-Encoding", b", ".join(codings).decode("latin-1") or "identity")
        if isinstance(upload := request.content, Upload):
            request = request.replace()
            request.content = Upload(lambda: self._read(upload), length=upload.length, replayable=upload.replayable)
        else:
            self._uploaded.set()
        self._stream.request = request

    async def _read(self, upload: Upload) -> AsyncIterator[bytes]:
        try:
            async for chunk in upload:
                yield chunk
        finally:
            self._uploaded.set()

    async def _gone(self, receive: Receive) -> None:
        """Ends when the caller has left. A body that is passed on is read from `receive` too, so it comes first."""
        await self._uploaded.wait()
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _relay(self, scope: Scope, send: Send) -> None:
        async def out(message: Message) -> None:
            try:
                await send(message)
            except OSError as error:
                raise _CallerGone from error

        async with self._stream as response:
            self.status_code = status = response.status_code
            head = end_to_end(response.headers.raw)
            if status in {204, 304}:
                # A 204 has no length; of a 304 it is not the body's, and servers that count would wait for that many bytes.
                head = [pair for pair in head if pair[0] != b"content-length"]
            self._started = True
            await out({"type": "http.response.start", "status": status, "headers": head + self.raw_headers})
            if scope["method"] != "HEAD" and status not in {204, 304}:
                async for chunk in response.aiter_raw():
                    await out({"type": "http.response.body", "body": chunk, "more_body": True})
            await out({"type": "http.response.body", "body": b"", "more_body": False})


_ours = cache(accepted)
