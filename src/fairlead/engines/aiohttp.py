"""The aiohttp engine, for those who standardise on it: HTTP/1.1 by aiohttp's connector, parser and writer.

What aiohttp does for a session is left out: redirects, cookies, decompression, its second try, its five timers. What is added
stands in `aiohttp_exchange`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from typing import Final

import aiohttp
from yarl import URL

from fairlead import forks
from fairlead.core import Call
from fairlead.engines.aiohttp_exchange import Connection, Ended, Exchange, OurRequest
from fairlead.engines.attempt import PIECE, Attempt
from fairlead.engines.proxy import Proxies
from fairlead.engines.tls import Contexts
from fairlead.engines.waits import Waits
from fairlead.engines.wire import Wire
from fairlead.errors import ConfigError
from fairlead.message import Arriving, Response
from fairlead.url import Origin

QUIET: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""None of aiohttp's timers."""


class Aiohttp:
    """HTTP/1.1. Connections belong to the loop that made them."""

    def __init__(self, wire: Wire) -> None:
        self._proxies = Proxies.of(wire)
        if self._proxies is not None and self._proxies.socks:
            raise ConfigError(f"engine='aiohttp' cannot use {self._proxies}: use http://, or engine='httpx2'")
        if self._proxies is not None and self._proxies.tls and wire.cert is not None:
            raise ConfigError("engine='aiohttp' would show cert= to the proxy as well: use engine='native'")
        self._wire = wire
        self._tls = Contexts(wire)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits = Waits()
        self._session: aiohttp.ClientSession | None = None
        self._connections: set[Connection] = set()
        self._emptied: asyncio.Future[None] | None = None

    async def send(self, call: Call, /) -> Response:
        attempt = Attempt(call, self._wire.limits, self._waits)
        request = call.request
        exchange = Exchange(attempt, self._proxies.to(request.origin) if self._proxies is not None else None)
        exchange.uds = self._wire.uds
        session = self._opened()
        try:
            async with attempt.waiting():
                try:
                    answer = await self._ask(session, exchange)
                except Ended:
                    if not (exchange.silent and request.idempotent and request.replayable):
                        raise
                    # A kept connection that had died unseen: once more, on a new one (RFC 9112 section 9.3.1).
                    self._distrust(request.origin)
                    attempt.repeated = True
                    answer = await self._ask(session, exchange)
                exchange.answered(answer)
                pairs = list(answer.raw_headers)
                coding = attempt.head(answer.status, pairs)
                attempt.enter("body")
                if not call.stream:
                    content = await attempt.whole(exchange.chunks(), coding)
                    self.rest(exchange)
                    return Response.received(answer.status, pairs, content, request, attempt.seconds)
            return Arriving(answer.status, pairs, _Body(self, exchange), coding, request, attempt.seconds)
        except BaseException as error:
            exchange.close()
            told = attempt.told(error.cause if isinstance(error, Ended) else error, exchange.told)
            raise told from told.__cause__

    async def close(self) -> None:
        await self._waits.close()
        if self._session is not None:
            await self._session.close()
        if self._connections:
            self._emptied = self._emptied or asyncio.get_running_loop().create_future()
            await asyncio.wait({self._emptied})

    def forked(self) -> None:
        forks.let_go(connection.transport for connection in self._connections)

    def rest(self, exchange: Exchange) -> None:
        """An exchange ended well: its connection is idle, and the idle ones of an origin are bounded."""
        connection, exchange.connection = exchange.connection, None
        if connection is None or connection.exchange is not exchange:
            return
        connection.exchange = None
        most = self._wire.max_keepalive_connections
        if most is not None:
            idle = [one for one in self._connections if one.exchange is None and one.origin == connection.origin]
            for one in sorted(idle, key=lambda one: one.last)[: max(0, len(idle) - most)]:
                one.abort()

    def _distrust(self, origin: Origin) -> None:
        """What was idle until now shall not serve again: one of them had died unseen."""
        for connection in self._connections:
            connection.distrusted = connection.distrusted or connection.origin == origin

    async def _ask(self, session: aiohttp.ClientSession, exchange: Exchange) -> aiohttp.ClientResponse:
        attempt = exchange.attempt
        attempt.enter("connecting", "connect")
        request, read = attempt.call.request, attempt.call.timeout.read
        origin, content = request.origin, request.content
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        # All of the target goes in as the path, so that it comes out as it stands.
        url = URL.build(scheme=origin.scheme, authority=f"{host}:{origin.port}", path=request.target, encoded=True)
        exchange.uploads = not isinstance(content, bytes) or len(content) > PIECE
        if exchange.uds is not None and origin.scheme == "https":
            raise ConfigError("engine='aiohttp' speaks no TLS over a Unix socket: use engine='native'")
        proxy = exchange.proxy
        return await session.request(
            request.method,
            url,
            data=attempt.upload() if exchange.uploads else content or None,
            headers=[field for field in exchange.fields if field[0] != "Transfer-Encoding"],
            allow_redirects=False,
            middlewares=(exchange.once,),
            proxy=None if proxy is None else str(proxy),
            proxy_headers=exchange.credentials,
            timeout=QUIET if read is None else aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=read),
        )

    def _opened(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ConfigError("this client was opened on another event loop: make one for each loop")
            self._loop = loop
            self._session = self._made(loop)
        return self._session

    def _made(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
        limits = self._wire.limits
        expiry, age = self._wire.keepalive_expiry, self._wire.max_connection_age or inf
        connector: aiohttp.BaseConnector
        if self._wire.uds is not None:
            connector = aiohttp.UnixConnector(self._wire.uds, limit=0, keepalive_timeout=expiry)
        else:
            connector = aiohttp.TCPConnector(
                ssl=self._tls.origin(),
                limit=0,
                keepalive_timeout=expiry,
                use_dns_cache=False,
                resolver=aiohttp.ThreadedResolver(),
            )
        # aiohttp's interface has no word for a connection of one's own; the conformance tests fail if this name changes.
        connector._factory = partial(Connection, loop, self._connections.add, self._lost, age)  # type: ignore[assignment]
        return aiohttp.ClientSession(
            connector=connector,
            request_class=OurRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=["Content-Type"],
            max_headers=limits.headers,
            max_field_size=limits.head,
            max_line_size=limits.head,
        )

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._emptied is not None and not self._connections and not self._emptied.done():
            self._emptied.set_result(None)


class _Body:
    """A body that is arriving. Its connection is kept when the whole of it came, and given up otherwise."""

    def __init__(self, engine: Aiohttp, exchange: Exchange) -> None:
        self._engine = engine
        self._exchange = exchange
        self._over = False

    async def read(self) -> bytes:
        if self._over:
            return b""
        exchange, attempt = self._exchange, self._exchange.attempt
        try:
            async with attempt.waiting():
                attempt.silence()
                attempt.enter("body", "read")
                chunk = await exchange.read()
        except BaseException as error:
            self.close()
            told = attempt.told(error, exchange.told)
            raise told from told.__cause__
        if not chunk:
            self._over = True
            self._engine.rest(exchange)
        return chunk

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._exchange.close()
