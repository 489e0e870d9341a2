"""A reverse proxy as an ASGI application: each request goes on to one upstream, through all its client's policies, and its answer back.

    app.mount("/api", ReverseProxy(client))

The rules it keeps are in modules of their own, each without a socket: `fields` (what goes on), `forwarded` (who asked), `target` (where
to), `framing` (where the body ends), `status` (what a fault is called), `relay` (how the answer goes back), and for what is no request
with an answer, `websocket`. Here they are tied together.
"""

from __future__ import annotations

import logging
import re
from asyncio import CancelledError
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from fairlead.base import BaseAPIClient
from fairlead.core import Timeout
from fairlead.errors import ConfigError, FairleadError
from fairlead.headers import Headers
from fairlead.inbound import Receive, Scope, Send
from fairlead.keywords import default_headers
from fairlead.message import Request
from fairlead.proxy.fields import Inward, Verdicts, answered
from fairlead.proxy.forwarded import Style, Tale
from fairlead.proxy.framing import Said, content, framed, host
from fairlead.proxy.relay import CallerGone, Listening, relay
from fairlead.proxy.status import Refusal, faulty, refused, request_id, say
from fairlead.proxy.target import target
from fairlead.proxy.watch import Watch, Watched
from fairlead.proxy.websocket import SOCKETS, WebSockets, as_get, deny, relay_websocket
from fairlead.url import Origin, with_params

TIMEOUT: Final = Timeout(total=None, attempt=60.0, connect=10.0, read=60.0, write=60.0, wait=10.0)
"""Of a proxy: no bound on the whole, as a stream has none, and 60 s of silence (nginx's `proxy_read_timeout`)."""
SMALL: Final = 64 * 1024
"""Bytes of a body that is read before it is sent on, so that it can be sent again."""
VERSIONS: Final = {"1.0": "1.0", "1": "1.0", "1.1": "1.1", "2": "2", "3": "3"}
"""As servers name them. Some parsers also let "0.9", "2.0" and "9.9" through, in the clothes of HTTP/1; none of them is."""
ALLOWED: Final = (b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")

_PSEUDONYM: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII).fullmatch
_NUMBER: Final = re.compile(rb"[0-9]{1,9}").fullmatch
_LENGTH_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})
_log: Final = logging.getLogger("fairlead")


