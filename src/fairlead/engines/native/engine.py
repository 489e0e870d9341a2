"""The native engine: a connection is chosen here for each call, the one used last first, and kept or given up here after it.

What ends one in the middle of an exchange is in `connection.py`. One pool per origin, and no queue: a call finds an idle connection or makes one. How many there may be is the concurrency limit's
to say, where waiting is measured and bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Final

from fairlead import forks
from fairlead.arriving import Body
from fairlead.core import Call
from fairlead.engines import coding
from fairlead.engines.native.connection import Connection
from fairlead.engines.native.dial import Dialer
from fairlead.engines.native.head import asks, encode
from fairlead.engines.native.streamed import Nothing, Streamed, Switched
from fairlead.engines.timing import expired, streams
from fairlead.engines.waits import Waits
from fairlead.engines.wire import Wire
from fairlead.errors import ConfigError, Disconnected, FairleadError, Knowledge, ProtocolError
from fairlead.message import Arriving, Headers, Response
from fairlead.url import Origin

BUFFER: Final = 64 * 1024
"""One read buffer serves all connections: a read is one synchronous step (halves the cost of TLS)."""
KEPT: Final = 31 * 1024 * 1024
"""Bytes: glibc gives back at once what is larger than it ever saw freed, and the kernel fills each page anew: large bodies cost twice."""
IDLE: Final = 100
"""Idle connections to all origins together, from which on a new one replaces the oldest."""

_NOTHING: Final = Nothing()


@cache
def _keep() -> None:
    """Once per process: what an engine after the first took would be cleared for it, four milliseconds each."""
    bytes(KEPT)  # taken and given back: from then on the allocator keeps what it has, up to that much


class Native:
    """HTTP/1.1. Connections belong to the loop that made them."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock: Callable[[], float] | None = None
        self._buffer = memoryview(bytearray(BUFFER))
        _keep()
        self._idle: dict[Origin, dict[Connection, None]] = {}
        self._open: set[Connection] = set()
        self._waits = Waits()
        """Of calls that connect; those that are connected are in `_open`."""
        self._dialer = Dialer(wire, self._waits)
        self._emptied: asyncio.Future[None] | None = None

    async def send(self, call: Call, /) -> Response:
        if call.clock is not self._clock:
            self._adopt(call)
        request = call.request
        began, started = perf_counter(), call.clock()
        if started >= call.deadline:
            raise expired(call, started=started, phase="connecting")
        head = encode(request)
        idle = self._idle.get(request.origin)
        connection = (self._take(idle, call, started) if idle else None) or await self._dial(call, started)
        try:
            await connection.begin(call, head, started)
        except Disconnected:
            connection.give_up()
            # What another protocol would have begun on it has died with it.
            again = request.idempotent or asks(request, "upgrade")
            if not (again and connection.silent and request.replayable):
                raise
            # A kept connection that had died unseen: once more, on a new one (RFC 9112 section 9.3.1).
            connection = await self._again(call, head, started)
        except BaseException:
            connection.give_up()
            raise
        if call.stream:
            return self._arriving(connection, call, began)
        return self._received(connection, call, began)

    async def _again(self, call: Call, head: bytes, started: float) -> Connection:
        try:
            connection = await self._dial(call, started)
        except FairleadError as error:
            error.knowledge = Knowledge.UNKNOWN  # the first time it was sent
            raise
        try:
            await connection.begin(call, head, started)
        except BaseException:
            connection.give_up()
            raise
        return connection

    async def close(self) -> None:
        """Every call under way ends with an error, and none begins. May be called again, and by several at once."""
        self._waits.closed = True
        for connection in list(self._open):
            if connection.arrived is not None:
                connection.fail(self._over(connection.call))
            connection.abort()
        await self._waits.close()
        if self._open and self._loop is asyncio.get_running_loop():
            self._emptied = self._emptied or self._loop.create_future()
            await asyncio.wait({self._emptied})

    def forked(self) -> None:
        forks.let_go(connection.transport for connection in self._open)

    def _over(self, call: Call) -> ConfigError:
        """Neither retry nor a circuit takes it for a fault of the upstream."""
        return ConfigError("the client was closed", request=call.request, knowledge=Knowledge.UNKNOWN)

    def _received(self, connection: Connection, call: Call, began: float) -> Response:
        answer = connection.answer
        content = b"".join(answer.chunks)
        answer.chunks = []  # a connection at rest holds no body
        if answer.coding and content:
            try:
                if (decode := coding.coding(answer.coding)) is not None:
                    content = coding.whole(decode, content, self._wire.limits.body)
            except ProtocolError as error:
                error.request = call.request
                connection.abort()
                raise
        response = Response.received(answer.status, answer.headers, content, call.request, perf_counter() - began)
        if answer.trailers:
            response.trailers = Headers.received(answer.trailers)
        self._keep(connection)
        return response

    def _arriving(self, connection: Connection, call: Call, began: float) -> Response:
        answer = connection.answer
        streams(call)
        try:
            decode = coding.coding(answer.coding) if answer.coding else None
        except ProtocolError as error:
            error.request = call.request
            connection.abort()
            raise
        whole: bytes | None = None
        body: Body
        if answer.status == 101:
            body = Switched(connection, self._keep)
        elif (
            answer.complete and decode is None
        ):  # it came with its head; of one that is coded it is not known yet that it is good
            body, whole = _NOTHING, b"".join(answer.chunks)
            answer.chunks = []
        else:
            body = Streamed(connection, self._keep)
        response = Arriving(answer.status, answer.headers, body, decode, call.request, perf_counter() - began, whole)
        if answer.chunked:
            response.trailers = Headers.received(answer.trailers)  # the list that they are added to when they come
        if isinstance(body, Switched):
            response.upgraded = body
        if whole is not None:  # the connection is free before anybody has read a byte
            self._keep(connection)
        return response

    def _take(self, idle: dict[Connection, None], call: Call, now: float) -> Connection | None:
        """The idle connection that served last: it is the least likely to have been closed."""
        while idle:
            connection, _ = idle.popitem()
            if connection.serves(now, call.request.idempotent):
                return connection
            connection.abort()
        return None

    def _keep(self, connection: Connection) -> None:
        """Keep a connection whose exchange ended well; give up any other."""
        now = connection.clock()
        if not connection.rest(now, now + self._wire.keepalive_expiry):
            connection.abort()
            return
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle[connection.origin] = {}
        elif (most := self._wire.max_keepalive_connections) is not None and len(idle) >= most:
            self._retire(idle)
        idle[connection] = None

    async def _dial(self, call: Call, started: float) -> Connection:
        if self._waits.closed:
            raise self._over(call)
        if sum(map(len, self._idle.values())) >= IDLE:
            # Many origins, each with few calls: what rests longest makes room.
            self._retire(next(filter(None, self._idle.values())))
        origin, loop = call.request.origin, asyncio.get_running_loop()
        make = partial(self._dialer.kind, loop, origin, self._buffer, self._wire.limits, self._lost)
        try:
            connection = await self._dialer.dial(call, make, started)
        except FairleadError:
            if self._waits.closed:
                raise self._over(call) from None
            raise
        if self._waits.closed:
            connection.abort()
            raise self._over(call)
        self._open.add(connection)
        return connection

    def _retire(self, idle: dict[Connection, None]) -> None:
        oldest = next(iter(idle))
        del idle[oldest]
        oldest.abort()

    def _lost(self, connection: Connection) -> None:
        """A connection is gone, whoever ended it."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[connection.origin]
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _adopt(self, call: Call) -> None:
        """The first call, or one from elsewhere: its clock is another."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ConfigError("this client was opened on another event loop: make one for each loop")
            self._idle.clear()
            self._open.clear()
            self._loop = loop
        self._clock = call.clock
