"""What is worth doing only for whoever waits a while: one timer for all that wait, as nearly every one is over before that.

Who waits at one look and still does at the next is told, so a wait that is short costs an entry in a dictionary.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle, get_running_loop
from contextvars import Context
from typing import Final, Protocol

LOOKED: Final = 0.025
"""Seconds between two looks."""


class Waiting(Protocol):
    """Whoever waits."""

    def listen(self) -> None:
        """It has waited a while, and is forgotten here."""


class Looks:
    """All that wait in one application, on one loop."""

    __slots__ = ("_loop", "_timer", "under_way")

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None
        self._timer: TimerHandle | None = None
        self.under_way: dict[Waiting, bool] = {}
        """With whether a look has seen them."""

    def wait(self, one: Waiting) -> None:
        """Have it told at the look after next, unless it leaves before."""
        loop = get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer, self.under_way = loop, None, {}
        self.under_way[one] = False
        if self._timer is None:
            self._arm(loop)

    def leave(self, one: Waiting) -> None:
        self.under_way.pop(one, None)

    def _arm(self, loop: AbstractEventLoop) -> None:
        # In nobody's context: it would keep what the request has that came first.
        self._timer = loop.call_later(LOOKED, self._look, loop, context=Context())

    def _look(self, loop: AbstractEventLoop) -> None:
        self._timer = None
        under_way = self.under_way
        for one, seen in tuple(under_way.items()):
            if seen:
                del under_way[one]
                one.listen()
            else:
                under_way[one] = True
        if under_way:
            self._arm(loop)
