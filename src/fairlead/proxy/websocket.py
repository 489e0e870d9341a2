"""A WebSocket passed on: the upstream is asked first, and what it says is what the client is told.

The handshake is a call like any other, through all of the client's policies; after the 101 two sides exchange messages, one in flight each
way, until one of them ends it, and then the other is told why. On the upstream's side `frames.py` speaks the protocol, on the client's
the server does (ASGI's `websocket` messages).

Nothing outlives the relay: its tasks are stopped and the connection is closed, whatever ends it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Final

from fairlead.base import BaseAPIClient
from fairlead.core import Timeout
from fairlead.errors import ConfigError, FairleadError, ProtocolError
from fairlead.headers import Headers, Pair
from fairlead.inbound import Receive, Scope, Send
from fairlead.keywords import DEFAULT, Default
from fairlead.message import Arriving, Request, Response
from fairlead.proxy.fields import Translate, outward
from fairlead.proxy.relay import BODILESS
from fairlead.proxy.status import CLOSE
from fairlead.tasks import stop

DENYING: Final = 2.0
"""Seconds that the body of an upstream's refusal has to be here."""
DENIED: Final = 1024 * 1024
"""Bytes of an upstream's refusal that are passed on; of a longer one, the status and the fields alone."""
STALLED: Final = 60.0
"""Seconds in which an upstream must take what it is sent, where `Timeout(write=)` sets no bound: a stalled one cannot be pinged."""
_OWN: Final = b"sec-websocket-"
_SERVERS: Final = frozenset((b"date", b"server", b"content-length"))
"""Fields of a 101 that servers add by themselves; uvicorn fails where `Date` is there already."""
_ONCE: Final = frozenset((b"date", b"server", b"content-type"))
"""Fields of a refusal that may stand there once: uvicorn says nothing at all where one of them is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSockets:
    """How WebSockets are passed on.

    `largest` is the most bytes of one message (None: any number). Every `ping_interval` seconds the upstream is pinged, and one that says
    nothing until the next is gone (None: it is never asked). `idle` seconds without a message either way end it (None: they do not).
    """

    largest: int | None = 16 * 1024 * 1024
    ping_interval: float | None = 20.0
    idle: float | None = None
    place: ClassVar[str] = "WebSockets"

    def __post_init__(self) -> None:
        if self.largest is not None and (type(self.largest) is not int or self.largest < 1):
            raise ConfigError(
                f"WebSockets: largest={self.largest!r} is not a number of bytes from 1 on; None sets no bound"
            )
        for name in ("ping_interval", "idle"):
            seconds = getattr(self, name)
            if seconds is not None and (type(seconds) not in {int, float} or not 0 < seconds < inf):
                raise ConfigError(
                    f"WebSockets: {name}={seconds!r} is not a number of seconds above 0; None switches it off"
                )


SOCKETS: Final = WebSockets()


def as_get(scope: Scope) -> Scope:
    """The handshake as the request that it is to whoever looks at its fields (RFC 6455 section 4.1; extended CONNECT says no method)."""
    return {**scope, "method": "GET", "scheme": "https" if scope.get("scheme") == "wss" else "http"}


async def relay_websocket(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    client: BaseAPIClient,
    request: Request,
    sockets: WebSockets,
    timeout: Timeout | Default = DEFAULT,
    otherwise: Mapping[str, Any] | None = None,
    back: Translate | None = None,
) -> None:
    """Pass a WebSocket on to where `request` leads, a GET with the fields that go on; its own of the handshake are added here.

    `websocket.connect` has been received already. Raises FairleadError for a handshake that failed before the client was told anything:
    see `deny`.
    """
    offered = [name for name in scope.get("subprotocols") or () if name]
    shake, asking = _handshake(request, offered, sockets.largest)
    # Here, as they need the library: only who passes WebSockets on has it.
    from fairlead.proxy.conversation import Conversation
    from fairlead.proxy.frames import Messages

    if isinstance(timeout, Timeout) and timeout.write is None:
        timeout = replace(timeout, write=STALLED)
    hearing = asyncio.ensure_future(receive())
    opening = asyncio.ensure_future(client.send(asking, timeout=timeout, stream=True, **(otherwise or {})))
    try:
        await asyncio.wait({opening, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done() and hearing.result()["type"] == "websocket.disconnect":
            return
        response = await opening
        raw = response.upgraded
        if raw is None:
            await _refused(scope, response, send, back)
            return
        accepted = _accepted(shake, response, back, scope)
        raw.outlive()
        messages = Messages(raw, asking, sockets.largest)
        try:
            await send(accepted)
        except OSError:
            return  # it left while the upstream agreed
        conversation = Conversation(messages, receive, send, hearing, largest=sockets.largest)
        _fault(response, await conversation.run(sockets.ping_interval or inf, sockets.idle or inf))
    finally:
        await stop((opening, hearing))


def _fault(response: Response, error: FairleadError | None) -> None:
    """What a log says of the call, when it is over."""
    if isinstance(response, Arriving):
        response.error = error


# The handshake


def _handshake(request: Request, offered: list[str], largest: int | None) -> tuple[Any, Request]:
    """The library's half of it, which checks the answer, and the request that asks.

    It is tried again only where nothing was sent: a handshake that was lost on its way may have begun something. No extension is offered:
    `permessage-deflate` would have every message unpacked and packed once more between two machines that are near each other.
    """
    try:
        from websockets.client import ClientProtocol
        from websockets.uri import WebSocketURI
    except ImportError:
        raise ConfigError("WebSockets need a library: pip install 'fairlead[websocket]'") from None

    names: Any = offered or None
    shake = ClientProtocol(WebSocketURI(False, "upstream", 80, "/", ""), subprotocols=names, max_size=largest)
    fields = [pair for pair in request.headers.raw if not pair[0].lower().startswith(_OWN)]
    fields += [
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", shake.key.encode()),
        (b"Sec-WebSocket-Version", b"13"),
    ]
    if offered:
        fields.append((b"Sec-WebSocket-Protocol", ", ".join(offered).encode("latin-1")))
    asking = request.replace(headers=Headers.received(fields))
    asking.idempotent = False
    return shake, asking


def _accepted(shake: Any, response: Response, back: Translate | None, scope: Scope) -> dict[str, Any]:
    """What tells the client that it is accepted. Raises ProtocolError for a 101 that is none (RFC 6455 section 4.1)."""
    from websockets import datastructures, exceptions, http11

    pairs = [(name.lower(), value) for name, value in response.headers.raw]
    said = [
        (name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))
        for name, value in pairs
        if name in {b"connection", b"upgrade"} or name.startswith(_OWN)
    ]
    try:
        shake.process_response(http11.Response(101, "", datastructures.Headers(said)))
    except exceptions.InvalidHandshake as error:
        # Whose message would repeat what the upstream sent.
        told = f"what agreed to WebSocket did not ({type(error).__name__})"
        fault = ProtocolError(told, request=response.request, phase="head")
        _fault(response, fault)
        raise fault from None
    fields, _ = outward(response.headers.raw, back, scope)
    return {
        "type": "websocket.accept",
        "subprotocol": shake.subprotocol,
        "headers": [pair for pair in fields if pair[0] not in _SERVERS and not pair[0].startswith(_OWN)],
    }


async def _refused(scope: Scope, response: Response, send: Send, back: Translate | None) -> None:
    """An answer that is no 101, as the answer."""
    status, body, whole = response.status_code, bytearray(), True
    fields, _ = outward(response.headers.raw, back, scope)
    try:
        async with asyncio.timeout(DENYING):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > DENIED:
                    whole = False
                    break
    except (FairleadError, TimeoutError):
        whole = False
    response.close()  # its slot is free before the client has read this
    if not whole:
        body.clear()
        fields = [pair for pair in fields if not pair[0].startswith(b"content-")]
    fields = [pair for pair in _once(fields) if pair[0] != b"content-length"]
    if not 200 <= status < 600:
        status = 502
    if status not in BODILESS:
        fields.append((b"content-length", b"%d" % len(body)))
    await deny(scope, send, status, fields, bytes(body))


def _once(fields: list[Pair]) -> list[Pair]:
    """Without what may not be repeated. granian 2.8 aborts its process over a refusal that repeats any field, so there each stands once;
    that it is granian's process only its module tells.
    """
    fragile, seen, kept = "granian" in sys.modules, set(), []
    for name, value in fields:
        if name not in seen or not (fragile or name in _ONCE):
            kept.append((name, value))
        seen.add(name)
    return kept


async def deny(scope: Scope, send: Send, status: int, fields: list[Pair], body: bytes) -> None:
    """Answer a handshake that is not accepted. A server that knows no such answer says 403 to whatever it was."""
    if scope.get("http_version") in {"2", "3"}:
        fields = [pair for pair in fields if pair is not CLOSE]
    with suppress(OSError, RuntimeError):  # nobody may be left to be told, as servers say in one of these ways
        if "websocket.http.response" in (scope.get("extensions") or {}):
            await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
            await send({"type": "websocket.http.response.body", "body": body})
        else:
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
