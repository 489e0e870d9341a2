"""A new connection: the host resolved and judged, its addresses tried as RFC 8305 says, a proxy asked, TLS agreed, all within one bound.

What can be decided is decided when the engine is built: which proxies there are, whether a Unix socket or a guard stands before everything.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from asyncio import BaseProtocol, Transport
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Final, TypeVar, cast

from aiohappyeyeballs import AddrInfoType, start_connection

from fairlead.core import Call
from fairlead.engines.guard import Guard
from fairlead.engines.native.connection import Connection
from fairlead.engines.native.proxied import NoTunnel, Tunnel, addressed
from fairlead.engines.native.resolve import Resolver
from fairlead.engines.native.wary import Wary
from fairlead.engines.proxy import Proxies, Proxy
from fairlead.engines.timing import Bound, ends, expired
from fairlead.engines.tls import Contexts
from fairlead.engines.waits import Waits
from fairlead.engines.wire import Wire
from fairlead.errors import ConnectFailed, Refused
from fairlead.url import Origin

P = TypeVar("P", bound=BaseProtocol)

HEAD_START: Final = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305 section 5)."""


class Denied(Exception):
    """The guard permits none of the host's addresses."""


class Reach:
    """How a socket comes to a host: at the address it resolves to, and that the guard permits, or at the one Unix socket there is."""

    def __init__(self, uds: str | None = None, guard: Guard | None = None, resolve: Resolver | None = None) -> None:
        self.uds = uds
        self._guard = guard
        self._resolve = resolve or Resolver()

    async def __call__(self, make: Callable[[], P], host: str, port: int) -> tuple[Transport, P]:
        """A connection without TLS. Raises OSError or Denied; cancelled anywhere, it leaves nothing."""
        loop = asyncio.get_running_loop()
        if self.uds is not None:
            return await loop.create_unix_connection(make, sock=_unix(self.uds))
        addresses = await self._resolve(host, port)
        if self._guard is not None:
            # What is connected to is one of these very addresses: a second look at the name might find others.
            addresses = [one for one in addresses if self._guard.permits(one[4][0])]
            if not addresses:
                raise Denied
        try:
            sock = await _first(loop, addresses)
        except BaseException:
            self.forget(host)
            raise
        # From here on the socket is the transport's, which a failing create_connection closes: closing it here too
        # would close a descriptor that may be another connection's by then.
        return await loop.create_connection(make, sock=sock)

    def forget(self, host: str) -> None:
        """Something is wrong with who answers there: the next call asks anew where that is."""
        self._resolve.forget(host)


