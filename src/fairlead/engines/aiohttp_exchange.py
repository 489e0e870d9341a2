"""One request and its answer over aiohttp, on a connection that keeps what aiohttp's own does not.

What came back is counted; what is given up is discarded at once; nothing that follows an answer is taken for the next one; a body
that was cut is told from one that is broken; and aiohttp neither tries again by itself nor adds header fields.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from fairlead.engines.attempt import Attempt
from fairlead.engines.native.dial import failed
from fairlead.engines.proxy import Proxy
from fairlead.engines.transport import FRESH, ended_cleanly, unread
from fairlead.errors import ConfigError, ConnectFailed, Disconnected
from fairlead.headers import Pair
from fairlead.url import Origin


class Ended(Exception):
    """What ended an exchange, in a shape that aiohttp does not take for a reason to try again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class Connection(ResponseHandler):
    """One connection; `used` and `lost` keep count of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        used: Callable[[Connection], None],
        lost: Callable[[Connection], None],
        age: float,
    ) -> None:
        super().__init__(loop)
        self._until = loop.time() + age
        self._used, self._lost = used, lost
        self.exchange: Exchange | None = None
        """The one under way; None while idle."""
        self.origin: Origin | None = None
        self.exchanges = 0
        self.last = 0.0
        """When the last exchange began (loop time)."""
        self.received = 0
        """Bytes that came back in this exchange."""
        self.broken = False
        """Whether what came back was not HTTP."""
        self.distrusted = False
        """Whether it must not serve again."""
        self._final = False

    def begin(self, exchange: Exchange) -> None:
        if self.transport is not None:
            self._used(self)
        self.exchange, self.origin = exchange, exchange.attempt.call.request.origin
        self.exchanges += 1
        self.last = self._loop.time()
        self.received = 0
        self._final = False

    @property
    def complete(self) -> bool:
        """Whether all of the answer is here."""
        return self._final and self._payload is not None and self._payload.is_eof()

    @property
    def should_close(self) -> bool:
        return self.distrusted or super().should_close

    def is_connected(self) -> bool:
        if not super().is_connected() or self.distrusted or self.transport is None:
            return False
        now = self._loop.time()
        return now < self._until and (now - self.last < FRESH or not unread(self.transport))

    def close(self) -> None:
        # aiohttp's own waits until unsent bytes are taken, and over TLS for the peer's last word.
        self.abort()

    def data_received(self, data: bytes) -> None:
        if data and self.complete:
            self.distrusted = True
            self.abort()
            return
        self.received += len(data)
        super().data_received(data)

    def feed_data(self, data: Any, size: int = 0) -> None:
        if self._final:
            self.distrusted = True  # a second answer, which nobody asked for
            return
        self._final = data[0].code >= 200
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        if isinstance(exc, HttpProcessingError):
            self.broken = True
            self._fail_body()  # aiohttp tells only whoever waits for a head
        super().set_exception(exc, *cause)

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None or (self.transport is not None and not ended_cleanly(self.transport)):
            # A body that ends with its connection did not end here, which aiohttp would have it.
            self._fail_body()
        super().connection_lost(exc)
        self._lost(self)

    def _fail_body(self) -> None:
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError())


class Exchange:
    """What an attempt knows of its way through aiohttp."""

    def __init__(self, attempt: Attempt, proxy: Proxy | None) -> None:
        self.attempt = attempt
        self.proxy = proxy
        """What leads to the origin."""
        self.uds: str | None = None
        self.fields = _text(attempt.fields())
        self.uploads = False
        """Whether the body is sent piece by piece."""
        self.connection: Connection | None = None
        self._answer: aiohttp.ClientResponse | None = None

    @property
    def credentials(self) -> dict[str, str]:
        """What the proxy is told of who asks."""
        known = self.proxy is not None and self.proxy.credentials
        return {"Proxy-Authorization": known.decode()} if known else {}

    @property
    def silent(self) -> bool:
        """Whether a kept connection died before a byte of the answer came back: it had died before the request was sent."""
        return self.connection is not None and self.connection.exchanges > 1 and self.connection.received == 0

    async def once(
        self, request: aiohttp.ClientRequest, send: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        """Send it, and keep aiohttp from sending it again."""
        cast("OurRequest", request).exchange = self
        try:
            return await send(request)
        except Exception as error:
            raise Ended(error) from None

    def begin(self, connection: Connection) -> None:
        self.connection = connection
        connection.begin(self)
        self.attempt.enter("sending")

    def answered(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        if self.attempt.call.stream and self.connection is not None:
            # From here on silence counts only while a reader waits, which aiohttp's own timer cannot tell.
            self.connection.read_timeout = None
            self.connection.start_timeout()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        while chunk := await self.read():
            yield chunk

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its end."""
        assert self._answer is not None
        return await self._answer.content.readany()

    def close(self) -> None:
        """Give up what has not arrived, and the connection with it."""
        if self._answer is not None:
            self._answer.close()
        if self.connection is not None and self.connection.exchange is self:
            self.connection.abort()

    def told(self, error: BaseException) -> BaseException:
        """The same fault in our own words; what is not aiohttp's is left as it is."""
        attempt, request = self.attempt, self.attempt.call.request
        if isinstance(error, aiohttp.ServerTimeoutError):
            return attempt.expired("read")
        if not isinstance(error, aiohttp.ClientError | OSError | RuntimeError):
            return error
        proxy, origin = self.proxy, request.origin
        if isinstance(error, aiohttp.ClientHttpProxyError) and proxy is not None:
            return ConnectFailed(proxy.refusal(origin, error.status), request=request, phase="connecting")
        if attempt.phase == "connecting":
            cause = error.__cause__ or error
            place = origin if isinstance(cause, ssl.SSLError) else proxy or self.uds or origin
            unmade = failed(attempt.call, place, cause)
            unmade.__cause__ = error.__cause__
            return unmade
        if isinstance(error, aiohttp.ClientResponseError) or (self.connection is not None and self.connection.broken):
            return attempt.not_http("its framing is broken")
        return Disconnected(request=request, phase=attempt.phase)


class OurRequest(aiohttp.ClientRequest):
    """A request that says on which connection it is sent, and sends our header fields and no others."""

    exchange: Exchange

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        self.exchange.begin(conn.protocol)
        self.headers = CIMultiDict(self.exchange.fields)
        if not self.is_ssl():
            for name, value in self.exchange.credentials.items():
                self.headers.setdefault(name, value)
        response = await super().send(conn)
        if not self.exchange.uploads:
            self.exchange.attempt.enter("head")
        return response


def _text(fields: list[Pair]) -> list[tuple[str, str]]:
    """aiohttp sends text as UTF-8: a value that is none cannot go through it unchanged."""
    try:
        return [(name.decode(), value.decode()) for name, value in fields]
    except UnicodeDecodeError:
        raise ConfigError("engine='aiohttp' sends header values as UTF-8 only: use another engine") from None
