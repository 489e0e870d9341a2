"""A new connection: the host resolved, its addresses tried as RFC 8305 says, TLS agreed, all within one bound."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from aiohappyeyeballs import AddrInfoType, start_connection

from fairlead.core import Call
from fairlead.engines.native.connection import Connection
from fairlead.engines.timing import Bound, ends, expired
from fairlead.engines.waits import Waits
from fairlead.errors import ConnectFailed
from fairlead.url import Origin

P = TypeVar("P", bound=asyncio.BaseProtocol)

HEAD_START: Final = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305 section 5)."""


async def dial(
    call: Call,
    make: Callable[[], Connection],
    tls: Callable[[], ssl.SSLContext],
    started: float,
    waits: Waits,
) -> Connection:
    """A connection to the call's origin, ready for its first request; raises ConnectFailed or TimedOut.

    It is among the engine's `waits`, so that closing ends it.
    """
    loop = asyncio.get_running_loop()
    origin = call.request.origin
    due = ends(call, started)
    bound: Bound | None = None
    if call.timeout.connect is not None and loop.time() + call.timeout.connect < due:
        due, bound = loop.time() + call.timeout.connect, "connect"
    timer = asyncio.timeout_at(due)
    waits.add(timer)
    try:
        async with timer:
            return await connect(loop, origin, make, tls() if origin.scheme == "https" else None)
    except TimeoutError as error:
        if timer.expired():
            raise expired(call, started=started, phase="connecting", bound=bound) from None
        raise failed(call, origin, error) from error
    except (OSError, ssl.CertificateError, UnicodeError) as error:
        raise failed(call, origin, error) from error
    finally:
        waits.discard(timer)


async def connect(
    loop: asyncio.AbstractEventLoop, origin: Origin, make: Callable[[], P], tls: ssl.SSLContext | None
) -> P:
    """A connection to that host, over TLS where `tls` is given. Cancelled anywhere, it leaves nothing."""
    sock = await start_connection(await _resolve(loop, origin), happy_eyeballs_delay=HEAD_START, loop=loop)
    # From here on the socket is the transport's, which a failing create_connection closes: closing it here too
    # would close a descriptor that may be another connection's by then.
    transport, connection = await loop.create_connection(make, sock=sock)
    if tls is not None:
        try:
            if transport.is_closing():
                raise ConnectionResetError
            secured = await loop.start_tls(transport, connection, tls, server_hostname=origin.host)
        except BaseException:
            transport.abort()
            raise
        connection.connection_made(cast("asyncio.Transport", secured))
    return connection


async def _resolve(loop: asyncio.AbstractEventLoop, origin: Origin) -> Sequence[AddrInfoType]:
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:  # an address needs no resolver, and no thread
        return cast("Sequence[AddrInfoType]", socket.getaddrinfo(*origin[1:], type=socket.SOCK_STREAM, flags=numeric))
    except socket.gaierror:
        return cast("Sequence[AddrInfoType]", await loop.getaddrinfo(*origin[1:], type=socket.SOCK_STREAM))


def failed(call: Call, origin: Origin, error: BaseException) -> ConnectFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"the certificate of {origin.host} is not trusted: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        what = f"TLS with {origin.host} failed: {error.reason or 'no agreement'}"
    elif isinstance(error, socket.gaierror):
        what = f"unknown host {origin.host}"
    elif isinstance(error, ConnectionRefusedError):
        what = f"{origin} refused the connection: is it running?"
    elif isinstance(error, OSError) and error.strerror:
        what = f"could not connect to {origin}: {error.strerror}"
    else:
        what = f"could not connect to {origin}"
    return ConnectFailed(what, request=call.request, phase="connecting")
