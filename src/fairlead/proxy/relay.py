"""One answer on its way to one caller: chunk by chunk as it comes, ended cleanly only if it ended, and given up when the caller leaves.

One chunk is in flight: the next is read when the server has taken the last, so a slow caller slows the upstream (RFC 9110 section 7.6).
What listens for the caller is the same that listens around an application (`fairlead.inbound`), only later: nearly every call is
over before it would be worth a task.
"""

from __future__ import annotations

from asyncio import TimerHandle, current_task, get_running_loop
from collections.abc import Coroutine
from math import inf
from typing import Any, Final

from fairlead.caller import asked
from fairlead.errors import FairleadError
from fairlead.headers import Pair
from fairlead.inbound import App, Inbound, Receive, Scope, Send
from fairlead.message import Response

LISTENED: Final = 0.05
"""Seconds from a call's start until somebody listens for its caller's leaving."""
BODILESS: Final = frozenset({204, 304})
_STREAMED: Final = (b"text/event-stream", b"application/x-ndjson", b"application/jsonl", b"application/grpc-web")
_UNBUFFERED: Final = (b"x-accel-buffering", b"no")
"""Read by nginx and its like, which would else hold an event back until more of them fill a buffer."""


class CallerGone(Exception):
    """Nobody is left to send to."""


class Listening(Inbound):
    """A request that is passed on, whose caller is listened for once that has taken a while, and not while it is `held`."""

    __slots__ = ("_soon", "held")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = current_task()
        assert task is not None, "an application runs in a task"
        inherited = asked() if "fairlead.caller" in scope else None  # else it is that of another request
        super().__init__(inf if inherited is None else inherited.deadline, task, receive, send)
        self._calls = 1  # to pass it on is the one call that counts
        self._soon: TimerHandle | None = None
        self.held = False
        """Whether somebody else reads what the caller sends, not through this."""

    def run(self, app: App, scope: Scope) -> Coroutine[Any, Any, None]:
        self._listen()
        return super().run(app, scope)

    def _listen(self) -> None:
        if self._soon is None and self._ear is None:
            self._soon = get_running_loop().call_later(LISTENED, self._now)

    def _now(self) -> None:
        self._soon = None
        if not self.held:
            super()._listen()

    def _over(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        super()._over()

    def heard(self) -> None:
        """Nobody else reads any more."""
        self.held = False
        if self._soon is None:
            super()._listen()


def unbuffered(head: list[Pair]) -> None:
    """Ask proxies on the way not to hold back what is sent as it happens."""
    for name, value in head:
        if name == b"content-type" and value.lower().startswith(_STREAMED):
            if not any(name == b"x-accel-buffering" for name, _ in head):
                head.append(_UNBUFFERED)
            return


async def relay(response: Response, head: list[Pair], length: int, method: str, send: Send) -> None:
    """Send the answer on. Raises CallerGone, or what ended the body early: then it must not look whole, so nothing ends it here.

    `length` is the one that the head names, -1 for none: with it the last chunk is known as such, and ends the answer.
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
            try:
                async for chunk in chunks:
                    length -= len(chunk)
                    if length:
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    else:  # the upstream is done: its slot and connection are free before the caller has read this
                        body = chunk
            except BaseException:
                await chunks.aclose()
                raise
        await send({"type": "http.response.body", "body": body, "more_body": False})
    except OSError as error:
        if isinstance(error, FairleadError):
            raise
        raise CallerGone from error
