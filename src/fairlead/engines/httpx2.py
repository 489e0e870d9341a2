"""The httpx2 engine: HTTP/2, SOCKS and HTTP proxies, by httpx2's own transport core (httpcore2) without its message types.

Of the core only what moves bytes is used: its pools, one per origin, over sockets of ours. What it leaves out is added here: one
timer for all of an attempt, one free replay, strict heads, and connections that are given up at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from math import inf
from typing import Any, cast

import httpcore2

from fairlead import forks
from fairlead.core import Call
from fairlead.engines.attempt import Attempt
from fairlead.engines.httpx2_faults import told
from fairlead.engines.httpx2_sockets import Backend, Stream, Unanswered
from fairlead.engines.native.dial import Reach
from fairlead.engines.proxy import Proxies, Proxy
from fairlead.engines.tls import Contexts
from fairlead.engines.waits import Waits
from fairlead.engines.wire import Wire
from fairlead.errors import ConfigError
from fairlead.message import Arriving, Response
from fairlead.url import Origin


class Httpx2:
    """HTTP/1.1, and HTTP/2 where asked for. Connections belong to the loop that made them."""

    def __init__(self, wire: Wire) -> None:
        if wire.http2 and find_spec("h2") is None:
            raise ConfigError("http2=True needs its library: pip install 'fairlead[httpx2]'")
        self._wire = wire
        self._proxies = Proxies.of(wire)
        if self._proxies is not None and self._proxies.socks and find_spec("socksio") is None:
            raise ConfigError("a SOCKS proxy needs its library: pip install 'fairlead[httpx2]'")
        self._tls = Contexts(wire, alpn=("h2", "http/1.1") if wire.http2 else ("http/1.1",))
        self._reach = Reach(wire.uds)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits = Waits()
        self._pools: dict[Origin, tuple[httpcore2.AsyncConnectionPool, Backend]] = {}
        self._releases: set[asyncio.Task[None]] = set()

    async def send(self, call: Call, /) -> Response:
        attempt = Attempt(call, self._wire.limits, self._waits)
        pool, backend = self._pool(call.request.origin)
        body: _Body | None = None
        try:
            async with attempt.waiting():
                attempt.enter("connecting", "connect")
                request = _request(attempt)
                try:
                    response = await pool.handle_async_request(request)
                except Unanswered as error:
                    if not error.kept or (error.sent and not (call.request.idempotent and call.request.replayable)):
                        raise
                    # A kept connection that had died unseen: once more, on a new one (RFC 9112 section 9.3.1).
                    backend.distrust()
                    attempt.repeated = error.sent
                    attempt.enter("connecting", "connect")
                    response = await pool.handle_async_request(_request(attempt))
                body = _Body(self, attempt, response)
                pairs = list(response.headers)
                coding = attempt.head(response.status, pairs)
                attempt.enter("body")
                if not call.stream:
                    content = await attempt.whole(body.chunks, coding)
                    await body.finish()
                    return Response.received(response.status, pairs, content, call.request, attempt.seconds)
            return Arriving(response.status, pairs, body, coding, call.request, attempt.seconds)
        except BaseException as error:
            if body is not None:
                body.close()
            fault = attempt.told(error, partial(self.told, attempt))
            raise fault from fault.__cause__

    async def close(self) -> None:
        await self._waits.close()
        for pool, backend in list(self._pools.values()):
            await pool.aclose()
            await backend.close()
        self._pools.clear()
        while self._releases:
            await asyncio.wait(self._releases)

    def forked(self) -> None:
        forks.let_go(stream._transport for _, backend in self._pools.values() for stream in backend._streams)

    def release(self, body: _Body) -> None:
        """Let the pool forget a connection: its bookkeeping is asynchronous, giving up is not."""
        if self._loop is not None and not self._loop.is_closed():
            task = self._loop.create_task(body.released())
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    def rest(self, stream: Stream) -> None:
        stream.rest(self._wire.keepalive_expiry, self._wire.max_connection_age or inf)

    def told(self, attempt: Attempt, error: BaseException) -> BaseException:
        """The same fault in our own words."""
        return told(attempt, error, self._through(attempt.call.request.origin), self._wire.uds)

    def _through(self, origin: Origin) -> Proxy | None:
        """The proxy that leads to that origin, if any."""
        return self._proxies.to(origin) if self._proxies is not None else None

    def _pool(self, origin: Origin) -> tuple[httpcore2.AsyncConnectionPool, Backend]:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ConfigError("this client was opened on another event loop: make one for each loop")
            self._pools.clear()
            self._loop = loop
        known = self._pools.get(origin)
        if known is None:
            proxy = self._through(origin)
            backend = Backend(self._reach, socks=proxy is not None and proxy.socks)
            known = self._pools[origin] = self._made(backend, proxy), backend
        return known

    def _made(self, backend: Backend, proxy: Proxy | None) -> httpcore2.AsyncConnectionPool:
        wire = self._wire
        options: dict[str, Any] = {
            "ssl_context": self._tls.origin(),
            "max_connections": None,
            "max_keepalive_connections": wire.max_keepalive_connections,
            "keepalive_expiry": wire.keepalive_expiry,
            "http2": wire.http2,
            "network_backend": backend,
        }
        if proxy is None:
            return httpcore2.AsyncConnectionPool(**options)
        scheme, host, port, given = proxy
        auth = (given[0].encode(), given[1].encode()) if given is not None else None
        url = httpcore2.URL(scheme=scheme, host=host, port=port, target="/")
        if proxy.socks:
            return httpcore2.AsyncSOCKSProxy(url, auth, **options)
        if scheme == "https":
            options["proxy_ssl_context"] = self._tls.proxy()
        return httpcore2.AsyncHTTPProxy(url, auth, **options)


class _Body:
    """A body that is arriving. Its connection goes back to the pool when the whole of it came, and is given up otherwise."""

    def __init__(self, engine: Httpx2, attempt: Attempt, response: httpcore2.Response) -> None:
        self._engine = engine
        self._attempt = attempt
        self._response = response
        stream = response.extensions["network_stream"]
        self._stream = cast("Stream", stream) if response.extensions["http_version"] != b"HTTP/2" else None
        self._over = False
        self.chunks = cast("AsyncGenerator[bytes]", aiter(cast("Any", response.stream)))

    async def read(self) -> bytes:
        if self._over:
            return b""
        attempt = self._attempt
        try:
            async with attempt.waiting():
                attempt.silence()
                attempt.enter("body", "read")
                chunk: bytes | None = b""
                while chunk == b"":
                    chunk = await anext(self.chunks, None)
            if chunk is None:
                await self.finish()
        except BaseException as error:
            self.close()
            fault = attempt.told(error, partial(self._engine.told, attempt))
            raise fault from fault.__cause__
        return chunk or b""

    async def finish(self) -> None:
        """The whole body came."""
        self._over = True
        if self._stream is not None:
            if _surplus(self._response):
                self._stream.distrusted = True
            self._engine.rest(self._stream)
        await self._response.aclose()

    def close(self) -> None:
        if not self._over:
            self._over = True
            if self._stream is not None:
                self._stream.abort()
            self._engine.release(self)

    async def released(self) -> None:
        with suppress(RuntimeError):  # it is being read at this moment: its reader sees the end
            await self.chunks.aclose()
        await self._response.aclose()


def _request(attempt: Attempt) -> httpcore2.Request:
    request = attempt.call.request
    origin = request.origin

    async def trace(name: str, info: dict[str, Any]) -> None:
        # A tunnel's own request, CONNECT, is part of connecting.
        if name.endswith("request_headers.started") and info["request"].method != b"CONNECT":
            attempt.enter("sending")
        elif name.endswith("response_headers.started") and info["request"].method != b"CONNECT":
            attempt.enter("head")

    return httpcore2.Request(
        request.method,
        httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=request.target),
        headers=attempt.fields(),
        content=attempt.upload() if request.content != b"" else b"",
        extensions={"trace": trace, "timeout": {"read": attempt.call.timeout.read}},
    )


def _surplus(response: httpcore2.Response) -> bool:
    """Whether bytes came after the end of an answer. The core keeps them and would read them as the next answer.

    It has no word for this in its interface; the conformance tests fail if its inside changes.
    """
    connection = getattr(getattr(response.stream, "_stream", None), "_connection", None)
    state = getattr(connection, "_h11_state", None)
    return state is not None and state.trailing_data != (b"", False)
