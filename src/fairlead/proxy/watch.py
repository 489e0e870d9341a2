"""Who waits for an answer is listened for once it has waited a while: nearly every call is over before that is worth a task.

For requests whose body, if they had one, is here: whatever the server says next is that the caller has left.
"""

from __future__ import annotations

from asyncio import Task, current_task
from contextvars import Token
from math import inf
from typing import Final

from fairlead import caller
from fairlead.inbound import Receive, Scope
from fairlead.looks import Looks

_CALLER: Final = "fairlead.caller"


class Watched:
    """One call, from its beginning to its `end`."""

    __slots__ = ("_cut", "_ear", "_looks", "_others", "_receive", "_task", "_token")

    def __init__(self, looks: Looks, scope: Scope, receive: Receive) -> None:
        task = current_task()
        assert task is not None, "an application runs in a task"
        self._task = task
        self._others = task.cancelling()
        self._receive = receive
        self._ear: Task[None] | None = None
        self._token: Token[caller.Asked | None] | None = None
        self._cut = False
        if _CALLER in scope:
            # Somebody around this would listen too, and from the start: from here on only its deadline counts.
            inherited = caller.asked()
            self._token = caller.ask(caller.Asked(inf if inherited is None else inherited.deadline))
        self._looks = looks
        looks.wait(self)

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
            self._looks.leave(self)
        else:
            self._ear.cancel()
        if self._cut:  # somebody made something else of it
            self._task.uncancel()
        if self._token is not None:
            caller.end(self._token)
