"""One upstream answer passed on by an endpoint: streamed through, or whole, and closed after it, whatever happens.

The response owns the stream: it opens it when the server asks for the answer, so nothing is open that nobody closes, and an
error before the head is still an error with a status. How the bytes go is `relay`'s to say, as for a whole proxy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache
from typing import Final

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response as Answer
from starlette.types import Receive, Scope, Send

from fairlead.body import Upload
from fairlead.engines.coding import accepted
from fairlead.errors import ConfigError, ProtocolError
from fairlead.headers import Pair
from fairlead.message import Response
from fairlead.proxy.app import HIGHEST
from fairlead.proxy.fields import answered, decoded, outward
from fairlead.proxy.relay import BODILESS, CallerGone, Listening, relay
from fairlead.proxy.status import break_off
from fairlead.stream import Stream

TAKEN: Final = 60.0
"""Seconds in which a caller must take a chunk, as with a whole proxy: it would else hold the stream's slot for as long as it likes."""
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_ADDED: Final = frozenset((b"set-cookie", b"vary", b"link", b"server-timing"))
"""Fields that are sent beside those of the same name: each says something more."""


def passthrough(
    stream: AbstractAsyncContextManager[Response], *, background: BackgroundTask | None = None
) -> Passthrough:
    """The answer of a stream that was not opened yet: `return passthrough(client.stream("GET", path))`.

    The client's `timeout` bounds the body too: for long ones pass the stream `timeout=Timeout(total=None, read=60.0)`.
    """
    return Passthrough(stream, background)


def whole(response: Response, *, background: BackgroundTask | None = None) -> Answer:
    """An answer that is here, passed on: `return whole(await client.get(path, raise_for_status=False))`.

    Its status, its fields that are no single connection's, and its content, decoded: so without its coding, and with a weak ETag where
    it had a strong one of the coded bytes. Of no type, it is bytes (`application/octet-stream`).
    """
    status, content = response.status_code, response.content
    head, _ = outward(response.headers.raw)
    answer = Answer(status_code=status, background=background)
    if status in BODILESS:
        head = [pair for pair in head if pair[0] != b"content-length"]
    elif response.request is None or response.request.method != "HEAD":
        head = decoded(head, content)
        if content and not any(name == b"content-type" for name, _ in head):
            head.append((b"content-type", b"application/octet-stream"))
        answer.body = content
    elif any(name == b"content-encoding" for name, _ in head):
        # A GET would be told of the content without its coding, and of that nobody knows the length.
        head = [pair for pair in decoded(head, b"") if pair[0] != b"content-length"]
    answer.raw_headers = _told(head)
    return answer


def _told(head: list[Pair]) -> list[Pair]:
    """With word to browsers that text is text, whatever it looks like."""
    text = any(name == b"content-type" and value.lower().startswith(b"text/") for name, value in head)
    if text and not any(name == _NOSNIFF[0] for name, _ in head):
        return [*head, _NOSNIFF]
    return head


class Passthrough(Answer):
    """A Starlette response. Headers set on it replace the upstream's; cookies are sent beside its own, and so is what can be said twice."""

    def __init__(self, stream: AbstractAsyncContextManager[Response], background: BackgroundTask | None = None) -> None:
        if not hasattr(stream, "__aenter__"):
            raise ConfigError(
                f"passthrough() was given {type(stream).__name__}: pass client.stream(...), without opening it"
            )
        super().__init__(background=background)
        self.raw_headers = []
        self._stream = stream
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: Exception | None = None
        try:
            listening = Listening(scope, receive, send)
            self._fit(scope, listening)
            await listening.run(self._relay, scope)
        except (CallerGone, ClientDisconnect):
            if not self._started:
                # A middleware between insists on an answer, though the caller is not there to read it.
                with suppress(OSError):
                    await Answer(status_code=499)(scope, receive, send)
        except Exception as caught:
            if not self._started:
                raise
            error = caught
        if self.background is not None:
            await self.background()
        if error is not None:
            # Part of the answer is out: only a broken connection tells the caller that the rest is missing.
            await break_off(send)
            raise error

    def _fit(self, scope: Scope, listening: Listening) -> None:
        """Make the request the caller's: its codings, as nothing is decoded on the way, and its body, read by itself to its end."""
        if not isinstance(self._stream, Stream):
            return
        request = self._stream.request
        if request.headers.get("accept-encoding") == _ours():
            codings = [value for name, value in scope["headers"] if name == b"accept-encoding"]
            asked = b", ".join(codings).decode("latin-1")
            # Some servers let through what no field may hold, and it would be an error of ours.
            request = request.with_header("Accept-Encoding", (asked.isprintable() and asked) or "identity")
        if isinstance(upload := request.content, Upload):
            listening.held = True
            request = request.replace()
            request.content = Upload(
                lambda: _read(upload, listening), length=upload.length, replayable=upload.replayable
            )
        self._stream.request = request

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stream as response:
            self.status_code = status = response.status_code
            if status > HIGHEST:
                fault = f"what came back is not valid HTTP: a status above {HIGHEST}"
                raise ProtocolError(fault, request=response.request, upstream=response.upstream, phase="head")
            head, length = answered(response)
            if own := self.raw_headers:
                replaced = {name.lower() for name, _ in own} - _ADDED
                head = [*[pair for pair in head if pair[0] not in replaced], *own]
            self._started = True
            await relay(response, _told(head), length, scope["method"], send, TAKEN)


async def _read(upload: Upload, listening: Listening) -> AsyncIterator[bytes]:
    """A body that the endpoint's own request reads: only behind it can be listened."""
    try:
        async for chunk in upload:
            yield chunk
    finally:
        listening.heard()


_ours = cache(accepted)
