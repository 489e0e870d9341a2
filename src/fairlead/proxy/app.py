"""A reverse proxy as an ASGI application: each request goes on to one upstream, through all its client's policies, and its answer back.

    app.mount("/api", ReverseProxy(client))

The rules it keeps are in modules of their own, each without a socket: `onward` (the request that is made of one, by `fields`, `forwarded` and
`target`), `framing` (where its body ends), `watch` (whether its caller is there), `relay` (how the answer goes back), `status` (what a fault is
called), and for what is no request with an answer, `websocket`. Here they are tied together.
"""

from __future__ import annotations

import logging
import re
from asyncio import CancelledError
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final

from fairlead.base import BaseAPIClient
from fairlead.core import Timeout
from fairlead.errors import ConfigError, FairleadError, ProtocolError
from fairlead.inbound import App, Receive, Scope, Send
from fairlead.looks import Looks
from fairlead.message import Request
from fairlead.proxy.back import Back
from fairlead.proxy.expecting import expecting
from fairlead.proxy.fields import answered
from fairlead.proxy.forwarded import Style, Tale
from fairlead.proxy.framing import Said, content
from fairlead.proxy.onward import Onward
from fairlead.proxy.relay import CallerGone, Listening, relay
from fairlead.proxy.status import CLOSE, Refusal, break_off, faulty, refused, request_id, say
from fairlead.proxy.watch import Watched
from fairlead.proxy.websocket import SOCKETS, WebSockets, as_get, deny, relay_websocket
from fairlead.url import Origin

TIMEOUT: Final = Timeout(total=None, attempt=60.0, connect=10.0, read=60.0, write=60.0, wait=10.0)
"""Of a proxy: no bound on the whole, as a stream has none, and 60 s of silence (nginx's `proxy_read_timeout`)."""
SMALL: Final = 64 * 1024
"""Bytes of a body that is read before it is sent on, so that it can be sent again."""
HIGHEST: Final = 599
"""Any other is no status (RFC 9110 section 15), and some servers end the connection where an application has one."""

_UNHEARD_OF: Final = f"what came back is not valid HTTP: a status above {HIGHEST}"
_PSEUDONYM: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII).fullmatch
_log: Final = logging.getLogger("fairlead")


