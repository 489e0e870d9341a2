"""One answer on its way to one caller: chunk by chunk as it comes, ended cleanly only if it ended, and given up when the caller leaves.

One chunk is in flight: the next is read when the server has taken the last, so a slow caller slows the upstream (RFC 9110 section 7.6).
What listens for the caller is the same that listens around an application (`fairlead.inbound`).
"""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections.abc import Coroutine
from math import inf
from typing import Any, Final

from fairlead.caller import asked
from fairlead.engines.native.alarm import Alarm
from fairlead.errors import FairleadError, TimedOut
from fairlead.headers import Pair
from fairlead.inbound import App, Inbound, Receive, Scope, Send
from fairlead.looks import Looks
from fairlead.message import Response

BODILESS: Final = frozenset({204, 304})
_STREAMED: Final = (b"text/event-stream", b"application/x-ndjson", b"application/jsonl", b"application/grpc-web")
_UNBUFFERED: Final = (b"x-accel-buffering", b"no")
"""Read by nginx and its like, which would else hold an event back until more of them fill a buffer."""


class CallerGone(Exception):
    """Nobody is left to send to."""


class Listening(Inbound):
    """A request that is passed on, whose caller is listened for, but not while it is `held`."""

    __slots__ = ("held",)

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = current_task()
        assert task is not None, "an application runs in a task"
        inherited = asked() if "fairlead.caller" in scope else None  # else it is that of another request
        super().__init__(inf if inherited is None else inherited.deadline, task, receive, send, Looks())
        self._calls = 1  # to pass it on is the one call that counts
        self.held = False
        """Whether somebody else reads what the caller sends, not through this."""

    def run(self, app: App, scope: Scope) -> Coroutine[Any, Any, None]:
        self._listen()
        return super().run(app, scope)

    def listen(self) -> None:
        if self.held:
            self._soon = False
        else:
            super().listen()

    def heard(self) -> None:
        """Nobody else reads any more."""
        self.held = False
        self._listen()


class Taking:
    """Ends a task whose caller takes nothing for so many seconds: it would else hold a connection to the upstream for as long as it likes."""

    __slots__ = ("_alarm", "_cut", "_others", "_seconds", "_task", "_time")

    def __init__(self, seconds: float) -> None:
        task = current_task()
        assert task is not None, "an application runs in a task"
        loop = task.get_loop()
        self._task = task
        self._others = task.cancelling()
        self._seconds = seconds
        self._time = loop.time
        self._alarm = Alarm(loop, self._late)
        self._cut = False

    def begin(self) -> None:
        self._alarm.set(self._time() + self._seconds)

    def end(self) -> None:
        self._alarm.clear()

    def stop(self) -> None:
        self._alarm.stop()

    def ended(self, error: BaseException) -> bool:
        """Whether the task was ended by this, and by nobody else."""
        return self._cut and self._task.uncancel() <= self._others and isinstance(error, CancelledError)

    def _late(self) -> None:
        self._cut = True
        self._task.cancel()


def unbuffered(head: list[Pair]) -> None:
    """Ask proxies on the way not to hold back what is sent as it happens."""
    for name, value in head:
        if name == b"content-type" and value.lower().startswith(_STREAMED):
            if not any(name == b"x-accel-buffering" for name, _ in head):
                head.append(_UNBUFFERED)
            return


async def relay(response: Response, head: list[Pair], length: int, method: str, send: Send, taken: float = inf) -> None:
    """Send the answer on. Raises CallerGone, or what ended the body early: then it must not look whole, so nothing ends it here.

    `length` is the one that the head names, -1 for none: with it the last chunk is known as such, and ends the answer. `taken` are the
    seconds in which the caller must have taken a chunk; then TimedOut.
    """
    status = response.status_code
    body = b""
    if bare := status in BODILESS or method == "HEAD":
        response.close()
        if status in BODILESS:
            # A 204 has no length; of a 304 it is not the body's, and servers that count would wait for that many bytes.
            head = [pair for pair in head if pair[0] != b"content-length"]
    elif (whole := response.here()) is not None:
        body, bare = whole, True
    elif length < 0:
        unbuffered(head)
    try:
        await send({"type": "http.response.start", "status": status, "headers": head})
        if not bare:
            chunks: Any = response.aiter_raw()
            taking = Taking(taken)
            try:
                async for chunk in chunks:
                    length -= len(chunk)
                    if length:
                        taking.begin()
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        taking.end()
                    else:  # the upstream is done: its slot and connection are free before the caller has read this
                        body = chunk
            except BaseException as error:
                await chunks.aclose()
                if taking.ended(error):
                    raise TimedOut(
                        f"the caller took nothing for {taken:g} s", request=response.request, phase="body"
                    ) from None
                raise
            finally:
                taking.stop()
        await send({"type": "http.response.body", "body": body, "more_body": False})
    except OSError as error:
        if isinstance(error, FairleadError):
            raise
        raise CallerGone from error
