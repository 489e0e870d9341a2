"""One inbound request under way, whose caller may leave: listened for a while after its first outbound call began, and then cancelled.

`receive` must not be called twice at once, and both want it: the application for the body, the listener for the end. So the listener
hears everything first, and keeps for the application what is its. An application that listens by itself (a stream that is sent,
a body that is read) is told, as it would be without us, and not cancelled.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, Task, get_running_loop, sleep, wait
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from math import inf
from typing import Any, Final

from fairlead import caller, core
from fairlead.core import Call
from fairlead.looks import Looks
from fairlead.message import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TURNS: Final = 32
"""Of the loop, in which a cancellation reaches whoever it is meant for: it takes one through each task that waits for another."""
HELD: Final = 64 * 1024
"""Bytes of an upload that are kept for an application that does not read them yet. Until it does, no leaving is heard behind more."""
_GONE: Final = {"type": "http.disconnect"}
_CLOSED: Final = (
    {"type": "http.response.start", "status": 499, "headers": [(b"content-length", b"0")]},
    {"type": "http.response.body", "body": b""},
)
"""For whoever stands between and insists on an answer; the caller is not there to read it. 499 is what nginx notes in this case."""


class Inbound(caller.Asked):
    """One request that an application answers in `task`, and what its outbound calls inherit of it."""

    __slots__ = ("_calls", "_cut", "_ear", "_gone", "_held", "_looks", "_loop", "_reads", "_receive", "_room", "_send", "_size", "_soon", "_started", "_task", "_turns", "_watched")  # fmt: skip

    def __init__(
        self, due: float, task: Task[Any], receive: Receive, send: Send, looks: Looks, watched: bool = True
    ) -> None:
        self.deadline = due
        self.outer = None
        self._loop = loop = task.get_loop()
        self.clock = loop.time
        self._receive = receive
        self._send = send
        self._task = task
        self._looks = looks
        self._watched = watched
        """Whether its caller's leaving is any news: until the answer is sent, or the application has heard of it by itself."""
        self._calls = 0
        """Outbound calls under way."""
        self._reads = 0
        """How often the application waits in the server's own `receive`."""
        self._started = self._cut = self._gone = self._soon = False
        self._ear: Task[None] | None = None

    async def run(self, app: App, scope: Scope) -> None:
        task = self._task
        others = task.cancelling()
        token = caller.ask(self)
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            if not self._cut or task.uncancel() > others or not isinstance(error, CancelledError):
                raise
            if not self._started:
                with suppress(OSError):
                    for message in _CLOSED:
                        await self._send(dict(message))
        else:
            if self._cut:  # the application made something else of its cancellation
                task.uncancel()
        finally:
            caller.end(token)
            self._over()
            # A connection that was opened meanwhile keeps this context, and with it this request, for as long as it lives.
            del self._task
            self._receive, self._send = _nothing, _nowhere

    # What the calls see of it

    async def carry(self, send: core.Send, call: Call) -> Response:
        # A thread that answers this request may have a loop of its own: only on the request's may its task be touched.
        if not self._watched or get_running_loop() is not self._loop:
            if self._cut:
                await _reached()
            return await send(call)
        if self._gone:
            self._cancel()
            await _reached()
            return await send(call)
        self._calls += 1
        try:
            self._listen()
            response = await send(call)
        except BaseException:
            self._calls -= 1
            raise
        response.when_closed(self._ended)
        return response

    def _ended(self) -> None:
        self._calls -= 1

    # What the application sees of it

    def send(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.start":
            self._started = True
        elif (kind == "http.response.body" and not message.get("more_body")) or kind == "http.response.pathsend":
            # What follows, background tasks first of all, is done for nobody who waits.
            self._over()
        return self._send(message)

    async def receive(self) -> Message:
        while self._ear is not None:
            if self._held:
                return self._taken(self._held.popleft())
            if self._gone:
                self._watched = False
                return dict(_GONE)
            if self._ear.done():
                break
            if self._ear.cancelling():
                await wait({self._ear})
                continue
            turn = get_running_loop().create_future()
            self._turns.append(turn)
            try:
                await turn
            finally:
                self._turns.remove(turn)
        self._reads += 1
        try:
            message = await self._receive()
        except CancelledError:  # as whoever only asks whether there is something does
            self._reads -= 1
            self._listen()
            raise
        except BaseException:
            self._reads -= 1
            raise
        self._reads -= 1
        if message["type"] == "http.disconnect":
            self._watched = False
        self._listen()
        return message

    def _taken(self, message: Message | Exception) -> Message:
        if isinstance(message, Exception):
            raise message
        self._size -= len(message.get("body", b""))
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return message

    # The listener

    def _listen(self) -> None:
        """Have somebody listen soon, if there is a call to give up, and unless the application listens itself."""
        if not self._soon and self._ear is None and self._calls and self._watched and not self._reads:
            self._soon = True
            self._looks.wait(self)

    def listen(self) -> None:
        self._soon = False
        if self._watched and not self._reads:
            self._held: deque[Message | Exception] = deque()
            self._size = 0
            self._room: Future[None] | None = None
            self._turns: list[Future[None]] = []
            self._ear = get_running_loop().create_task(self._hear())

    async def _hear(self) -> None:
        whole = False
        while True:
            try:
                message = await self._receive()
            except Exception as error:  # a body that is too large, say: the application is told where it reads
                self._held.append(error)
                self._wake()
                return
            if message["type"] == "http.disconnect":
                break
            self._held.append(message)
            self._wake()
            if whole:  # a server that says the same over and over would be listened to for ever
                return
            whole = not message.get("more_body")
            self._size += len(message.get("body", b""))
            while self._size > HELD and not whole:
                self._room = get_running_loop().create_future()
                await self._room
        self._gone = True
        if self._turns:
            self._wake()  # the application is told, and knows what to do
        elif self._calls and self._watched:
            self._cancel()

    def _wake(self) -> None:
        for turn in self._turns:
            if not turn.done():
                turn.set_result(None)

    def _cancel(self) -> None:
        self._watched, self._cut = False, True
        self._task.cancel()

    def _over(self) -> None:
        """The answer is out: nobody waits for anything any more."""
        self.deadline = inf
        self._watched = False
        if self._soon:
            self._soon = False
            self._looks.leave(self)
        if self._ear is not None:
            self._ear.cancel()
            self._wake()


async def _nothing() -> Message:
    return dict(_GONE)


async def _nowhere(_: Message) -> None:
    raise OSError("the request is over: nothing is sent for it any more")


async def _reached() -> None:
    """Wait until who is to be cancelled is: to begin a call would be to send it for nobody."""
    for _ in range(TURNS):
        await sleep(0)