class ReverseProxy:
    """Passes requests on to the upstream of `client`, below its base URL. The application opens and closes the client.

    `trusted` are the networks of the peers whose `X-Forwarded-*` and `Forwarded` are believed, `forwarded` which of these are sent on:
    "both", "x-forwarded", "forwarded" or "off". `preserve_host` sends the caller's Host instead of the upstream's. `via` is the name
    in `Via` and `Proxy-Status`; two proxies in a row need two. `timeout` is that of each call, `strip` are prefixes of
    header names that no caller may send, `buffer` the bytes of a body that is held to be sent again. `websockets` bounds those (None:
    none is passed on).

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
        websockets: WebSockets | None = SOCKETS,
    ) -> None:
        self.client = client
        self.via = via
        self._origin = self._check(buffer, strip)
        self._timeout = Timeout.of(timeout)
        # While a caller sends, no time runs for the answer: its own pace is no fault of the upstream's.
        self._uploading = replace(self._timeout, attempt=None)
        self._buffer = buffer
        self._websockets = websockets
        self._watch = Watch()
        self._preserve = preserve_host
        self._tale = Tale(trusted, forwarded)
        self._via = {version: (b"via", f"{version} {via}".encode()) for version in VERSIONS.values()}
        self._loop = re.compile(rf"(?:^|[\s,]){re.escape(via)}(?:$|[\s,;(])", re.IGNORECASE | re.ASCII).search
        # What every request of the client has because it was told so, and not because the library has it.
        own = default_headers(None).raw
        self._own = [pair for pair in client._default_headers.raw if pair not in own]
        without = {name.lower() for name, _ in self._own}
        for policy in client.pipeline.policies:
            if getattr(policy, "place", None) == "Auth":
                without |= {b"authorization", str(getattr(policy, "header", "authorization")).lower().encode()}
        self._verdicts = Verdicts(without, [prefix.lower().encode() for prefix in strip])
        self._params = with_params("", client._default_params).removeprefix("?") if client._default_params else ""
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
                answer = refused(refusal, self.via, request_id(scope["headers"]))
                await say(send, *answer, head=scope["method"] == "HEAD")
            except CallerGone:
                with suppress(OSError):
                    await say(send, 499, [(b"content-length", b"0")], b"")
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await self._socket(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refusal, and CallerGone before an answer has begun."""
        request, said, version, length = self._request(scope)
        if length:
            if not 0 < length <= self._buffer or b"expect" in said:
                upload = partial(self._upload, request, said, version, length)
                await Listening(scope, receive, send).run(upload, scope)
                return
            request.content = await content(receive, said, version, length, self._buffer)
        watched = self._watch.begin(scope, receive)
        try:
            await self._answer(request, self._timeout, scope, send, watched)
        except CancelledError:
            if not watched.left():
                raise
        finally:
            watched.end()

    async def _upload(
        self, request: Request, said: Said, version: str, length: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """With a body that is read while it is sent."""
        request.content = await content(receive, said, version, length, self._buffer)
        bounds = self._timeout if type(request.content) is bytes else self._uploading
        await self._answer(request, bounds, scope, send)

    async def _answer(
        self, request: Request, bounds: Timeout, scope: Scope, send: Send, watched: Watched | None = None
    ) -> None:
        try:
            response = await self.client.send(request, timeout=bounds, stream=True, **self._otherwise)
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
            head, length = answered(response)
            await relay(response, head, length, scope["method"], send)
        except CallerGone:
            return
        finally:
            response.close()

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] == "websocket.disconnect":
            return
        number = request_id(scope["headers"])
        try:
            if self._websockets is None:
                raise Refusal(403, "http_request_denied", "WebSockets are not passed on")
            request, *_ = self._request(as_get(scope))
            await relay_websocket(
                scope,
                receive,
                send,
                client=self.client,
                request=request,
                sockets=self._websockets,
                timeout=self._timeout,
                otherwise=self._otherwise,
            )
        except Refusal as refusal:
            await deny(scope, send, *refused(refusal, self.via, number))
        except FairleadError as error:
            answer = faulty(error, self.via, number)
            _log.log(logging.ERROR if answer[0] == 500 else logging.INFO, "answered %d: %s", answer[0], error.message)
            await deny(scope, send, *answer)

    def _request(self, scope: Scope) -> tuple[Request, Said, str, int]:
        """The request to send on, without its body; what decides of that, and its length. Raises Refusal for what breaks a rule."""
        method = scope["method"]
        if method in {"CONNECT", "TRACE"}:
            raise Refusal(405, "http_request_denied", f"{method} is not passed on", ALLOWED)
        inward = Inward(scope["headers"], self._verdicts)
        said = inward.said
        if (version := VERSIONS.get(scope.get("http_version", "1.1"))) is None:
            raise Refusal(505, "http_request_error", "a version of HTTP that is not passed on")
        name = host(said, version)
        pairs = inward.kept
        if (via := said.get(b"via")) is not None:
            for value in via:
                if self._loop(value.decode("latin-1")) is not None:
                    raise Refusal(508, "proxy_loop_detected", "this request has been here before")
                pairs.append((b"via", value))
        if (hops := said.get(b"max-forwards")) is not None:
            pairs.append((b"max-forwards", _one_less(method, hops)))
        where, prefix = target(scope, self.client._base, self._params)
        pairs.append(self._via[version])
        client = scope.get("client")
        peer = client[0] if client is not None else None
        tale = self._tale
        if tale.trusted.believes(peer):
            pairs += inward.claims
            pairs += tale.believed(peer, scope["scheme"], name, prefix, said)
        else:
            pairs += tale.seen(peer, scope["scheme"], name, prefix)
        pairs += self._own
        length = framed(said, version) if scope["type"] == "http" else 0
        fields = Headers.received(pairs)
        fields.framing = False  # nothing in it is an engine's to set
        if length == 0 and b"content-length" in said and method not in _LENGTH_EXPECTED:
            fields = Headers.received([*pairs, (b"content-length", b"0")])
        if self._preserve and name:
            fields = Headers.received([(b"host", name.encode("latin-1")), *fields.raw])
        return Request.build(method, self._origin, where, fields), said, version, length

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


def _one_less(method: str, hops: Sequence[bytes]) -> bytes:
    """Max-Forwards as it goes on (RFC 9110 section 7.6.2): it counts for OPTIONS alone, as TRACE goes nowhere."""
    if method != "OPTIONS":
        return hops[0]
    if len(hops) > 1 or _NUMBER(hops[0]) is None:
        raise Refusal(400, "http_request_error", "a Max-Forwards that is no number")
    if not (left := int(hops[0])):
        raise Refusal(204, "", "asked no further", ALLOWED)
    return b"%d" % (left - 1)
