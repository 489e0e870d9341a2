"""Who waits for an answer is listened for once it has waited a while: nearly every call is over before that is worth a task.

For requests whose body, if they had one, is here: whatever the server says next is that the caller has left.
"""

from __future__ import annotations

from asyncio import Task, current_task
from contextvars import Token
from math import inf
from typing import Any, Final

from fairlead import caller
from fairlead.inbound import Receive, Scope
from fairlead.looks import Looks

LOOKED: Final = 0.05
"""Seconds between two looks. Who was under way at one and still is at the next is listened for: few, even where all are slow."""
_CALLER: Final = "fairlead.caller"


class Watched:
    """One of them."""

    __slots__ = ("_cut", "_ear", "_others", "_receive", "_task", "_token", "_watch")

    def __init__(self, watch: Watch, task: Task[Any], receive: Receive) -> None:
        self._watch = watch
        self._task = task
        self._others = task.cancelling()
        self._receive = receive
        self._ear: Task[None] | None = None
        self._token: Token[caller.Asked | None] | None = None
        self._cut = False

    def begin(self, scope: Scope) -> None:
        if _CALLER in scope:
            # Somebody around this would listen too: from here on only its deadline counts.
            inherited = caller.asked()
            self._token = caller.ask(caller.Asked(inf if inherited is None else inherited.deadline))

    def listen(self) -> None:
        self._ear = self._task.get_loop().create_task(self._hear())

    async def _hear(self) -> None:
        whole = False
        while True:
            try:
                message = await self._receive()
            except Exception:  # of a server that says so otherwise: it ends the call as it likes
                return
            if message["type"] == "http.disconnect":
                break
            if whole:  # a server that says the same over and over would be listened to for ever
                return
            whole = not message.get("more_body")
        self._cut = True
        self._task.cancel()

    def left(self) -> bool:
        """Whether it was cancelled because its caller has left, and by nobody else."""
        if not self._cut:
            return False
        self._cut = False
        return self._task.uncancel() <= self._others

    def end(self) -> None:
        if self._ear is None:
            self._watch.leave(self)
        else:
            self._ear.cancel()
        if self._cut:  # somebody made something else of it
            self._task.uncancel()
        if self._token is not None:
            caller.end(self._token)


class Watch(Looks):
    """All that are under way in one application, on one loop."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(LOOKED)

    def begin(self, scope: Scope, receive: Receive) -> Watched:
        """Listen from the look after next on. Whoever begins ends."""
        task = current_task()
        assert task is not None, "an application runs in a task"
        watched = Watched(self, task, receive)
        watched.begin(scope)
        self.wait(watched)
        return watched
