"""How a proxy is spoken to: a plain request names its whole URL, TLS goes through a tunnel (RFC 9112, 3.2.2; RFC 9110, 9.3.6).

What goes wrong before a tunnel is open is a connection that could not be made: of the request, nothing was sent.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Transport
from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from fairlead.engines.proxy import Proxies, Proxy, authority
from fairlead.message import Request
from fairlead.url import Origin

HEAD: Final = 64 * 1024
"""Bytes that a proxy may answer to CONNECT, with what it says before."""
BEGINNING: Final = b"HTTP/1."
END: Final = b"\r\n\r\n"


class NoTunnel(ConnectionError):
    """The proxy opened no tunnel; the message says why, and repeats no field of its answer."""


def addressed(proxies: Proxies | None) -> Callable[[Request, bytes], bytes]:
    """What makes of the head of a request the one that a proxy is sent, where it goes through one in the clear."""

    @lru_cache(maxsize=1024)
    def told(origin: Origin) -> tuple[bytes, bytes] | None:
        """What a proxy is told beside the request: the origin, and who asks."""
        proxy = None if proxies is None or origin.scheme == "https" else proxies.to(origin)
        return None if proxy is None else (b" http://" + origin.authority.encode(), _credentials(proxy))

    def through(request: Request, head: bytes) -> bytes:
        if (beside := told(request.origin)) is None:
            return head
        origin, credentials = beside
        if credentials and "proxy-authorization" in request.headers:
            credentials = b""
        line, _, fields = head.partition(b"\r\n")
        method, _, target = line.partition(b" ")
        if target[:2] == b"* ":  # the server as a whole has no path (RFC 9112 section 3.2.4)
            target = target[1:]
        return b"%b%b%b\r\n%b%b" % (method, origin, target, credentials, fields)

    return through


class Tunnel(asyncio.Protocol):
    """The beginning of a connection through a proxy, until another protocol takes over."""

    def __init__(self) -> None:
        self._transport = cast("Transport", None)
        self._answered: Future[None] = asyncio.get_running_loop().create_future()
        self._held = bytearray()
        self._before = 0
        """Bytes of the heads that were read already: what a proxy says before its answer."""
        self._status = 0
        self._fault = ""

    async def open(self, proxy: Proxy, origin: Origin) -> None:
        """Ask for the tunnel; raises NoTunnel."""
        place = authority(origin)
        line = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
        if not self._answered.done():
            self._transport.write(line.encode() + _credentials(proxy) + b"\r\n")
        await self._answered
        if self._fault:
            raise NoTunnel(f"the proxy {proxy} {self._fault}")
        if not 200 <= self._status < 300:
            raise NoTunnel(proxy.refusal(origin, self._status))
        if self._held:
            raise NoTunnel(f"the proxy {proxy} sent more than its answer to CONNECT")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while not self._answered.done():
            if self._held[:7] != BEGINNING[: len(self._held)]:
                self._answer("does not answer as a proxy does")
                return
            ended = (at := self._held.find(END)) >= 0
            end = at + len(END) if ended else len(self._held)
            if self._before + end > HEAD:  # a refusal may bring a page along: only the head is counted
                self._answer(f"answered CONNECT with a head of more than {HEAD} bytes")
                return
            if not ended:
                return
            self._status = _status(bytes(self._held[:end]))
            self._before += end
            del self._held[:end]
            if not self._status:
                self._answer("does not answer as a proxy does")
            elif self._status >= 200:
                self._answer("")

    def eof_received(self) -> None:
        self._answer("closed the connection before it answered CONNECT")

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer("closed the connection before it answered CONNECT")

    def _answer(self, fault: str) -> None:
        if not self._answered.done():
            self._fault = fault
            self._answered.set_result(None)


def _credentials(proxy: Proxy) -> bytes:
    return b"Proxy-Authorization: %b\r\n" % proxy.credentials if proxy.auth else b""


class _Head:
    """What the parser tells: that the head it read ends where we say it does."""

    done = False

    def on_headers_complete(self) -> None:
        self.done = True


def _status(head: bytes) -> int:
    """The status of a head, 0 for what is none. What frames a body is not looked at: an answer to CONNECT has none."""
    told = _Head()
    parser = HttpResponseParser(told)
    try:
        parser.feed_data(head)
    except (HttpParserError, HttpParserUpgrade):
        return 0
    status: int = parser.get_status_code()
    return status if told.done and status >= 100 else 0
