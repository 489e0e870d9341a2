"""Two sides that talk, one message in flight each way, until one of them ends it, and then the other is told why.

Three tasks: one listens to the client, one writes to the upstream, and one reads from it. The first that ends decides; whoever is left
has a bounded time, and nothing outlives `run`.
"""

from __future__ import annotations

import asyncio
from asyncio import Queue, Task
from math import inf
from typing import Any, Final

from fairlead.errors import ConfigError, Disconnected, FairleadError
from fairlead.inbound import Message, Receive, Send
from fairlead.proxy.frames import ABNORMAL, NONE, Close, Messages, cut, sendable
from fairlead.tasks import stop

CLOSING: Final = 2.0
"""Seconds that one side has to end, once the other has."""
TAKEN: Final = 60.0
"""Seconds between two looks at whether the client still takes what it is sent; one that took nothing from one to the next is given up. Not
every server pings."""


class Conversation:
    """`hearing` is what the client says first: it was listened for while the upstream was asked."""

    def __init__(
        self,
        messages: Messages,
        receive: Receive,
        send: Send,
        hearing: asyncio.Future[Message],
        *,
        largest: int | None,
    ) -> None:
        self._messages = messages
        self._largest = largest
        self._receive = receive
        self._send = send
        self._hearing: asyncio.Future[Message] | None = hearing
        self._queue: Queue[str | bytes | None] = Queue(1)
        """Between who listens and who writes: a client that leaves is noticed while the upstream takes nothing."""
        self._active = 0.0
        self._since = inf
        """When what the client is being sent was begun."""

    async def run(self, interval: float, idle: float) -> FairleadError | None:
        """What the upstream did wrong, if it did. Pings it every `interval` seconds, and ends after `idle` ones without a message."""
        loop = asyncio.get_running_loop()
        self._active = loop.time()
        listening = loop.create_task(self._listen())
        writing = loop.create_task(self._write())
        reading = loop.create_task(self._read())
        tasks: set[Task[Any]] = {listening, writing, reading}
        last: set[Task[Any]] = set()
        try:
            upstream, client = await self._until_one_ends(listening, writing, reading, interval, idle)
            await stop({listening, reading})
            last.add(loop.create_task(self._part(upstream)))
            if client is not None:
                last.add(loop.create_task(self._tell(client)))
            await asyncio.wait(last, timeout=CLOSING)
            for task in (listening, reading):
                _raise_bug(task)
            return None if client is None else client.fault
        finally:
            await stop(tasks | last)

    async def _until_one_ends(
        self, listening: Task[Close], writing: Task[None], reading: Task[None], interval: float, idle: float
    ) -> tuple[Close | None, Close | None]:
        """What the upstream is to be told, and what the client: None for a side that has ended it, or is gone."""
        loop, messages = asyncio.get_running_loop(), self._messages
        asked = looked = loop.time()
        heard = -1
        while True:
            due = min(asked + interval, self._active + idle, looked + TAKEN)
            left = max(0.0, due - loop.time())
            await asyncio.wait({listening, writing, reading}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                if isinstance(error := _fault(listening), OverflowError):
                    return Close(1001), Close(1009, str(error))
                left_with = listening.result() if error is None else Close(1011)
                return _onward(left_with), None
            if reading.done():
                if messages.ended is None:  # the client takes nothing any more, and says why where it is listened to
                    done, _ = await asyncio.wait({listening}, timeout=CLOSING)
                    return _onward(listening.result() if done and _fault(listening) is None else Close(ABNORMAL)), None
                return None, _back(messages.ended)
            if writing.done():
                await asyncio.wait({reading}, timeout=CLOSING)
                return None, _back(messages.ended or Close(ABNORMAL, "", _gone(writing)))
            now = loop.time()
            if now >= self._active + idle:
                return Close(1001, "idle"), Close(1001, "idle")
            if now >= looked + TAKEN:
                if self._since <= looked:
                    return Close(1001), Close(1008, "nothing is taken")
                looked = now
            if now >= asked + interval:
                if heard == messages.heard and messages.listening:
                    fault = Disconnected("the upstream answered no ping", phase="body")
                    return Close(1011, "no pong"), _back(Close(ABNORMAL, "", fault))
                asked, known = now, messages.heard
                heard = known if await messages.ping() else -1

    async def _listen(self) -> Close:
        """Hand the client's messages over until it leaves. Raises OverflowError for one that is too large."""
        largest = self._largest
        while True:
            if self._hearing is not None:
                message, self._hearing = await self._hearing, None
            else:
                message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return Close(message.get("code") or NONE, message.get("reason") or "")
            data: str | bytes | None = message.get("text")
            if data is None:
                data = message.get("bytes") or b""
            if largest is not None and _exceeds(data, largest):
                raise OverflowError(f"a message of more than {largest} bytes")
            self._active = asyncio.get_running_loop().time()
            await self._queue.put(data)

    async def _write(self) -> None:
        while (data := await self._queue.get()) is not None:
            await self._messages.send(data)

    async def _read(self) -> None:
        while (data := await self._messages.receive()) is not None:
            self._active = self._since = asyncio.get_running_loop().time()
            kind = "text" if isinstance(data, str) else "bytes"
            try:
                await self._send({"type": "websocket.send", kind: data})
            except OSError:
                return
            self._since = inf

    # How it ends: what fails then changes nothing any more

    async def _part(self, close: Close | None) -> None:
        """Leave the upstream: what the client has sent goes first, then the close; then it is the upstream's to hang up."""
        if close is not None:
            await self._queue.put(None)  # when there is room for it, all that stood before is on its way
            await self._messages.close(close.code, close.reason)
        await self._messages.drained()

    async def _tell(self, close: Close) -> None:
        await self._send({"type": "websocket.close", "code": close.code, "reason": cut(close.reason)})


def _exceeds(data: str | bytes, largest: int) -> bool:
    """Whether it is longer than so many bytes. Text is encoded only where its length in characters leaves it open."""
    size = len(data)
    if isinstance(data, str) and size <= largest < 4 * size:
        size = len(data.encode())
    return size > largest


def _onward(close: Close) -> Close:
    """As the upstream is told it: a client that vanished has gone away."""
    return close if close.code == NONE or sendable(close.code) else Close(1001)


def _back(close: Close) -> Close:
    """As the client is told it. An upstream that vanished, or spoke nonsense, is an error of the server's (1011).

    Not a bad gateway (1014): it came after the RFC, and libraries that do not know it (wsproto is one) take it for a broken close.
    """
    if close.fault is not None:
        restarts = isinstance(close.fault, ConfigError)
        return close._replace(code=1012 if restarts else 1011, reason="" if restarts else "the upstream is gone")
    return close if sendable(close.code) else close._replace(code=1000 if close.code == NONE else 1011)


def _fault(task: Task[Any]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


def _gone(task: Task[None]) -> FairleadError:
    error = _fault(task)
    return error if isinstance(error, FairleadError) else Disconnected("the upstream takes nothing", phase="body")


def _raise_bug(task: Task[Any]) -> None:
    """Whatever the server's own `receive` and `send` raised: it is theirs to know."""
    error = _fault(task)
    if error is not None and not isinstance(error, FairleadError | OverflowError):
        raise error
