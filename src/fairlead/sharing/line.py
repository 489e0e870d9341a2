"""One connection to Redis, on which questions leave as they come and answers come back in their order.

So any number of calls share it, and one that is cancelled leaves only a place in the order behind. redis-py opens it (its URL, TLS,
credentials), packs and reads; its client is not used, where a connection serves one question at a time. A question that is not
answered in time ends the connection, and all who wait are told.
"""

from __future__ import annotations

from asyncio import Future, Task, TimerHandle, get_running_loop, timeout
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from fairlead.sharing.scripts import Script

CONNECT: Final = 1.0
"""Seconds a connection may take, which no call waits for longer than for an answer."""
LATE: Final = 0.005
"""Seconds beyond its time that an answer is waited for: a loop that was held up comes to its timers before it has read what is there."""


def connector(url: str) -> Callable[[], Any]:
    """What makes a connection, which is not open yet. Raises what redis-py does for options that it does not take."""
    options: dict[str, Any] = {**parse_url(url)}
    kind = options.pop("connection_class", Connection)
    # A connection at rest is none that failed, and with RESP 2 there is nothing to agree on first.
    options |= {"socket_timeout": None, "health_check_interval": 0, "protocol": 2, "decode_responses": False}

    def connect() -> Any:
        return kind(**options)

    connect()
    return connect


class Line:
    """`broken` is called once, with the error, when it ends by itself."""

    __slots__ = ("_asked", "_broken", "_connection", "_loop", "_reader", "_timeout", "_timer", "_unsent", "ended")

    def __init__(self, connection: Any, patience: float, broken: Callable[[Exception], None]) -> None:
        self._loop = get_running_loop()
        self._connection = connection
        self._timeout = patience
        self._broken = broken
        self._asked: deque[tuple[Future[Any], float]] = deque()
        """Who waits for an answer, in order, and until when."""
        self._unsent: list[bytes] | None = []
        """What was asked before it was open."""
        self._reader: Task[None] | None = None
        self._timer: TimerHandle | None = None
        self.ended: Exception | None = None

    async def open(self) -> None:
        try:
            async with timeout(max(CONNECT, self._timeout)):
                await self._connection.connect()
            if self.ended is not None:  # meanwhile, as somebody had waited long enough
                raise self.ended
        except BaseException:
            self._shut()
            raise
        unsent, self._unsent = self._unsent, None
        self._connection._writer.writelines(unsent)
        self._reader = self._loop.create_task(self._read(), context=Context())

    async def ask(self, *command: bytes) -> Any:
        """What Redis answers. Raises the error that it answers, or that ended the connection."""
        if self.ended is not None:
            raise self.ended
        answer: Future[Any] = self._loop.create_future()
        due = self._loop.time() + self._timeout
        self._asked.append((answer, due))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        packed = b"*%d\r\n%b" % (len(command), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in command]))
        if self._unsent is None:
            # Not through redis-py, which closes the connection of a caller that is cancelled while it waits for room in the buffer.
            self._connection._writer.write(packed)
        else:
            self._unsent.append(packed)
        # An error is a result: as an exception of the future, it would be missed where its caller is cancelled in this very turn.
        found = await answer
        if isinstance(found, Exception):
            raise found
        return found

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """What a script answers, which is sent whole where Redis does not know it: it has been restarted, say."""
        count = b"%d" % len(keys)
        try:
            found = await self.ask(b"EVALSHA", script.sha, count, *keys, *arguments)
        except NoScriptError:
            found = await self.ask(b"EVAL", script.text, count, *keys, *arguments)
        if type(found) is not list:  # a string would be taken apart like one
            raise ResponseError(f"a script answers with a list, and not with {type(found).__name__}")
        return found

    def cut(self, error: Exception | None = None) -> None:
        """End it at once, without a farewell that a frozen peer could hold up. May be called again."""
        if self.ended is not None:
            return
        self.ended = error or RedisConnectionError("closed")
        if self._timer is not None:
            self._timer.cancel()
        if self._reader is not None:
            self._reader.cancel()
        self._shut()
        for answer, _ in self._asked:
            if not answer.done():
                answer.set_result(self.ended)
        self._asked.clear()
        if error is not None:
            self._broken(error)

    @property
    def transport(self) -> Any:
        writer = self._connection._writer
        return None if writer is None else writer.transport

    def _shut(self) -> None:
        if (transport := self.transport) is not None:
            transport.abort()
        self._connection._close()

    async def _read(self) -> None:
        try:
            while True:
                try:
                    found: Any = await self._connection.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    found = error
                answer, _ = self._asked.popleft()
                if not answer.done():
                    answer.set_result(found)
        except Exception as error:
            self.cut(error)

    def _look(self, again: bool = False) -> None:
        """Whether who waits longest has waited too long."""
        self._timer = None
        if not self._asked:
            return
        due = self._asked[0][1]
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._look)
        elif again:
            self.cut(TimeoutError(f"no answer within {self._timeout:g} s"))
        else:
            self._timer = self._loop.call_later(LATE, self._look, True)