class Dialer:
    """How one engine makes its connections."""

    def __init__(self, wire: Wire, waits: Waits) -> None:
        self.proxies = Proxies.of(wire)
        self.kind: Callable[..., Connection] = Connection
        if self.proxies is not None or wire.max_connection_age is not None:
            self.kind = partial(Wary, addressed(self.proxies), wire.max_connection_age or inf)
        self._tls = Contexts(wire)
        self._reach = Reach(wire.uds, wire.guard)
        self._waits = waits

    async def dial(self, call: Call, make: Callable[[], Connection], started: float) -> Connection:
        """A connection to the call's origin, ready for its first request; raises ConnectFailed, Refused or TimedOut.

        It is among the engine's `waits`, so that closing ends it.
        """
        loop = asyncio.get_running_loop()
        due = ends(call, started)
        bound: Bound | None = None
        if call.timeout.connect is not None and loop.time() + call.timeout.connect < due:
            due, bound = loop.time() + call.timeout.connect, "connect"
        timer = asyncio.timeout_at(due)
        self._waits.add(timer)
        try:
            async with timer:
                connection = await self._connect(call, make)
        except TimeoutError:
            raise expired(call, started=started, phase="connecting", bound=bound) from None
        finally:
            self._waits.discard(timer)
        if connection.transport.is_closing():
            raise ConnectFailed(
                f"{connection.origin} closed the connection at once", request=call.request, phase="connecting"
            )
        return connection

    async def _connect(self, call: Call, make: Callable[[], Connection]) -> Connection:
        origin = call.request.origin
        tls = self._tls.origin() if origin.scheme == "https" else None
        proxy = self.proxies.to(origin) if self.proxies is not None else None
        if proxy is None:
            _, connection = await self._to(call, origin, make, tls)
            return connection
        outer = self._tls.proxy() if proxy.scheme == "https" else None
        if tls is None:
            _, connection = await self._to(call, proxy, make, outer)
            return connection
        transport, tunnel = await self._to(call, proxy, Tunnel, outer)
        try:
            await tunnel.open(proxy, origin)
            connection = make()
            await _secure(transport, connection, tls, origin.host)
        except BaseException as error:
            transport.abort()
            if isinstance(error, OSError | ValueError):
                raise failed(call, origin, error) from error
            raise
        return connection

    async def _to(
        self, call: Call, place: Origin | Proxy, make: Callable[[], P], tls: ssl.SSLContext | None
    ) -> tuple[Transport, P]:
        """A connection to that place, over TLS where `tls` is given."""
        try:
            transport, protocol = await self._reach(make, place.host, place.port)
        except Denied:
            refused = Refused(f"{place.host} leads to no address that this client may connect to", request=call.request)
            refused.phase = "connecting"
            raise refused from None
        except (OSError, ValueError) as error:
            raise failed(call, self._reach.uds or place, error) from error
        if tls is not None:
            try:
                transport = await _secure(transport, protocol, tls, place.host)
            except (OSError, ValueError) as error:
                self._reach.forget(place.host)
                raise failed(call, place, error) from error
        return transport, protocol


async def _secure(transport: Transport, protocol: BaseProtocol, tls: ssl.SSLContext, host: str) -> Transport:
    """The same connection over TLS (over TLS again, where it leads through a proxy that speaks it). What fails is given up."""
    try:
        if transport.is_closing():
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(transport, protocol, tls, server_hostname=host)
        if secured is None:
            raise ConnectionResetError
    except BaseException:
        transport.abort()
        raise
    protocol.connection_made(secured)
    return secured


async def _first(loop: asyncio.AbstractEventLoop, addresses: Sequence[AddrInfoType]) -> socket.socket:
    """A socket connected to the first of the addresses that answers."""
    task = cast("asyncio.Task[object]", asyncio.current_task())
    cancelled = task.cancelling()
    sock: socket.socket | None = None
    fault = OSError()
    try:
        sock = await start_connection(addresses, happy_eyeballs_delay=HEAD_START, loop=loop)
    except OSError as error:
        fault = error
    except RuntimeError as error:  # of uvloop
        fault = OSError(str(error))
    if task.cancelling() > cancelled:
        # It came while slower addresses were given up, where the library swallows it.
        if sock is not None:
            sock.close()
        raise asyncio.CancelledError
    if sock is None:
        raise fault
    return sock


def _unix(path: str) -> socket.socket:
    """A socket connected to that path, which never takes long: a full line is an error. (The loops' own way takes it for a connection.)"""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def failed(call: Call, place: Origin | Proxy | str, error: BaseException) -> ConnectFailed:
    """The error for a connection to that place (or path) that could not be made."""
    host = place if isinstance(place, str) else place.host
    where = f"the proxy {place}" if isinstance(place, Proxy) else str(place)
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"the certificate of {host} is not trusted: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        what = f"TLS with {host} failed: {error.reason or 'no agreement'}"
    elif isinstance(error, socket.gaierror):
        what = f"unknown host {host}"
    elif isinstance(error, NoTunnel):
        what = str(error)
    elif isinstance(error, ConnectionRefusedError):
        what = f"{where} refused the connection: is it running?"
    elif isinstance(error, OSError) and error.errno:
        what = f"could not connect to {where}: {os.strerror(error.errno)}"
    else:
        what = f"could not connect to {where}"
    return ConnectFailed(what, request=call.request, phase="connecting")