class ReverseProxy:
    """Passes requests on to the upstream of `client`, below its base URL. The application opens and closes the client.

    `trusted` are the networks of the peers whose `X-Forwarded-*` and `Forwarded` are believed, `forwarded` which of these are sent on:
    "both", "x-forwarded", "forwarded" or "off". `preserve_host` sends the caller's Host instead of the upstream's. `via` is the name
    in `Via` and `Proxy-Status`; two proxies in a row need two. `timeout` is that of each call, `strip` are prefixes of
    header names that no caller may send, `buffer` the bytes of a body that is held to be sent again. `rewrite=False` leaves what the
    upstream says of its own address as it is. `websockets` bounds those (None: none is passed on).

    Credentials of the client's Auth policy replace the caller's `Authorization`; without such a policy that goes on as it is.
    """

    def __init__(
        self,
        client: BaseAPIClient,
        *,
        trusted: Sequence[str] = (),
        forwarded: Style = "both",
        preserve_host: bool = False,
        via: str = "fairlead",
        timeout: float | Timeout | None = TIMEOUT,
        strip: Sequence[str] = (),
        buffer: int = SMALL,
        rewrite: bool = True,
        websockets: WebSockets | None = SOCKETS,
    ) -> None:
        self.client = client
        self.via = via
        origin = self._check(buffer, strip)
        bounds = self._timeout = Timeout.of(timeout)
        self._idle = bounds.read or (bounds.alone if bounds.alone < inf else None)
        """Seconds in which a caller has to send the next of its body: what an upstream has to say something."""
        self._taken = bounds.write or self._idle or inf
        """Seconds in which it has to take the next of its answer: what an upstream has to take something."""
        self._buffer = buffer
        self._websockets = websockets
        self._looks = Looks()
        tale = Tale(trusted, forwarded)
        self._onward = Onward(client, origin, tale=tale, via=via, preserve_host=preserve_host, strip=strip)
        self._back = Back(origin, client._base, client._default_headers, tale, preserve_host) if rewrite else None
        follows = any(getattr(policy, "place", None) == "Redirect" for policy in client.pipeline.policies)
        self._otherwise: dict[str, Any] = {"follow_redirects": False} if follows else {}

    def _check(self, buffer: int, strip: object) -> Origin:
        client: Any = self.client
        if not isinstance(client, BaseAPIClient):
            raise ConfigError(f"ReverseProxy: {type(client).__name__} is no client: pass HTTPClient(...)")
        if client._origin is None:
            raise ConfigError(
                f"ReverseProxy: {client.name} has no base_url, so there is nowhere to pass on to: pass one"
            )
        if any(getattr(policy, "place", None) == "Cookies" for policy in client.pipeline.policies):
            raise ConfigError(
                f"ReverseProxy: {client.name} has cookies=, a jar that all its callers would share: leave it out"
            )
        if _PSEUDONYM(self.via) is None:
            raise ConfigError(f"ReverseProxy: via={self.via!r} is no name: use letters, digits and hyphens")
        if isinstance(strip, str):
            raise ConfigError(f"ReverseProxy: strip={strip!r} is one string: pass prefixes, ({strip!r},)")
        if type(buffer) is not int or buffer < 0:
            raise ConfigError(f"ReverseProxy: buffer={buffer!r} is not a number of bytes from 0 on")
        origin: Origin = client._origin
        return origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            try:
                await self._pass(scope, receive, send)
            except Refusal as refusal:
                status, fields, body = refused(refusal, self.via, request_id(scope["headers"]))
                if scope.get("http_version") in {"2", "3"}:  # not "2.0": that is what a parser of HTTP/1 was told
                    fields = [pair for pair in fields if pair is not CLOSE]
                await say(send, status, fields, body, head=scope["method"] == "HEAD")
            except CallerGone:
                with suppress(OSError):
                    await say(send, 499, [(b"content-length", b"0")], b"")
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await self._socket(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refusal, and CallerGone before an answer has begun."""
        request, said, version, length = self._onward.request(scope)
        if length:
            if not 0 < length <= self._buffer or b"expect" in said:
                listening = Listening(scope, receive, send)
                upload: App = partial(self._upload, request, said, version, length)
                await listening.run(expecting(upload, listening) if b"expect" in said else upload, scope)
                return
            request.content = await content(receive, said, version, length, self._buffer, self._idle)
        watched = Watched(self._looks, scope, receive)
        try:
            await self._answer(request, scope, send, watched)
        except CancelledError:
            if not watched.left():
                raise
        finally:
            watched.end()

    async def _upload(
        self, request: Request, said: Said, version: str, length: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """With a body that is read while it is sent."""
        request.content = await content(receive, said, version, length, self._buffer, self._idle)
        await self._answer(request, scope, send)

    async def _answer(self, request: Request, scope: Scope, send: Send, watched: Watched | None = None) -> None:
        try:
            response = await self.client.send(request, timeout=self._timeout, stream=True, **self._otherwise)
            if response.status_code > HIGHEST:
                response.close()
                raise ProtocolError(_UNHEARD_OF, upstream=response.upstream, phase="head")
        except CancelledError:
            if watched is None or not watched.left():
                raise
            raise CallerGone from None
        except FairleadError as error:
            answer = faulty(error, self.via, request_id(scope["headers"]))
            level = logging.ERROR if isinstance(error, ConfigError) else logging.INFO
            _log.log(level, "answered %d: %s", answer[0], error.message)
            await say(send, *answer, head=scope["method"] == "HEAD")
            return
        try:
            head, length = answered(response, self._back, scope)
            await relay(response, head, length, scope["method"], send, self._taken)
        except CallerGone:
            return
        except (FairleadError, Refusal) as error:
            response.close()
            await break_off(send)
            if isinstance(error, Refusal):  # of a body that the upstream had answered before it ended
                raise FairleadError(error.detail, request=request, phase="sending") from None
            raise
        finally:
            response.close()

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] == "websocket.disconnect":
            return
        number = request_id(scope["headers"])
        try:
            if self._websockets is None:
                raise Refusal(403, "http_request_denied", "WebSockets are not passed on")
            request, *_ = self._onward.request(as_get(scope))
            await relay_websocket(
                scope,
                receive,
                send,
                client=self.client,
                request=request,
                sockets=self._websockets,
                timeout=self._timeout,
                otherwise=self._otherwise,
                back=self._back,
            )
        except Refusal as refusal:
            await deny(scope, send, *refused(refusal, self.via, number))
        except FairleadError as error:
            answer = faulty(error, self.via, number)
            _log.log(logging.ERROR if answer[0] == 500 else logging.INFO, "answered %d: %s", answer[0], error.message)
            await deny(scope, send, *answer)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The whole application: it opens its client and closes it."""
        await receive()
        try:
            async with self.client:
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})
